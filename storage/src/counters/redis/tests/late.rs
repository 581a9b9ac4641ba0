//! Answers that come too late, and what is told when they come in time again. What such requests are let through beyond the limit is bounded by themselves, and at each
//! gateway by its part of the limit.

use std::sync::atomic::{AtomicU64, Ordering};

use engine::limit::share;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;

const GATEWAYS: u32 = 3;
/// Milliseconds of one case at most.
const CASE_MS: u64 = 10_000_000;

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    /// So many milliseconds pass.
    Pass(u64),
    /// A request at a gateway, for so much.
    Ask { gateway: usize, cost: u32, answer: When },
}

/// When it has its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    InTime,
    /// Redis has done what it was asked, and nobody has waited for it.
    TooLate,
    /// It was given up before it was sent.
    Never,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let cost = prop_oneof![4 => Just(1_u32), 1 => 2_u32..8];
    let answer = prop_oneof![3 => Just(When::InTime), 2 => Just(When::TooLate), 1 => Just(When::Never)];
    let ask = (0..GATEWAYS as usize, cost, answer);
    let ask = ask.prop_map(|(gateway, cost, answer)| Step::Ask { gateway, cost, answer });
    let pass = prop_oneof![2 => 0_u64..100, 1 => 0_u64..4_000].prop_map(Step::Pass);
    prop::collection::vec(prop_oneof![5 => ask, 1 => pass], 1..120)
}

/// A request that was let through.
#[derive(Clone, Copy, Debug)]
struct Through {
    at: u64,
    cost: u32,
    /// By which gateway alone; by Redis where it answered in time.
    alone: Option<usize>,
}

/// Gateways that share a store. Nothing runs beside their requests: what is told in the background is told by a time of its own,
/// which is not the test's.
pub(super) async fn gateways(server: &Server) -> Vec<Arc<Counters>> {
    let mut gateways = Vec::new();
    for _ in 0..GATEWAYS {
        let settings = RedisSettings { given_time: true, gateways: GATEWAYS, ..server.settings() };
        let counters = Arc::new(Counters::redis(settings, Box::new(|_, _| {})));
        let tended = counters.clone();
        let tending = tokio::spawn(async move { tended.tend().await });
        reaches(&counters, up).await;
        tending.abort();
        assert!(tending.await.is_err_and(|ended| ended.is_cancelled()));
        gateways.push(counters);
    }
    gateways
}

/// Has it decided as it is where Redis answers then.
async fn decided(redis: &Redis, take: Take<'_>, now: UnixMillis, answer: When) -> Outcome {
    let takes = [take];
    match answer {
        When::InTime => return redis.take(&takes, now).await.outcome,
        When::TooLate => {
            let along = redis.along(&takes, takes.iter().map(|take| redis.unleased(take)), now);
            let parts = GATEWAYS * 2;
            let question = Question::new(&redis.prefix, &takes, &along, parts, now, Some(now)).unwrap();
            question.ask(&redis.link().unwrap()).await.unwrap();
        }
        When::Never => {}
    }
    redis.without(&takes, now).outcome
}

async fn play(
    gateways: &[Arc<Counters>],
    take: Take<'_>,
    begins: UnixMillis,
    steps: &[Step],
) -> Vec<Through> {
    let (mut now, mut through) = (begins, Vec::new());
    for step in steps {
        match *step {
            Step::Pass(later) => now = now.plus(later),
            Step::Ask { gateway, cost, answer } => {
                let redis = leases::of(&gateways[gateway]);
                let alone = (answer != When::InTime).then_some(gateway);
                if decided(redis, take.costing(cost), now, answer).await == Outcome::Admitted {
                    through.push(Through { at: now.0, cost, alone });
                }
            }
        }
    }
    through
}

/// In every span: what Redis has let through is the limit's, what a gateway has let through alone is its part's, and what all
/// of them have let through is the limit's and once more as much, or as much as each may pay for once.
fn bounded(rate: Rate, sliding: bool, through: &[Through]) -> Result<(), TestCaseError> {
    for (first, from) in through.iter().enumerate() {
        for (last, to) in through.iter().enumerate().skip(first) {
            let span = to.at - from.at;
            if sliding && span >= rate.period_ms {
                break;
            }
            let sum = |is_of: &dyn Fn(&Through) -> bool| -> (u32, u32) {
                let of = through[first..=last].iter().filter(|one| is_of(one));
                of.fold((0, 1), |(sum, dearest), one| (sum + one.cost, dearest.max(one.cost)))
            };
            let back = if sliding { 0.0 } else { span as f64 / rate.period_ms as f64 };
            let (by_redis, _) = sum(&|one| one.alone.is_none());
            let most = f64::from(rate.count) * (1.0 + back);
            prop_assert!(f64::from(by_redis) <= most + 1e-6, "{by_redis} of {most}: {from:?} {to:?}");
            let (alone, dearest) = sum(&|one| one.alone.is_some());
            let all = most + f64::from(rate.count.max(GATEWAYS * dearest)) + f64::from(rate.count) * back;
            prop_assert!(f64::from(by_redis + alone) <= all + 1e-6, "{all} in all: {from:?} {to:?}");
            for gateway in 0..GATEWAYS as usize {
                let (alone, dearest) = sum(&|one| one.alone == Some(gateway));
                let part = f64::from(share(rate, GATEWAYS, dearest).count);
                let most = part + f64::from(rate.count) / f64::from(GATEWAYS) * back;
                prop_assert!(
                    f64::from(alone) <= most + 1e-6,
                    "{gateway}: {alone} of {most}: {from:?} {to:?}"
                );
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_late_answers_let_through_besides_is_no_more_than_themselves_and_the_parts_of_their_gateways() {
    let server = Server::start();
    let gateways = gateways(&server).await;
    let handle = tokio::runtime::Handle::current();
    let tried = tokio::task::spawn_blocking(move || {
        let config = ProptestConfig { failure_persistence: None, cases: 128, ..ProptestConfig::default() };
        let case = AtomicU64::new(0);
        let rates = (3_u32..60, 1_000_u64..8_000).prop_map(|(count, period_ms)| Rate { count, period_ms });
        let rates = rates.prop_filter("whole parts", |rate| rate.count % GATEWAYS == 0 && rate.count > 8);
        TestRunner::new(config).run(&(rates, any::<bool>(), steps()), |(rate, sliding, steps)| {
            let begins = NOW.plus(CASE_MS * case.fetch_add(1, Ordering::Relaxed));
            let name = begins.0.to_string();
            let take = Take::new(LimitKey::everybody(&name).sliding(sliding), rate);
            bounded(rate, sliding, &handle.block_on(play(&gateways, take, begins, &steps)))
        })
    });
    tried.await.unwrap().unwrap();
}

#[tokio::test]
async fn gateways_that_have_not_heard_how_much_is_spent_let_their_parts_through_and_no_more() {
    for sliding in [false, true] {
        let server = Server::start();
        let gateways = gateways(&server).await;
        let thirty = Take::new(LimitKey::everybody("all").sliding(sliding), Rate { count: 30, ..TEN });
        let mut through = [0; GATEWAYS as usize];
        for (gateway, answer) in [(0, When::InTime), (0, When::TooLate), (1, When::TooLate), (2, When::Never)]
        {
            for _ in 0..40 {
                let outcome = decided(leases::of(&gateways[gateway]), thirty, NOW, answer).await;
                through[gateway] += u32::from(outcome == Outcome::Admitted);
            }
        }
        assert_eq!(
            through,
            [30, 10, 10],
            "sliding: {sliding}: who has heard of it lets nothing more through"
        );
        // The next answer in time says it all.
        for gateway in &gateways {
            let outcome = decided(leases::of(gateway), thirty, NOW, When::InTime).await;
            assert!(matches!(outcome, Outcome::Refused { .. }), "sliding: {sliding}");
        }
    }
}

#[tokio::test]
async fn what_a_gateway_pays_for_alone_is_not_told_as_what_is_left() {
    for sliding in [false, true] {
        let server = Server::start();
        let gateways = gateways(&server).await;
        let cheap = Take::new(LimitKey::everybody("all").sliding(sliding), TEN);
        let known = |gateway: usize, minutes: u64| {
            let now = NOW.plus(minutes * 60_000);
            gateways[gateway].known(&cheap, now).map(|left| left.count)
        };
        let decided = async |gateway: usize, cost: u32, minutes: u64, answer: When| {
            let now = NOW.plus(minutes * 60_000);
            decided(leases::of(&gateways[gateway]), cheap.costing(cost), now, answer).await
        };
        // Of 10 an hour one of three gateways lets them all through at once: a rate pays for that for three hours.
        assert_eq!(decided(0, 10, 0, When::Never).await, Outcome::Admitted);
        assert_eq!(known(0, 0), Some(0), "sliding: {sliding}: it will be told so, and say so");
        assert!(matches!(decided(0, 1, 0, When::InTime).await, Outcome::Refused { .. }));
        // After an hour, and of a window a part of it besides, the store knows nothing of that.
        for (minutes, of_rate, of_window) in [
            (0, None, Some(0)),
            (62, None, Some(0)),
            (63, None, Some(9)),
            (119, None, Some(9)),
            (120, Some(0), Some(9)),
            (180, Some(10), Some(10)),
        ] {
            if minutes == 63 {
                assert_eq!(decided(0, 1, 63, When::InTime).await, Outcome::Admitted, "sliding: {sliding}");
                assert_eq!(decided(1, 1, 63, When::InTime).await, Outcome::Admitted, "sliding: {sliding}");
                assert_eq!(known(1, 63), Some(8), "sliding: {sliding}: who pays for nothing has its word");
            }
            let expected = if sliding { of_window } else { of_rate };
            assert_eq!(known(0, minutes), expected, "sliding: {sliding}, after {minutes} min");
        }
    }
}
