//! What is fetched once for everybody.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::super::kept::{COOL_DOWN, FRESH, Kept, RENEW_EVERY, STALE_MAX};
use crate::clock;

/// Fetches are counted; each brings its number, or fails.
struct World {
    kept: Kept<usize, &'static str>,
    fetches: AtomicUsize,
    begun: Instant,
}

impl World {
    fn new() -> Self {
        Self { kept: Kept::new(), fetches: AtomicUsize::new(0), begun: clock::instant() }
    }

    async fn ask(&self, after: Duration, anew: bool, works: bool) -> Result<usize, &'static str> {
        let fetch = async || {
            let number = self.fetches.fetch_add(1, Ordering::SeqCst) + 1;
            // Others come while it is under way.
            tokio::task::yield_now().await;
            if works { Ok(number) } else { Err("away") }
        };
        let now = self.begun + after;
        let had = if anew { self.kept.renewed(now, fetch).await } else { self.kept.fresh(now, fetch).await };
        had.map(|value| *value)
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

const ZERO: Duration = Duration::ZERO;
const TICK: Duration = Duration::from_millis(1);

#[tokio::test]
async fn it_is_fetched_once_and_again_when_it_is_old() {
    let world = World::new();
    assert_eq!(world.ask(ZERO, false, true).await, Ok(1));
    assert_eq!(world.ask(FRESH - TICK, false, true).await, Ok(1));
    assert_eq!(world.ask(FRESH, false, true).await, Ok(2));
}

#[tokio::test]
async fn what_cannot_be_had_anew_is_used_for_a_day_and_asked_for_now_and_then() {
    let world = World::new();
    assert_eq!(world.ask(ZERO, false, false).await, Err("away"));
    assert_eq!(world.ask(COOL_DOWN - TICK, false, true).await, Err("away"), "asked too soon");
    assert_eq!(world.ask(COOL_DOWN, false, true).await, Ok(2));
    let old = COOL_DOWN + FRESH;
    assert_eq!(world.ask(old, false, false).await, Ok(2));
    assert_eq!(world.kept.fault(), Some("away"));
    assert_eq!((world.ask(old + COOL_DOWN - TICK, false, false).await, world.fetches()), (Ok(2), 3));
    assert_eq!(world.ask(COOL_DOWN + STALE_MAX, false, false).await, Err("away"));
    assert_eq!(world.ask(COOL_DOWN * 2 + STALE_MAX, false, true).await, Ok(5));
    assert_eq!(world.kept.fault(), None);
}

#[tokio::test]
async fn a_thousand_forged_names_are_one_question() {
    let world = World::new();
    assert_eq!(world.ask(ZERO, false, true).await, Ok(1));
    let after = RENEW_EVERY;
    let asked = (0..1000).map(|_| world.ask(after, true, true));
    let had = futures_util::future::join_all(asked).await;
    assert!(had.iter().all(|value| *value == Ok(2)) && world.fetches() == 2, "{}", world.fetches());
    assert_eq!(world.ask(after + RENEW_EVERY - TICK, true, true).await, Ok(2));
    // Neither is a provider that is away asked by each.
    let asked = (0..1000).map(|_| world.ask(after + RENEW_EVERY, true, false));
    let had = futures_util::future::join_all(asked).await;
    assert!(had.iter().all(|value| *value == Ok(2)) && world.fetches() == 3, "{}", world.fetches());
}
