//! What was found out before, kept beside what it follows from.
//!
//! Finding out again is always right and costs time alone. So whoever asks compares what an entry follows from before
//! taking it, and entries may go at any moment.

use std::collections::HashMap;
use std::fmt::{Debug, Formatter};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Entries that are kept at most. Past that all are dropped: who asks for ever new things pays what finding out costs,
/// and nobody's memory grows.
pub const ENTRIES_MAX: usize = 4_096;

/// A bounded number of entries.
pub struct Kept<K, V, S = RandomState> {
    entries: Mutex<HashMap<K, V, S>>,
}

impl<K, V, S: Default> Default for Kept<K, V, S> {
    fn default() -> Self {
        Self { entries: Mutex::default() }
    }
}

impl<K: Debug, V: Debug, S> Debug for Kept<K, V, S> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("entries", &self.entries).finish()
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> Kept<K, V, S> {
    /// What `take` makes of the entry of this key; `None` where there is none, or where `take` does not want it.
    pub fn get<T>(&self, key: &K, take: impl FnOnce(&V) -> Option<T>) -> Option<T> {
        self.entries().get(key).and_then(take)
    }

    /// Keeps an entry in the place of an older one.
    pub fn put(&self, key: K, entry: V) {
        let mut entries = self.entries();
        if entries.len() >= ENTRIES_MAX {
            entries.clear();
        }
        entries.insert(key, entry);
    }

    /// Nothing that is kept here can be left half-changed by a panic.
    fn entries(&self) -> MutexGuard<'_, HashMap<K, V, S>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_entry_is_there_for_whoever_wants_it() {
        let kept: Kept<u8, u8> = Kept::default();
        let get = |key: u8, wanted: u8| kept.get(&key, |entry| (*entry == wanted).then_some(*entry));
        assert_eq!(get(1, 7), None);
        kept.put(1, 7);
        kept.put(2, 8);
        assert_eq!((get(1, 7), get(1, 8), get(2, 8)), (Some(7), None, Some(8)));
        kept.put(1, 9);
        assert_eq!((get(1, 7), get(1, 9)), (None, Some(9)));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let kept: Kept<usize, ()> = Kept::default();
        for key in 0..ENTRIES_MAX + 10 {
            kept.put(key, ());
            assert!(kept.get(&key, |()| Some(())).is_some(), "{key}");
        }
        assert!(kept.entries().len() <= ENTRIES_MAX);
    }
}
