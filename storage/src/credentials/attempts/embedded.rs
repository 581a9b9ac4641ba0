//! Counters in memory, put into the embedded store every second.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::time::UnixMillis;
use redb::{Durability, ReadableTable, TableDefinition, WriteTransaction};

use super::counter::{Counted, Counter};
use super::{Attempt, AttemptRules, Reservation};
use crate::keyring::{Digest, Purpose};
use crate::{Store, StoreError};

const SHARDS: usize = 64;
const COUNTERS_PER_SHARD: usize = 1024;

/// Digest of login and device -> failures, attempts before their wait was over, last failure, end of the lock.
const ATTEMPTS: TableDefinition<&[u8], (u32, u32, u64, u64)> = TableDefinition::new("sign_in_attempts");

#[derive(Clone)]
pub(super) struct Embedded {
    store: Store,
    rules: AttemptRules,
    shards: Arc<[Mutex<Shard>]>,
}

#[derive(Default)]
struct Shard {
    counters: HashMap<Digest, Counter>,
    /// Changed or removed since the last flush.
    dirty: HashSet<Digest>,
}

impl Embedded {
    pub(super) fn open(store: Store, rules: AttemptRules) -> Result<Self, StoreError> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let attempts = Self { store, rules, shards };
        attempts.store.read(|transaction| {
            for row in transaction.open_table(ATTEMPTS)?.iter()? {
                let (place, value) = row?;
                let place = Digest::from_bytes(place.value()).ok_or(StoreError::Malformed)?;
                let (failures, hurried, last, locked_until) = value.value();
                let (last, locked_until) = (UnixMillis(last), UnixMillis(locked_until));
                let counter = Counter { failures, hurried, last, locked_until };
                attempts.shard(&place).counters.insert(place, counter);
            }
            Ok(())
        })?;
        Ok(attempts)
    }

    pub(super) fn reserve(&self, name: &[u8], now: UnixMillis) -> Attempt {
        let place = self.place(name);
        let mut shard = self.shard(&place);
        let mut counter = shard.counters.get(&place).copied().unwrap_or(Counter::new(now));
        // A lock that holds is not written again: whoever hammers at it costs nothing.
        let was_locked = now < counter.locked_until;
        let counted = counter.attempt(&self.rules, now);
        if !was_locked || !matches!(counted, Counted::Locked(_)) {
            shard.put(place, counter, now);
        }
        Attempt::of(counted, place, now)
    }

    pub(super) fn succeed(&self, reservation: &Reservation) {
        let place = reservation.place;
        let mut shard = self.shard(&place);
        shard.counters.remove(&place);
        shard.dirty.insert(place);
    }

    pub(super) fn give_back(&self, reservation: &Reservation) {
        let place = reservation.place;
        let mut shard = self.shard(&place);
        if let Some(counter) = shard.counters.get_mut(&place) {
            counter.give_back(&self.rules);
            shard.dirty.insert(place);
        }
    }

    pub(super) fn forget(&self, name: &[u8]) -> bool {
        let place = self.place(name);
        let mut shard = self.shard(&place);
        shard.dirty.insert(place);
        shard.counters.remove(&place).is_some()
    }

    /// Puts what changed into the store.
    pub(super) async fn flush(&self) -> Result<(), StoreError> {
        let changed: Vec<_> = self.shards.iter().flat_map(|shard| lock(shard).changed()).collect();
        if changed.is_empty() {
            return Ok(());
        }
        let places: Vec<_> = changed.iter().map(|(place, _)| *place).collect();
        let flushed = self
            .store
            .write(Durability::Immediate, move |transaction, _| {
                let mut table = transaction.open_table(ATTEMPTS)?;
                for (place, counter) in changed {
                    let key = place.as_bytes().as_slice();
                    match counter {
                        Some(counter) => drop(table.insert(key, counter.row())?),
                        None => drop(table.remove(key)?),
                    }
                }
                Ok::<_, StoreError>(())
            })
            .await;
        if flushed.is_err() {
            for place in places {
                self.shard(&place).dirty.insert(place);
            }
        }
        flushed
    }

    pub(super) fn count(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).counters.len()).sum()
    }

    /// Where the counter is; after a rotation of the master it may still lie under the old one.
    fn place(&self, name: &[u8]) -> Digest {
        let keyring = self.store.keyring();
        let mut places = keyring.digests(Purpose::AttemptDigest, name);
        let known = places.find(|place| self.shard(place).counters.contains_key(place));
        known.unwrap_or_else(|| keyring.digest(Purpose::AttemptDigest, name))
    }

    #[expect(
        clippy::expect_used,
        reason = "the index is taken modulo the number of shards, which is not zero"
    )]
    fn shard(&self, place: &Digest) -> MutexGuard<'_, Shard> {
        let last = place.as_bytes().last().copied().unwrap_or_default();
        lock(self.shards.get(usize::from(last) % SHARDS).expect("a shard"))
    }
}

impl Shard {
    fn put(&mut self, place: Digest, counter: Counter, now: UnixMillis) {
        if self.counters.len() >= COUNTERS_PER_SHARD && !self.counters.contains_key(&place) {
            let lightest = self.counters.iter().min_by_key(|(_, counter)| counter.weight(now));
            if let Some(lightest) = lightest.map(|(place, _)| *place) {
                self.counters.remove(&lightest);
                self.dirty.insert(lightest);
            }
        }
        self.counters.insert(place, counter);
        self.dirty.insert(place);
    }

    fn changed(&mut self) -> Vec<(Digest, Option<Counter>)> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.into_iter().map(|place| (place, self.counters.get(&place).copied())).collect()
    }
}

/// Makes the table, so that readers find it.
pub(crate) fn prepare(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(ATTEMPTS)?;
    Ok(())
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
