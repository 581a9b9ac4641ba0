//! Stage 6, spend: the quota of whoever was permitted. Only a permit can spend, so that a refused caller
//! never drains a victim's quota. Where gateways share a store of counters, this is where it is asked, once a request.

use std::net::IpAddr;
use std::sync::Arc;

use engine::authz::Permit;
use engine::identity::Identity;
use engine::refusal::{Dependency, Refusal, Spent};
use engine::route::RouteMatch;
use engine::time::UnixMillis;
use http::{HeaderName, HeaderValue};
use storage::counters::{Counters, LimitKey, Outcome, Take};
use storage::sessions::SessionView;

use crate::config::settings::Limits;
use crate::pipeline::admit::{PER_ADDRESS, whole_seconds};
use crate::pipeline::{Pipeline, respond};
use crate::snapshot::Snapshot;

/// The name of the principal's limit.
pub(crate) const PER_USER: &str = "per-user";

/// Witness that a request passed every stage. Nothing is forwarded without one, and only `spend` makes one.
#[derive(Clone, Debug)]
pub struct Passage {
    permit: Permit,
    matched: Arc<RouteMatch>,
    session: Option<SessionView>,
    snapshot: Arc<Snapshot>,
    limits: Vec<(HeaderName, HeaderValue)>,
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
/// the address has of them as well, all in one question.
///
/// # Errors
/// `QuotaSpent` or `Throttled` with the limit that is tightest and the exact time of the next admission; `Unavailable`
/// where the shared store is away and a limit is closed without it.
pub async fn spend(
    pipeline: &Pipeline,
    now: UnixMillis,
    client: IpAddr,
    permit: Permit,
    matched: Arc<RouteMatch>,
    session: Option<SessionView>,
    snapshot: Arc<Snapshot>,
) -> Result<Passage, Refusal> {
    let (limits, class) = (&pipeline.limits, &matched.route.class);
    match (&pipeline.shared, permit.identity()) {
        (None, Identity::Known(principal)) => {
            let of = |limit, rate, sliding| {
                Take::new(LimitKey::principal(limit, principal.id).sliding(sliding), rate)
            };
            let sliding = &limits.sliding;
            let mut takes = Vec::with_capacity(2);
            let own = || of(PER_USER, limits.per_user, sliding.per_user);
            takes.extend(limits.per_user.limits().then(own));
            takes.extend(
                limits.classes.get(class).map(|rate| of(class, *rate, sliding.classes.contains(class))),
            );
            take(&pipeline.counters, now, &takes, 0).await?;
        }
        (None, Identity::Anonymous) => {}
        (Some(shared), identity) => {
            let (takes, of_address) = everywhere(limits, &matched, identity, client);
            take(shared, now, &takes, of_address).await?;
        }
    }
    let limits = told(pipeline, now, client, permit.identity(), &matched);
    Ok(Passage { permit, matched, session, snapshot, limits })
}

/// What the answer tells of the limits that were taken from, here or before, where that is configured.
fn told(
    pipeline: &Pipeline,
    now: UnixMillis,
    client: IpAddr,
    identity: &Identity,
    matched: &RouteMatch,
) -> Vec<(HeaderName, HeaderValue)> {
    let limits = &pipeline.limits;
    if !limits.headers_on_all {
        return Vec::new();
    }
    let counters = pipeline.shared.as_ref().unwrap_or(&pipeline.counters);
    let (takes, _) = everywhere(limits, matched, identity, client);
    let left = |take: &Take<'_>| Some((take.key.limit().to_owned(), take.rate, counters.known(take, now)?));
    respond::left(&takes.iter().filter_map(left).collect::<Vec<_>>(), limits.headers)
}

/// What a request takes of the limits that gateways share: first what is its address's, and how many those are.
fn everywhere<'a>(
    limits: &Limits,
    matched: &'a RouteMatch,
    identity: &Identity,
    client: IpAddr,
) -> (Vec<Take<'a>>, usize) {
    let (class, away) = (&matched.route.class, &limits.away);
    let class_rate = limits.classes.get(class).copied();
    let (sliding, class_slides) = (&limits.sliding, limits.sliding.classes.contains(class));
    let address = LimitKey::address(PER_ADDRESS, client).sliding(sliding.per_address);
    let address = Take::new(address, limits.per_address).when_away(away.per_address);
    let mut takes = Vec::with_capacity(4);
    takes.extend(limits.per_address.limits().then_some(address));
    if let Some(rate) = class_rate.filter(|_| matched.route.accept.anonymous) {
        let key = LimitKey::address(class, client).sliding(class_slides);
        takes.push(Take::new(key, rate).when_away(away.class(class)));
    }
    let of_address = takes.len();
    if let Identity::Known(principal) = identity {
        let of =
            |limit, rate, slides| Take::new(LimitKey::principal(limit, principal.id).sliding(slides), rate);
        let own = of(PER_USER, limits.per_user, sliding.per_user).when_away(away.per_user);
        takes.extend(limits.per_user.limits().then_some(own));
        takes.extend(class_rate.map(|rate| of(class, rate, class_slides).when_away(away.class(class))));
    }
    (takes, of_address)
}

/// Takes from all, where there are any. The first `of_address` are the address's, whose refusal is the one that it has
/// in `admit`; the others are the principal's.
async fn take(
    counters: &Counters,
    now: UnixMillis,
    takes: &[Take<'_>],
    of_address: usize,
) -> Result<(), Refusal> {
    if takes.is_empty() {
        return Ok(());
    }
    match counters.take(takes, now).await {
        Outcome::Admitted => Ok(()),
        Outcome::Away => Err(Refusal::Unavailable(Dependency::Counters)),
        Outcome::Refused { index, retry_after_ms } => {
            let retry_after_s = whole_seconds(retry_after_ms);
            let limit = Arc::from(takes.get(index).map_or("", |take| take.key.limit()));
            let rate = takes.get(index).map(|take| take.rate);
            if index < of_address {
                let limit = rate.map(|rate| Spent { limit, rate });
                return Err(Refusal::Throttled { retry_after_s, limit });
            }
            Err(Refusal::QuotaSpent { limit, retry_after_s, rate })
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
mod tests {
    use std::collections::BTreeMap;

    use engine::limit::Rate;
    use storage::counters::WhenAway;

    use super::*;
    use crate::config::settings::{LimitHeaders, LimitsAway, LimitsSliding};
    use crate::pipeline::testing;

    #[test]
    fn a_request_takes_what_its_address_and_its_principal_have_at_all_gateways() {
        let rate = |count| Rate { count, period_ms: 1_000 };
        let classes = BTreeMap::from([(Arc::from("auth"), rate(3)), (Arc::from("llm"), rate(4))]);
        let limits = Limits {
            per_address: rate(1),
            per_user: rate(2),
            classes,
            sliding: LimitsSliding::default(),
            away: LimitsAway::default(),
            headers: LimitHeaders::Draft,
            headers_on_all: false,
        };
        let client: IpAddr = "192.0.2.7".parse().unwrap();
        let id = testing::known(7, 7);
        let Identity::Known(principal) = &id else { panic!("somebody is known") };
        let address =
            |limit, count, away| Take::new(LimitKey::address(limit, client), rate(count)).when_away(away);
        let own = |limit, count, away| {
            Take::new(LimitKey::principal(limit, principal.id), rate(count)).when_away(away)
        };
        let (local, closed) = (WhenAway::Local, WhenAway::Closed);
        let check =
            |class: &str, anonymous: bool, identity: &Identity, expected: &[Take<'_>], of_address: usize| {
                let mut route = testing::route();
                route.class = class.into();
                route.accept.anonymous = anonymous;
                let matched = RouteMatch { route: Arc::new(route), parameters: Vec::new().into() };
                let (takes, first) = everywhere(&limits, &matched, identity, client);
                let shown =
                    |takes: &[Take<'_>]| takes.iter().map(|take| format!("{take:?}")).collect::<Vec<_>>();
                assert_eq!(
                    (shown(&takes), first),
                    (shown(expected), of_address),
                    "{class} {anonymous} {identity:?}"
                );
            };
        let all = address("per-address", 1, local);
        check("standard", true, &Identity::Anonymous, &[all], 1);
        check("auth", true, &Identity::Anonymous, &[all, address("auth", 3, closed)], 2);
        check("standard", false, &id, &[all, own("per-user", 2, local)], 1);
        check("llm", false, &id, &[all, own("per-user", 2, local), own("llm", 4, local)], 1);
        let both = [all, address("auth", 3, closed), own("per-user", 2, local), own("auth", 3, closed)];
        check("auth", true, &id, &both, 2);
    }

    #[test]
    fn a_limit_that_is_none_is_not_counted_and_one_that_slides_is_counted_so() {
        let rate = |count| Rate { count, period_ms: 1_000 };
        let none = Limits {
            per_address: Rate::NONE,
            per_user: Rate::NONE,
            classes: BTreeMap::from([(Arc::from("auth"), rate(3))]),
            sliding: LimitsSliding::default(),
            away: LimitsAway::default(),
            headers: LimitHeaders::Draft,
            headers_on_all: false,
        };
        let client: IpAddr = "192.0.2.7".parse().unwrap();
        let id = testing::known(7, 7);
        let Identity::Known(principal) = &id else { panic!("somebody is known") };
        let matched = |class: &str| {
            let mut route = testing::route();
            route.class = class.into();
            route.accept.anonymous = true;
            RouteMatch { route: Arc::new(route), parameters: Vec::new().into() }
        };
        let (standard, auth) = (matched("standard"), matched("auth"));
        let (takes, of_address) = everywhere(&none, &standard, &id, client);
        assert!(takes.is_empty() && of_address == 0);
        let (takes, of_address) = everywhere(&none, &auth, &id, client);
        assert_eq!((takes.len(), of_address), (2, 1), "and classes hold all the same");
        let classes = ["auth".into()].into();
        let sliding = LimitsSliding { per_address: false, per_user: true, classes };
        let limits = Limits { per_address: rate(1), per_user: rate(2), sliding, ..none };
        let (takes, _) = everywhere(&limits, &auth, &id, client);
        let keys: Vec<LimitKey<'_>> = takes.iter().map(|take| take.key).collect();
        let expected = [
            LimitKey::address("per-address", client),
            LimitKey::address("auth", client).sliding(true),
            LimitKey::principal("per-user", principal.id).sliding(true),
            LimitKey::principal("auth", principal.id).sliding(true),
        ];
        assert_eq!(keys, expected);
    }
}
