//! How much a request of a row takes of its limits.

use crate::limit::RATE_COUNT_MAX;

/// What a request takes of each of its limits, unless its row says more.
pub const COST_DEFAULT: u32 = 1;

/// The most that a row may say: no limit has more than this.
pub const COST_MAX: u32 = RATE_COUNT_MAX;

/// What is wrong with a `cost` as it is written, and what to write instead.
pub(super) fn fault(cost: u32) -> Option<(String, String)> {
    if (COST_DEFAULT..=COST_MAX).contains(&cost) {
        return None;
    }
    let message = format!("a request cannot cost {cost}");
    // Nothing would be counted by any limit, however often somebody asks.
    let free = if cost == 0 { "; what is to be free is in a class without a limit" } else { "" };
    Some((message, format!("write 1 to {COST_MAX}, or leave `cost` out, which is 1{free}")))
}
