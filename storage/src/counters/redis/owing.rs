//! Whose counters were taken from without the store, so that it can be told of them when it is back, whether or not
//! they ever come again.

use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use engine::limit::Rate;
use engine::time::UnixMillis;

use super::super::hashed::ByKey;
use super::super::{LimitKey, Subject, Take};

/// Keys that are remembered, some 100 bytes each. Past it a key is merged when it is asked for again: what a flood of
/// addresses brings is not worth more.
pub(super) const KEYS_MAX: usize = 65_536;

/// A key of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnKey {
    limit: Box<str>,
    subject: Subject,
    sliding: bool,
    rate: Rate,
    since: Option<UnixMillis>,
}

impl OwnKey {
    /// The key of a take.
    pub(super) fn of(take: &Take<'_>) -> Self {
        let LimitKey { limit, subject, sliding } = take.key;
        Self { limit: limit.into(), subject, sliding, rate: take.rate, since: take.since }
    }

    /// A take of nothing: all that it does there is to merge.
    pub(super) fn merging(&self) -> Take<'_> {
        let Self { limit, subject, sliding, rate, since } = self;
        let key = LimitKey { limit, subject: *subject, sliding: *sliding };
        Take { since: *since, ..Take::new(key, *rate).costing(0) }
    }
}

/// The keys, by the hash that the table of counters knows them by.
#[derive(Debug, Default)]
pub(super) struct Owing(Mutex<ByKey<OwnKey>>);

impl Owing {
    /// This key was taken from. What is told of it is told by the newest limit that it was taken from by.
    pub(super) fn add(&self, hash: [u64; 2], take: &Take<'_>) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = keys.len() >= KEYS_MAX;
        match keys.entry(hash) {
            Entry::Occupied(mut known) if known.get().since < take.since => {
                known.insert(OwnKey::of(take));
            }
            Entry::Vacant(place) if !is_full => {
                place.insert(OwnKey::of(take));
            }
            Entry::Occupied(_) | Entry::Vacant(_) => {}
        }
    }

    /// Takes up to so many out.
    pub(super) fn some(&self, count: usize) -> Vec<([u64; 2], OwnKey)> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hashes: Vec<[u64; 2]> = keys.keys().take(count).copied().collect();
        hashes.into_iter().filter_map(|hash| keys.remove_entry(&hash)).collect()
    }

    /// Puts back what could not be told, also where there are as many as may be. What was taken from again meanwhile is told by
    /// the newer limit.
    pub(super) fn put_back(&self, taken: Vec<([u64; 2], OwnKey)>) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (hash, key) in taken {
            let known = keys.entry(hash).or_insert_with(|| key.clone());
            if known.since < key.since {
                *known = key;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_remembered_once_and_no_more_than_so_many() {
        let owing = Owing::default();
        let rate = Rate { count: 1, period_ms: 1_000 };
        let take = Take::new(LimitKey::everybody("all"), rate);
        for number in 0..2 * KEYS_MAX as u64 {
            owing.add([number / 2, 0], &take);
            owing.add([u64::MAX - number, 0], &take);
        }
        let mut found = 0;
        loop {
            let some = owing.some(1_000);
            if some.is_empty() {
                break;
            }
            assert!(some.iter().all(|(_, key)| key.merging().key == take.key && key.merging().cost == 0));
            found += some.len();
        }
        assert_eq!(found, KEYS_MAX);
        owing.add([1, 1], &take);
        let taken = owing.some(10);
        assert!(owing.some(10).is_empty());
        owing.put_back(taken.clone());
        assert_eq!(owing.some(10), taken);
    }
}
