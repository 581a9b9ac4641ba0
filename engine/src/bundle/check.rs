//! Routes against schema, entities and policies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use smol_str::SmolStr;

use super::example::{example, example_parameters, example_principal, typed};
use super::vocabulary::Action;
use super::{Bundle, BundleFault, Hierarchy, Vocabulary, uid};
use crate::authz::{AuthzRequest, Decision};
use crate::identity::{Identity, PrincipalKind};
use crate::route::{Accept, Declared, ParamType, ROUTES_MAX, RouteTable};

/// Holds each route's action and module against schema and entities, and says which routes only read.
pub(super) fn actions(
    vocabulary: &Vocabulary,
    hierarchy: &Hierarchy,
    declared: &mut [Declared],
    faults: &mut Vec<BundleFault>,
) {
    for row in declared {
        let mut fault = |message: String, remedy: &str| {
            faults.push(BundleFault::new(&row.file, Some(row.line), message, remedy));
        };
        let module = uid(&vocabulary.types.module, &row.route.module);
        if hierarchy.entity(&module).is_none() {
            fault(
                format!("`{module}` is not declared"),
                "declare it in entities/*.json, or correct `module`",
            );
        }
        let name = row.route.action.as_ref();
        let Some(action) = vocabulary.actions.get(name) else {
            fault(format!("action `{name}` is not in the schema"), "declare it, or correct its name");
            continue;
        };
        if !action.on_module {
            fault(
                format!("action `{name}` does not apply to Module"),
                "add Module to its resources in the schema",
            );
        }
        match action.read_only() {
            Some(read_only) => row.route.read_only = read_only,
            None => fault(
                format!("action `{name}` is not in exactly one of Action::\"read\" and Action::\"write\""),
                "say in the schema which of the two it is: it decides how cross-site requests are judged",
            ),
        }
        for kind in missing_principals(vocabulary, action, row.route.accept) {
            fault(
                format!("action `{name}` does not apply to {kind}, which the route accepts"),
                "add the type to the action's principals, or narrow `accept`",
            );
        }
    }
}

fn missing_principals<'a>(
    vocabulary: &'a Vocabulary,
    action: &'a Action,
    accept: Accept,
) -> impl Iterator<Item = String> + 'a {
    let types = &vocabulary.types;
    let wanted = [
        (accept.anonymous, &types.anonymous),
        (accept.session || accept.access_token, &types.user),
        (accept.api_key, &types.service),
    ];
    let missing =
        wanted.into_iter().filter(|(accepted, kind)| *accepted && !action.principals.contains(*kind));
    missing.map(|(_, kind)| kind.to_string())
}

/// Which parameters are numbers for which action. Cedar wants one type for one attribute.
pub(super) fn numbers(
    declared: &[Declared],
    faults: &mut Vec<BundleFault>,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut kinds: BTreeMap<(&str, &str), (bool, &Declared)> = BTreeMap::new();
    let mut numbers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in declared {
        for (name, kind) in typed(&row.route) {
            let is_number = *kind == ParamType::Int;
            let (known, first) = *kinds.entry((&row.route.action, name)).or_insert((is_number, row));
            if known != is_number {
                let message = format!(
                    "`{name}` is a number here and text in {}:{}, for one action",
                    first.file, first.line
                );
                faults.push(BundleFault::new(
                    &row.file,
                    Some(row.line),
                    message,
                    "rename one of them, or give it an action of its own",
                ));
            }
            if is_number {
                numbers.entry(row.route.action.to_string()).or_default().insert(name.to_owned());
            }
        }
    }
    numbers
}

/// Compiles the table; every pair of rows that answers the same requests is a fault.
pub(super) fn table(declared: &[Declared], faults: &mut Vec<BundleFault>) -> RouteTable {
    if declared.len() > ROUTES_MAX {
        let message = format!("{} routes, at most {ROUTES_MAX}", declared.len());
        faults.push(BundleFault::new("routes/", None, message, "use parameters instead of rows"));
        return RouteTable::default();
    }
    match RouteTable::compile(declared) {
        Ok(table) => table,
        Err(ambiguities) => {
            for (one, other) in ambiguities {
                let (Some(one), Some(other)) = (declared.get(one), declared.get(other)) else { continue };
                let message = format!(
                    "`{}` answers the same requests as `{}` in {}:{}",
                    other.route.name, one.route.name, one.file, one.line
                );
                faults.push(BundleFault::new(
                    &other.file,
                    Some(other.line),
                    message,
                    "remove one, or give their parameters types that no value shares",
                ));
            }
            RouteTable::default()
        }
    }
}

/// Tries every route once with each kind of principal that it accepts, so that what the schema does not
/// declare is found at load and not by a client. Routes that Cedar cannot tell apart by type are tried once.
pub(super) fn examples(bundle: &Bundle, declared: &[Declared], faults: &mut Vec<BundleFault>) {
    let mut tried = BTreeSet::new();
    let mut decided = BTreeSet::new();
    for row in declared {
        let parameters = example_parameters(&row.route);
        let names: Vec<SmolStr> = parameters.iter().map(|(name, _)| name.clone()).collect();
        for identity in example_identities(row.route.accept) {
            let asked = (Arc::clone(&row.route.action), bundle.vocabulary.type_of(&identity));
            if !tried.insert((asked.clone(), names.clone())) {
                continue;
            }
            let request = example(&row.route, &identity, &parameters);
            // Clients leave query parameters out, so the path's must do without them.
            let (path, _) = parameters.split_at_checked(row.route.parameters.len()).unwrap_or_default();
            let bare = AuthzRequest { parameters: path, ..request.clone() };
            let fault = bundle.check_request(&request).and_then(|()| bundle.check_request(&bare)).err();
            let unfit = fault.map(|error| unfit(bundle, &request, &error));
            let message = match unfit {
                Some(message) => message,
                None if !decided.insert(asked) => continue,
                None => match bundle.decide(&request) {
                    Decision::Permit(_) | Decision::Deny(_) => continue,
                    Decision::Undecidable { erring } => {
                        format!("an example request cannot be decided: {} failed", erring.join(", "))
                    }
                },
            };
            let remedy = "declare in the schema's context what the route supplies, or correct the policy";
            faults.push(BundleFault::new(&row.file, Some(row.line), message, remedy));
        }
    }
}

/// Names the first parameter that the schema refuses on its own, which Cedar does not.
fn unfit(bundle: &Bundle, request: &AuthzRequest<'_>, error: &str) -> String {
    let fits = |parameters| bundle.check_request(&AuthzRequest { parameters, ..request.clone() }).is_ok();
    let refused = request.parameters.iter().find(|parameter| !fits(std::slice::from_ref(*parameter)));
    match refused {
        Some((name, _)) if fits(&[]) => {
            format!("parameter `{name}` is not declared in the schema, or with another type")
        }
        Some(_) | None => format!("an example request does not fit the schema: {error}"),
    }
}

fn example_identities(accept: Accept) -> Vec<Identity> {
    let known = |kind| Identity::Known(Arc::new(example_principal(kind, BTreeSet::new(), BTreeSet::new())));
    let mut identities = Vec::new();
    if accept.anonymous {
        identities.push(Identity::Anonymous);
    }
    if accept.session || accept.access_token {
        identities.push(known(PrincipalKind::User));
    }
    if accept.api_key {
        identities.push(known(PrincipalKind::Service));
    }
    identities
}
