//! Who is asked about, and what a route answers to them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::authz::Decision;
use crate::bundle::Bundle;
use crate::bundle::example::{EXAMPLE_TIME, example, example_parameters, example_principal};
use crate::identity::{Identity, PrincipalKind};
use crate::refusal::Deciding;
use crate::route::{Accept, Route, StepUp};
use crate::time::UnixMillis;

/// Roles that a service without a role of its own is shown with, the first that the bundle declares.
const SERVICE_ROLES: [&str; 2] = ["service", "standard_user"];

/// A caller by its role: one column of the matrix.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The column's name: a role, `anonymous` or `service`.
    pub name: String,
    /// Who it is.
    pub identity: Identity,
}

/// What a route answers to a subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// Permitted by these policies.
    Permit(Vec<String>),
    /// Forbidden by these policies.
    Forbid(Vec<String>),
    /// No policy permits.
    NoGrant,
    /// The route does not look at this kind of credential.
    NotAccepted,
    /// The row asks for a proof that this one is too weak or too old for; policy is not asked.
    StepUp(StepUp),
    /// These policies fail, so nothing is permitted.
    Undecidable(Vec<String>),
}

/// Every role of the bundle, held by a person; then nobody, and a service.
#[must_use]
pub fn subjects(bundle: &Bundle) -> Vec<Subject> {
    let roles = bundle.roles();
    let service_role = SERVICE_ROLES.into_iter().find(|role| roles.contains(*role)).map(str::to_owned);
    let mut subjects = vec![Subject { name: "anonymous".to_owned(), identity: Identity::Anonymous }];
    subjects.extend(roles.into_iter().map(|role| {
        let held = BTreeSet::from([role.clone()]);
        Subject { name: role, identity: known(PrincipalKind::User, held) }
    }));
    let service = known(PrincipalKind::Service, service_role.into_iter().collect());
    subjects.push(Subject { name: "service".to_owned(), identity: service });
    subjects
}

fn known(kind: PrincipalKind, roles: BTreeSet<String>) -> Identity {
    Identity::Known(Arc::new(example_principal(kind, roles, BTreeSet::new())))
}

/// What the route answers, with example parameters, over TLS, from a public address, on a weekday at noon. A person has the
/// proof that the row asks for, where it asks for one; a key has none but itself.
#[must_use]
pub fn answer(bundle: &Bundle, route: &Route, identity: &Identity) -> Answer {
    // A credential that an open route does not look at is as good as none.
    let identity = match (accepts(route.accept, identity), route.accept.anonymous) {
        (true, _) => identity,
        (false, true) => &Identity::Anonymous,
        (false, false) => return Answer::NotAccepted,
    };
    let proved = proved(route, identity, EXAMPLE_TIME);
    let identity = proved.as_ref().unwrap_or(identity);
    if let Some(asks) = unproved(route, identity, EXAMPLE_TIME) {
        return Answer::StepUp(asks);
    }
    let parameters = example_parameters(route);
    Answer::from(bundle.decide(&example(route, identity, &parameters)))
}

/// A person with the proof that the row asks for, where theirs does not do.
fn proved(route: &Route, identity: &Identity, now: UnixMillis) -> Option<Identity> {
    let asks = unproved(route, identity, now)?;
    match identity {
        Identity::Known(principal) => Some(Identity::Known(Arc::new(asks.met_by(principal, now)))),
        Identity::Anonymous => None,
    }
}

/// What the row asks for beyond the proof of this identity.
pub(super) fn unproved(route: &Route, identity: &Identity, now: UnixMillis) -> Option<StepUp> {
    let Identity::Known(principal) = identity else { return None };
    route.step_up.filter(|asks| !asks.is_met_by(principal, now))
}

/// Whether a route looks at a credential of this identity. A person may have either of two.
pub(super) fn accepts(accept: Accept, identity: &Identity) -> bool {
    Accept { session: accept.session || accept.access_token, ..accept }.takes(identity)
}

impl From<Decision> for Answer {
    fn from(decision: Decision) -> Self {
        let ids = |deciding: &[Deciding]| deciding.iter().map(|one| one.id.to_string()).collect::<Vec<_>>();
        match decision {
            Decision::Permit(permit) => Self::Permit(ids(permit.deciding())),
            Decision::Deny(denial) if denial.forbidding.is_empty() => Self::NoGrant,
            Decision::Deny(denial) => Self::Forbid(ids(&denial.forbidding)),
            Decision::Undecidable { erring } => Self::Undecidable(erring),
        }
    }
}

impl Answer {
    /// The word that test cases use.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Permit(_) => "permit",
            Self::Forbid(_) | Self::NoGrant => "deny",
            Self::NotAccepted => "not_accepted",
            Self::StepUp(_) => "step_up",
            Self::Undecidable(_) => "undecidable",
        }
    }

    /// One character for the matrix.
    pub(super) fn mark(&self) -> char {
        match self {
            Self::Permit(_) => '+',
            Self::Forbid(_) => 'x',
            Self::NoGrant => '.',
            Self::NotAccepted => '-',
            Self::StepUp(_) => '^',
            Self::Undecidable(_) => '!',
        }
    }

    /// Ids of the policies that decided.
    #[must_use]
    pub fn ids(&self) -> &[String] {
        match self {
            Self::Permit(ids) | Self::Forbid(ids) | Self::Undecidable(ids) => ids,
            Self::NoGrant | Self::NotAccepted | Self::StepUp(_) => &[],
        }
    }
}
