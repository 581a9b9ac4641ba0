//! Counting attempts to sign in.
//!
//! With N the configured bound: after N failures every further attempt has to wait, one second, then two,
//! doubling; the wait is answered, never slept. After 2N failures a lock begins; an attempt that comes before
//! its wait is over is not looked at and counts as one of them, so that hammering locks as surely as patience.
//! When the lock ends the waiting goes on, and N more failures lock again. A success forgets the failures; so
//! does a day without attempts.
//!
//! An attempt is counted as failed before the password is looked at, and given back afterwards, so parallel
//! guesses cannot all read the same count (threat 11). Logins are counted whether they exist or not: the
//! answers tell nothing about which do.
//!
//! Counters live in memory, 65,536 of them at most (some 8 MB), and every second what changed is put into
//! the store. So whoever can kill the gateway gains the guesses of one second, which hashing bounds. When
//! there is no room, the counter with the least to lose goes: the unlocked, lowest, longest unused one of a
//! sixty-fourth part, in which nobody can aim for another's, because the parts are keyed.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::time::UnixMillis;
use redb::{Durability, ReadableTable, TableDefinition, WriteTransaction};
use uuid::Uuid;

use super::Login;
use crate::keyring::{Digest, Purpose};
use crate::{Store, StoreError};

/// The first wait, in milliseconds.
const WAIT_MS: u64 = 1_000;
/// The longest wait, in milliseconds.
const WAIT_MS_MAX: u64 = 60_000;
/// Failures are forgotten after this long without an attempt: a day, in milliseconds.
const FORGET_MS: u64 = 24 * 3600 * 1000;

const SHARDS: usize = 64;
const COUNTERS_PER_SHARD: usize = 1024;

/// Digest of login and device -> failures, attempts before their wait was over, last failure, end of the lock.
const ATTEMPTS: TableDefinition<&[u8], (u32, u32, u64, u64)> = TableDefinition::new("sign_in_attempts");

/// The counters. Cheap to clone.
#[derive(Clone)]
pub struct Attempts {
    store: Store,
    rules: AttemptRules,
    shards: Arc<[Mutex<Shard>]>,
}

/// When waiting and locking begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptRules {
    /// N: failures after which further attempts have to wait; twice as many lock. At least 1.
    pub attempts_max: u32,
    /// How long a lock lasts, in milliseconds.
    pub lockout_ms: u64,
}

/// Whether an attempt may be made.
pub enum Attempt {
    /// It may, and is already counted as failed.
    Granted(Reservation),
    /// Not yet.
    Slow {
        /// Milliseconds until the next attempt is granted.
        retry_after_ms: u64,
    },
    /// Not for some time.
    Locked {
        /// When the lock ends.
        until: UnixMillis,
    },
}

/// An attempt that is counted as failed until it is said to have succeeded. Dropping it leaves it failed.
pub struct Reservation {
    place: Digest,
    warned: bool,
}

#[derive(Default)]
struct Shard {
    counters: HashMap<Digest, Counter>,
    /// Changed or removed since the last flush.
    dirty: HashSet<Digest>,
}

#[derive(Clone, Copy)]
struct Counter {
    failures: u32,
    /// Attempts that came before their wait was over: they count towards the lock, and make no wait longer.
    hurried: u32,
    last: UnixMillis,
    locked_until: UnixMillis,
}

impl Attempts {
    /// The counters of `store`, as they were when they were last flushed.
    ///
    /// # Errors
    /// When the store fails.
    pub fn open(store: Store, rules: AttemptRules) -> Result<Self, StoreError> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let attempts =
            Self { store, rules: AttemptRules { attempts_max: rules.attempts_max.max(1), ..rules }, shards };
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

    /// Asks for an attempt, and counts it as failed when it is granted. `device` is what the browser's
    /// cookie proved: it has a counter of its own.
    #[must_use]
    pub fn reserve(&self, login: &Login, device: Option<Uuid>, now: UnixMillis) -> Attempt {
        let place = self.place(login, device);
        let mut shard = self.shard(&place);
        let mut counter = shard.counters.get(&place).copied().unwrap_or(Counter::new(now));
        counter.settle(&self.rules, now);
        if now < counter.locked_until {
            return Attempt::Locked { until: counter.locked_until };
        }
        let wait = self.rules.wait_ms(counter.failures);
        let waited = now.since(counter.last);
        if waited < wait {
            counter.hurried = counter.hurried.saturating_add(1);
            counter.lock(&self.rules, now);
            shard.put(place, counter, now);
            return if now < counter.locked_until {
                Attempt::Locked { until: counter.locked_until }
            } else {
                Attempt::Slow { retry_after_ms: wait - waited }
            };
        }
        counter.failures += 1;
        counter.last = now;
        counter.lock(&self.rules, now);
        shard.put(place, counter, now);
        Attempt::Granted(Reservation { place, warned: counter.failures >= self.rules.attempts_max })
    }

    /// The password was right: all failures of this counter are forgotten.
    pub fn succeed(&self, reservation: Reservation) {
        let place = reservation.place;
        let mut shard = self.shard(&place);
        shard.counters.remove(&place);
        shard.dirty.insert(place);
    }

    /// The password was not looked at, because hashing had no place: the attempt did not happen.
    pub fn give_back(&self, reservation: Reservation) {
        let place = reservation.place;
        let mut shard = self.shard(&place);
        if let Some(counter) = shard.counters.get_mut(&place) {
            counter.failures = counter.failures.saturating_sub(1);
            if counter.total() < self.rules.lock_at() {
                counter.locked_until = UnixMillis(0);
            }
            shard.dirty.insert(place);
        }
    }

    /// Lifts lock and waiting of a login for unknown devices, as an administrator's act. Whether there was
    /// anything to forget.
    pub fn forget(&self, login: &Login) -> bool {
        let place = self.place(login, None);
        let mut shard = self.shard(&place);
        shard.dirty.insert(place);
        shard.counters.remove(&place).is_some()
    }

    /// Puts what changed into the store. Meant to run every second, and at the end.
    ///
    /// # Errors
    /// When the store fails; the next flush tries again.
    pub async fn flush(&self) -> Result<(), StoreError> {
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

    /// How many counters there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).counters.len()).sum()
    }

    /// Whether nobody has failed lately.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the counter is; after a rotation of the master it may still lie under the old one.
    fn place(&self, login: &Login, device: Option<Uuid>) -> Digest {
        let keyring = self.store.keyring();
        let device = device.map(Uuid::into_bytes);
        let name = [login.account_id().as_bytes().as_slice(), device.as_ref().map_or(&[], |id| id)].concat();
        let mut places = keyring.digests(Purpose::AttemptDigest, &name);
        let known = places.find(|place| self.shard(place).counters.contains_key(place));
        known.unwrap_or_else(|| keyring.digest(Purpose::AttemptDigest, &name))
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

impl Reservation {
    /// Whether, if this attempt fails, the person should be told that waiting and a lock come next.
    #[must_use]
    pub fn warned(&self) -> bool {
        self.warned
    }
}

impl AttemptRules {
    fn lock_at(&self) -> u32 {
        self.attempts_max.saturating_mul(2)
    }

    fn wait_ms(&self, failures: u32) -> u64 {
        match failures.checked_sub(self.attempts_max) {
            None => 0,
            Some(doublings) => (WAIT_MS << doublings.min(16)).min(WAIT_MS_MAX),
        }
    }
}

impl Counter {
    const fn new(now: UnixMillis) -> Self {
        Self { failures: 0, hurried: 0, last: now, locked_until: UnixMillis(0) }
    }

    const fn row(&self) -> (u32, u32, u64, u64) {
        (self.failures, self.hurried, self.last.0, self.locked_until.0)
    }

    const fn total(&self) -> u32 {
        self.failures.saturating_add(self.hurried)
    }

    fn lock(&mut self, rules: &AttemptRules, now: UnixMillis) {
        if self.total() >= rules.lock_at() {
            self.locked_until = now.plus(rules.lockout_ms);
        }
    }

    /// What time has done to it.
    fn settle(&mut self, rules: &AttemptRules, now: UnixMillis) {
        // A clock that went back must not make anybody wait longer than the rules say.
        self.last = self.last.min(now);
        self.locked_until = self.locked_until.min(now.plus(rules.lockout_ms));
        if now < self.locked_until {
            return;
        }
        if self.total() >= rules.lock_at() {
            // The lock has ended; the waiting has not.
            (self.failures, self.hurried) = (rules.attempts_max, 0);
        }
        if now.since(self.last) >= FORGET_MS {
            (self.failures, self.hurried) = (0, 0);
        }
    }

    /// The higher, the more would be lost with it.
    fn weight(&self, now: UnixMillis) -> (bool, u32, UnixMillis) {
        (now < self.locked_until, self.total(), self.last)
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
