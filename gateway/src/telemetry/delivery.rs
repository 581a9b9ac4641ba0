//! Sends a queue's items in batches, again where the collector may take them later.

use std::time::Duration;

use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::attributes::Origin;
use super::client::{Client, Outcome};
use super::queue::Queue;
use super::state::Progress;

/// The wait after the first failure; each further one doubles it.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// The longest wait that is chosen here.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The gateway ends: what waits is sent until then, and no failure is waited out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop(Instant);

impl Stop {
    /// In so long.
    pub(super) fn within(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// When it is over.
    pub(super) fn at(self) -> Instant {
        self.0
    }
}

/// An export's bytes and how many items they are.
pub(super) struct Export {
    pub(super) body: Bytes,
    pub(super) items: u64,
}

/// Puts items together to exports.
pub(super) type Encode<T> = fn(Vec<T>, &Origin) -> Vec<Export>;

/// One signal's way from its queue to the collector.
pub(super) struct Delivery<T> {
    pub(super) queue: Arc<Queue<T>>,
    pub(super) client: Client,
    pub(super) progress: Arc<Progress>,
    pub(super) encode: Encode<T>,
    pub(super) origin: Origin,
}

impl<T> Delivery<T> {
    /// Sends until the gateway ends, and then what still waits.
    pub(super) async fn run(self, mut stop: watch::Receiver<Option<Stop>>) {
        let mut stopping = stop.clone();
        tokio::select! {
            () = self.forever(&mut stop) => {}
            () = over(&mut stopping) => {}
        }
        self.progress.give_up();
    }

    async fn forever(&self, stop: &mut watch::Receiver<Option<Stop>>) {
        loop {
            if !is_ending(stop) {
                let mut stopping = stop.clone();
                tokio::select! {
                    () = self.queue.batch() => {}
                    _ = stopping.wait_for(Option::is_some) => {}
                }
            }
            let items = self.queue.take();
            if items.is_empty() && is_ending(stop) {
                return;
            }
            for export in (self.encode)(items, &self.origin) {
                self.deliver(export, stop).await;
            }
        }
    }

    /// Sends one export until it is taken or refused. There is no last try while the gateway runs: what waits behind
    /// it is bounded by the queue, and a collector that comes back finds the oldest first.
    async fn deliver(&self, export: Export, stop: &mut watch::Receiver<Option<Stop>>) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let (why, asked) = match self.client.post(export.body.clone()).await {
                Outcome::Taken { refused } => {
                    self.progress.works();
                    let refused = refused.min(export.items);
                    return self.progress.settled(export.items - refused, refused);
                }
                Outcome::Refused(why) => {
                    self.progress.failed(why);
                    return self.progress.settled(0, export.items);
                }
                Outcome::Later(why, asked) => (why, asked),
            };
            self.progress.failed(why);
            if is_ending(stop) {
                return self.progress.settled(0, export.items);
            }
            tokio::select! {
                () = sleep(asked.unwrap_or_else(|| jittered(backoff))) => {}
                _ = stop.wait_for(Option::is_some) => {}
            }
            backoff = backoff.saturating_mul(2).min(BACKOFF_MAX);
        }
    }
}

/// Whether the gateway ends, or whoever would have said so is gone.
pub(super) fn is_ending(stop: &watch::Receiver<Option<Stop>>) -> bool {
    stop.borrow().is_some() || stop.has_changed().is_err()
}

/// Waits until the time after the gateway's end is over.
pub(super) async fn over(stop: &mut watch::Receiver<Option<Stop>>) {
    let until = match stop.wait_for(Option::is_some).await {
        Ok(stop) => stop.map_or_else(Instant::now, Stop::at),
        // Whoever could stop it is gone.
        Err(_) => Instant::now(),
    };
    timeout_at(until, std::future::pending::<()>()).await.ok();
}

/// Between half of it and all of it, so that gateways that lost the same collector do not come back as one.
fn jittered(backoff: Duration) -> Duration {
    let [random] = crate::random::bytes::<1>();
    backoff.mul_f64(0.5 + f64::from(random) / 512.0)
}
