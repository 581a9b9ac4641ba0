//! The queue before password hashing.
//!
//! Hashing is the dearest thing that a stranger can make us do. So at most one hash a core runs at a time,
//! the queue before it is bounded, and one address has a share of it only: filling it with unknown names
//! keeps nobody else out (threat 11).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use crate::address::address_bucket;

/// Milliseconds that one hash takes on a small core; for the estimate that `Retry-After` gives.
const HASH_MS: usize = 25;

/// Lets password hashes run, a few at a time. Cheap to clone.
#[derive(Clone)]
pub struct HashingGate {
    settings: HashingGateSettings,
    running: Arc<Semaphore>,
    places: Arc<Mutex<Places>>,
}

/// How much hashing there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashingGateSettings {
    /// Hashes that run at the same time; each takes 19 MiB and a core.
    pub concurrency: usize,
    /// Hashes that run or wait.
    pub places_max: usize,
    /// Hashes that run or wait for one address (an IPv6 network of 64 bits counts as one).
    pub per_address_max: usize,
}

/// Why a hash did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// The queue, or the address's share of it, is full.
    #[error("too many passwords wait to be hashed")]
    Busy {
        /// Seconds after which there should be a place.
        retry_after_s: u32,
    },
    /// The work panicked, or the program is ending.
    #[error("the hashing was interrupted")]
    Interrupted,
}

#[derive(Default)]
struct Places {
    taken: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A taken place; given back when dropped, however the caller ends.
struct Place {
    address: IpAddr,
    places: Arc<Mutex<Places>>,
}

impl Default for HashingGateSettings {
    /// One hash a core, 32 that wait for each (under a second), 8 for one address.
    fn default() -> Self {
        let concurrency = std::thread::available_parallelism().map_or(1, usize::from);
        Self { concurrency, places_max: concurrency * 33, per_address_max: 8 }
    }
}

impl HashingGate {
    /// A gate; a bound of zero counts as one.
    #[must_use]
    pub fn new(settings: HashingGateSettings) -> Self {
        Self {
            settings,
            running: Arc::new(Semaphore::new(settings.concurrency.max(1))),
            places: Arc::default(),
        }
    }

    /// Runs `work` on a thread that may block, when its turn comes.
    ///
    /// A caller that is dropped while it waits gives its place back; one that is dropped later leaves the
    /// work running, and its place and core are free when it ends.
    ///
    /// # Errors
    /// At once, without waiting, when there is no place; or when the work panics.
    pub async fn run<T: Send + 'static>(
        &self,
        client: IpAddr,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, GateError> {
        let place = self.enter(address_bucket(client))?;
        let turn = Arc::clone(&self.running).acquire_owned().await.map_err(|_| GateError::Interrupted)?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop((turn, place));
            result
        });
        done.await.map_err(|_| GateError::Interrupted)
    }

    fn enter(&self, address: IpAddr) -> Result<Place, GateError> {
        let mut places = lock(&self.places);
        let share = places.by_address.get(&address).copied().unwrap_or_default();
        if places.taken >= self.settings.places_max.max(1) || share >= self.settings.per_address_max.max(1) {
            let wait_ms = places.taken * HASH_MS / self.settings.concurrency.max(1);
            let retry_after_s = u32::try_from(wait_ms.div_ceil(1000)).unwrap_or(u32::MAX).max(1);
            return Err(GateError::Busy { retry_after_s });
        }
        places.taken += 1;
        places.by_address.insert(address, share + 1);
        Ok(Place { address, places: Arc::clone(&self.places) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = lock(&self.places);
        places.taken = places.taken.saturating_sub(1);
        if let Some(share) = places.by_address.get_mut(&self.address) {
            *share -= 1;
            if *share == 0 {
                places.by_address.remove(&self.address);
            }
        }
    }
}

fn lock(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}
