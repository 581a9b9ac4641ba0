//! What a shared store of counters is told at the start.

use std::time::Duration;

use engine::time::UnixMillis;

use super::leases::LeaseSettings;
use crate::redis::RedisPlace;

/// Which Redis, and how long a request may wait for it.
pub struct RedisSettings {
    /// Where it is, and who we are there.
    pub place: RedisPlace,
    /// How long a request waits for an answer at most. Past it the limits do as [`super::super::WhenAway`] says.
    pub budget: Duration,
    /// How many gateways share the limits: each enforces its part of a local one while the store is away.
    pub gateways: u32,
    /// How much of a limit is taken ahead; nothing where every request asks.
    pub leases: Option<LeaseSettings>,
    /// Bytes of counters in memory, for while it is away.
    pub memory_bytes: usize,
    /// The time of day, for what is counted while nobody asks.
    pub clock: fn() -> UnixMillis,
    /// Whether the scripts are told the caller's time instead of taking the server's.
    #[cfg(test)]
    pub given_time: bool,
}
