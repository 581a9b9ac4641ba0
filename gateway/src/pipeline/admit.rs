//! Stage 3, admit: the address may ask at all. Local and cheap, before any credential is looked at: what gateways count
//! together is counted in `spend`, so that a flood ends here and reaches no store.

use std::net::IpAddr;

pub(crate) use engine::limit::PER_ADDRESS;
use engine::refusal::{Dependency, Refusal, Spent};
use engine::route::{COST_DEFAULT, RouteMatch};
use engine::time::UnixMillis;
use storage::counters::{Counters, LimitKey, Outcome};

use crate::in_force::Held;
use crate::snapshot::Snapshot;

/// The half that looks at the address alone, before anything of the request is judged: a flood of malformed
/// or unrouted requests spends it like any other. What a request costs is not known yet, so that it takes 1. Names the
/// limit that is only tried out and would have refused it.
///
/// # Errors
/// `Throttled` with the exact time of the next admission; `Unavailable` where the counters do not answer at once.
pub fn address(
    counters: &Counters,
    snapshot: &Snapshot,
    now: UnixMillis,
    client: IpAddr,
) -> Result<Option<Spent>, Refusal> {
    let key = LimitKey::address(PER_ADDRESS, client);
    take(counters, snapshot.since(), (&snapshot.limits.per_address, key, COST_DEFAULT), now)
}

/// The half that knows the route: where nobody need be known, a class with a limit counts by address what the route costs.
///
/// # Errors
/// `Throttled` with the exact time of the next admission; `Unavailable` where the counters do not answer at once.
pub fn admit(
    counters: &Counters,
    snapshot: &Snapshot,
    now: UnixMillis,
    matched: &RouteMatch,
    client: IpAddr,
) -> Result<Option<Spent>, Refusal> {
    if !matched.route.accept.anonymous {
        return Ok(None);
    }
    let class = &matched.route.class;
    let Some(held) = snapshot.limits.classes.get(class) else { return Ok(None) };
    take(counters, snapshot.since(), (held, LimitKey::address(class, client), matched.route.cost), now)
}

fn take(
    counters: &Counters,
    since: UnixMillis,
    (held, key, cost): (&Held, LimitKey<'_>, u32),
    now: UnixMillis,
) -> Result<Option<Spent>, Refusal> {
    let rate = held.limit.rate;
    if !rate.limits() {
        return Ok(None);
    }
    let take = held.take(key, since).costing(cost);
    let spent = |left| Some(Spent { limit: key.limit().into(), rate, left });
    // A gateway's own counters answer at once. Where they would not, nobody is let in uncounted.
    let taken = counters.take_at_once(&[take], now);
    match taken.as_ref().map_or(Outcome::Away, |taken| taken.outcome) {
        Outcome::Admitted => Ok(None),
        Outcome::Away | Outcome::Refused { .. } if held.limit.shadow => Ok(spent(0)),
        Outcome::Away => Err(Refusal::Unavailable(Dependency::Counters)),
        Outcome::Refused { retry_after_ms, .. } => Err(Refusal::Throttled {
            retry_after_s: whole_seconds(retry_after_ms),
            limit: spent(taken.map_or(0, |taken| taken.left)),
        }),
    }
}

/// Rounds up, so that whoever waits that long is admitted.
#[must_use]
pub fn whole_seconds(milliseconds: u64) -> u32 {
    u32::try_from(milliseconds.div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use engine::limit::{Limit, Rate};
    use storage::Secret;
    use storage::counters::{MEMORY_BYTES_DEFAULT, RedisSettings, WhenAway};
    use storage::redis::{RedisAddress, RedisPlace};

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_795_557_600_000);

    /// Counters in a Redis that nobody has connected to.
    fn elsewhere() -> Counters {
        let address = RedisAddress::Tcp { host: "127.0.0.1".to_owned(), port: 1, tls: None };
        let place = RedisPlace {
            address,
            user: "default".to_owned(),
            password: Secret::new("password".to_owned()),
            database: 0,
            prefix: "cedargate".to_owned(),
        };
        let settings = RedisSettings {
            place,
            budget: Duration::from_millis(5),
            gateways: 1,
            leases: None,
            memory_bytes: MEMORY_BYTES_DEFAULT,
            clock: || NOW,
        };
        Counters::redis(settings, Box::new(|_, _| {}))
    }

    #[test]
    fn nobody_is_let_in_uncounted_but_by_a_limit_that_is_only_tried_out() {
        let key = LimitKey::address(PER_ADDRESS, IpAddr::from([127, 0, 0, 1]));
        let rate = Rate { count: 1, period_ms: 60_000 };
        let takes = |counters: &Counters, shadow: bool| {
            let held =
                Held { limit: Limit { rate, sliding: false, shadow }, away: WhenAway::Open, bundled: false };
            take(counters, NOW, (&held, key, COST_DEFAULT), NOW)
        };
        let spent = Spent { limit: PER_ADDRESS.into(), rate, left: 0 };
        let away = Err(Refusal::Unavailable(Dependency::Counters));
        assert_eq!(takes(&elsewhere(), false), away);
        assert_eq!(takes(&elsewhere(), true), Ok(Some(spent.clone())));
        for (shadow, second) in [
            (false, Err(Refusal::Throttled { retry_after_s: 60, limit: Some(spent.clone()) })),
            (true, Ok(Some(spent.clone()))),
        ] {
            let here = Counters::memory(MEMORY_BYTES_DEFAULT);
            assert_eq!(takes(&here, shadow), Ok(None));
            assert_eq!(takes(&here, shadow), second);
        }
    }
}
