//! Cedar's own `Authorizer`, which evaluates every policy: slow, and by definition right.

use std::fmt;
use std::sync::Arc;

use cedar_policy::{
    AuthorizationError, Authorizer, Decision as CedarDecision, Entities, PolicyId, PolicySet, Request,
    Response,
};

use super::{AuthzRequest, BUDGET, Decision, PolicyIds, REQUEST_FAULT, Verdict, scope, texts};
use crate::bundle::Bundle;

/// Recorded as erring when Cedar decides otherwise than the gateway.
pub const ORACLE: &str = "cedargate.oracle";

/// Cedar decides otherwise: a fault of ours, whichever is more lenient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    ours: Answer,
    cedars: Answer,
}

/// What was decided, and by which policies.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    word: &'static str,
    policies: Vec<String>,
}

impl Bundle {
    /// Asks Cedar the same, from the same terms and by its public interface alone: the request is held against the schema
    /// and every policy is evaluated. Costs some 2 us for each policy of the bundle.
    ///
    /// # Errors
    /// Cedar's answer beside ours, where they differ.
    pub fn hold_against_cedar(
        &self,
        asked: &AuthzRequest<'_>,
        decision: &Decision,
    ) -> Result<(), Disagreement> {
        // What took us too long is refused already, and takes Cedar longer.
        if matches!(decision, Decision::Undecidable { erring } if erring.iter().eq([BUDGET])) {
            return Ok(());
        }
        let (ours, cedars) = (Answer::of(decision), self.cedars_answer(asked));
        if ours == cedars { Ok(()) } else { Err(Disagreement { ours, cedars }) }
    }

    fn cedars_answer(&self, asked: &AuthzRequest<'_>) -> Answer {
        // Neither is a question of policy: the scopes of a key, and actions that the schema gives such a principal nowhere.
        if let Some(denial) = scope::denial(asked) {
            return Answer::of(&Decision::Deny(denial));
        }
        let vocabulary = self.vocabulary();
        let action = vocabulary.actions.get(asked.action);
        if action.is_some_and(|action| !action.principals.contains(vocabulary.type_of(asked.identity))) {
            return Answer { word: "deny", policies: Vec::new() };
        }
        let Ok(request) = self.in_cedar(asked) else {
            return Answer { word: "undecidable", policies: vec![REQUEST_FAULT.to_owned()] };
        };
        match evaluate(self.cedar(), &request.request, &request.entities) {
            Verdict { erring, .. } if !erring.is_empty() => {
                Answer { word: "undecidable", policies: texts(&erring) }
            }
            Verdict { permits: true, determining, .. } => {
                Answer { word: "permit", policies: texts(&determining) }
            }
            Verdict { permits: false, determining, .. } => {
                Answer { word: "deny", policies: texts(&determining) }
            }
        }
    }
}

impl Answer {
    fn of(decision: &Decision) -> Self {
        let ids =
            |deciding: &[crate::refusal::Deciding]| deciding.iter().map(|by| by.id.to_string()).collect();
        match decision {
            Decision::Permit(permit) => Self { word: "permit", policies: ids(permit.deciding()) },
            Decision::Deny(denial) => Self { word: "deny", policies: ids(&denial.forbidding) },
            Decision::Undecidable { erring } => Self { word: "undecidable", policies: erring.clone() },
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.policies.as_slice() {
            [] => f.write_str(self.word),
            policies => write!(f, "{} by {}", self.word, policies.join(", ")),
        }
    }
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the gateway decided: {}; Cedar decides: {}", self.ours, self.cedars)
    }
}

/// What all policies say of a request.
pub(crate) fn evaluate(policies: &PolicySet, request: &Request, entities: &Entities) -> Verdict<'static> {
    Verdict::from(&Authorizer::new().is_authorized(request, policies, entities))
}

/// What the `Authorizer` has answered, in the index's form.
impl From<&Response> for Verdict<'_> {
    fn from(response: &Response) -> Self {
        let diagnostics = response.diagnostics();
        let erring = diagnostics.errors().map(|error| {
            let AuthorizationError::PolicyEvaluationError(error) = error;
            error.policy_id()
        });
        Self {
            permits: response.decision() == CedarDecision::Allow,
            determining: named(diagnostics.reason()),
            erring: named(erring),
        }
    }
}

fn named<'a>(ids: impl Iterator<Item = &'a PolicyId>) -> PolicyIds<'static> {
    ids.map(|id| Arc::from(AsRef::<str>::as_ref(id))).collect()
}
