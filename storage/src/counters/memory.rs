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
use std::sync::{Mutex, MutexGuard, PoisonError};

use engine::limit::{Gcra, Left, Rate, gcra, left};
use engine::time::UnixMillis;

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
}

/// What is counted here under a key and not yet known elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owed {
    /// Its TAT, in nanoseconds since 1970.
    pub(super) tat: u64,
}

/// One limit of a request, on its way.
struct Step {
    key: [u64; 2],
    tat: u64,
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
        }
    }

    /// A key as it stands in the table.
    pub(super) fn hash(&self, key: &LimitKey<'_>) -> [u64; 2] {
        self.hashers.each_ref().map(|hasher| hasher.hash_one(key))
    }

    /// What the other store has to be told of a key.
    pub(super) fn owed(&self, key: &LimitKey<'_>) -> Option<Owed> {
        let key = self.hash(key);
        let shard = self.shards.get(shard_of(key))?.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = *shard.get(self.place(key)?)?.iter().find(|slot| slot.tat != 0 && slot.key == key)?;
        (slot.tat & OWED != 0).then(|| Owed { tat: slot.tat() })
    }

    /// The other store was told `told` of a key, and has answered with the TAT that it keeps. What was counted here
    /// meanwhile is still to be told. Answers come in any order, so that only a later TAT is news.
    pub(super) fn settle(&self, key: &LimitKey<'_>, told: Option<Owed>, tat: u64, now: UnixMillis) {
        let key = self.hash(key);
        let Some(shard) = self.shards.get(shard_of(key)) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(set) = self.place(key).and_then(|at| shard.get_mut(at)) else { return };
        let before = set.iter().find(|slot| slot.tat != 0 && slot.key == key).map_or(0, |slot| slot.tat);
        let untold = before & OWED != 0 && told.map(|told| told.tat) != Some(before & !OWED);
        let kept = tat.max(before & !OWED) | if untold { OWED } else { 0 };
        // A TAT that is past says nothing, and takes no slot from anybody.
        if before != 0 || kept & !OWED > now.0.saturating_mul(NS_PER_MS) {
            self.put(set, key, kept, now);
        }
    }

    pub(super) fn take(&self, takes: &[Take<'_>], now: UnixMillis) -> Outcome {
        if let [take] = takes {
            return self.take_one(take, now);
        }
        let keys: Vec<_> = takes.iter().map(|take| self.hash(&take.key)).collect();
        let mut shards = self.lock(&keys);
        let mut steps: Vec<Step> = Vec::with_capacity(takes.len());
        let mut refused = None;
        for (index, (take, key)) in takes.iter().zip(&keys).enumerate() {
            // The same key twice in one request is spent from twice.
            let earlier = steps.iter().rev().find(|step| step.key == *key).map(|step| step.tat);
            let tat = earlier.or_else(|| self.set(&mut shards, *key).and_then(|set| find(set, *key)));
            match gcra(take.rate, tat.map(|tat| bounded(tat, take.rate, now)), now, take.cost) {
                Gcra::Admit { tat } => steps.push(Step { key: *key, tat }),
                Gcra::Refuse { retry_after_ms } => {
                    let tightest = refused.is_none_or(|(_, longest)| retry_after_ms > longest);
                    refused = if tightest { Some((index, retry_after_ms)) } else { refused };
                }
            }
        }
        if let Some((index, retry_after_ms)) = refused {
            return Outcome::Refused { index, retry_after_ms };
        }
        for Step { key, tat } in steps {
            if let Some(set) = self.set(&mut shards, key) {
                self.put(set, key, tat | self.mark, now);
            }
        }
        Outcome::Admitted
    }

    /// How a limit stands.
    pub(super) fn left(&self, key: &LimitKey<'_>, rate: Rate, now: UnixMillis) -> Left {
        let tat = self.with(key, |set, key| find(set, key)).flatten();
        left(rate, tat.map(|tat| bounded(tat, rate, now)), now)
    }

    /// Forgets what was counted under a key, and what another store has not been told of it.
    pub(super) fn forget(&self, key: &LimitKey<'_>) {
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
mod tests {
    use std::collections::HashMap;
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::atomic::AtomicU32;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn take(key: LimitKey<'_>, count: u32, period_ms: u64, cost: u32) -> Take<'_> {
        Take::new(key, Rate { count, period_ms }).costing(cost)
    }

    fn address(number: u32) -> LimitKey<'static> {
        LimitKey::address("ip", IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    #[test]
    fn no_bound_is_exceeded_however_many_ask_at_once() {
        let memory = Memory::new(1 << 20);
        let (own, shared) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8_u128 {
                let (memory, own, shared) = (&memory, &own, &shared);
                scope.spawn(move || {
                    for _ in 0..500 {
                        let takes = [
                            take(LimitKey::principal("user", Uuid::from_u128(thread % 2)), 700, 60_000, 1),
                            take(LimitKey::everybody("all"), 1000, 60_000, 1),
                        ];
                        // Half of the threads ask in the other order: locks must not depend on it.
                        let takes = if thread % 2 == 0 { takes } else { [takes[1], takes[0]] };
                        if memory.take(&takes, NOW) == Outcome::Admitted {
                            shared.fetch_add(1, Ordering::Relaxed);
                            own.fetch_add(u32::from(thread % 2 == 0), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(shared.into_inner(), 1000, "the shared limit is used up exactly");
        assert!(own.into_inner() <= 700, "and no user's own is exceeded");
    }

    #[test]
    fn a_flood_of_keys_takes_no_memory_and_frees_nobody() {
        let memory = Memory::new(64 * 1024);
        let slots = |memory: &Memory| -> usize {
            memory.shards.iter().map(|shard| shard.lock().unwrap().len() * WAYS).sum()
        };
        let (before, victim) = (slots(&memory), address(u32::MAX));
        assert!(before * size_of::<Slot>() <= 64 * 1024);
        while memory.take(&[take(victim, 100, 60_000, 1)], NOW) == Outcome::Admitted {}
        for number in 0..100_000 {
            assert_eq!(memory.take(&[take(address(number), 100, 60_000, 1)], NOW), Outcome::Admitted);
        }
        assert_eq!(slots(&memory), before);
        assert!(memory.evicted() > 90_000);
        let refused = memory.take(&[take(victim, 100, 60_000, 1)], NOW);
        assert_eq!(refused, Outcome::Refused { index: 0, retry_after_ms: 600 });
    }

    #[test]
    fn what_is_counted_here_is_owed_until_the_other_store_was_told_all_of_it() {
        let memory = Memory::owing(64 * 1024);
        let (key, ns) = (address(1), NOW.0 * NS_PER_MS);
        let one = [take(key, 10, 1_000, 1)];
        assert_eq!(memory.owed(&key), None, "nothing was counted");
        memory.settle(&key, None, ns, NOW);
        assert_eq!(memory.owed(&key), None, "what is past is not kept");
        // Known from there: eight of ten are spent, so that two are left here.
        memory.settle(&key, None, ns + 800_000_000, NOW);
        assert_eq!(memory.owed(&key), None, "what came from there is not owed");
        assert_eq!(memory.take(&one, NOW), Outcome::Admitted);
        let first = memory.owed(&key);
        assert_eq!(first, Some(Owed { tat: ns + 900_000_000 }));
        // While the store is told of it, one more is counted.
        assert_eq!(memory.take(&one, NOW), Outcome::Admitted);
        memory.settle(&key, first, ns + 900_000_000, NOW);
        let second = memory.owed(&key);
        assert_eq!(second, Some(Owed { tat: ns + 1_000_000_000 }), "the second is still owed");
        assert_eq!(memory.take(&one, NOW), Outcome::Refused { index: 0, retry_after_ms: 100 });
        memory.settle(&key, second, ns + 500_000_000, NOW);
        assert_eq!(memory.owed(&key), None, "all of it was told");
        assert_eq!(
            memory.take(&one, NOW),
            Outcome::Refused { index: 0, retry_after_ms: 100 },
            "and counts on"
        );
    }

    #[test]
    fn slots_that_recovered_are_reused_without_loss() {
        let memory = Memory::new(64 * 1024);
        for number in 0..50_000 {
            // A millisecond later, the one before has recovered.
            let now = NOW.plus(u64::from(number) * 2);
            memory.take(&[take(address(number), 1000, 1000, 1)], now);
        }
        assert_eq!(memory.evicted(), 0);
    }

    proptest! {
        #[test]
        fn it_decides_as_a_table_without_bounds_does(
            requests in proptest::collection::vec(
                (proptest::collection::vec((0_u32..4, 1_u32..3), 1..4), 0_u64..400),
                1..200,
            ),
        ) {
            let memory = Memory::new(1 << 20);
            let mut model: HashMap<u32, u64> = HashMap::new();
            let mut now = NOW;
            for (wants, later) in requests {
                now = now.plus(later);
                let takes: Vec<_> = wants.iter().map(|(key, cost)| take(address(*key), 5, 1000, *cost)).collect();
                let mut next = model.clone();
                let mut expected = Outcome::Admitted;
                for (index, (key, cost)) in wants.iter().enumerate() {
                    match gcra(takes[index].rate, next.get(key).copied(), now, *cost) {
                        Gcra::Admit { tat } => drop(next.insert(*key, tat)),
                        Gcra::Refuse { retry_after_ms } => match expected {
                            Outcome::Refused { retry_after_ms: longest, .. } if longest >= retry_after_ms => {}
                            Outcome::Admitted | Outcome::Refused { .. } | Outcome::Away => {
                                expected = Outcome::Refused { index, retry_after_ms };
                            }
                        },
                    }
                }
                if expected == Outcome::Admitted {
                    model = next;
                }
                prop_assert_eq!(memory.take(&takes, now), expected);
            }
        }
    }
}
