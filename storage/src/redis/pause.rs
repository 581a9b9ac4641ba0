//! How long a Redis that is away is left alone.

use std::time::Duration;

/// The pause before it is tried again: doubled from the first to the last, give or take a half.
const PAUSE: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];
/// How long it must have been there for the next pause to be the first again, so that one that comes and goes is told
/// of every few seconds and not every few milliseconds.
pub(crate) const STEADY: Duration = Duration::from_secs(10);

/// How long to wait before the store is tried again.
#[derive(Default)]
pub(crate) struct Pause(u32);

impl Pause {
    /// The next one.
    pub(crate) fn next(&mut self) -> Duration {
        let [first, last] = PAUSE;
        let whole = first.saturating_mul(1 << self.0.min(16)).min(last);
        self.0 = self.0.saturating_add(1);
        // Gateways that lost it together do not all come back together.
        let [part] = crate::random::random::<1>();
        whole.mul_f64(0.5 + f64::from(part) / 256.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_differ() {
        let mut pause = Pause::default();
        let pauses: Vec<Duration> = (0..40).map(|_| pause.next()).collect();
        for (number, pause) in pauses.iter().enumerate() {
            let whole = PAUSE[0].saturating_mul(1 << number.min(16)).min(PAUSE[1]);
            assert!(*pause >= whole / 2 && *pause <= whole * 3 / 2, "{number}: {pause:?}");
        }
        let last: std::collections::BTreeSet<Duration> = pauses[10..].iter().copied().collect();
        assert!(last.len() > 1, "gateways do not come back in step");
    }
}
