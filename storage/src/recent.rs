//! What was read a moment ago, while nothing was written since.
//!
//! One process holds the store, and everything that it writes passes one place. So what was read still stands as long
//! as nothing was written after the reading began: an [`Epoch`] is taken before the store is read and compared before
//! what was read is told again. A write ends the epoch after its commit and before it is acknowledged, so whoever was
//! told that a session has ended, or an account was suspended, finds no request that is served by what was before.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::kept::Kept;

/// Parts that are written without a word to the others, one for each value of a byte.
const PARTS: usize = 256;

/// Counts what is written.
pub(crate) struct Epochs {
    all: AtomicU64,
    parts: [AtomicU64; PARTS],
}

/// The state of the store that something was read from, or a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch {
    all: u64,
    part: u64,
}

/// What a write may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Anything.
    All,
    /// Nothing but what belongs to this part: the use of a session, which is noted every minute and would otherwise
    /// make all others be read again.
    Part(u8),
}

impl Epochs {
    pub(crate) fn new() -> Self {
        Self { all: AtomicU64::new(0), parts: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// The epoch of a part. Taken before reading.
    pub(crate) fn of(&self, part: u8) -> Epoch {
        let part = self.part(part).map_or(0, |part| part.load(Ordering::SeqCst));
        Epoch { all: self.all.load(Ordering::SeqCst), part }
    }

    /// Something was written, or may have been.
    pub(crate) fn end(&self, reach: Reach) {
        match reach {
            Reach::All => self.all.fetch_add(1, Ordering::SeqCst),
            Reach::Part(part) => self.part(part).unwrap_or(&self.all).fetch_add(1, Ordering::SeqCst),
        };
    }

    fn part(&self, part: u8) -> Option<&AtomicU64> {
        self.parts.get(usize::from(part))
    }
}

/// What was read, by what it was asked for with. `V` holds no secret: it outlives the look-up.
pub(crate) struct Recent<K, V> {
    kept: Kept<K, (Epoch, V)>,
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    /// Nothing was read.
    pub(crate) fn new() -> Self {
        Self { kept: Kept::default() }
    }

    /// What was read, if it was read in this epoch.
    pub(crate) fn get(&self, key: &K, epoch: Epoch) -> Option<V> {
        self.kept.get(key, |(read, value)| (*read == epoch).then(|| value.clone()))
    }

    /// Keeps what was read, with the epoch that was taken before.
    pub(crate) fn put(&self, key: K, epoch: Epoch, value: V) {
        self.kept.put(key, (epoch, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_told_again_until_something_is_written() {
        let (epochs, recent) = (Epochs::new(), Recent::new());
        let get = |key: u8| recent.get(&key, epochs.of(key));
        for key in [1, 2] {
            assert_eq!(get(key), None);
            recent.put(key, epochs.of(key), key);
            assert_eq!(get(key), Some(key));
        }
        epochs.end(Reach::Part(1));
        assert_eq!((get(1), get(2)), (None, Some(2)), "the part's alone");
        epochs.end(Reach::All);
        assert_eq!(get(2), None);
        // What was read before a write and is kept after it is older than the epoch says.
        let before = epochs.of(2);
        epochs.end(Reach::All);
        recent.put(2, before, 2);
        assert_eq!(get(2), None);
    }
}
