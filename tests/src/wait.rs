//! Waiting for what another process does.

use std::time::{Duration, Instant};

/// How long an event in another process may take before a test fails, unless the test measures it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks `probe` until it yields, and fails with `what` when `limit` has passed.
///
/// The event happens in another process that cannot call us, so we look again and again. The pause
/// between two looks orders nothing: a slower machine only looks more often.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(begun.elapsed() < limit, "waited {limit:?} in vain for {what}");
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "the one pause between two looks at another process")]
fn pause() {
    std::thread::sleep(Duration::from_millis(3));
}
