//! Stage 3, admit: the address may ask at all. Local and cheap, before any credential is looked at: what gateways count
//! together is counted in `spend`, so that a flood ends here and reaches no store.

use std::net::IpAddr;

use engine::limit::Rate;
use engine::refusal::{Dependency, Refusal, Spent};
use engine::route::RouteMatch;
use engine::time::UnixMillis;
use storage::counters::{Counters, LimitKey, Outcome, Take};

use crate::config::settings::Limits;

/// The name of the address's limit. Names of classes are plain words, so the dash keeps them apart.
pub(crate) const PER_ADDRESS: &str = "per-address";

/// The half that looks at the address alone, before anything of the request is judged: a flood of malformed
/// or unrouted requests spends it like any other.
///
/// # Errors
/// `Throttled` with the exact time of the next admission.
pub async fn address(
    counters: &Counters,
    limits: &Limits,
    now: UnixMillis,
    client: IpAddr,
) -> Result<(), Refusal> {
    let key = LimitKey::address(PER_ADDRESS, client).sliding(limits.sliding.per_address);
    take(counters, key, limits.per_address, now).await
}

/// The half that knows the route: where nobody need be known, a class with a limit counts by address.
///
/// # Errors
/// `Throttled` with the exact time of the next admission.
pub async fn admit(
    counters: &Counters,
    limits: &Limits,
    now: UnixMillis,
    matched: &RouteMatch,
    client: IpAddr,
) -> Result<(), Refusal> {
    if !matched.route.accept.anonymous {
        return Ok(());
    }
    let Some(rate) = limits.classes.get(&matched.route.class) else { return Ok(()) };
    let class = &matched.route.class;
    let key = LimitKey::address(class, client).sliding(limits.sliding.classes.contains(class));
    take(counters, key, *rate, now).await
}

async fn take(counters: &Counters, key: LimitKey<'_>, rate: Rate, now: UnixMillis) -> Result<(), Refusal> {
    if !rate.limits() {
        return Ok(());
    }
    match counters.take(&[Take::new(key, rate)], now).await {
        Outcome::Admitted => Ok(()),
        Outcome::Away => Err(Refusal::Unavailable(Dependency::Counters)),
        Outcome::Refused { retry_after_ms, .. } => {
            let limit = Some(Spent { limit: key.limit().into(), rate });
            Err(Refusal::Throttled { retry_after_s: whole_seconds(retry_after_ms), limit })
        }
    }
}

/// Rounds up, so that whoever waits that long is admitted.
#[must_use]
pub fn whole_seconds(milliseconds: u64) -> u32 {
    u32::try_from(milliseconds.div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}
