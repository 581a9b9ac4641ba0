//! One key's place in the table of rates, and what its state means for a limit that has become another.

use std::sync::atomic::{AtomicU64, Ordering};

use engine::limit::Rate;
use engine::time::UnixMillis;

use super::super::hashed::FIRST;
use super::{NS_PER_MS, Take};

/// Marks a TAT that another store of counters has not been told of. Nanoseconds reach this bit in the year 2262.
pub(super) const OWED: u64 = 1 << 63;

/// What is above the bits of a slot's first word that are its key's says the period that its TAT was reckoned with.
const KEY_BITS: u32 = FIRST.trailing_ones();

/// Empty while the TAT is 0.
#[derive(Clone, Copy, Default)]
pub(super) struct Slot {
    key: [u64; 2],
    tat: u64,
}

/// By which limit a state is kept, seen from a take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Kept {
    /// By the take's own, or by one of which nobody knows how long it held.
    Own,
    /// By one that has become the take's.
    Earlier,
    /// By one that the take's has become: the take is of a request that was under way meanwhile. It is let through or not
    /// by the part that is spent, and adds its own part to that.
    Later,
}

/// Since when the newest limits hold that a take was of, in milliseconds since 1970.
#[derive(Default)]
pub(in super::super) struct Newest(AtomicU64);

impl Newest {
    /// By which limit a state is kept that is `of_another` than a take's. Said while the state is locked, so that a request
    /// that was under way sees what others have made of it.
    pub(in super::super) fn kept(&self, take: &Take<'_>, of_another: bool) -> Kept {
        let Some(since) = take.since else { return Kept::Own };
        let newest = self.0.load(Ordering::Relaxed);
        if since.0 > newest {
            self.0.fetch_max(since.0, Ordering::Relaxed);
        }
        match (of_another, since.0 < newest) {
            (false, _) => Kept::Own,
            (true, false) => Kept::Earlier,
            (true, true) => Kept::Later,
        }
    }
}

impl Slot {
    pub(super) const fn tat(self) -> u64 {
        self.tat & !OWED
    }

    pub(super) const fn is_owed(self) -> bool {
        self.tat & OWED != 0
    }

    pub(super) fn new([low, high]: [u64; 2], period: u16, tat: u64) -> Self {
        Self { key: [low | u64::from(period) << KEY_BITS, high], tat }
    }

    pub(super) const fn is(self, [low, high]: [u64; 2]) -> bool {
        let [own, own_high] = self.key;
        self.tat != 0 && own & FIRST == low && own_high == high
    }

    pub(super) fn period(self) -> u16 {
        let [low, _] = self.key;
        u16::try_from(low >> KEY_BITS).unwrap_or_default()
    }

    /// Whether it was reckoned with another period than the limit of this take has.
    pub(super) fn is_of_another(self, take: &Take<'_>) -> bool {
        self.period() != 0 && self.period() != spelt(take.period_ms)
    }

    /// Its TAT by the limit of this take. The part of a limit that was spent when it became the take's is spent of that, and
    /// comes back as it says since then.
    pub(super) fn tat_by(self, take: &Take<'_>, kept: Kept, now: UnixMillis) -> u64 {
        let period = period(self.period());
        let from = match (kept, take.since) {
            (Kept::Own, _) => return self.tat(),
            // Of a clock that has gone back since then nobody knows what was spent when; and more than the whole of a limit
            // was not spent by then, but after it.
            (Kept::Earlier, Some(since)) if since < now && !exceeds(self.tat(), since, period) => since,
            (Kept::Earlier | Kept::Later, _) => now,
        };
        rescaled(self.tat(), from, period, take.period_ms)
    }

    /// What is put in its place after `tat` by the limit of this take: a TAT and the period that it is reckoned with.
    pub(super) fn next(
        slot: Option<Self>,
        take: &Take<'_>,
        kept: Kept,
        tat: u64,
        now: UnixMillis,
    ) -> (u64, u16) {
        match (slot, kept, take.since) {
            (Some(slot), Kept::Later, _) => {
                (rescaled(tat, now, take.period_ms, period(slot.period())), slot.period())
            }
            (_, Kept::Own | Kept::Earlier | Kept::Later, Some(_)) => (tat, spelt(take.period_ms)),
            // A take that does not say since when its limit is what it is leaves what stands there.
            (slot, Kept::Own | Kept::Earlier | Kept::Later, None) => (tat, slot.map_or(0, Self::period)),
        }
    }
}

/// A TAT of which the same part of another period is ahead at this moment. Rounded up; never more than the whole, and a
/// moment of which nothing is known counts as it stands.
fn rescaled(tat: u64, at: UnixMillis, period_ms: u64, other_ms: u64) -> u64 {
    let at = at.0.saturating_mul(NS_PER_MS);
    let whole = u128::from(other_ms) * u128::from(NS_PER_MS);
    let ahead = u128::from(tat.saturating_sub(at)) * u128::from(other_ms);
    let ahead = ahead.div_ceil(period_ms.max(1).into()).min(whole);
    at.saturating_add(u64::try_from(ahead).unwrap_or(u64::MAX)) & !OWED
}

/// How far a state may lie ahead, in milliseconds: a period, and of one of several parts of a limit as much as all of the limit
/// takes there, because a request that costs more than a part is let through by it.
pub(in super::super) fn farthest_ms(period_ms: u64, parts: u32) -> u64 {
    // The period of a part is rounded up to whole milliseconds.
    period_ms.saturating_mul(parts.max(1).into()).saturating_add(u64::from(parts > 1))
}

/// A state lies no further ahead than one of the take may.
pub(super) fn bounded(tat: u64, take: &Take<'_>, now: UnixMillis) -> u64 {
    within(tat, take.farthest_ms, take.rate, now)
}

/// A state that lies further ahead comes from a clock that went back, or from a limit of which nobody knows the period.
pub(super) fn within(tat: u64, farthest_ms: u64, rate: Rate, now: UnixMillis) -> u64 {
    let farthest = now.0.saturating_add(farthest_ms).saturating_mul(NS_PER_MS);
    // An emission interval is rounded up by less than a nanosecond.
    tat.min(farthest.saturating_add(rate.count.into()))
}

/// Whether more than the whole of a period is ahead at this moment, by more than periods and intervals are rounded.
fn exceeds(tat: u64, at: UnixMillis, period_ms: u64) -> bool {
    let whole = period_ms.saturating_mul(NS_PER_MS);
    tat.saturating_sub(at.0.saturating_mul(NS_PER_MS)) > whole.saturating_add(whole / 256)
}

/// A period in 16 bits, 6 of them its magnitude: within a thousandth and never more than it is, so that what was spent of it
/// is never told as less. 0 is none.
pub(super) fn spelt(period_ms: u64) -> u16 {
    let Some(magnitude) = period_ms.checked_ilog2().map(|magnitude| magnitude.min(62)) else { return 0 };
    let part = if magnitude > 10 { period_ms >> (magnitude - 10) } else { period_ms << (10 - magnitude) };
    u16::try_from(u64::from(magnitude) << 10 | part & 1023).unwrap_or(u16::MAX).saturating_add(1)
}

pub(super) fn period(spelt: u16) -> u64 {
    let Some(spelt) = spelt.checked_sub(1).map(u64::from) else { return 0 };
    let (magnitude, part) = (spelt >> 10, 1024 | spelt & 1023);
    if magnitude > 10 { part << (magnitude - 10) } else { part >> (10 - magnitude) }
}
