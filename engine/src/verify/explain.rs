//! Why a request is decided as it is: what matched, and what nearly did.

use std::fmt::Write as _;

use cedar_policy::{Effect, Policy};
use serde_json::{Value, json};

use crate::authz::{AuthzRequest, Decision};
use crate::bundle::Bundle;

/// Near misses that are shown, at most: enough to find the missing role, few enough to read.
const NEAR_MAX: usize = 10;

const PERMITTED: &str = "permitted by";

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
