//! GCRA arithmetic; the time is an argument.
//!
//! "N per P" means the rate N/P with a burst of N: a caller that was silent has N at once, then one each P/N. So
//! at most 2N in the first P, and at most `N + N·t/P` in any span `t`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time::UnixMillis;

/// The name of an address's own limit. No class has it: what is counted under one name is one limit.
pub const PER_ADDRESS: &str = "per-address";
/// The name of a principal's own limit.
pub const PER_USER: &str = "per-user";
/// The name of the limit of refusals.
pub const OF_REFUSALS: &str = "refusals";
/// The name of the limit of demands for a stronger or fresher sign-in.
pub const OF_STEP_UPS: &str = "step-ups";

/// The largest count of a rate that is written somewhere: past it a limit limits nothing.
pub const RATE_COUNT_MAX: u32 = 1_000_000;
/// The shortest period of such a rate, in milliseconds: clients are told to wait in whole seconds.
pub const PERIOD_MS_MIN: u64 = 1_000;
/// The longest, in milliseconds: a day.
pub const PERIOD_MS_MAX: u64 = 86_400_000;
/// Bytes of a class's name.
const CLASS_BYTES_MAX: usize = 32;

/// Nanoseconds in a millisecond.
const NS_PER_MS: u128 = 1_000_000;

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rate {
    /// How many in a period, and the burst. 0 admits nothing.
    pub count: u32,
    /// The period in milliseconds. 0 limits nothing.
    pub period_ms: u64,
}

/// A limit: how often, how that is counted, and whether anybody is refused by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How often.
    pub rate: Rate,
    /// Whether it is a sliding window: never more than the count in any period. Otherwise it is a rate with a burst.
    pub sliding: bool,
    /// Whether it counts and refuses nobody.
    pub shadow: bool,
}

impl Limit {
    /// Whether anybody is refused by it.
    #[must_use]
    pub const fn refuses(&self) -> bool {
        self.rate.limits() && !self.shadow
    }
}

/// For people: `20/1m sliding, shadowed`.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.rate)?;
        f.write_str(if self.sliding { " sliding" } else { "" })?;
        f.write_str(if self.shadow { ", shadowed" } else { "" })
    }
}

/// What is wrong with the name of a class of routes, if anything is; `None` says that a limit may have it.
#[must_use]
pub fn class_fault(name: &str) -> Option<&'static str> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    if [PER_ADDRESS, PER_USER, OF_REFUSALS, OF_STEP_UPS].contains(&name) {
        return Some("is the name of a limit that everybody has");
    }
    let is_name = (1..=CLASS_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed);
    (!is_name).then_some("names no class")
}

/// What the limiter answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gcra {
    /// It may happen.
    Admit {
        /// The state to keep under this key: the theoretical arrival time of the next, in nanoseconds since 1970.
        /// Once it is past, the key may be forgotten.
        tat: u64,
    },
    /// It may not happen yet; the state stays as it is.
    Refuse {
        /// Milliseconds after which the same would be admitted, if nothing else is in between. Exact: one
        /// millisecond earlier it would be refused. `u64::MAX` if it never will.
        retry_after_ms: u64,
    },
}

/// Asks for `cost` at `now`, with the state that the last admission under this key left.
///
/// Time is exact up to the year 2554, where nanoseconds since 1970 no longer fit; there it stands still.
#[must_use]
pub fn gcra(rate: Rate, tat: Option<u64>, now: UnixMillis, cost: u32) -> Gcra {
    if cost > rate.count {
        return Gcra::Refuse { retry_after_ms: u64::MAX };
    }
    narrow(rate, tat, now, cost).unwrap_or_else(|| wide(rate, tat, now, cost))
}

/// In 64 bits, which hold all of it but the ends of rates and of time. Each request comes here for each of its limits.
fn narrow(rate: Rate, tat: Option<u64>, now: UnixMillis, cost: u32) -> Option<Gcra> {
    const NS: u64 = 1_000_000;
    let interval = rate.period_ms.checked_mul(NS)?.div_ceil(u64::from(rate.count.max(1)));
    let now = now.0.checked_mul(NS)?;
    let latest = now.checked_add(interval.checked_mul(rate.count.into())?)?;
    let next = tat.unwrap_or(0).max(now).checked_add(interval.checked_mul(cost.into())?)?;
    Some(match next.checked_sub(latest) {
        None | Some(0) => Gcra::Admit { tat: next },
        Some(wait) => Gcra::Refuse { retry_after_ms: wait.div_ceil(NS) },
    })
}

/// The same, whatever the numbers are.
fn wide(rate: Rate, tat: Option<u64>, now: UnixMillis, cost: u32) -> Gcra {
    let interval = rate.interval();
    let burst = interval.saturating_mul(u128::from(rate.count));
    let wanted = interval.saturating_mul(u128::from(cost));
    let now = nanoseconds(now);
    let next = u128::from(tat.unwrap_or(0)).max(now).saturating_add(wanted);
    let latest = now.saturating_add(burst);
    if next <= latest {
        Gcra::Admit { tat: u64::try_from(next).unwrap_or(u64::MAX) }
    } else {
        let wait = (next - latest).div_ceil(NS_PER_MS);
        Gcra::Refuse { retry_after_ms: u64::try_from(wait).unwrap_or(u64::MAX) }
    }
}

/// How many would be admitted at `now`, at once.
#[must_use]
pub fn remaining(rate: Rate, tat: Option<u64>, now: UnixMillis) -> u32 {
    let interval = rate.interval();
    let burst = interval.saturating_mul(u128::from(rate.count));
    let spent = u128::from(tat.unwrap_or(0)).saturating_sub(nanoseconds(now));
    let left = burst.saturating_sub(spent).checked_div(interval);
    left.map_or(rate.count, |left| u32::try_from(left).unwrap_or(rate.count))
}

/// How a limit stands for somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// How many would be admitted now, at once.
    pub count: u32,
    /// Of how many.
    pub of: u32,
    /// Milliseconds after which one more is admitted: 0 is now, `u64::MAX` never.
    pub next_ms: u64,
    /// Milliseconds after which all of them are, if nothing else is in between.
    pub full_ms: u64,
}

/// How a limit stands at `now`, with the state that the last admission under its key left.
#[must_use]
pub fn left(rate: Rate, tat: Option<u64>, now: UnixMillis) -> Left {
    let ahead = u128::from(tat.unwrap_or(0)).saturating_sub(nanoseconds(now));
    let next_ms = match gcra(rate, tat, now, 1) {
        Gcra::Admit { .. } => 0,
        Gcra::Refuse { retry_after_ms } => retry_after_ms,
    };
    let full_ms = u64::try_from(ahead.div_ceil(NS_PER_MS)).unwrap_or(u64::MAX);
    Left { count: remaining(rate, tat, now), of: rate.count, next_ms, full_ms }
}

impl Rate {
    /// Limits nothing.
    pub const NONE: Self = Self { count: u32::MAX, period_ms: 0 };

    /// Whether it limits anything: what does not is not counted either.
    #[must_use]
    pub const fn limits(self) -> bool {
        self.period_ms != 0
    }

    /// Nanoseconds between two admissions. Rounded up, so that rounding never admits more than was asked for;
    /// the error is below one part in a million for every rate up to 1,000 a second.
    #[must_use]
    pub fn interval(self) -> u128 {
        let period = u128::from(self.period_ms) * NS_PER_MS;
        period.div_ceil(u128::from(self.count.max(1)))
    }
}

/// A text that is no rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a count and a period, such as `100/1m`")]
pub struct NotARate;

/// `100/1m`: a count from 1 to [`RATE_COUNT_MAX`] in a period from a second to a day. What limits nothing is no rate here:
/// who wants that has to say it in another way.
impl FromStr for Rate {
    type Err = NotARate;

    fn from_str(text: &str) -> Result<Self, NotARate> {
        let (count, period) = text.split_once('/').ok_or(NotARate)?;
        let count = digits(count).and_then(|count| u32::try_from(count).ok()).ok_or(NotARate)?;
        let period_ms = milliseconds(period).ok_or(NotARate)?;
        let bounded =
            (1..=RATE_COUNT_MAX).contains(&count) && (PERIOD_MS_MIN..=PERIOD_MS_MAX).contains(&period_ms);
        if bounded { Ok(Self { count, period_ms }) } else { Err(NotARate) }
    }
}

/// As it is written, in the largest unit that divides its period; what limits nothing is `none`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.limits() {
            return f.write_str("none");
        }
        write!(f, "{}/{}", self.count, spelt(self.period_ms))
    }
}

/// A number in digits alone.
fn digits(text: &str) -> Option<u64> {
    let only_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if only_digits { text.parse().ok() } else { None }
}

/// Milliseconds of a duration as it is written, digits and one unit: `500ms`, `90s`, `15m`, `24h`, `30d`.
#[must_use]
pub fn milliseconds(text: &str) -> Option<u64> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at_checked(unit_at)?;
    let (unit_ms, _) = UNITS.into_iter().find(|(_, name)| *name == unit)?;
    digits(count)?.checked_mul(unit_ms)
}

/// A duration in the largest unit that divides it.
#[must_use]
pub fn spelt(ms: u64) -> String {
    let divides = |(unit_ms, _): &(u64, &str)| ms > 0 && ms.is_multiple_of(*unit_ms);
    let (unit_ms, unit) = UNITS.into_iter().find(divides).unwrap_or((1, "ms"));
    format!("{}{unit}", ms / unit_ms)
}

/// Milliseconds of the units of time, the largest first.
const UNITS: [(u64, &str); 5] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];

/// The part of a limit that one of `gateways` enforces by itself: each admits at 1/`gateways` of the rate, so that all
/// of them together never admit faster than the limit, with as much of the burst as is its part. Its burst is never
/// below `cost` (while the limit's own is not), nor below 1: a part that could admit nothing would be a refusal.
#[must_use]
pub fn share(rate: Rate, gateways: u32, cost: u32) -> Rate {
    let gateways = gateways.max(1);
    let count = (rate.count / gateways).max(cost.max(1)).min(rate.count);
    // count / period of the part is count / (period * gateways) of the whole, rounded towards admitting less.
    let period = u128::from(rate.period_ms) * u128::from(count) * u128::from(gateways);
    let period_ms = period.div_ceil(u128::from(rate.count.max(1)));
    Rate { count, period_ms: u64::try_from(period_ms).unwrap_or(u64::MAX) }
}

fn nanoseconds(moment: UnixMillis) -> u128 {
    (u128::from(moment.0) * NS_PER_MS).min(u128::from(u64::MAX))
}

#[cfg(test)]
mod tests;
