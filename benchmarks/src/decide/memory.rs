//! How fast memory answers at this moment.
//!
//! Of a machine of others the processor is one's own, and the last level of caches is not: a read that misses the caches of
//! the core takes three or four times as long while a neighbour uses it, for a tenth of a second or for minutes. What
//! a decision costs with many policies is mostly such reads. So a stretch is measured when memory is as fast as it has been,
//! and counts if it still was afterwards.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gateway::clock;

use super::random::Random;
use crate::process::pause;

/// Lines of 64 bytes, 4 MiB of them: more than the caches of a core hold, and less than the one that cores share.
const LINES: usize = 65_536;
const SEED: u64 = 20_261_130;
/// Reads of a look, each of which waits for the one before.
const READS: u32 = 1_000;
/// Looks that tell how fast memory can be, and between two of them.
const LOOKS: usize = 400;
const BETWEEN: Duration = Duration::from_micros(2_500);
/// What a look may take of the fastest, in percent.
const QUIET: u64 = 140;

/// One that is looked at.
#[derive(Debug)]
pub(super) struct Memory {
    /// In each line, which one is read next.
    next: Vec<[u32; 16]>,
    at: Mutex<u32>,
    /// Nanoseconds of a read while it is quiet: of a tenth of the looks at the beginning no more.
    fast_ns: u64,
    looks: AtomicU64,
    loud: AtomicU64,
}

impl Memory {
    /// Looks for a second or two how fast it can be.
    pub(super) fn new() -> Self {
        let mut random = Random::seeded(SEED);
        let mut order: Vec<u32> = (0..).take(LINES).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, random.below(last + 1));
        }
        let mut next = vec![[0; 16]; LINES];
        for (from, to) in order.iter().zip(order.iter().cycle().skip(1)) {
            if let Some([first, ..]) = usize::try_from(*from).ok().and_then(|from| next.get_mut(from)) {
                *first = *to;
            }
        }
        let (at, looks, loud) = (Mutex::default(), AtomicU64::new(0), AtomicU64::new(0));
        let mut memory = Self { next, at, fast_ns: 0, looks, loud };
        let mut seen: Vec<u64> = Vec::with_capacity(LOOKS);
        for _ in 0..LOOKS {
            seen.push(memory.look());
            pause(BETWEEN);
        }
        seen.sort_unstable();
        memory.fast_ns = seen.get(LOOKS / 10).copied().unwrap_or_default();
        memory
    }

    /// Nanoseconds of a read now.
    fn look(&self) -> u64 {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = clock::instant();
        for _ in 0..READS {
            let line = usize::try_from(*at).ok().and_then(|line| self.next.get(line));
            *at = line.map_or(0, |[next, ..]| *next);
        }
        let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        took / u64::from(READS)
    }

    /// Whether it is as fast as it can be.
    pub(super) fn is_quiet(&self) -> bool {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let is_quiet = self.look().saturating_mul(100) <= self.fast_ns.saturating_mul(QUIET);
        if !is_quiet {
            self.loud.fetch_add(1, Ordering::Relaxed);
        }
        is_quiet
    }

    /// Nanoseconds of a read while it is quiet.
    pub(super) fn fast_ns(&self) -> u64 {
        self.fast_ns
    }

    /// The share of the looks at which it was not.
    pub(super) fn loud(&self) -> f64 {
        self.loud.load(Ordering::Relaxed) as f64 / self.looks.load(Ordering::Relaxed).max(1) as f64
    }
}
