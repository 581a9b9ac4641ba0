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
/// `Throttled` with the exact time of the next admission.
pub fn address(
    counters: &Counters,
    snapshot: &Snapshot,
    now: UnixMillis,
    client: IpAddr,
) -> Result<Option<Spent>, Refusal> {
    let key = LimitKey::address(PER_ADDRESS, client);
    take(counters, snapshot, (&snapshot.limits.per_address, key, COST_DEFAULT), now)
}

/// The half that knows the route: where nobody need be known, a class with a limit counts by address what the route costs.
///
/// # Errors
/// `Throttled` with the exact time of the next admission.
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
    take(counters, snapshot, (held, LimitKey::address(class, client), matched.route.cost), now)
}

fn take(
    counters: &Counters,
    snapshot: &Snapshot,
    (held, key, cost): (&Held, LimitKey<'_>, u32),
    now: UnixMillis,
) -> Result<Option<Spent>, Refusal> {
    let rate = held.limit.rate;
    if !rate.limits() {
        return Ok(None);
    }
    let take = held.take(key, snapshot.since()).costing(cost);
    let spent = |left| Some(Spent { limit: key.limit().into(), rate, left });
    let Some(taken) = counters.take_at_once(&[take], now) else {
        // Counters of its own answer at once. Where they would not, nobody is let in uncounted.
        return Err(Refusal::Unavailable(Dependency::Counters));
    };
    match taken.outcome {
        Outcome::Admitted => Ok(None),
        Outcome::Away | Outcome::Refused { .. } if held.limit.shadow => Ok(spent(0)),
        Outcome::Away => Err(Refusal::Unavailable(Dependency::Counters)),
        Outcome::Refused { retry_after_ms, .. } => {
            Err(Refusal::Throttled { retry_after_s: whole_seconds(retry_after_ms), limit: spent(taken.left) })
        }
    }
}

/// Rounds up, so that whoever waits that long is admitted.
#[must_use]
pub fn whole_seconds(milliseconds: u64) -> u32 {
    u32::try_from(milliseconds.div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}
