//! Single calls, timed and counted.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use gateway::clock;
use tokio::sync::{Mutex, MutexGuard};

use super::memory::Memory;
use crate::figures::Figure;
use crate::process::pause;

/// Rounds over all requests at most: a median of these moves little.
const ROUNDS_MAX: usize = 201;
/// Rounds of a stretch.
const STRETCH: usize = 3;
/// Rounds at least.
const ROUNDS_MIN: usize = 3;
/// Requests at least, where one takes so long that not all can be asked.
const REQUESTS_MIN: usize = 8;
/// A call that takes longer is asked for few requests only.
const SLOW: Duration = Duration::from_millis(10);

/// How long a measurement waits until memory is quiet, with what it has measured in vain, and between two looks.
const PATIENCE: Duration = Duration::from_secs(4);
const WAIT: Duration = Duration::from_millis(5);

/// What calls cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// Nanoseconds of the median request.
    pub p50_ns: f64,
    /// Nanoseconds that 99 of 100 requests stay within.
    pub p99_ns: f64,
    /// Allocations and reallocations of a request, on average.
    pub allocations: f64,
    /// How many requests were asked.
    pub requests: usize,
}

/// Who measures at this moment, where several rows are measured side by side: each has a stretch, and then it is the next
/// one's turn. A machine of others is slower for seconds now and then, by as much as 1.7; so it is as fast for one row as
/// for the other.
#[derive(Debug, Default)]
pub(super) struct Turns {
    turn: Mutex<()>,
    /// What has to be quiet meanwhile.
    memory: Option<Arc<Memory>>,
}

impl Turns {
    /// Only while this memory is quiet, if it is within the patience of each measurement.
    pub(super) fn while_quiet(memory: Arc<Memory>) -> Self {
        Self { turn: Mutex::default(), memory: Some(memory) }
    }

    /// Waits until nobody else measures; turns are given in the order in which they are asked for.
    ///
    /// # Panics
    /// Within a runtime.
    pub(super) fn take(&self) -> MutexGuard<'_, ()> {
        self.turn.blocking_lock()
    }

    fn is_quiet(&self) -> bool {
        self.memory.as_ref().is_none_or(|memory| memory.is_quiet())
    }
}

/// How much longer a measurement waits for quiet.
struct Patience(Duration);

impl Patience {
    /// Whether there was some left. Takes so much of it.
    fn spend(&mut self, time: Duration) -> bool {
        let is_left = !self.0.is_zero();
        self.0 = self.0.saturating_sub(time);
        is_left
    }
}

/// Asks for each of `count` requests in turn, round after round, as traffic mixes them, for about `budget`. Each call is
/// timed alone, its result dropped within; a request's cost is the median of its rounds, and percentiles are over requests.
pub(super) fn cost<T>(
    turns: &Turns,
    count: usize,
    budget: Duration,
    mut call: impl FnMut(usize) -> T,
) -> Cost {
    cost_of_arriving(turns, count, budget, |request| request, |request| call(*request))
}

/// The same of requests that arrive: what `arrive` makes of one is its own, and was written a moment before it is asked for.
pub(super) fn cost_of_arriving<A, T>(
    turns: &Turns,
    count: usize,
    budget: Duration,
    mut arrive: impl FnMut(usize) -> A,
    mut call: impl FnMut(&A) -> T,
) -> Cost {
    let turn = turns.take();
    // The first pass says how long one takes.
    let begun = clock::instant();
    let mut asked = 0_u32;
    for request in 0..count {
        drop(black_box(call(&arrive(request))));
        asked += 1;
        if begun.elapsed() > budget / 4 && request + 1 >= REQUESTS_MIN {
            break;
        }
    }
    let one = begun.elapsed() / asked.max(1);
    let affordable = usize::try_from(budget.as_nanos() / one.as_nanos().max(1)).unwrap_or(usize::MAX);
    let least = if one > SLOW { REQUESTS_MIN } else { 100 };
    let requests = (affordable / ROUNDS_MIN).max(least).min(count);
    let rounds = (affordable / requests.max(1)).clamp(ROUNDS_MIN, ROUNDS_MAX);
    let mut taken: Vec<Vec<u64>> = vec![Vec::with_capacity(rounds); requests];
    drop(turn);
    let mut patience = Patience(PATIENCE);
    let mut left = rounds;
    while left > 0 {
        let _turn = turns.take();
        while !turns.is_quiet() && patience.spend(WAIT) {
            pause(WAIT);
        }
        let begun = clock::instant();
        // The caches are somebody else's; where one call takes milliseconds, they are nobody's.
        for request in 0..if one > SLOW { 0 } else { requests } {
            drop(black_box(call(&arrive(request))));
        }
        let stretch = left.min(STRETCH);
        for _ in 0..stretch {
            for (request, times) in taken.iter_mut().enumerate() {
                let arrived = black_box(arrive(request));
                let begun = clock::instant();
                drop(black_box(call(&arrived)));
                let took = begun.elapsed();
                times.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
            }
        }
        if turns.is_quiet() || !patience.spend(begun.elapsed()) {
            left -= stretch;
        } else {
            taken.iter_mut().for_each(|times| times.truncate(times.len().saturating_sub(stretch)));
        }
    }
    let mut medians: Vec<u64> = taken
        .into_iter()
        .map(|mut times| {
            times.sort_unstable();
            times.get(times.len() / 2).copied().unwrap_or_default()
        })
        .collect();
    medians.sort_unstable();
    let _turn = turns.take();
    Cost {
        p50_ns: percentile(&medians, 50),
        p99_ns: percentile(&medians, 99),
        allocations: allocations(requests, &mut arrive, &mut call),
        requests,
    }
}

fn allocations<A, T>(
    requests: usize,
    arrive: &mut impl FnMut(usize) -> A,
    call: &mut impl FnMut(&A) -> T,
) -> f64 {
    let arrived: Vec<A> = (0..requests.min(200)).map(arrive).collect();
    let ((new, grown, _), ()) = alloc_counter::count_alloc(|| {
        for one in &arrived {
            drop(black_box(call(one)));
        }
    });
    (new + grown) as f64 / arrived.len().max(1) as f64
}

fn percentile(sorted: &[u64], percent: usize) -> f64 {
    let place = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(place).copied().unwrap_or_default() as f64
}

/// What the clock itself adds to each timed call.
pub(super) fn clock_cost() -> Figure {
    let cost = cost(&Turns::default(), 512, Duration::from_millis(50), |_| ());
    Figure::once("decide.clock_ns", cost.p50_ns, "ns")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_the_requests_median_and_what_it_allocates() {
        let cost = cost(&Turns::default(), 200, Duration::from_millis(20), |request| vec![0_u8; request + 1]);
        assert_eq!(cost.requests, 200);
        assert!(cost.p50_ns <= cost.p99_ns, "{cost:?}");
        assert!((cost.allocations - 1.0).abs() < 0.01, "{cost:?}");
        assert_eq!((percentile(&[], 99), percentile(&[7], 99)), (0.0, 7.0));
    }
}
