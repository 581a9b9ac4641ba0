//! Routes against schema, entities and policies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use uuid::Uuid;

use super::vocabulary::Action;
use super::{Bundle, BundleFault, Hierarchy, Vocabulary, uid};
use crate::authz::{AuthzRequest, Decision};
use crate::identity::{Identity, Principal, PrincipalKind, Scheme};
use crate::route::{Accept, Declared, ParamType, ROUTES_MAX, Route, RouteTable};
use crate::time::UnixMillis;

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
        (accept.session, &types.user),
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
/// declare is found at load and not by a client.
pub(super) fn examples(bundle: &Bundle, declared: &[Declared], faults: &mut Vec<BundleFault>) {
    let mut evaluated = BTreeSet::new();
    for row in declared {
        for identity in example_identities(row.route.accept) {
            let parameters = example_parameters(&row.route);
            let request = example(&row.route, &identity, &parameters);
            let mut fault = |message: String| {
                let remedy = "declare in the schema's context what the route supplies, or correct the policy";
                faults.push(BundleFault::new(&row.file, Some(row.line), message, remedy));
            };
            if let Err(error) = bundle.check_request(&request) {
                let unfit = unfit(bundle, &request);
                fault(match unfit {
                    Some(name) => {
                        format!("parameter `{name}` is not declared in the schema, or with another type")
                    }
                    None => format!("an example request does not fit the schema: {error}"),
                });
                continue;
            }
            let kind = bundle.vocabulary.type_of(&identity).clone();
            if !evaluated.insert((Arc::clone(&row.route.action), kind)) {
                continue;
            }
            if let Decision::Undecidable { erring } = bundle.decide(&request) {
                fault(format!("an example request cannot be decided: {} failed", erring.join(", ")));
            }
        }
    }
}

/// The first parameter that the schema refuses on its own.
fn unfit<'a>(bundle: &Bundle, request: &AuthzRequest<'a>) -> Option<&'a str> {
    let parameters = request.parameters;
    let refused = parameters.iter().find(|parameter| {
        let parameters = std::slice::from_ref(*parameter);
        bundle.check_request(&AuthzRequest { parameters, ..request.clone() }).is_err()
    });
    let fits_without = bundle.check_request(&AuthzRequest { parameters: &[], ..request.clone() }).is_ok();
    refused.filter(|_| fits_without).map(|(name, _)| name.as_ref())
}

/// Parameters of the path and the query with their types.
pub(crate) fn typed(route: &Route) -> impl Iterator<Item = (&str, &ParamType)> {
    let path = route.parameters.iter().map(|(name, kind)| (name.as_ref(), kind));
    path.chain(route.query.iter().map(|(name, kind)| (name.as_str(), kind)))
}

/// A value of each parameter.
pub(crate) fn example_parameters(route: &Route) -> Vec<(Arc<str>, String)> {
    typed(route).map(|(name, kind)| (Arc::from(name), kind.example())).collect()
}

/// A request on a route as a client could send it.
pub(crate) fn example<'a>(
    route: &'a Route,
    identity: &'a Identity,
    parameters: &'a [(Arc<str>, String)],
) -> AuthzRequest<'a> {
    AuthzRequest {
        identity,
        action: &route.action,
        module: &route.module,
        parameters,
        class: &route.class,
        method: route.method.as_str(),
        client: EXAMPLE_CLIENT,
        tls: true,
        now: EXAMPLE_TIME,
    }
}

/// A documentation address (RFC 5737): no network of any operator.
pub(crate) const EXAMPLE_CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// 2026-01-07T12:00:00Z, a Wednesday at noon.
pub(crate) const EXAMPLE_TIME: UnixMillis = UnixMillis(1_767_787_200_000);

/// A principal with these roles and groups and the weakest proof.
pub(crate) fn example_principal(
    kind: PrincipalKind,
    roles: BTreeSet<String>,
    groups: BTreeSet<String>,
) -> Principal {
    let is_service = kind == PrincipalKind::Service;
    Principal {
        kind,
        id: Uuid::from_u128(0x9f1c_4d2e_0b7a_4e56_8d3f_6a5b_4c3d_2e1f),
        name: "example".to_owned(),
        roles,
        groups,
        scopes: if is_service { BTreeSet::from(["*".to_owned()]) } else { BTreeSet::new() },
        scheme: if is_service { Scheme::ApiKey } else { Scheme::Session },
        assurance: 1,
        authenticated_at: EXAMPLE_TIME,
        credential_id: None,
        expires_at: None,
        suspended: false,
    }
}

fn example_identities(accept: Accept) -> Vec<Identity> {
    let known = |kind| Identity::Known(Arc::new(example_principal(kind, BTreeSet::new(), BTreeSet::new())));
    let mut identities = Vec::new();
    if accept.anonymous {
        identities.push(Identity::Anonymous);
    }
    if accept.session {
        identities.push(known(PrincipalKind::User));
    }
    if accept.api_key {
        identities.push(known(PrincipalKind::Service));
    }
    identities
}
