//! Limits that become others while gateways share a store, each when it hears of it.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;

const MINUTE: Rate = Rate { count: 10, period_ms: 60_000 };
const HOUR: Rate = Rate { count: 10, period_ms: 3_600_000 };

fn of(rate: Rate, since: UnixMillis, sliding: bool) -> [Take<'static>; 1] {
    [Take::new(LimitKey::everybody("all").sliding(sliding), rate).since(since)]
}

async fn gateway(server: &Server) -> Arc<Counters> {
    server.counters(|settings| settings.given_time = true).await
}

#[tokio::test]
async fn a_gateway_that_has_counted_nothing_yet_knows_of_which_limit_it_was() {
    for (before, after, sliding, wait_ms) in [
        (MINUTE, HOUR, false, 360_000),
        (MINUTE, HOUR, true, 21 * 180_000),
        (HOUR, MINUTE, false, 6_000),
        (HOUR, MINUTE, true, 63_000),
    ] {
        let server = Server::start();
        let (one, other) = (gateway(&server).await, gateway(&server).await);
        let case = format!("{before} to {after}, sliding: {sliding}");
        assert_eq!(admitted(&one, &of(before, UnixMillis(0), sliding), 20).await, 10, "{case}");
        let takes = of(after, NOW, sliding);
        let refused = |retry_after_ms| Outcome::Refused { index: 0, retry_after_ms };
        assert_eq!(other.take(&takes, NOW).await, refused(wait_ms), "{case}");
        // One that begins anew is no other.
        let third = gateway(&server).await;
        assert_eq!(third.take(&takes, NOW.plus(wait_ms - 1)).await, refused(1), "{case}");
        assert_eq!(third.take(&takes, NOW.plus(wait_ms)).await, Outcome::Admitted, "{case}");
    }
}

#[tokio::test]
async fn gateways_of_which_one_has_not_heard_of_the_new_limit_yet_share_it() {
    for (before, after) in [(MINUTE, HOUR), (HOUR, MINUTE)] {
        for (sliding, passed_ms) in [(false, 0), (true, 0), (false, 600_000), (true, 600_000)] {
            let server = Server::start();
            let (new, old) = (gateway(&server).await, gateway(&server).await);
            // The limit has become another a while ago, and only then somebody asks.
            let now = NOW.plus(passed_ms);
            let (mut let_through, mut refused) = (0, 0);
            for asked in 0..20 {
                let mut both = [(&old, of(before, UnixMillis(0), sliding)), (&new, of(after, NOW, sliding))];
                both.rotate_left(asked % 2);
                for (gateway, takes) in both {
                    match gateway.take(&takes, now).await {
                        Outcome::Admitted => let_through += 1,
                        Outcome::Refused { .. } => refused += 1,
                        Outcome::Away => panic!("it is there"),
                    }
                }
            }
            let case = format!("{before} to {after}, sliding: {sliding}, after {passed_ms} ms");
            assert_eq!((let_through, refused), (10, 30), "{case}");
            // All of it is spent of the new one, whoever let it through.
            let part_ms = after.period_ms / 20;
            let wait_ms = if sliding { 21 * part_ms - now.0 % part_ms } else { after.period_ms / 10 };
            let takes = of(after, NOW, sliding);
            assert!(
                matches!(new.take(&takes, now.plus(wait_ms - 2)).await, Outcome::Refused { .. }),
                "{case}"
            );
            assert_eq!(new.take(&takes, now.plus(wait_ms)).await, Outcome::Admitted, "{case}");
        }
    }
}

#[tokio::test]
async fn a_state_that_says_nothing_of_its_period_keeps_nobody_out_for_longer_than_one() {
    let server = Server::start();
    let counters = gateway(&server).await;
    let ahead = |ms: u64| format!("{}.000000", NOW.0 + ms);
    server.say(&["SET", "cedargate:{all}:all", &ahead(3_600_000)]).await;
    let takes = of(MINUTE, NOW, false);
    let refused = Outcome::Refused { index: 0, retry_after_ms: 6_001 };
    assert_eq!(counters.take(&takes, NOW).await, refused);
    assert_eq!(counters.take(&takes, NOW.plus(6_001)).await, Outcome::Admitted);
    // It is one of this limit from now on.
    let at = NOW.plus(6_001);
    let Outcome::Refused { retry_after_ms, .. } = counters.take(&of(HOUR, at, false), at).await else {
        panic!("all of the hour is spent")
    };
    assert!((359_000..=360_000).contains(&retry_after_ms), "{retry_after_ms}");
}

#[tokio::test]
async fn what_was_counted_without_the_store_is_merged_by_the_limit_that_it_was_counted_by() {
    for (before, after) in [(MINUTE, HOUR), (HOUR, MINUTE)] {
        let mut server = Server::start();
        let (mine, other) = (gateway(&server).await, gateway(&server).await);
        server.kill();
        reaches(&mine, away).await;
        assert_eq!(admitted(&mine, &of(before, UnixMillis(0), false), 3).await, 3);
        assert_eq!(admitted(&mine, &of(after, NOW, false), 3).await, 3);
        server.restart();
        reaches(&mine, up).await;
        reaches(&other, up).await;
        let left = admitted(&other, &of(after, NOW, false), 20).await;
        assert!((3..=4).contains(&left), "{before} to {after}: {left}, of which rounding may have cost one");
    }
}

#[tokio::test]
async fn what_is_leased_of_a_limit_is_none_of_the_one_that_it_becomes() {
    let server = Server::start();
    let (seen, observer) = seeing();
    let leases = Some(LeaseSettings { percent: 10, idle: Duration::from_secs(3_600) });
    let settings = RedisSettings { given_time: true, leases, ..server.settings() };
    let counters = tended(settings, observer);
    reaches(&counters, up).await;
    let leased = || seen.lock().unwrap().iter().filter(|it| **it == Answered::Leased).count();
    for (name, after, left) in [
        ("count", Rate { count: 20, period_ms: 3_600_000 }, 18),
        ("period", Rate { count: 100, period_ms: 60_000 }, 93),
        ("both", Rate { count: 50, period_ms: 86_400_000 }, 46),
    ] {
        let limit = |rate, since| Take::new(LimitKey::everybody(name), rate).since(since);
        let before = limit(Rate { count: 100, period_ms: 3_600_000 }, UnixMillis(0));
        // Asked: the first, the second with 1 more, the fourth with 2 more, the seventh with 4 more.
        assert_eq!(admitted(&counters, &[before], 7).await, 7, "{name}");
        let (takes, spent) = ([limit(after, NOW)], leased());
        assert_eq!(counters.take(&takes, NOW).await, Outcome::Admitted, "{name}");
        assert_eq!(leased(), spent, "{name}: nothing was spent of what is held of the other");
        // And it has gone back, at the price that it had.
        let other = gateway(&server).await;
        let Stands::Counted(stands) = other.look(&takes, NOW).await.limits[0] else { panic!("it counts") };
        assert_eq!(stands.count, left - 1, "{name}");
    }
}

/// What happens: so much later, so many requests come to the gateway that has heard of the new limit, or to the other.
type Step = (u64, bool, u32);

static CASES: AtomicU64 = AtomicU64::new(0);

/// Two limits, when one becomes the other, and what happens.
fn cases() -> impl Strategy<Value = ([Rate; 2], u64, Vec<Step>)> {
    let rate = || (1_u32..30, 1_000_u64..60_000).prop_map(|(count, period_ms)| Rate { count, period_ms });
    let later = prop_oneof![3 => Just(0_u64), 2 => 0_u64..500, 1 => 0_u64..60_000];
    let steps = prop::collection::vec((later, any::<bool>(), 1_u32..12), 1..30);
    ([rate(), rate()], 0_u64..60_000, steps)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_no_order_of_old_and_new_is_more_than_one_quota_let_through_and_what_has_come_back() {
    let server = Server::start();
    let (old, new) = (gateway(&server).await, gateway(&server).await);
    let handle = tokio::runtime::Handle::current();
    let tried = tokio::task::spawn_blocking(move || {
        let config = ProptestConfig { failure_persistence: None, cases: 96, ..ProptestConfig::default() };
        TestRunner::new(config).run(&cases(), |([before, after], swapped_ms, steps)| {
            // Each case is later than the one before, as swaps are.
            let begins = NOW.plus(10_000_000 * CASES.fetch_add(1, Ordering::Relaxed));
            let name = begins.0.to_string();
            let (mut passed_ms, mut parts) = (0, 0.0);
            for (later, asks_the_new, asked) in steps {
                passed_ms += later;
                let is_new = asks_the_new && passed_ms >= swapped_ms;
                let (gateway, rate) = if is_new { (&new, after) } else { (&old, before) };
                let since = begins.plus(if is_new { swapped_ms } else { 0 });
                let take = [Take::new(LimitKey::everybody(&name), rate).since(since)];
                for _ in 0..asked {
                    let outcome = handle.block_on(gateway.take(&take, begins.plus(passed_ms)));
                    parts += f64::from(u8::from(outcome == Outcome::Admitted)) / f64::from(rate.count);
                }
                let shorter_ms = before.period_ms.min(after.period_ms);
                let most = 1.0 + passed_ms as f64 / shorter_ms as f64;
                prop_assert!(parts <= most + 1e-6, "{parts} of {most}");
            }
            Ok(())
        })
    });
    tried.await.unwrap().unwrap();
    drop(server);
}
