//! Many comparisons, the same ones for the same seed whatever the number of threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::compare::{Difference, Seen, compare};
use super::generate::{Case, Source, Words};
use super::progress::Progress;

/// Requests of a set: to make a set costs as much as a few dozen of them.
pub const REQUESTS_PER_SET: usize = 120;

/// Stack of a thread. Cedar asks how much is left of it before it goes deeper.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// How long a run is.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Comparisons, rounded up to whole sets.
    pub comparisons: u64,
    /// What everything is made from.
    pub seed: u64,
    /// Threads.
    pub jobs: usize,
}

/// What a run has found.
#[derive(Debug)]
pub struct Outcome {
    /// What it has seen.
    pub seen: Seen,
    /// A difference, with the number of its set.
    pub difference: Option<(u64, Box<Difference>)>,
}

/// Runs until all is compared or something differs.
#[must_use]
pub fn run(plan: Plan, progress: &mut Progress) -> Outcome {
    let sets = plan.comparisons.div_ceil(REQUESTS_PER_SET as u64);
    let (next, done, is_over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let (finished, results) = mpsc::sync_channel(plan.jobs);
    let mut outcome = Outcome { seen: Seen::nothing(), difference: None };
    let worker = |finished: mpsc::SyncSender<_>| {
        let (words, mut seen, mut difference) = (Words::new(), Seen::nothing(), None);
        while !is_over.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= sets {
                break;
            }
            let mut source = Source::seeded(plan.seed, number);
            let case = Case::generate(&mut source, &words, REQUESTS_PER_SET);
            if let Err(found) = compare(&case, &mut seen) {
                difference = Some((number, found));
                is_over.store(true, Ordering::Relaxed);
            }
            done.fetch_add(REQUESTS_PER_SET as u64, Ordering::Relaxed);
        }
        // Nobody listens any more only where the run itself has failed.
        finished.send((seen, difference)).ok();
    };
    std::thread::scope(|scope| {
        for _ in 0..plan.jobs {
            let (worker, finished) = (&worker, finished.clone());
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
            thread.spawn_scoped(scope, move || worker(finished)).expect("a thread starts");
        }
        drop(finished);
        loop {
            match results.recv_timeout(Duration::from_millis(200)) {
                Ok((seen, difference)) => {
                    outcome.seen.add(&seen);
                    outcome.difference = outcome.difference.take().or(difference);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    progress.at(done.load(Ordering::Relaxed), plan.comparisons, "comparisons");
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
    });
    progress.end();
    outcome
}
