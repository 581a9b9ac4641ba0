//! Why a request is decided as it is: what matched, and what nearly did.

use std::fmt::Write as _;
use std::sync::Arc;

use cedar_policy::{Effect, Policy};
use serde_json::{Value, json};

use crate::authz::{AuthzRequest, Decision};
use crate::bundle::Bundle;
use crate::identity::{Identity, Principal, PrincipalKind};
use crate::route::{COST_DEFAULT, Route};
use crate::time::UnixMillis;

/// Near misses that are shown, at most: enough to find the missing role, few enough to read.
const NEAR_MAX: usize = 10;

const PERMITTED: &str = "permitted by";

/// Explains what becomes of a request on a route, for people: first what the row asks of the caller's proof, then what policy
/// says, and last what it costs. Slow: asks every policy on its own.
#[must_use]
pub fn explain_on(bundle: &Bundle, route: &Route, request: &AuthzRequest<'_>) -> String {
    let mut text = proved_and_decided(bundle, route, request);
    if route.cost != COST_DEFAULT {
        writeln!(text, "costs {} of each limit that counts it; `per-address` counts requests", route.cost)
            .ok();
    }
    text
}

fn proved_and_decided(bundle: &Bundle, route: &Route, request: &AuthzRequest<'_>) -> String {
    let (Some(asks), Identity::Known(principal)) = (route.step_up, request.identity) else {
        return explain(bundle, request);
    };
    let mut text = format!("before policy, the row asks for a proof: {asks}\n");
    let has = proof(principal, request.now);
    if asks.is_met_by(principal, request.now) {
        writeln!(text, "this one does ({has})").ok();
        return text + &explain(bundle, request);
    }
    if principal.kind == PrincipalKind::Service {
        text.push_str(
            "refused with 403 `person_needed`: an API key cannot prove more than it is; a person can, or the row says `services = true`\n",
        );
        return text;
    }
    writeln!(text, "refused with 401 `step_up`: this one does not ({has})").ok();
    let proved = asks.met_by(principal, request.now);
    writeln!(text, "one that does: {}. With it:", proof(&proved, request.now)).ok();
    let proved = Identity::Known(Arc::new(proved));
    text + &explain(bundle, &AuthzRequest { identity: &proved, ..request.clone() })
}

/// How strong and how old a proof is.
fn proof(principal: &Principal, now: UnixMillis) -> String {
    let factors = if principal.assurance > 1 { "two factors" } else { "one factor" };
    match (principal.kind, principal.authenticated_at) {
        (PrincipalKind::Service | PrincipalKind::Operator, _) => factors.to_owned(),
        (PrincipalKind::User, UnixMillis(0)) => format!("{factors}, nobody says when"),
        (PrincipalKind::User, at) => format!("{factors}, {} s ago", now.since(at) / 1_000),
    }
}

/// Explains the decision on a request, for people. Slow: asks every policy on its own.
#[must_use]
pub fn explain(bundle: &Bundle, request: &AuthzRequest<'_>) -> String {
    let mut text = String::new();
    let (word, ids): (_, Vec<String>) = match bundle.decide(request) {
        Decision::Permit(permit) => {
            (PERMITTED, permit.deciding().iter().map(|one| one.id.to_string()).collect())
        }
        Decision::Deny(denial) => {
            ("refused by", denial.forbidding.iter().map(|one| one.id.to_string()).collect())
        }
        Decision::Undecidable { erring } => ("undecidable, because of", erring),
    };
    let permitted = word == PERMITTED;
    if ids.is_empty() {
        text.push_str("refused, because no grant permits it\n");
    }
    // Writing to a string cannot fail.
    for id in &ids {
        match bundle.policy(id) {
            Some(facts) => {
                writeln!(text, "{word} {id} ({}:{}): {}", facts.file, facts.line, facts.reason).ok()
            }
            None => writeln!(text, "{word} {id}").ok(),
        };
    }
    if permitted {
        counted(bundle, request, &ids, &mut text);
    }
    if let Err(error) = bundle.check_request(request) {
        writeln!(text, "the request does not fit the schema: {error}").ok();
        return text;
    }
    let near: Vec<String> =
        bundle.cedar().policies().filter_map(|policy| near(bundle, request, policy)).collect();
    let mut near = near;
    near.sort();
    for line in near.iter().take(NEAR_MAX) {
        writeln!(text, "nearly {line}").ok();
    }
    if near.len() > NEAR_MAX {
        writeln!(text, "and {} more that nearly match", near.len() - NEAR_MAX).ok();
    }
    text
}

/// Which classes of limits it is counted in, and what the bundle says of them. What a configuration says is not known here.
fn counted(bundle: &Bundle, request: &AuthzRequest<'_>, ids: &[String], text: &mut String) {
    let given = bundle.classes_given(ids.iter().map(String::as_str));
    let instead = if given.is_empty() { String::new() } else { format!(", instead of `{}`", request.class) };
    let classes: Vec<&str> = if given.is_empty() {
        vec![request.class]
    } else {
        given.into_iter().map(|class| &**class).collect()
    };
    for class in classes {
        if let Some(limit) = bundle.limits().classes.get(class) {
            writeln!(text, "counted in class `{class}`{instead}: {limit}").ok();
        }
    }
}

/// The one part of a policy that stands in its way, if it is one: who asks, or its conditions. Policies about
/// other actions or resources are no near misses, or every request would have hundreds.
fn near(bundle: &Bundle, request: &AuthzRequest<'_>, policy: &Policy) -> Option<String> {
    if bundle.matches(policy, request) {
        return None;
    }
    let parts = [("principal", json!({ "op": "All" })), ("conditions", json!([]))];
    let (part, _) = parts.into_iter().find(|(part, open)| {
        without(policy, part, open.clone()).is_some_and(|opened| bundle.matches(&opened, request))
    })?;
    let facts = bundle.policy(policy.id().as_ref())?;
    let verb = match policy.effect() {
        Effect::Permit => "permitted",
        Effect::Forbid => "refused",
    };
    let because = match part {
        "principal" => "it is for other principals",
        _ => "its conditions do not hold",
    };
    Some(format!("{verb} by {} ({}:{}): {because}", facts.id, facts.file, facts.line))
}

fn without(policy: &Policy, part: &str, open: Value) -> Option<Policy> {
    let mut json = policy.to_json().ok()?;
    json.as_object_mut()?.insert(part.to_owned(), open);
    Policy::from_json(None, json).ok()
}
