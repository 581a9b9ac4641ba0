//! Leases of several gateways, asked in any order: no more is let through than is granted, and what is not spent is not
//! lost.

use std::sync::atomic::{AtomicU64, Ordering};

use engine::limit::{Gcra, gcra, remaining};
use engine::window::{COUNTED, width_ms};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::counters::Adapter;

const GATEWAYS: usize = 3;
const PERCENT: u32 = 10;

/// What happens at one gateway: so much later, so many requests come; and then idle leases may go back.
type Step = (usize, u64, u32, bool);

fn steps(latest_ms: u64) -> impl Strategy<Value = Vec<Step>> {
    let later = prop_oneof![3 => Just(0), 2 => 0..=latest_ms / 100, 1 => 0..=latest_ms];
    prop::collection::vec((0..GATEWAYS, later, 1_u32..25, any::<bool>()), 1..40)
}

fn rates() -> impl Strategy<Value = Rate> {
    (10_u32..120, 100_u64..8_000).prop_map(|(count, period_ms)| Rate { count, period_ms })
}

pub(super) fn of(counters: &Counters) -> &Redis {
    match &counters.adapter {
        Adapter::Redis(redis) => redis,
        Adapter::Memory(_) => panic!("these gateways share a redis"),
    }
}

/// Everything that is idle at this time goes back.
async fn give_back(counters: &Counters, now: UnixMillis) {
    let redis = of(counters);
    let link = redis.link().expect("the store is there");
    redis.give_back(&link, redis.at(now), now).await.expect("it takes it");
}

async fn gateways(server: &Server, idle_ms: u64) -> Vec<Arc<Counters>> {
    let mut gateways = Vec::new();
    for _ in 0..GATEWAYS {
        let change = |settings: &mut RedisSettings| {
            settings.given_time = true;
            settings.gateways = 3;
            settings.leases = Some(LeaseSettings { percent: PERCENT, idle: Duration::from_millis(idle_ms) });
        };
        gateways.push(server.counters(change).await);
    }
    gateways
}

/// When requests were let through, and how many are after everything that is left of leases has gone back.
async fn played(
    gateways: &[Arc<Counters>],
    take: Take<'_>,
    steps: &[Step],
    idle_ms: u64,
) -> (Vec<u64>, UnixMillis, u32) {
    let (mut let_through, mut now) = (Vec::new(), NOW);
    for (gateway, later, asked, goes_back) in steps {
        now = now.plus(*later);
        let gateway = &gateways[*gateway];
        for _ in 0..*asked {
            if gateway.take(&[take], now).await == Outcome::Admitted {
                let_through.push(now.0);
            }
        }
        if *goes_back {
            give_back(gateway, now).await;
        }
    }
    // Looking brings back what is leased at this moment, however long it is idle.
    for gateway in gateways {
        gateway.look(&[take], now).await;
        give_back(gateway, now.plus(idle_ms)).await;
    }
    let mut rest = 0;
    while gateways[0].take(&[take], now).await == Outcome::Admitted {
        rest += 1;
    }
    (let_through, now, rest)
}

/// Runs a property of a take under a key of its own, over all steps.
async fn holds(
    sliding: bool,
    latest_ms: impl Fn(Rate) -> u64 + Send + 'static,
    property: impl Fn(Rate, &[u64], UnixMillis, u32) -> Result<(), TestCaseError> + Send + 'static,
) {
    const IDLE_MS: u64 = 200;
    let server = Server::start();
    let gateways = gateways(&server, IDLE_MS).await;
    let (handle, case) = (tokio::runtime::Handle::current(), AtomicU64::new(0));
    let tried = tokio::task::spawn_blocking(move || {
        let config = ProptestConfig { failure_persistence: None, cases: 96, ..ProptestConfig::default() };
        let cases = rates().prop_flat_map(move |rate| (Just(rate), steps(latest_ms(rate))));
        TestRunner::new(config).run(&cases, |(rate, steps)| {
            let name = format!("case-{}", case.fetch_add(1, Ordering::Relaxed));
            let take = Take::new(LimitKey::everybody(&name).sliding(sliding), rate);
            let (let_through, now, rest) = handle.block_on(played(&gateways, take, &steps, IDLE_MS));
            property(rate, &let_through, now, rest)
        })
    });
    tried.await.unwrap().unwrap();
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_with_leases_let_through_what_was_granted_and_in_no_span_more_than_their_shares_besides() {
    let span = |rate: Rate| rate.period_ms * 2;
    holds(false, span, |rate, let_through, now, rest| {
        let shares = u64::from(GATEWAYS as u32 * (rate.count * PERCENT / 100));
        let interval = u64::try_from(rate.interval()).unwrap();
        let fits = |from: u64, to: u64, besides: u64, count: u64| {
            count * interval <= (u64::from(rate.count) + besides) * interval + (to - from) * NS_PER_MS
        };
        for (first, from) in let_through.iter().enumerate() {
            for (last, to) in let_through.iter().enumerate().skip(first) {
                // From the first on, when nothing was leased before: not one more than a single counter.
                let besides = if first == 0 { 0 } else { shares };
                prop_assert!(fits(*from, *to, besides, (last - first + 1) as u64), "{from} to {to}");
            }
        }
        let all = let_through.len() as u64 + u64::from(rest);
        prop_assert!(let_through.first().is_none_or(|from| fits(*from, now.0, 0, all)));
        // Once all has gone back, no less is left than a single counter of the same would have.
        let spend = |tat: u64, at: &u64| tat.max(at * NS_PER_MS) + interval;
        let alone = let_through.iter().fold(0, spend);
        prop_assert!(rest >= remaining(rate, Some(alone), now), "{rest} are left");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ceiling_stays_one_with_leases_and_nothing_of_it_is_lost() {
    let span = |rate: Rate| rate.period_ms * 2;
    holds(true, span, |rate, let_through, now, rest| {
        for from in let_through {
            let within = let_through.iter().filter(|at| *at >= from && **at < from + rate.period_ms);
            prop_assert!(within.count() as u64 <= u64::from(rate.count), "from {from}");
        }
        let width = width_ms(rate);
        let counted = let_through.iter().filter(|at| *at / width + COUNTED as u64 > now.0 / width);
        prop_assert_eq!(counted.count() as u64 + u64::from(rest), u64::from(rate.count));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn who_asks_for_more_than_there_is_gets_all_of_it_through_any_gateway() {
    let server = Server::start();
    let gateways = gateways(&server, 1_000).await;
    let rate = Rate { count: 100, period_ms: 10_000 };
    let take = [Take::new(LimitKey::everybody("all"), rate)];
    let (mut exact, mut alone, mut together) = (None, 0, 0);
    for step in 0..3_000_u64 {
        let now = NOW.plus(step * 10);
        if let Gcra::Admit { tat } = gcra(rate, exact, now, 1) {
            (exact, alone) = (Some(tat), alone + 1);
        }
        let gateway = &gateways[usize::try_from(step).unwrap() % GATEWAYS];
        together += u32::from(gateway.take(&take, now).await == Outcome::Admitted);
    }
    // What the others hold in the end is not let through by anybody.
    assert!((alone - 20..=alone).contains(&together), "{together} of {alone}");
}

#[tokio::test]
async fn what_is_leased_is_spent_without_the_store_and_then_each_limit_does_as_it_says() {
    let mut server = Server::start();
    let (seen, observer) = seeing();
    let leases = Some(LeaseSettings { percent: 10, idle: Duration::from_secs(1) });
    let settings = RedisSettings { given_time: true, leases, ..server.settings() };
    let counters = tended(settings, observer);
    reaches(&counters, up).await;
    let rate = Rate { count: 100, period_ms: 3_600_000 };
    let takes = [Take::new(LimitKey::everybody("all"), rate).when_away(WhenAway::Closed)];
    // Asked: the first, the second with 1 more, the fourth with 2 more, the seventh with 4 more.
    assert_eq!(admitted(&counters, &takes, 7).await, 7);
    let leased = |seen: &Seen| seen.lock().unwrap().iter().filter(|it| **it == Answered::Leased).count();
    assert_eq!(leased(&seen), 3);
    server.kill();
    reaches(&counters, away).await;
    assert_eq!(admitted(&counters, &takes, 10).await, 4);
    assert_eq!(leased(&seen), 7);
    assert_eq!(counters.take(&takes, NOW).await, Outcome::Away);
}

#[tokio::test]
async fn whoever_looks_sees_what_this_gateway_holds_as_left_and_a_reset_forgets_it() {
    let server = Server::start();
    let gateways = gateways(&server, 1_000).await;
    let rate = Rate { count: 100, period_ms: 3_600_000 };
    let take = Take::new(LimitKey::everybody("all"), rate);
    let left = async |gateway: usize| match gateways[gateway].look(&[take], NOW).await.limits[..] {
        [Stands::Counted(left)] => left.count,
        ref other => panic!("{other:?}"),
    };
    assert_eq!(admitted(&gateways[0], &[take], 7).await, 7);
    assert_eq!(left(1).await, 89, "another gateway's lease counts as taken");
    assert_eq!(left(0).await, 93);
    assert_eq!(left(1).await, 93, "it has gone back");
    assert_eq!(admitted(&gateways[0], &[take], 4).await, 4);
    gateways[0].reset(&take.key).await.unwrap();
    assert_eq!(left(0).await, 100);
    assert_eq!(admitted(&gateways[0], &[take], 150).await, 100);
}

#[tokio::test]
async fn what_has_gone_back_counts_as_gone_back_here_as_well() {
    let server = Server::start();
    let gateways = gateways(&server, 1_000).await;
    for sliding in [false, true] {
        let rate = Rate { count: 100, period_ms: 3_600_000 };
        let take = Take::new(LimitKey::everybody("all").sliding(sliding), rate);
        let known = || gateways[0].known(&take, NOW).map(|left| left.count);
        assert_eq!(admitted(&gateways[0], &[take], 7).await, 7);
        assert_eq!(known(), Some(93), "what is held is left, sliding: {sliding}");
        gateways[0].look(&[take], NOW).await;
        assert_eq!(known(), Some(93), "and so is what has gone back, sliding: {sliding}");
    }
}

#[tokio::test]
async fn a_gateway_that_stops_gives_back_all_that_it_holds() {
    let server = Server::start();
    // Nothing is idle for long enough to go back by itself.
    let gateways = gateways(&server, 3_600_000).await;
    let takes: Vec<Take<'_>> = ["one", "two", "three"]
        .into_iter()
        .flat_map(|name| [false, true].map(|sliding| LimitKey::everybody(name).sliding(sliding)))
        .map(|key| Take::new(key, Rate { count: 100, period_ms: 3_600_000 }))
        .collect();
    for take in &takes {
        // The thirteenth asks and takes 8 more.
        for _ in 0..13 {
            assert_eq!(gateways[0].take(&[*take], NOW).await, Outcome::Admitted);
        }
    }
    let left = async |take: &Take<'_>| match gateways[1].look(&[*take], NOW).await.limits[..] {
        [Stands::Counted(left)] => left.count,
        ref other => panic!("{other:?}"),
    };
    for take in &takes {
        assert!(left(take).await < 87, "some of it is held");
    }
    gateways[0].give_back(NOW).await;
    for take in &takes {
        assert_eq!(left(take).await, 87, "{take:?}");
    }
    // Twice gives nothing back twice, and without the store nobody waits.
    gateways[0].give_back(NOW).await;
    assert_eq!(left(&takes[0]).await, 87);
    Counters::memory(64 * 1024).give_back(NOW).await;
}
