//! The gateway's one clock. Everything else is told the time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use engine::time::UnixMillis;
pub use storage::audit_log::rfc3339;

/// The wall clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that asks for the time of day")]
pub fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The monotonic clock, for durations.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that asks for a monotonic instant")]
pub fn instant() -> Instant {
    Instant::now()
}
