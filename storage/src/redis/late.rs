//! Answers that come too late: how many stalls in a row they were.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// Stalls in a row, by the questions that were given up in them. Whatever holds a server up holds up everybody who waits at that
/// moment: the first of them that is given up counts, and whoever asked before that moment was held up by the same.
#[derive(Debug, Default)]
pub(super) struct Late {
    stalls: AtomicU32,
    /// When the last that counts was given up.
    given_up: Mutex<Option<Instant>>,
}

impl Late {
    /// An answer was there in time.
    pub(super) fn none(&self) {
        if self.stalls.load(Ordering::Relaxed) != 0 {
            self.stalls.store(0, Ordering::Relaxed);
        }
    }

    /// What was asked at this moment is given up now. How many stalls in a row that makes. Whoever says that it was asked now
    /// has each count.
    pub(super) fn one(&self, asked: Instant) -> u32 {
        let mut given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        if given_up.is_some_and(|given_up| asked < given_up) {
            return self.stalls.load(Ordering::Relaxed);
        }
        *given_up = Some(Instant::now());
        self.stalls.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// What becomes of a question: given up at this millisecond, where it was asked at that one; or answered in time.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Late { asked: u64, given_up: u64 },
        InTime,
    }
    use Event::{InTime, Late as Waited};

    /// How many stalls each makes.
    async fn counted(events: &[Event]) -> Vec<u32> {
        let (late, began) = (Late::default(), Instant::now());
        let mut counted = Vec::new();
        for event in events {
            match *event {
                InTime => {
                    late.none();
                    counted.push(0);
                }
                Waited { asked, given_up } => {
                    let at = |ms| began + Duration::from_millis(ms);
                    tokio::time::advance(at(given_up) - Instant::now()).await;
                    counted.push(late.one(at(asked)));
                }
            }
        }
        counted
    }

    #[tokio::test(start_paused = true)]
    async fn questions_that_wait_at_one_time_are_held_up_once() {
        let late = |asked, given_up| Waited { asked, given_up };
        let table: [(&[Event], &[u32]); 6] = [
            (&[late(0, 5), late(5, 10), late(10, 15)], &[1, 2, 3]),
            (&[late(0, 5), late(0, 5), late(1, 6), late(4, 9), late(5, 10)], &[1, 1, 1, 1, 2]),
            (&[late(0, 5), InTime, late(6, 11), late(11, 16)], &[1, 0, 1, 2]),
            // One that an answer in time has overtaken is late by itself, but no second time.
            (&[late(0, 5), late(2, 7), InTime, late(4, 9), late(7, 12)], &[1, 1, 0, 0, 1]),
            // Of some that wait for longer, the one that is given up first says when it was.
            (&[late(3, 5), late(0, 100), late(5, 101), late(100, 105)], &[1, 1, 2, 2]),
            (&[late(0, 5), late(1_000, 1_005)], &[1, 2]),
        ];
        for (events, expected) in table {
            assert_eq!(counted(events).await, expected, "{events:?}");
        }
    }

    /// How many of these could have been asked one after the other, each when the one before it was given up.
    fn in_a_row(waits: &[(u64, u64)]) -> u32 {
        // Sorted by their ends: the most that end with each of them.
        let mut most: Vec<u32> = Vec::new();
        for (place, (asked, _)) in waits.iter().enumerate() {
            let before = (0..place).filter(|other| waits[*other].1 <= *asked).map(|other| most[other]);
            most.push(before.max().unwrap_or(0) + 1);
        }
        most.into_iter().max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn as_many_stalls_count_as_anybody_could_have_met_who_asked_again_and_again(
            waits in prop::collection::vec((0_u64..100, 1_u64..30), 0..40),
        ) {
            let mut waits: Vec<(u64, u64)> = waits.iter().map(|(asked, ms)| (*asked, asked + ms)).collect();
            waits.sort_by_key(|(_, given_up)| *given_up);
            let events: Vec<Event> = waits.iter().map(|(asked, given_up)| Waited { asked: *asked, given_up: *given_up }).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let last = runtime.block_on(counted(&events)).last().copied();
            prop_assert_eq!(last.unwrap_or(0), in_a_row(&waits));
        }
    }
}
