//! Work that a crowd waits for is done once: whoever comes first begins it, and it goes on when they leave.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// What is under way, by what it is about. At most as much as there are requests that wait.
pub(super) struct Flights<K, T> {
    under_way: Arc<Mutex<UnderWay<K, T>>>,
}

type UnderWay<K, T> = HashMap<K, watch::Receiver<Option<T>>>;

/// Takes its flight off the list when it ends, however it ends.
struct Landing<K: Eq + Hash, T> {
    under_way: Arc<Mutex<UnderWay<K, T>>>,
    key: K,
}

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self { under_way: Arc::default() }
    }
}

impl<K, T> Flights<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// What the work brings that is under way for a key, or this one, which is begun where there is none. Whoever comes
    /// after it was taken off the list begins anew, so the work itself looks first at what the last one has left.
    /// `None` where it broke off in an unforeseen way.
    pub(super) async fn of(&self, key: K, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let mut told = self.joined(key, work);
        let told = told.wait_for(Option::is_some).await.ok()?;
        told.clone()
    }

    fn joined(&self, key: K, work: impl Future<Output = T> + Send + 'static) -> watch::Receiver<Option<T>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = under_way.get(&key) {
            return told.clone();
        }
        let (tell, told) = watch::channel(None);
        under_way.insert(key.clone(), told.clone());
        let landing = Landing { under_way: Arc::clone(&self.under_way), key };
        tokio::spawn(async move {
            let brought = work.await;
            drop(landing);
            tell.send_replace(Some(brought));
        });
        told
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.under_way.lock().unwrap().len()
    }
}

impl<K: Eq + Hash, T> Drop for Landing<K, T> {
    fn drop(&mut self) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn a_crowd_waits_for_one_and_the_next_begins_anew() {
        let flights: Arc<Flights<u8, usize>> = Arc::default();
        let (begun, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let work = || {
            let (begun, gate) = (Arc::clone(&begun), Arc::clone(&gate));
            async move {
                let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
                gate.acquire().await.unwrap().forget();
                number
            }
        };
        let waits: Vec<_> = (0..200)
            .map(|_| {
                let (flights, work) = (Arc::clone(&flights), work());
                tokio::spawn(async move { flights.of(1, work).await })
            })
            .collect();
        // Another key is another flight.
        let other = tokio::spawn({
            let (flights, work) = (Arc::clone(&flights), work());
            async move { flights.of(2, work).await }
        });
        while begun.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        // Whoever came first leaves; what they have begun goes on.
        waits[0].abort();
        gate.add_permits(2);
        for wait in waits.into_iter().skip(1) {
            assert!(matches!(wait.await.unwrap(), Some(1 | 2)));
        }
        assert!(other.await.unwrap().is_some());
        assert_eq!((begun.load(Ordering::SeqCst), flights.count()), (2, 0));
        gate.add_permits(1);
        assert_eq!(flights.of(1, work()).await, Some(3));
    }

    #[tokio::test]
    async fn what_breaks_off_brings_nothing_and_stands_in_nobodys_way() {
        let flights: Flights<u8, u8> = Flights::default();
        assert_eq!(flights.of(1, async { panic!("a fault of a test") }).await, None);
        assert_eq!(flights.of(1, async { 7 }).await, Some(7));
        assert_eq!(flights.count(), 0);
    }
}
