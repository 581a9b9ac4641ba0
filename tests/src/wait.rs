//! Waiting for what another process does.

use std::time::{Duration, Instant};

/// How long an event in another process may take before a test fails, unless the test measures it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks `probe` until it yields, and fails with `what` when `limit` has passed.
pub fn until<T>(what: &str, limit: Duration, probe: impl FnMut() -> Option<T>) -> T {
    within(limit, probe).unwrap_or_else(|| panic!("waited {limit:?} in vain for {what}"))
}

/// Asks `probe` until it yields; `None` when `limit` has passed.
///
/// The event happens in another process that cannot call us, so we look again and again. The pause
/// between two looks orders nothing: a slower machine only looks more often.
pub fn within<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if begun.elapsed() > limit {
            return None;
        }
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "the one pause between two looks at another process")]
fn pause() {
    std::thread::sleep(Duration::from_millis(3));
}
