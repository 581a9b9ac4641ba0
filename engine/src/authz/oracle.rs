//! Cedar's own `Authorizer`, which evaluates every policy: slow, and by definition right.

use std::sync::Arc;

use cedar_policy::{AuthorizationError, Authorizer, Decision, Entities, PolicyId, PolicySet, Request};

use super::Verdict;

pub(crate) fn evaluate(policies: &PolicySet, request: &Request, entities: &Entities) -> Verdict {
    let response = Authorizer::new().is_authorized(request, policies, entities);
    let diagnostics = response.diagnostics();
    let determining = sorted(diagnostics.reason());
    let erring = diagnostics.errors().map(|error| {
        let AuthorizationError::PolicyEvaluationError(error) = error;
        error.policy_id()
    });
    Verdict { permits: response.decision() == Decision::Allow, determining, erring: sorted(erring) }
}

fn sorted<'a>(ids: impl Iterator<Item = &'a PolicyId>) -> Vec<Arc<str>> {
    let mut ids: Vec<Arc<str>> = ids.map(|id| Arc::from(AsRef::<str>::as_ref(id))).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
