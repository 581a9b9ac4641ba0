//! The evaluation proper: all policies against one request. What an index replaces, and nothing else.

use cedar_policy::{AuthorizationError, Authorizer, Decision, PolicySet};

use super::request::Prepared;

/// What the policies say, with ids sorted.
pub(super) struct Verdict {
    pub(super) permits: bool,
    pub(super) determining: Vec<String>,
    pub(super) erring: Vec<String>,
}

pub(super) fn evaluate(policies: &PolicySet, prepared: &Prepared) -> Verdict {
    let response = Authorizer::new().is_authorized(&prepared.request, policies, &prepared.entities);
    let diagnostics = response.diagnostics();
    let mut determining: Vec<String> = diagnostics.reason().map(ToString::to_string).collect();
    let mut erring: Vec<String> = diagnostics.errors().map(erring_id).collect();
    determining.sort_unstable();
    erring.sort_unstable();
    erring.dedup();
    Verdict { permits: response.decision() == Decision::Allow, determining, erring }
}

fn erring_id(error: &AuthorizationError) -> String {
    let AuthorizationError::PolicyEvaluationError(error) = error;
    error.policy_id().to_string()
}
