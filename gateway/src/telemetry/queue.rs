//! A bounded queue between one who must not wait and one who sends in batches.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::config::telemetry::Batches;

/// Items that wait to be sent.
pub(super) struct Queue<T> {
    items: Mutex<VecDeque<T>>,
    bounds: Batches,
    /// Told when the first item has come and when a batch is full, and not for each: waking a thread costs more than
    /// all else that is done for an item.
    awake: Notify,
}

impl<T> Queue<T> {
    pub(super) fn new(bounds: Batches) -> Arc<Self> {
        Arc::new(Self { items: Mutex::default(), bounds, awake: Notify::new() })
    }

    /// Puts an item in, unless the queue is full. Never waits.
    pub(super) fn push(&self, item: T) -> bool {
        let mut items = self.lock();
        if items.len() >= self.bounds.queue_max {
            return false;
        }
        items.push_back(item);
        let waiting = items.len();
        drop(items);
        if waiting == 1 || waiting == self.bounds.batch_max {
            self.awake.notify_one();
        }
        true
    }

    /// Waits until a batch is full, or an item has waited for as long as it may.
    pub(super) async fn batch(&self) {
        while self.lock().is_empty() {
            self.awake.notified().await;
        }
        let due = Instant::now() + self.bounds.delay;
        while self.lock().len() < self.bounds.batch_max {
            if timeout_at(due, self.awake.notified()).await.is_err() {
                return;
            }
        }
    }

    /// Takes a batch, or what there is of one.
    pub(super) fn take(&self) -> Vec<T> {
        let mut items = self.lock();
        let count = items.len().min(self.bounds.batch_max);
        items.drain(..count).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        // A push or a drain that panics leaves whole items behind.
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    fn queue(queue_max: usize, batch_max: usize) -> Arc<Queue<u32>> {
        Queue::new(Batches { queue_max, batch_max, delay: Duration::from_secs(3_600) })
    }

    #[test]
    fn what_finds_it_full_is_not_taken_and_the_rest_keeps_its_order() {
        let queue = queue(3, 2);
        assert_eq!([1, 2, 3, 4].map(|item| queue.push(item)), [true, true, true, false]);
        assert_eq!(queue.take(), [1, 2]);
        assert!(queue.push(5));
        assert_eq!((queue.take(), queue.take(), queue.take()), (vec![3, 5], vec![], vec![]));
    }

    #[tokio::test]
    async fn a_full_batch_does_not_wait_and_a_lone_item_waits_for_others() {
        let queue = queue(10, 2);
        assert!(queue.batch().now_or_never().is_none(), "nothing is there");
        queue.push(1);
        assert!(queue.batch().now_or_never().is_none(), "others may come for an hour");
        queue.push(2);
        assert!(queue.batch().now_or_never().is_some());
        queue.take();
        let theirs = queue.clone();
        let waiting = tokio::spawn(async move { theirs.batch().await });
        tokio::task::yield_now().await;
        queue.push(3);
        tokio::task::yield_now().await;
        queue.push(4);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn a_lone_item_waits_no_longer_than_it_may() {
        let queue = Queue::new(Batches { queue_max: 10, batch_max: 2, delay: Duration::ZERO });
        queue.push(1);
        queue.batch().await;
        assert_eq!(queue.take(), [1]);
    }
}
