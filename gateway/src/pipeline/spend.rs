//! Stage 6, spend: the quota of whoever was permitted. Only a permit can spend, so that a refused caller
//! never drains a victim's quota.

use std::sync::Arc;

use engine::authz::Permit;
use engine::identity::Identity;
use engine::refusal::{Dependency, Refusal};
use engine::route::RouteMatch;
use engine::time::UnixMillis;
use storage::counters::{Counters, LimitKey, Outcome, Take};
use storage::sessions::SessionView;

use crate::config::settings::Limits;
use crate::pipeline::admit::whole_seconds;
use crate::snapshot::Snapshot;

/// The name of the principal's limit.
const PER_USER: &str = "per-user";

/// Witness that a request passed every stage. Nothing is forwarded without one, and only `spend` makes one.
#[derive(Clone, Debug)]
pub struct Passage {
    permit: Permit,
    matched: Arc<RouteMatch>,
    session: Option<SessionView>,
    snapshot: Arc<Snapshot>,
}

impl Passage {
    /// The policy world that it was decided in: what is said of the principal to an upstream comes from it too.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What policy permitted, and to whom.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// The route and its parameters.
    #[must_use]
    pub fn matched(&self) -> &RouteMatch {
        &self.matched
    }

    /// The session that the identity came with.
    #[must_use]
    pub fn session(&self) -> Option<&SessionView> {
        self.session.as_ref()
    }
}

/// Takes the principal's quota and the one of its class, both or neither.
///
/// # Errors
/// `QuotaSpent` with the limit that is tightest and the exact time of the next admission.
pub async fn spend(
    counters: &Counters,
    limits: &Limits,
    now: UnixMillis,
    permit: Permit,
    matched: Arc<RouteMatch>,
    session: Option<SessionView>,
    snapshot: Arc<Snapshot>,
) -> Result<Passage, Refusal> {
    if let Identity::Known(principal) = permit.identity() {
        let class = &matched.route.class;
        let of = |limit, rate| Take::new(LimitKey::principal(limit, principal.id), rate);
        let mut takes = vec![of(PER_USER, limits.per_user)];
        if let Some(rate) = limits.classes.get(class) {
            takes.push(of(class, *rate));
        }
        match counters.take(&takes, now).await {
            Outcome::Admitted => {}
            Outcome::Away => return Err(Refusal::Unavailable(Dependency::Counters)),
            Outcome::Refused { index, retry_after_ms } => {
                let limit = if index == 0 { Arc::from(PER_USER) } else { class.clone() };
                return Err(Refusal::QuotaSpent { limit, retry_after_s: whole_seconds(retry_after_ms) });
            }
        }
    }
    Ok(Passage { permit, matched, session, snapshot })
}

/// The passage of what goes on, once policy has permitted it again; its quota was spent when it began.
#[must_use]
pub fn again(
    permit: Permit,
    matched: Arc<RouteMatch>,
    session: Option<SessionView>,
    snapshot: Arc<Snapshot>,
) -> Passage {
    Passage { permit, matched, session, snapshot }
}
