//! The evaluation proper: all policies against one request. What an index replaces, and nothing else.

use cedar_policy::{AuthorizationError, Authorizer, Decision, Entities, PolicySet, Request};

/// What the policies say, with ids sorted.
pub(crate) struct Verdict {
    pub(crate) permits: bool,
    pub(crate) determining: Vec<String>,
    pub(crate) erring: Vec<String>,
}

pub(super) fn evaluate(policies: &PolicySet, request: &Request, entities: &Entities) -> Verdict {
    let response = Authorizer::new().is_authorized(request, policies, entities);
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
