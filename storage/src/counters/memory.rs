//! Counters in memory of a fixed size.
//!
//! A table of sets of 16 slots, like a processor's cache: a key belongs to one set, by a keyed hash that
//! nobody outside knows. A slot holds the hash and the theoretical arrival time (TAT) and nothing else. When
//! a set is full, the slot with the earliest TAT is reused: one whose TAT is past carries no information,
//! and of the others it is the one nearest to full recovery. Only in that second case is anything granted
//! twice: at most what the dropped key had spent and not yet recovered. Somebody who was refused has a late
//! TAT and is dropped last, so a flood of fresh addresses does not set a refused one free.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use engine::limit::{Gcra, Left, Rate, gcra, left};
use engine::time::UnixMillis;
use engine::window::{Slid, Window};

use super::windows::{Locked, Windows};
use super::{LimitKey, Outcome, Take};

const WAYS: usize = 16;
const SHARDS: usize = 64;
pub(super) const NS_PER_MS: u64 = 1_000_000;

/// Marks a TAT that another store of counters has not been told of. Nanoseconds reach this bit in the year 2262.
const OWED: u64 = 1 << 63;

/// Empty while the TAT is 0.
#[derive(Clone, Copy, Default)]
struct Slot {
    key: [u64; 2],
    tat: u64,
}

impl Slot {
    const fn tat(self) -> u64 {
        self.tat & !OWED
    }
}

type Set = [Slot; WAYS];

pub(super) struct Memory {
    shards: Box<[Mutex<Box<[Set]>>]>,
    sets_per_shard: u64,
    /// Two keyed hashes make 128 bits, so that two clients never share a counter by accident.
    hashers: [RandomState; 2],
    evicted: AtomicU64,
    /// What is put beside a TAT that is counted here.
    mark: u64,
    /// Limits by sliding windows: a table of as many bytes, made when the first is counted.
    windows: OnceLock<Windows>,
    bytes: usize,
}

/// What is counted here under a key and not yet known elsewhere; or, as another store tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Of a rate: its TAT, in nanoseconds since 1970.
    Tat(u64),
    /// Of a sliding window.
    Window(Window),
}

/// One limit of a request, on its way.
struct Step {
    key: [u64; 2],
    state: State,
}

impl Memory {
    pub(super) fn new(bytes: usize) -> Self {
        Self::marking(bytes, 0)
    }

    /// What counts here while another store does not: it remembers what that store still has to be told.
    pub(super) fn owing(bytes: usize) -> Self {
        Self::marking(bytes, OWED)
    }

    fn marking(bytes: usize, mark: u64) -> Self {
        let sets_per_shard = (bytes / (SHARDS * size_of::<Set>())).max(1);
        let shard = || Mutex::new(vec![Set::default(); sets_per_shard].into_boxed_slice());
        Self {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            sets_per_shard: sets_per_shard as u64,
            hashers: [RandomState::new(), RandomState::new()],
            evicted: AtomicU64::new(0),
            mark,
            windows: OnceLock::new(),
            bytes,
        }
    }

    fn windows(&self) -> &Windows {
        self.windows.get_or_init(|| Windows::new(self.bytes))
    }

    /// A key as it stands in the table.
    pub(super) fn hash(&self, key: &LimitKey<'_>) -> [u64; 2] {
        self.hashers.each_ref().map(|hasher| hasher.hash_one(key))
    }

    /// What the other store has to be told of a key.
    pub(super) fn owed(&self, key: &LimitKey<'_>) -> Option<State> {
        let hash = self.hash(key);
        if key.sliding {
            let windows = self.windows.get()?;
            let slot = windows.find(&mut windows.lock(&[hash]), hash).filter(|slot| slot.owed)?;
            return Some(State::Window(slot.window));
        }
        let shard = self.shards.get(shard_of(hash))?.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = *shard.get(self.place(hash)?)?.iter().find(|slot| slot.tat != 0 && slot.key == hash)?;
        (slot.tat & OWED != 0).then(|| State::Tat(slot.tat()))
    }

    /// The other store was told `told` of a key, and has answered with the state that it keeps. What was counted here
    /// meanwhile is still to be told. Answers come in any order, so that only what is more is news, unless something was
    /// given back with the question (`falls`): then what is less is.
    pub(super) fn settle(
        &self,
        take: &Take<'_>,
        (told, falls): (Option<State>, bool),
        kept: State,
        now: UnixMillis,
    ) {
        let hash = self.hash(&take.key);
        let tat = match kept {
            State::Tat(tat) => tat,
            State::Window(window) => return self.settle_window(hash, take.rate, (told, falls), window, now),
        };
        let Some(shard) = self.shards.get(shard_of(hash)) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(set) = self.place(hash).and_then(|at| shard.get_mut(at)) else { return };
        let before = set.iter().find(|slot| slot.tat != 0 && slot.key == hash).map_or(0, |slot| slot.tat);
        let untold = before & OWED != 0 && told != Some(State::Tat(before & !OWED));
        let known = if falls && !untold { tat } else { tat.max(before & !OWED) };
        let kept = known | if untold { OWED } else { 0 };
        // A TAT that is past says nothing, and takes no slot from anybody.
        if before != 0 || kept & !OWED > now.0.saturating_mul(NS_PER_MS) {
            self.put(set, hash, kept, now);
        }
    }

    fn settle_window(
        &self,
        key: [u64; 2],
        rate: Rate,
        (told, falls): (Option<State>, bool),
        kept: Window,
        now: UnixMillis,
    ) {
        let windows = self.windows();
        let mut locked = windows.lock(&[key]);
        let before = windows.find(&mut locked, key);
        let untold = before.is_some_and(|slot| slot.owed && told != Some(State::Window(slot.window)));
        let merging = before.filter(|_| untold || !falls);
        let merged = merging.map_or(kept, |slot| slot.window.merged(&kept, rate, now));
        if before.is_some() || merged.ends_ms() > now.0 {
            self.count(windows.put(&mut locked, key, merged, untold, now));
        }
    }

    fn count(&self, dropped: bool) {
        if dropped {
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn take(&self, takes: &[Take<'_>], now: UnixMillis) -> Outcome {
        if let [take] = takes
            && !take.key.sliding
        {
            return self.take_one(take, now);
        }
        let keys: Vec<_> = takes.iter().map(|take| self.hash(&take.key)).collect();
        // Rates before windows, and each in rising order: two requests never wait for each other.
        let slides = takes.iter().any(|take| take.key.sliding);
        let mut shards = if slides { self.lock(&of_kind(takes, &keys, false)) } else { self.lock(&keys) };
        let mut windows =
            if slides { self.windows().lock(&of_kind(takes, &keys, true)) } else { Locked::new() };
        let mut steps: Vec<Step> = Vec::with_capacity(takes.len());
        let mut refused = None;
        for (index, (take, key)) in takes.iter().zip(&keys).enumerate() {
            // The same key twice in one request is spent from twice.
            let earlier =
                steps.iter().rev().find(|step| step.key == *key && step.slides() == take.key.sliding);
            let state = match earlier {
                Some(step) => Some(step.state),
                None if take.key.sliding => {
                    self.windows().find(&mut windows, *key).map(|slot| State::Window(slot.window))
                }
                None => self.set(&mut shards, *key).and_then(|set| find(set, *key)).map(State::Tat),
            };
            match asked(take, state, now) {
                Ok(state) => steps.push(Step { key: *key, state }),
                Err(retry_after_ms) => {
                    let tightest = refused.is_none_or(|(_, longest)| retry_after_ms > longest);
                    refused = if tightest { Some((index, retry_after_ms)) } else { refused };
                }
            }
        }
        if let Some((index, retry_after_ms)) = refused {
            return Outcome::Refused { index, retry_after_ms };
        }
        for Step { key, state } in steps {
            match state {
                State::Tat(tat) => {
                    if let Some(set) = self.set(&mut shards, key) {
                        self.put(set, key, tat | self.mark, now);
                    }
                }
                State::Window(window) => {
                    self.count(self.windows().put(&mut windows, key, window, self.mark != 0, now));
                }
            }
        }
        Outcome::Admitted
    }

    /// How a limit stands.
    pub(super) fn left(&self, key: &LimitKey<'_>, rate: Rate, now: UnixMillis) -> Left {
        if key.sliding {
            let window = self.windows.get().map(|windows| windows.now(self.hash(key), rate, now));
            return window.unwrap_or_default().left(rate, now);
        }
        let tat = self.with(key, |set, key| find(set, key)).flatten();
        left(rate, tat.map(|tat| bounded(tat, rate, now)), now)
    }

    /// Forgets what was counted under a key, and what another store has not been told of it.
    pub(super) fn forget(&self, key: &LimitKey<'_>) {
        if key.sliding {
            if let Some(windows) = self.windows.get() {
                windows.forget(self.hash(key));
            }
            return;
        }
        self.with(key, |set, key| {
            if let Some(slot) = set.iter_mut().find(|slot| slot.tat != 0 && slot.key == key) {
                *slot = Slot::default();
            }
        });
    }

    /// What `work` makes of the set of a key.
    fn with<T>(&self, key: &LimitKey<'_>, work: impl FnOnce(&mut Set, [u64; 2]) -> T) -> Option<T> {
        let key = self.hash(key);
        let mut shard = self.shards.get(shard_of(key))?.lock().unwrap_or_else(PoisonError::into_inner);
        Some(work(shard.get_mut(self.place(key)?)?, key))
    }

    /// [`Self::take`] for one limit, which is what most requests spend from at a time: nothing is kept beside it.
    fn take_one(&self, take: &Take<'_>, now: UnixMillis) -> Outcome {
        let key = self.hash(&take.key);
        let Some(shard) = self.shards.get(shard_of(key)) else { return Outcome::Admitted };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let set = self.place(key).and_then(|at| shard.get_mut(at));
        let tat = set.as_ref().and_then(|set| find(set, key));
        match gcra(take.rate, tat.map(|tat| bounded(tat, take.rate, now)), now, take.cost) {
            Gcra::Admit { tat } => {
                if let Some(set) = set {
                    self.put(set, key, tat | self.mark, now);
                }
                Outcome::Admitted
            }
            Gcra::Refuse { retry_after_ms } => Outcome::Refused { index: 0, retry_after_ms },
        }
    }

    /// Where a key's set stands in its shard.
    fn place(&self, [_, high]: [u64; 2]) -> Option<usize> {
        usize::try_from(high % self.sets_per_shard).ok()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Locks the shards of all keys, always in rising order, so that two requests never wait for each other.
    fn lock(&self, keys: &[[u64; 2]]) -> Vec<(usize, MutexGuard<'_, Box<[Set]>>)> {
        let mut wanted: Vec<_> = keys.iter().map(|key| shard_of(*key)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let locked = |index: usize| {
            let shard = self.shards.get(index)?;
            Some((index, shard.lock().unwrap_or_else(PoisonError::into_inner)))
        };
        wanted.into_iter().filter_map(locked).collect()
    }

    /// The set of a key, in a shard that is locked. It is always there.
    fn set<'s>(
        &self,
        shards: &'s mut [(usize, MutexGuard<'_, Box<[Set]>>)],
        key: [u64; 2],
    ) -> Option<&'s mut Set> {
        let shard = shards.iter_mut().find(|(index, _)| *index == shard_of(key))?;
        shard.1.get_mut(self.place(key)?)
    }

    fn put(&self, set: &mut Set, key: [u64; 2], tat: u64, now: UnixMillis) {
        let own = set.iter().position(|slot| slot.tat != 0 && slot.key == key);
        let earliest = || set.iter().enumerate().min_by_key(|(_, slot)| slot.tat()).map(|(at, _)| at);
        let Some(slot) = own.or_else(earliest).and_then(|at| set.get_mut(at)) else { return };
        if slot.key != key && slot.tat() > now.0.saturating_mul(NS_PER_MS) {
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
        *slot = Slot { key, tat };
    }
}

impl Step {
    const fn slides(&self) -> bool {
        matches!(self.state, State::Window(_))
    }
}

/// The keys of one kind of limits.
fn of_kind(takes: &[Take<'_>], keys: &[[u64; 2]], sliding: bool) -> Vec<[u64; 2]> {
    takes.iter().zip(keys).filter(|(take, _)| take.key.sliding == sliding).map(|(_, key)| *key).collect()
}

/// The state after a take, or milliseconds until it would be admitted.
fn asked(take: &Take<'_>, state: Option<State>, now: UnixMillis) -> Result<State, u64> {
    if take.key.sliding {
        let window = if let Some(State::Window(window)) = state { window } else { Window::default() };
        return match window.take(take.rate, now, take.cost) {
            Slid::Admit(window) => Ok(State::Window(window)),
            Slid::Refuse { retry_after_ms } => Err(retry_after_ms),
        };
    }
    let tat = if let Some(State::Tat(tat)) = state { Some(bounded(tat, take.rate, now)) } else { None };
    match gcra(take.rate, tat, now, take.cost) {
        Gcra::Admit { tat } => Ok(State::Tat(tat)),
        Gcra::Refuse { retry_after_ms } => Err(retry_after_ms),
    }
}

fn shard_of([low, _]: [u64; 2]) -> usize {
    usize::try_from(low % SHARDS as u64).unwrap_or_default()
}

fn find(set: &Set, key: [u64; 2]) -> Option<u64> {
    set.iter().find(|slot| slot.tat != 0 && slot.key == key).map(|slot| slot.tat())
}

/// No TAT lies further ahead than the whole burst. One that does comes from a clock that went back, or from
/// a limit that was wider when it was written.
fn bounded(tat: u64, rate: Rate, now: UnixMillis) -> u64 {
    let full = now.0.saturating_add(rate.period_ms).saturating_mul(NS_PER_MS);
    // An emission interval is rounded up by less than a nanosecond.
    tat.min(full.saturating_add(rate.count.into()))
}

#[cfg(test)]
mod tests;
