//! Decisions that were made before.
//!
//! What a bundle decides follows from the bundle, the request and the time. Where no policy looks at the time, asking
//! again for the same gives the same, so the verdict is kept beside everything that it follows from and compared
//! with all of it before it is given again. A bundle keeps its own: another bundle begins with none.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use cedar_policy::PolicySet;
use serde_json::Value;

use super::AuthzRequest;
use crate::identity::{Identity, Principal};
use crate::kept::Kept;
use crate::refusal::Deciding;

/// Verdicts by the hash of what they follow from, a kilobyte or so each, bounded by what a head may hold.
pub(crate) struct Memo {
    hasher: RandomState,
    /// `None` where a policy looks at the time.
    kept: Option<Kept<u64, Verdict>>,
}

/// What policy said, when no policy failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) permits: bool,
    pub(super) deciding: Vec<Deciding>,
}

struct Verdict {
    /// `None` is an anonymous caller.
    principal: Option<Arc<Principal>>,
    action: String,
    module: String,
    parameters: Vec<(Arc<str>, String)>,
    class: String,
    method: String,
    client: IpAddr,
    tls: bool,
    known: Known,
}

impl Memo {
    /// An empty one for these policies.
    pub(crate) fn of(policies: &PolicySet) -> Self {
        let timeless = policies.policies().all(|policy| {
            policy.to_json().is_ok_and(|policy| !policy.get("conditions").is_none_or(looks_at_time))
        });
        Self { hasher: RandomState::new(), kept: timeless.then(Kept::default) }
    }

    /// What was said to the same request before.
    pub(super) fn known(&self, request: &AuthzRequest<'_>) -> Option<Known> {
        let answer = |kept: &Verdict| kept.answers(request).then(|| kept.known.clone());
        self.kept.as_ref()?.get(&self.hash(request), answer)
    }

    /// Keeps what was said.
    pub(super) fn keep(&self, request: &AuthzRequest<'_>, known: &Known) {
        if let Some(kept) = &self.kept {
            kept.put(self.hash(request), Verdict::new(request, known.clone()));
        }
    }

    fn hash(&self, request: &AuthzRequest<'_>) -> u64 {
        let id = match request.identity {
            Identity::Anonymous => None,
            Identity::Known(principal) => Some(principal.id),
        };
        self.hasher.hash_one((id, request.action, request.module, request.parameters, request.client))
    }
}

impl Verdict {
    fn new(request: &AuthzRequest<'_>, known: Known) -> Self {
        // Taken apart, so that whoever adds a field decides here whether a verdict follows from it.
        let AuthzRequest { identity, action, module, parameters, class, method, client, tls, now: _ } =
            *request;
        let principal = match identity {
            Identity::Anonymous => None,
            Identity::Known(principal) => Some(Arc::clone(principal)),
        };
        Self {
            principal,
            action: action.to_owned(),
            module: module.to_owned(),
            parameters: parameters.to_vec(),
            class: class.to_owned(),
            method: method.to_owned(),
            client,
            tls,
            known,
        }
    }

    fn answers(&self, request: &AuthzRequest<'_>) -> bool {
        let AuthzRequest { identity, action, module, parameters, class, method, client, tls, now: _ } =
            *request;
        let principal = match (identity, &self.principal) {
            (Identity::Anonymous, None) => true,
            (Identity::Known(asking), Some(kept)) => Arc::ptr_eq(asking, kept) || asking == kept,
            (Identity::Anonymous, Some(_)) | (Identity::Known(_), None) => false,
        };
        principal
            && self.action == action
            && self.module == module
            && self.parameters == parameters
            && self.class == class
            && self.method == method
            && self.client == client
            && self.tls == tls
    }
}

/// Whether conditions may look at the time: they name an attribute `time`, of whatever, or take the context as a whole.
/// Too many rather than too few: what looks at the time and is taken for timeless would decide by yesterday's clock.
fn looks_at_time(conditions: &Value) -> bool {
    match conditions {
        Value::String(text) => text == "time",
        Value::Array(values) => values.iter().any(looks_at_time),
        Value::Object(members) => members.iter().any(|(key, value)| match (key.as_str(), value) {
            ("Var", Value::String(name)) => name == "context",
            ("." | "has", Value::Object(access)) if is_context(access.get("left")) => {
                access.get("attr").is_none_or(|attribute| !attribute.is_string() || attribute == "time")
            }
            (key, value) => key == "time" || looks_at_time(value),
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn is_context(left: Option<&Value>) -> bool {
    left.and_then(|left| left.get("Var")).is_some_and(|name| name == "context")
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    #[test]
    fn nothing_is_kept_where_a_policy_may_look_at_the_time() {
        let timeless = |condition: &str| {
            let policies = PolicySet::from_str(&format!("permit (principal, action, resource) {condition};"));
            Memo::of(&policies.unwrap()).kept.is_some()
        };
        for condition in [
            "",
            "when { context.tls }",
            "when { context has method && context.method == \"GET\" }",
            "when { context.parameters has id && context.parameters.id == \"1\" }",
            "unless { principal has suspended && !principal.suspended }",
        ] {
            assert!(timeless(condition), "{condition}");
        }
        for condition in [
            "when { context.time < datetime(\"2030-01-01\") }",
            "when { context[\"time\"] < datetime(\"2030-01-01\") }",
            "when { context has time }",
            "when { if context.tls then context.time == context.time else false }",
            "when { context == {} }",
            "when { [context].contains(context) }",
            "when { {a: context}.a.time == datetime(\"2030-01-01\") }",
            "when { (if true then context else context).time == datetime(\"2030-01-01\") }",
            "unless { principal.time == 1 }",
        ] {
            assert!(!timeless(condition), "{condition}");
        }
    }
}
