//! Counters in memory of a fixed size.
//!
//! A table of sets of 16 slots, like a processor's cache: a key belongs to one set, by a keyed hash that
//! nobody outside knows. A slot holds the hash, the theoretical arrival time (TAT) and the period of its limit, so that a
//! limit that becomes another gives nobody a second quota; and nothing else. When
//! a set is full, the slot with the earliest TAT is reused: one whose TAT is past carries no information,
//! and of the others it is the one nearest to full recovery. Only in that second case is anything granted
//! twice: at most what the dropped key had spent and not yet recovered. Somebody who was refused has a late
//! TAT and is dropped last, so a flood of fresh addresses does not set a refused one free.

mod slot;
mod told;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use engine::limit::{Gcra, Left, gcra, left};
use engine::time::UnixMillis;
use engine::window::{Slid, Window};

pub(super) use self::slot::{Kept, Newest, farthest_ms};
use self::slot::{OWED, Slot, bounded, within};
use super::hashed::Hashing;
use super::windows::{Locked, Windows};
use super::{LimitKey, Outcome, Take};

const WAYS: usize = 16;
const SHARDS: usize = 64;
pub(super) const NS_PER_MS: u64 = 1_000_000;

type Set = [Slot; WAYS];

pub(super) struct Memory {
    shards: Box<[Mutex<Box<[Set]>>]>,
    sets_per_shard: u64,
    hashing: Hashing,
    evicted: AtomicU64,
    newest: Newest,
    /// What is put beside a TAT that is counted here.
    mark: u64,
    /// Of how many parts of a limit this is one, where it counts so.
    parts: u32,
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
struct Step<'a> {
    take: &'a Take<'a>,
    key: [u64; 2],
    /// Of a rate, what stood there.
    slot: Option<Slot>,
    kept: Kept,
    /// By the limit of the take, before it and after; nothing where it is refused.
    before: Option<State>,
    after: Option<State>,
}

/// What a request has locked.
struct Held<'a> {
    shards: Vec<(usize, MutexGuard<'a, Box<[Set]>>)>,
    windows: Locked<'a>,
}

impl Memory {
    pub(super) fn new(bytes: usize) -> Self {
        Self::marking(bytes, 0, 1)
    }

    /// What counts here while another store does not, one of so many parts of each limit: it remembers what that store still
    /// has to be told.
    pub(super) fn owing(bytes: usize, parts: u32) -> Self {
        Self::marking(bytes, OWED, parts)
    }

    fn marking(bytes: usize, mark: u64, parts: u32) -> Self {
        let sets_per_shard = (bytes / (SHARDS * size_of::<Set>())).max(1);
        let shard = || Mutex::new(vec![Set::default(); sets_per_shard].into_boxed_slice());
        Self {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            sets_per_shard: sets_per_shard as u64,
            hashing: Hashing::new(),
            evicted: AtomicU64::new(0),
            newest: Newest::default(),
            mark,
            parts,
            windows: OnceLock::new(),
            bytes,
        }
    }

    fn windows(&self) -> &Windows {
        self.windows.get_or_init(|| Windows::new(self.bytes))
    }

    /// A key as it stands in the table.
    pub(super) fn hash(&self, key: &LimitKey<'_>) -> [u64; 2] {
        self.hashing.of(key)
    }

    /// By which limit a slot is kept, and its TAT by the one of this take.
    fn standing(&self, slot: Option<Slot>, take: &Take<'_>, now: UnixMillis) -> (Kept, u64) {
        let Some(slot) = slot else { return (self.newest.kept(take, false), 0) };
        let of_another = slot.is_of_another(take);
        let kept = self.newest.kept(take, of_another);
        let tat = slot.tat_by(take, kept, now);
        // Of another limit it is told as it stands to whoever does not know since when theirs holds.
        let is_unknown = of_another && kept == Kept::Own;
        // As far as a part may lie ahead, also where a take of the whole asks: what a part still pays for stays.
        (
            kept,
            if is_unknown {
                tat
            } else {
                within(tat, farthest_ms(take.period_ms, self.parts), take.rate, now)
            },
        )
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
        let shards = if slides { self.lock(&of_kind(takes, &keys, false)) } else { self.lock(&keys) };
        let windows = if slides { self.windows().lock(&of_kind(takes, &keys, true)) } else { Locked::new() };
        let mut held = Held { shards, windows };
        let mut steps: Vec<Step<'_>> = Vec::with_capacity(takes.len());
        let mut refused = None;
        for (index, (take, key)) in takes.iter().zip(&keys).enumerate() {
            let mut step = self.step(&steps, take, *key, &mut held, now);
            match asked(take, step.before, now) {
                Ok(state) => step.after = Some(state),
                Err(retry_after_ms) => {
                    let tightest = refused.is_none_or(|(_, longest)| retry_after_ms > longest);
                    refused = if tightest { Some((index, retry_after_ms)) } else { refused };
                }
            }
            steps.push(step);
        }
        if let Some((index, retry_after_ms)) = refused {
            // The first of one key last: the others have what it would have left before them.
            steps.iter().rev().for_each(|step| self.refuse(step, &mut held, now));
            return Outcome::Refused { index, retry_after_ms };
        }
        steps.iter().for_each(|step| self.admit(step, &mut held, now));
        Outcome::Admitted
    }

    /// What a take finds: what stands there, or what an earlier one of the same request has left. The same key twice is
    /// spent from twice.
    fn step<'a>(
        &self,
        steps: &[Step<'a>],
        take: &'a Take<'a>,
        key: [u64; 2],
        held: &mut Held<'_>,
        now: UnixMillis,
    ) -> Step<'a> {
        let same = |step: &&Step<'_>| step.key == key && step.take.key.sliding == take.key.sliding;
        if let Some(earlier) = steps.iter().rev().find(same) {
            let before = earlier.after.or(earlier.before);
            return Step { take, key, slot: earlier.slot, kept: earlier.kept, before, after: None };
        }
        if take.key.sliding {
            let slot = self.windows().find(&mut held.windows, key);
            let kept = slot.map_or(Kept::Own, |slot| slot.kept(&self.newest, take));
            let before = slot.map(|slot| State::Window(slot.window_by(take, kept, now)));
            return Step { take, key, slot: None, kept, before, after: None };
        }
        let slot = self.set(held, key).and_then(|set| find(set, key));
        let (kept, tat) = self.standing(slot, take, now);
        Step { take, key, slot, kept, before: slot.map(|_| State::Tat(tat)), after: None }
    }

    fn admit(&self, step: &Step<'_>, held: &mut Held<'_>, now: UnixMillis) {
        match step.after {
            Some(State::Tat(tat)) => {
                let (tat, period) = Slot::next(step.slot, step.take, step.kept, tat, now);
                if let Some(set) = self.set(held, step.key) {
                    self.put(set, step.key, tat | self.mark, period, now);
                }
            }
            Some(State::Window(window)) => {
                let found = self.windows().find(&mut held.windows, step.key);
                let later = found.filter(|_| step.kept == Kept::Later);
                let window = later.map_or(window, |slot| slot.window.counting(now, step.take.cost));
                self.count(self.windows().put(&mut held.windows, step.key, window, self.mark != 0, now));
            }
            None => {}
        }
    }

    /// Whoever is refused is refused by the limit that holds, and waits for no longer than it says: that is kept, so that
    /// they are not set free by what was before it.
    fn refuse(&self, step: &Step<'_>, held: &mut Held<'_>, now: UnixMillis) {
        match (step.before, step.kept) {
            (_, Kept::Later) | (None, _) => {}
            (Some(State::Tat(tat)), Kept::Own | Kept::Earlier) => {
                if let Some(set) = self.set(held, step.key) {
                    self.renew(set, step.key, step.take, tat, now);
                }
            }
            (Some(State::Window(window)), kept) => {
                let found = self.windows().find(&mut held.windows, step.key);
                // A clock that went back has left it ahead of now.
                if let Some(slot) = found.filter(|_| kept == Kept::Earlier || window.is_ahead(now)) {
                    let window = window.at(step.take.rate, now);
                    self.count(self.windows().put(&mut held.windows, step.key, window, slot.owed, now));
                }
            }
        }
    }

    /// The same state, as the limit of this take has it.
    fn renew(&self, set: &mut Set, key: [u64; 2], take: &Take<'_>, tat: u64, now: UnixMillis) {
        let Some(slot) = find(set, key) else { return };
        let (tat, period) = Slot::next(Some(slot), take, Kept::Own, tat, now);
        if tat != slot.tat() || period != slot.period() {
            self.put(set, key, tat | if slot.is_owed() { OWED } else { 0 }, period, now);
        }
    }

    /// How a limit stands.
    pub(super) fn left(&self, take: &Take<'_>, now: UnixMillis) -> Left {
        let (key, rate) = (&take.key, take.rate);
        if key.sliding {
            let windows = self.windows.get();
            let window = windows.map(|windows| windows.now(self.hash(key), take, &self.newest, now));
            return window.unwrap_or_default().left(rate, now);
        }
        let tat = self.with(key, |set, key| self.standing(find(set, key), take, now).1);
        left(rate, tat.map(|tat| bounded(tat, take, now)), now)
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
            if let Some(slot) = set.iter_mut().find(|slot| slot.is(key)) {
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
        // Every key has a place. One without would have spent nothing.
        let Some(shard) = self.shards.get(shard_of(key)) else { return of_nothing(take, now) };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(set) = self.place(key).and_then(|at| shard.get_mut(at)) else {
            return of_nothing(take, now);
        };
        let own = set.iter_mut().find(|slot| slot.is(key));
        let slot = own.as_deref().copied();
        let (kept, before) = self.standing(slot, take, now);
        match gcra(take.rate, Some(bounded(before, take, now)), now, take.cost) {
            Gcra::Admit { tat } => {
                let (tat, period) = Slot::next(slot, take, kept, tat, now);
                match own {
                    Some(own) => *own = Slot::new(key, period, tat | self.mark),
                    None => self.put(set, key, tat | self.mark, period, now),
                }
                Outcome::Admitted
            }
            Gcra::Refuse { retry_after_ms } => {
                if kept != Kept::Later {
                    self.renew(set, key, take, before, now);
                }
                Outcome::Refused { index: 0, retry_after_ms }
            }
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
    fn set<'s>(&self, held: &'s mut Held<'_>, key: [u64; 2]) -> Option<&'s mut Set> {
        let shard = held.shards.iter_mut().find(|(index, _)| *index == shard_of(key))?;
        shard.1.get_mut(self.place(key)?)
    }

    fn put(&self, set: &mut Set, key: [u64; 2], tat: u64, period: u16, now: UnixMillis) {
        let own = set.iter().position(|slot| slot.is(key));
        let earliest = || set.iter().enumerate().min_by_key(|(_, slot)| slot.tat()).map(|(at, _)| at);
        let Some(slot) = own.or_else(earliest).and_then(|at| set.get_mut(at)) else { return };
        if !slot.is(key) && slot.tat() > now.0.saturating_mul(NS_PER_MS) {
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
        *slot = Slot::new(key, period, tat);
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
    let tat = if let Some(State::Tat(tat)) = state { Some(bounded(tat, take, now)) } else { None };
    match gcra(take.rate, tat, now, take.cost) {
        Gcra::Admit { tat } => Ok(State::Tat(tat)),
        Gcra::Refuse { retry_after_ms } => Err(retry_after_ms),
    }
}

/// What becomes of a take of which nothing is counted.
fn of_nothing(take: &Take<'_>, now: UnixMillis) -> Outcome {
    match gcra(take.rate, None, now, take.cost) {
        Gcra::Admit { .. } => Outcome::Admitted,
        Gcra::Refuse { retry_after_ms } => Outcome::Refused { index: 0, retry_after_ms },
    }
}

fn shard_of([low, _]: [u64; 2]) -> usize {
    usize::try_from(low % SHARDS as u64).unwrap_or_default()
}

fn find(set: &Set, key: [u64; 2]) -> Option<Slot> {
    set.iter().find(|slot| slot.is(key)).copied()
}

#[cfg(test)]
mod tests;
