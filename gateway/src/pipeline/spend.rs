//! Stage 6, spend: the quota of whoever was permitted. Only a permit can spend, so that a refused caller
//! never drains a victim's quota. Where gateways share a store of counters, this is where it is asked, once a request.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use engine::authz::Permit;
use engine::identity::Identity;
use engine::refusal::{Dependency, Refusal, Spent};
use engine::route::{COST_DEFAULT, RouteMatch};
use engine::time::UnixMillis;
use http::{HeaderName, HeaderValue};
use storage::counters::{Counters, LimitKey, Outcome, Take};
use storage::sessions::SessionView;

use crate::in_force::{Held, InForce};
use crate::pipeline::admit::{PER_ADDRESS, whole_seconds};
use crate::pipeline::record::Trail;
use crate::pipeline::{Pipeline, respond};
use crate::snapshot::Snapshot;

pub(crate) use engine::limit::PER_USER;

/// Witness that a request passed every stage. Nothing is forwarded without one, and only `spend` makes one.
#[derive(Clone, Debug)]
pub struct Passage {
    permit: Permit,
    matched: Arc<RouteMatch>,
    session: Option<SessionView>,
    snapshot: Arc<Snapshot>,
    limits: Vec<(HeaderName, HeaderValue)>,
}

/// What policy has permitted.
pub struct Permitted {
    /// To whom, and by which policies.
    pub permit: Permit,
    /// On which route.
    pub matched: Arc<RouteMatch>,
    /// The session that the identity came with.
    pub session: Option<SessionView>,
    /// The policy world that it was decided in.
    pub snapshot: Arc<Snapshot>,
}

impl Passage {
    /// What its answer tells of the limits that it has taken from; nothing unless that is configured.
    #[must_use]
    pub fn limits(&self) -> &[(HeaderName, HeaderValue)] {
        &self.limits
    }

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

/// Takes the principal's quota and the one of its class, both or neither. Where gateways share a store, it takes what
/// the address has of them as well, all in one question. Limits that are only tried out are counted with them.
///
/// # Errors
/// `QuotaSpent` or `Throttled` with the limit that is tightest and the exact time of the next admission; `Unavailable`
/// where the shared store is away and a limit is closed without it.
pub async fn spend(
    pipeline: &Pipeline,
    now: UnixMillis,
    client: IpAddr,
    permitted: Permitted,
    trail: &mut Trail,
) -> Result<Passage, Refusal> {
    let Permitted { permit, matched, session, snapshot } = permitted;
    let given = snapshot.bundle.classes_given(permit.deciding().iter().map(|one| &*one.id));
    trail.counted_in(&given);
    let asks = Asks {
        limits: &snapshot.limits,
        since: snapshot.since(),
        given: &given,
        matched: &matched,
        identity: permit.identity(),
        client,
    };
    let takes = asks.takes(pipeline.shared.is_some());
    let counters = pipeline.shared.as_ref().unwrap_or(&pipeline.counters);
    let tried = take(counters, now, &takes).await?;
    tried.iter().for_each(|spent| trail.shadowed(spent));
    let limits = told(pipeline, counters, now, &asks, takes.enforced);
    Ok(Passage { permit, matched, session, snapshot, limits })
}

/// What the answer tells of the limits that were taken from, here or before, where that is configured.
fn told(
    pipeline: &Pipeline,
    counters: &Counters,
    now: UnixMillis,
    asks: &Asks<'_>,
    taken: Vec<Take<'_>>,
) -> Vec<(HeaderName, HeaderValue)> {
    if !pipeline.headers_on_all {
        return Vec::new();
    }
    // Where gateways share a store, the address's are among them; otherwise they were taken from before.
    let takes = if pipeline.shared.is_some() { taken } else { asks.takes(true).enforced };
    let left = |take: &Take<'_>| Some((take.key.limit().to_owned(), take.rate, counters.known(take, now)?));
    respond::left(&takes.iter().filter_map(left).collect::<Vec<_>>(), pipeline.headers)
}

/// A permitted request, as limits see it.
struct Asks<'a> {
    limits: &'a InForce,
    /// Since when they are what they are.
    since: UnixMillis,
    /// The classes that deciding policies give, in the place of the route's.
    given: &'a [&'a Arc<str>],
    matched: &'a RouteMatch,
    identity: &'a Identity,
    client: IpAddr,
}

/// What it takes.
#[derive(Default)]
struct Takes<'a> {
    /// Of limits that refuse, the address's first.
    enforced: Vec<Take<'a>>,
    /// How many of those are the address's.
    of_address: usize,
    /// Of limits that are only tried out.
    shadowed: Vec<Take<'a>>,
}

impl<'a> Asks<'a> {
    /// Of the principal's limits; and of the address's, which each gateway has counted by itself before, where they are
    /// shared. What the route costs is taken of all but the address's own limit, which counts requests: it is the shield
    /// against floods, stands before the route is known, and is often shared by an office.
    fn takes(&self, of_address: bool) -> Takes<'a> {
        let limits = self.limits;
        let mut takes = Takes::default();
        let address = |limit: &'a str| LimitKey::address(limit, self.client);
        let class = &self.matched.route.class;
        if of_address {
            self.add(&mut takes, &limits.per_address, address(PER_ADDRESS), COST_DEFAULT);
            if self.matched.route.accept.anonymous {
                self.add_class(&mut takes, class, &address);
            }
        }
        if let Identity::Known(principal) = self.identity {
            takes.of_address = takes.enforced.len();
            let own = |limit: &'a str| LimitKey::principal(limit, principal.id);
            self.add(&mut takes, &limits.per_user, own(PER_USER), self.matched.route.cost);
            match self.given {
                [] => self.add_class(&mut takes, class, &own),
                given => given.iter().for_each(|class| self.add_class(&mut takes, class, &own)),
            }
        } else {
            // Whoever is nobody is given a class all the same, and there is nothing but an address to count it by; in the
            // route's own it has been counted before.
            let counted = |given: &Arc<str>| self.matched.route.accept.anonymous && given == class;
            let given = self.given.iter().filter(|given| !counted(given));
            given.for_each(|class| self.add_class(&mut takes, class, &address));
            takes.of_address = takes.enforced.len();
        }
        takes
    }

    fn add_class(&self, takes: &mut Takes<'a>, class: &'a Arc<str>, key: &dyn Fn(&'a str) -> LimitKey<'a>) {
        if let Some(held) = self.limits.classes.get(class) {
            self.add(takes, held, key(class), self.matched.route.cost);
        }
    }

    fn add(&self, takes: &mut Takes<'a>, held: &Held, key: LimitKey<'a>, cost: u32) {
        if held.limit.rate.limits() {
            let list = if held.limit.shadow { &mut takes.shadowed } else { &mut takes.enforced };
            list.push(held.take(key, self.since).costing(cost));
        }
    }
}

/// Takes from all, where there are any, and says which of those that are only tried out would have refused.
async fn take(counters: &Counters, now: UnixMillis, takes: &Takes<'_>) -> Result<Vec<Spent>, Refusal> {
    let tried = takes.shadowed.iter().map(|take| take.tried());
    let all: Cow<'_, [Take<'_>]> = if takes.shadowed.is_empty() {
        Cow::Borrowed(&takes.enforced)
    } else {
        takes.enforced.iter().copied().chain(tried).collect()
    };
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let taken = counters.take_all(&all, now).await;
    match taken.outcome {
        Outcome::Admitted if taken.over.is_empty() => Ok(Vec::new()),
        Outcome::Admitted => {
            let over = taken.over.into_iter().filter_map(|place| all.get(place));
            Ok(over.map(|take| Spent { limit: take.key.limit().into(), rate: take.rate, left: 0 }).collect())
        }
        Outcome::Away => Err(Refusal::Unavailable(Dependency::Counters)),
        Outcome::Refused { index, retry_after_ms } => {
            let retry_after_s = whole_seconds(retry_after_ms);
            let refusing = all.get(index);
            let limit = Arc::from(refusing.map_or("", |take| take.key.limit()));
            let rate = refusing.map(|take| take.rate);
            let left = taken.left;
            // The first are the address's, whose refusal is the one that it has in `admit`.
            if index < takes.of_address {
                let limit = rate.map(|rate| Spent { limit, rate, left });
                return Err(Refusal::Throttled { retry_after_s, limit });
            }
            Err(Refusal::QuotaSpent { limit, retry_after_s, rate, left })
        }
    }
}

/// The passage of what goes on, once policy has permitted it again; its quota was spent when it began.
#[must_use]
pub fn again(
    permit: Permit,
    matched: Arc<RouteMatch>,
    session: Option<SessionView>,
    snapshot: Arc<Snapshot>,
) -> Passage {
    Passage { permit, matched, session, snapshot, limits: Vec::new() }
}

#[cfg(test)]
mod tests;
