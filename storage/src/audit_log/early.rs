//! The share of records that early refusals have.

use std::collections::BTreeMap;

use engine::time::UnixMillis;

/// A token bucket, and the counts of what it did not let through.
pub(super) struct Early {
    per_second: u64,
    burst: u64,
    /// Thousandths of a record.
    tokens: u64,
    refilled_at: UnixMillis,
    counted: BTreeMap<&'static str, u64>,
    counted_at: UnixMillis,
    total: u64,
}

/// What was counted since the last summary.
pub(super) struct Counts {
    /// By refusal code.
    pub(super) by_code: BTreeMap<&'static str, u64>,
    /// When the last of them came.
    pub(super) at: UnixMillis,
}

impl Early {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let burst = u64::from(burst) * 1000;
        Self {
            per_second: per_second.into(),
            burst,
            tokens: burst,
            refilled_at: UnixMillis(0),
            counted: BTreeMap::new(),
            counted_at: UnixMillis(0),
            total: 0,
        }
    }

    /// Whether one more refusal gets a record; when not, or when there is no `room`, it is counted.
    pub(super) fn admit(&mut self, code: &'static str, room: bool, now: UnixMillis) -> bool {
        let refill = now.since(self.refilled_at).saturating_mul(self.per_second);
        self.tokens = self.tokens.saturating_add(refill).min(self.burst);
        self.refilled_at = self.refilled_at.max(now);
        if room && self.tokens >= 1000 {
            self.tokens -= 1000;
            return true;
        }
        *self.counted.entry(code).or_default() += 1;
        self.counted_at = now;
        self.total += 1;
        false
    }

    /// Takes the counts for a summary.
    pub(super) fn take(&mut self) -> Option<Counts> {
        let by_code = std::mem::take(&mut self.counted);
        (!by_code.is_empty()).then_some(Counts { by_code, at: self.counted_at })
    }

    /// All that was ever counted.
    pub(super) fn total(&self) -> u64 {
        self.total
    }
}
