//! Sliding windows in memory of a fixed size, beside the table of rates and like it: sets of slots, of which the one
//! whose window ends earliest is used again.

use std::sync::{Mutex, MutexGuard, PoisonError};

use engine::time::UnixMillis;
use engine::window::Window;

use super::Take;
use super::memory::{Kept, Newest};

const WAYS: usize = 8;
const SHARDS: usize = 64;

/// Free while its window ends at 0.
#[derive(Clone, Copy, Default)]
pub(super) struct Slot {
    key: [u64; 2],
    pub(super) window: Window,
    /// Whether another store has not been told of all of it.
    pub(super) owed: bool,
}

type Set = [Slot; WAYS];

/// The shards that a request needs, by their number, in rising order.
pub(super) type Locked<'a> = Vec<(usize, MutexGuard<'a, Box<[Set]>>)>;

pub(super) struct Windows {
    shards: Box<[Mutex<Box<[Set]>>]>,
    sets_per_shard: u64,
}

impl Windows {
    /// A table of so many bytes at most.
    pub(super) fn new(bytes: usize) -> Self {
        let sets_per_shard = (bytes / (SHARDS * size_of::<Set>())).max(1);
        let shard = || Mutex::new(vec![Set::default(); sets_per_shard].into_boxed_slice());
        Self {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            sets_per_shard: sets_per_shard as u64,
        }
    }

    /// Locks the shards of these keys, always in rising order, so that two requests never wait for each other.
    pub(super) fn lock(&self, keys: &[[u64; 2]]) -> Locked<'_> {
        let mut wanted: Vec<_> = keys.iter().map(|key| shard_of(*key)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let locked = |index: usize| {
            let shard = self.shards.get(index)?;
            Some((index, shard.lock().unwrap_or_else(PoisonError::into_inner)))
        };
        wanted.into_iter().filter_map(locked).collect()
    }

    /// The state of a key whose shard is locked.
    pub(super) fn find(&self, locked: &mut Locked<'_>, key: [u64; 2]) -> Option<Slot> {
        self.set(locked, key)?.iter().find(|slot| slot.is_of(key)).copied()
    }

    /// Keeps a state. Whether another key's was dropped for it before it had ended.
    pub(super) fn put(
        &self,
        locked: &mut Locked<'_>,
        key: [u64; 2],
        window: Window,
        owed: bool,
        now: UnixMillis,
    ) -> bool {
        let Some(set) = self.set(locked, key) else { return false };
        // One that says nothing takes no slot from anybody.
        if window.ends_ms() == 0 {
            return false;
        }
        let own = set.iter().position(|slot| slot.is_of(key));
        let ends = |slot: &Slot| slot.window.ends_ms();
        let earliest = || set.iter().enumerate().min_by_key(|(_, slot)| ends(slot)).map(|(at, _)| at);
        let Some(slot) = own.or_else(earliest).and_then(|at| set.get_mut(at)) else { return false };
        let dropped = slot.key != key && ends(slot) > now.0;
        *slot = Slot { key, window, owed };
        dropped
    }

    /// Forgets a key.
    pub(super) fn forget(&self, key: [u64; 2]) {
        let mut locked = self.lock(&[key]);
        let slot = self.set(&mut locked, key).and_then(|set| set.iter_mut().find(|slot| slot.is_of(key)));
        if let Some(slot) = slot {
            *slot = Slot::default();
        }
    }

    /// How a key stands, where it is known.
    pub(super) fn now(&self, key: [u64; 2], take: &Take<'_>, newest: &Newest, now: UnixMillis) -> Window {
        let found = self.find(&mut self.lock(&[key]), key);
        let by_take = |slot: Slot| slot.window_by(take, slot.kept(newest, take), now);
        found.map_or_else(Window::default, by_take).at(take.rate, now)
    }

    fn set<'s>(&self, locked: &'s mut Locked<'_>, key: [u64; 2]) -> Option<&'s mut Set> {
        let [_, high] = key;
        let shard = locked.iter_mut().find(|(index, _)| *index == shard_of(key))?;
        shard.1.get_mut(usize::try_from(high % self.sets_per_shard).ok()?)
    }
}

impl Slot {
    /// By which limit it is kept, seen from a take.
    pub(super) fn kept(&self, newest: &Newest, take: &Take<'_>) -> Kept {
        newest.kept(take, !self.window.is_of(take.rate))
    }

    /// Its window by the limit of this take, which may have become what it is lately, or have become another.
    pub(super) fn window_by(&self, take: &Take<'_>, kept: Kept, now: UnixMillis) -> Window {
        match (kept, take.since) {
            // A clock that has gone back since then knows nothing of what was admitted when.
            (Kept::Earlier, Some(since)) => self.window.since(take.rate, since.min(now)),
            (Kept::Later, _) => self.window.at(take.rate, now),
            (Kept::Own | Kept::Earlier, _) => self.window,
        }
    }

    fn is_of(&self, key: [u64; 2]) -> bool {
        self.key == key && self.window.ends_ms() != 0
    }
}

fn shard_of([low, _]: [u64; 2]) -> usize {
    usize::try_from(low % SHARDS as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use engine::limit::Rate;
    use engine::window::Slid;

    use super::*;
    use crate::counters::LimitKey;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
    const RATE: Rate = Rate { count: 10, period_ms: 60_000 };

    #[test]
    fn a_flood_of_keys_takes_no_memory_and_drops_what_ends_first() {
        let windows = Windows::new(64 * 1024);
        let slots: usize = windows.shards.iter().map(|shard| shard.lock().unwrap().len() * WAYS).sum();
        assert!(slots * size_of::<Slot>() <= 64 * 1024);
        let spent = |at: UnixMillis| match Window::default().take(RATE, at, 10) {
            Slid::Admit(window) => window,
            Slid::Refuse { .. } => panic!("it is empty"),
        };
        let put =
            |key: [u64; 2], at: UnixMillis| windows.put(&mut windows.lock(&[key]), key, spent(at), false, at);
        let take = Take::new(LimitKey::everybody("all").sliding(true), RATE);
        // Whoever was let in last is known longest.
        assert!(!put([7, 7], NOW.plus(60_000)));
        let dropped = (0..100_000_u64).filter(|number| put([*number, number / 64], NOW)).count();
        assert!(dropped > 90_000);
        assert_eq!(windows.now([7, 7], &take, &Newest::default(), NOW.plus(60_000)), spent(NOW.plus(60_000)));
        // What has ended is used again without loss.
        let later = NOW.plus(600_000);
        assert!((0..64).all(|number| !put([number, 1_000_000], later)));
        windows.forget([7, 7]);
        assert_eq!(windows.now([7, 7], &take, &Newest::default(), NOW).ends_ms(), 0);
    }
}
