//! Counters in memory of a fixed size.
//!
//! A table of sets of 16 slots, like a processor's cache: a key belongs to one set, by a keyed hash that
//! nobody outside knows. A slot holds the hash, the theoretical arrival time (TAT) and the period of its limit, so that a
//! limit that becomes another gives nobody a second quota; and nothing else. When
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

/// The bits of a slot's first word that are its key's. What is above them says the period that its TAT was reckoned with.
const KEY_BITS: u32 = 48;
const KEY: u64 = (1 << KEY_BITS) - 1;

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

    const fn owed(self) -> u64 {
        self.tat & OWED
    }

    fn new([low, high]: [u64; 2], spelt: u16, tat: u64) -> Self {
        Self { key: [low | u64::from(spelt) << KEY_BITS, high], tat }
    }

    const fn is(self, [low, high]: [u64; 2]) -> bool {
        let [own, own_high] = self.key;
        self.tat != 0 && own & KEY == low && own_high == high
    }

    fn period(self) -> u16 {
        let [low, _] = self.key;
        u16::try_from(low >> KEY_BITS).unwrap_or_default()
    }

    /// Whether it was reckoned with another period than the limit of this take has.
    fn is_of_another(self, take: &Take<'_>) -> bool {
        take.since.is_some() && self.period() != 0 && self.period() != spelt(take.period_ms)
    }

    /// Its TAT by the limit of this take: the part of the limit that was spent when it became what it is is spent of it, and
    /// comes back as it says since then.
    fn tat_of(self, take: &Take<'_>) -> u64 {
        let Some(since) = take.since.filter(|_| self.is_of_another(take)) else { return self.tat() };
        let since = since.0.saturating_mul(NS_PER_MS);
        let whole = u128::from(take.period_ms) * u128::from(NS_PER_MS);
        let spent = u128::from(self.tat().saturating_sub(since));
        let spent =
            (spent * u128::from(take.period_ms)).div_ceil(period(self.period()).max(1).into()).min(whole);
        since.saturating_add(u64::try_from(spent).unwrap_or(u64::MAX)) & !OWED
    }
}

/// A period in 16 bits, 6 of them its magnitude: within a thousandth and never more than it is, so that what was spent of it
/// is never told as less. 0 is none.
fn spelt(period_ms: u64) -> u16 {
    let Some(magnitude) = period_ms.checked_ilog2().map(|magnitude| magnitude.min(62)) else { return 0 };
    let part = if magnitude > 10 { period_ms >> (magnitude - 10) } else { period_ms << (10 - magnitude) };
    u16::try_from(u64::from(magnitude) << 10 | part & 1023).unwrap_or(u16::MAX).saturating_add(1)
}

fn period(spelt: u16) -> u64 {
    let Some(spelt) = spelt.checked_sub(1).map(u64::from) else { return 0 };
    let (magnitude, part) = (spelt >> 10, 1024 | spelt & 1023);
    if magnitude > 10 { part << (magnitude - 10) } else { part >> (10 - magnitude) }
}

type Set = [Slot; WAYS];

pub(super) struct Memory {
    shards: Box<[Mutex<Box<[Set]>>]>,
    sets_per_shard: u64,
    /// Two keyed hashes make 112 bits, so that two clients never share a counter by accident.
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
    period: u16,
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
        let [low, high] = self.hashers.each_ref().map(|hasher| hasher.hash_one(key));
        [low & KEY, high]
    }

    /// What the other store has to be told of a key: what it does not know, and what is more by a limit that was another
    /// when it was told.
    pub(super) fn owed(&self, take: &Take<'_>, now: UnixMillis) -> Option<State> {
        let hash = self.hash(&take.key);
        if take.key.sliding {
            let windows = self.windows.get()?;
            let slot = windows.find(&mut windows.lock(&[hash]), hash)?;
            let window = slot.window_of(take);
            return (slot.owed || window != slot.window).then_some(State::Window(window));
        }
        let shard = self.shards.get(shard_of(hash))?.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = find(shard.get(self.place(hash)?)?, hash)?;
        let tat = slot.tat_of(take);
        let is_news = slot.is_of_another(take) && tat > now.0.saturating_mul(NS_PER_MS);
        (slot.owed() != 0 || is_news).then_some(State::Tat(tat))
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
            State::Window(window) => return self.settle_window(take, (told, falls), window, now),
        };
        let Some(shard) = self.shards.get(shard_of(hash)) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(set) = self.place(hash).and_then(|at| shard.get_mut(at)) else { return };
        let slot = find(set, hash);
        let before = slot.map_or(0, |slot| slot.tat_of(take));
        let untold = slot.is_some_and(|slot| slot.owed() != 0) && told != Some(State::Tat(before));
        let known = if falls && !untold { tat } else { tat.max(before) };
        let kept = known | if untold { OWED } else { 0 };
        // A TAT that is past says nothing, and takes no slot from anybody.
        if slot.is_some() || kept & !OWED > now.0.saturating_mul(NS_PER_MS) {
            self.put(set, hash, kept, period_of(take, slot), now);
        }
    }

    fn settle_window(
        &self,
        take: &Take<'_>,
        (told, falls): (Option<State>, bool),
        kept: Window,
        now: UnixMillis,
    ) {
        let (key, windows) = (self.hash(&take.key), self.windows());
        let mut locked = windows.lock(&[key]);
        let before = windows.find(&mut locked, key);
        let untold =
            before.is_some_and(|slot| slot.owed && told != Some(State::Window(slot.window_of(take))));
        let merging = before.filter(|_| untold || !falls);
        let merged = merging.map_or(kept, |slot| slot.window_of(take).merged(&kept, take.rate, now));
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
            let (state, period) = match earlier {
                Some(step) => (Some(step.state), step.period),
                None if take.key.sliding => (
                    self.windows().find(&mut windows, *key).map(|slot| State::Window(slot.window_of(take))),
                    0,
                ),
                None => {
                    let slot = self.set(&mut shards, *key).and_then(|set| find(set, *key));
                    (slot.map(|slot| State::Tat(slot.tat_of(take))), period_of(take, slot))
                }
            };
            match asked(take, state, now) {
                Ok(state) => steps.push(Step { key: *key, state, period }),
                Err(retry_after_ms) => {
                    let tightest = refused.is_none_or(|(_, longest)| retry_after_ms > longest);
                    refused = if tightest { Some((index, retry_after_ms)) } else { refused };
                }
            }
        }
        if let Some((index, retry_after_ms)) = refused {
            return Outcome::Refused { index, retry_after_ms };
        }
        for Step { key, state, period } in steps {
            match state {
                State::Tat(tat) => {
                    if let Some(set) = self.set(&mut shards, key) {
                        self.put(set, key, tat | self.mark, period, now);
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
    pub(super) fn left(&self, take: &Take<'_>, now: UnixMillis) -> Left {
        let (key, rate) = (&take.key, take.rate);
        if key.sliding {
            let window = self.windows.get().map(|windows| windows.now(self.hash(key), take, now));
            return window.unwrap_or_default().left(rate, now);
        }
        let tat = self.with(key, |set, key| find(set, key)).flatten().map(|slot| slot.tat_of(take));
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
        let Some(shard) = self.shards.get(shard_of(key)) else { return Outcome::Admitted };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let set = self.place(key).and_then(|at| shard.get_mut(at));
        let slot = set.as_ref().and_then(|set| find(set, key));
        let tat = slot.map(|slot| slot.tat_of(take));
        match gcra(take.rate, tat.map(|tat| bounded(tat, take.rate, now)), now, take.cost) {
            Gcra::Admit { tat } => {
                if let Some(set) = set {
                    self.put(set, key, tat | self.mark, period_of(take, slot), now);
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

fn find(set: &Set, key: [u64; 2]) -> Option<Slot> {
    set.iter().find(|slot| slot.is(key)).copied()
}

/// What is written beside a TAT. A take that does not say since when its limit is what it is leaves what stands there.
fn period_of(take: &Take<'_>, slot: Option<Slot>) -> u16 {
    match take.since {
        Some(_) => spelt(take.period_ms),
        None => slot.map_or(0, Slot::period),
    }
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
