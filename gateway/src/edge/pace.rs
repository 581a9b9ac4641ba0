//! How slow a client may be.
//!
//! A client that sends or reads a byte now and then is alive to every timeout that starts anew with each byte,
//! and holds its connection for ever. So it is the time in which we wait for it that is counted, and a body
//! earns more of it only with its bytes.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::settings::Connections;

/// What came too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// The end of the request's head: whoever takes longer is a slow loris.
    Head,
    /// The request's body.
    Body,
    /// The client's taking of the answer.
    Reader,
    /// The end of the request, on a route that has a deadline.
    Route,
}

/// How long we have waited for one request's body.
#[derive(Clone, Copy, Debug, Default)]
pub struct BodyPace {
    waited: Duration,
    since: Option<Instant>,
    bytes: u64,
}

impl BodyPace {
    /// Bytes of the body have come.
    pub fn arrived(&mut self, bytes: usize, now: Instant) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if let Some(since) = self.since.take() {
            self.waited = self.waited.saturating_add(now.saturating_duration_since(since));
        }
    }

    /// We wait for more of it, and until then at most.
    pub fn waits(&mut self, now: Instant, bounds: &Connections) -> Instant {
        let since = *self.since.get_or_insert(now);
        let earned = Duration::from_millis(self.bytes.saturating_mul(1000) / bounds.body_rate_min.max(1));
        let allowed = bounds.body_grace.saturating_add(earned);
        since + allowed.saturating_sub(self.waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_body_earns_time_by_its_bytes_alone() {
        let bounds = Connections { body_grace: 20 * SECOND, body_rate_min: 500, ..Connections::default() };
        let begin = Instant::now();
        let mut pace = BodyPace::default();
        assert_eq!(pace.waits(begin, &bounds), begin + 20 * SECOND);
        // A byte every five seconds: asked again while waiting, the end does not move.
        for byte in 1..4 {
            let now = begin + 5 * byte * SECOND;
            assert!(pace.waits(now - SECOND, &bounds) <= begin + 21 * SECOND);
            pace.arrived(1, now);
            assert!(pace.waits(now, &bounds) <= begin + 21 * SECOND);
        }
        // Time in which nobody waited for it is not held against it.
        let mut pace = BodyPace::default();
        pace.arrived(5_000, begin);
        assert_eq!(pace.waits(begin + 100 * SECOND, &bounds), begin + 130 * SECOND);
    }
}
