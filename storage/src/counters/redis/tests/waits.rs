//! Whoever waits as long as they were told is let in, and nobody sooner: whatever others cost that ask under the same key,
//! with the store, without it, and when it is back.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::counters::Outcome::Refused;

/// Keys that are asked for in one run, each with a limit of its own.
const KEYS: usize = 40;

/// One key, and what is asked of it in each of three times: so many milliseconds later, for so much.
#[derive(Clone, Debug)]
struct Case {
    rate: Rate,
    sliding: bool,
    steps: [Vec<(u64, u32)>; 3],
}

fn cases() -> impl Strategy<Value = Case> {
    let rate = (1_u32..60, 1_000_u64..100_000).prop_map(|(count, period_ms)| Rate { count, period_ms });
    (rate, any::<bool>()).prop_flat_map(|(rate, sliding)| {
        let cost = prop_oneof![1_u32..=rate.count, 1..=rate.count.min(3), Just(rate.count)];
        let gap = prop_oneof![2 => Just(0_u64), 1 => 0..rate.period_ms / 4];
        let steps = prop::collection::vec((gap, cost), 1..12);
        let steps = [steps.clone(), steps.clone(), steps];
        steps.prop_map(move |steps| Case { rate, sliding, steps })
    })
}

fn drawn() -> Vec<Case> {
    let mut runner = TestRunner::deterministic();
    (0..KEYS).map(|_| cases().new_tree(&mut runner).unwrap().current()).collect()
}

/// Asks, and where it is refused waits as long as it is told. Until when it has waited.
async fn waits(counters: &Counters, take: Take<'_>, mut now: UnixMillis, case: &str) -> UnixMillis {
    let taken = counters.take_all(&[take], now).await;
    let Refused { index: 0, retry_after_ms } = taken.outcome else { return now };
    assert!((1..=1 << 40).contains(&retry_after_ms), "{case}: {retry_after_ms}");
    assert!(taken.left < take.cost, "{case}: {taken:?}");
    // Whoever wants no less meanwhile is refused as well, and puts nobody off.
    let dearest = take.costing(take.rate.count);
    for (at, asked) in [(0, dearest), (retry_after_ms / 2, dearest), (retry_after_ms - 1, take)] {
        let asked = counters.take(&[asked], now.plus(at)).await;
        assert_ne!(asked, Outcome::Admitted, "{case}: {at} of {retry_after_ms} ms");
    }
    now = now.plus(retry_after_ms);
    assert_eq!(counters.take(&[take], now).await, Outcome::Admitted, "{case}: after {retry_after_ms} ms");
    now
}

/// Each of these in turn, from this moment on. When the last of all is done.
async fn play(counters: &Counters, cases: &[Case], time: usize, begins: UnixMillis) -> UnixMillis {
    let mut ends = begins;
    for (number, case) in cases.iter().enumerate() {
        let name = number.to_string();
        let key = LimitKey::everybody(&name).sliding(case.sliding);
        let mut now = begins;
        for (gap, cost) in &case.steps[time] {
            let told = format!("{name}, {cost} at {now:?} of time {time}: {case:?}");
            now = waits(counters, Take::new(key, case.rate).costing(*cost), now.plus(*gap), &told).await;
        }
        ends = ends.max(now);
    }
    ends
}

/// Spends what is there of each, as the next time finds it.
async fn spend(counters: &Counters, cases: &[Case], now: UnixMillis) {
    for (number, case) in cases.iter().enumerate() {
        let name = number.to_string();
        let key = LimitKey::everybody(&name).sliding(case.sliding);
        for (_, cost) in case.steps.iter().flatten() {
            counters.take(&[Take::new(key, case.rate).costing(*cost)], now).await;
        }
    }
}

static CLOCK: AtomicU64 = AtomicU64::new(NOW.0);

#[tokio::test]
async fn who_waits_as_long_as_they_were_told_is_let_in_and_nobody_sooner() {
    let cases = drawn();
    let memory = Counters::memory(1 << 20);
    let mut now = NOW;
    for time in 0..3 {
        now = play(&memory, &cases, time, now).await;
        spend(&memory, &cases, now).await;
    }
    for gateways in [1, 2, 3, 7, 100] {
        let mut server = Server::start();
        let clock = || UnixMillis(CLOCK.load(Ordering::Relaxed));
        let change = |settings: &mut RedisSettings| {
            (settings.given_time, settings.gateways, settings.clock) = (true, gateways, clock);
            settings.memory_bytes = 1 << 20;
        };
        let counters = server.counters(change).await;
        let mut now = play(&counters, &cases, 0, NOW).await;
        spend(&counters, &cases, now).await;
        server.kill();
        reaches(&counters, away).await;
        now = play(&counters, &cases, 1, now).await;
        spend(&counters, &cases, now).await;
        // What is told to the store is told at this moment.
        CLOCK.store(now.0, Ordering::Relaxed);
        server.restart();
        reaches(&counters, up).await;
        play(&counters, &cases, 2, now).await;
    }
}

#[tokio::test]
async fn a_dear_request_is_paid_for_at_the_pace_of_a_gateways_part() {
    // Nobody tends them, so that the store is away.
    let nowhere = RedisAddress::Tcp { host: "127.0.0.1".to_owned(), port: 1, tls: None };
    let settings = RedisSettings { gateways: 10, ..settings(nowhere) };
    let counters = Counters::redis(settings, Box::new(|_, _| {}));
    let fifty = Take::new(LimitKey::everybody("all"), Rate { count: 50, ..TEN });
    let (dear, cheap) = ([fifty.costing(20)], [fifty]);
    assert_eq!(counters.take(&dear, NOW).await, Outcome::Admitted);
    // Of 50 an hour one of ten gateways lets 5 through: 20 are four hours of that.
    let hours = |count: u64| count * 3_600_000;
    let refused = |retry_after_ms| Refused { index: 0, retry_after_ms };
    assert_eq!(counters.take(&dear, NOW).await, refused(hours(4)));
    assert_eq!(counters.take(&cheap, NOW).await, refused(hours(3) + 720_000), "four are its burst but one");
    assert_eq!(counters.take(&dear, NOW.plus(hours(4) - 1)).await, refused(1));
    assert_eq!(counters.take(&dear, NOW.plus(hours(4))).await, Outcome::Admitted);
    // However often somebody asks for little, nothing comes back sooner.
    let (mut spent, begins) = (0, NOW.plus(hours(100)));
    assert_eq!(counters.take(&dear, begins).await, Outcome::Admitted);
    for minute in 0..60 * 24 {
        let now = begins.plus(minute * 60_000);
        for (takes, cost) in [(&cheap, 1), (&dear, 20)] {
            spent += if counters.take(takes, now).await == Outcome::Admitted { cost } else { 0 };
        }
    }
    assert!(spent <= 5 * 24, "{spent} in a day");
}
