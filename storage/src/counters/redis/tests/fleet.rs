//! Gateways with leases as they are in life: asked at once, for requests of any cost, killed with what they hold and begun
//! anew, while their limit becomes another and each hears of it when it does. No more is let through than was granted.

use std::sync::atomic::{AtomicU64, Ordering};

use engine::window::width_ms;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::task::JoinHandle;

use super::*;

const GATEWAYS: usize = 3;
const PERCENT: u32 = 10;
const IDLE_MS: u64 = 200;
/// Milliseconds of one case at most: the next begins later, as swaps do.
const CASE_MS: u64 = 10_000_000;

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    /// All at once: so many requests at a gateway, one after the other, each of this cost.
    Ask(Vec<(usize, u32, u32)>),
    /// So many milliseconds pass.
    Pass(u64),
    /// A gateway gives idle leases back.
    GiveBack(usize),
    /// A gateway is killed while it is asked so often, and another takes its place.
    Kill(usize, u32),
    /// A gateway hears that the limit is another; the first that does says since when.
    Hear(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let gateway = 0..GATEWAYS;
    let cost = prop_oneof![4 => Just(1_u32), 2 => 2_u32..6, 1 => 6_u32..25];
    let asked = prop::collection::vec((gateway.clone(), 1_u32..20, cost), 1..5);
    let later = prop_oneof![2 => 0_u64..100, 2 => 0_u64..1_000, 1 => 0_u64..10_000];
    let step = prop_oneof![
        8 => asked.prop_map(Step::Ask),
        4 => later.prop_map(Step::Pass),
        2 => gateway.clone().prop_map(Step::GiveBack),
        1 => (gateway.clone(), 1_u32..12).prop_map(|(gateway, asked)| Step::Kill(gateway, asked)),
        1 => gateway.prop_map(Step::Hear),
    ];
    prop::collection::vec(step, 1..40)
}

fn rates() -> impl Strategy<Value = [Rate; 2]> {
    let rate = || (10_u32..120, 2_000_u64..8_000).prop_map(|(count, period_ms)| Rate { count, period_ms });
    [rate(), rate()]
}

/// A request that was let through: when, for how much, and by which of the two limits.
#[derive(Clone, Copy, Debug)]
struct Through {
    at: u64,
    cost: u32,
    by: usize,
}

type Log = Arc<Mutex<Vec<Through>>>;

struct Gateway {
    counters: Arc<Counters>,
    tending: JoinHandle<()>,
    /// Which of the two limits it knows.
    knows: usize,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.tending.abort();
    }
}

/// Of two limits that one key has, one after the other.
#[derive(Clone)]
struct Limits {
    name: Arc<str>,
    sliding: bool,
    rates: [Rate; 2],
    since: [UnixMillis; 2],
}

impl Limits {
    fn take(&self, which: usize, cost: u32) -> Take<'_> {
        let key = LimitKey::everybody(&self.name).sliding(self.sliding);
        Take::new(key, self.rates[which]).since(self.since[which]).costing(cost)
    }
}

/// Gateways, and how often they had no need to ask.
struct Fleet {
    server: Server,
    gateways: Vec<Gateway>,
    leased: Arc<AtomicU64>,
}

impl Fleet {
    async fn start() -> Self {
        let mut fleet = Self { server: Server::start(), gateways: Vec::new(), leased: Arc::default() };
        for _ in 0..GATEWAYS {
            let gateway = fleet.gateway(0).await;
            fleet.gateways.push(gateway);
        }
        fleet
    }

    async fn gateway(&self, knows: usize) -> Gateway {
        let leases = Some(LeaseSettings { percent: PERCENT, idle: Duration::from_millis(IDLE_MS) });
        let gateways = u32::try_from(GATEWAYS).unwrap();
        let settings = RedisSettings { given_time: true, gateways, leases, ..self.server.settings() };
        let leased = self.leased.clone();
        let observer: Observer = Box::new(move |answered, _| {
            leased.fetch_add(u64::from(answered == Answered::Leased), Ordering::Relaxed);
        });
        let counters = Arc::new(Counters::redis(settings, observer));
        let tended = counters.clone();
        let tending = tokio::spawn(async move { tended.tend().await });
        reaches(&counters, up).await;
        Gateway { counters, tending, knows }
    }

    fn ask(&self, limits: &Limits, now: UnixMillis, asked: (usize, u32, u32), log: &Log) -> JoinHandle<()> {
        let (gateway, count, cost) = asked;
        let Gateway { counters, knows: by, .. } = &self.gateways[gateway];
        let (counters, by, limits, log) = (counters.clone(), *by, limits.clone(), log.clone());
        tokio::spawn(async move {
            for _ in 0..count {
                if counters.take(&[limits.take(by, cost)], now).await == Outcome::Admitted {
                    log.lock().unwrap().push(Through { at: now.0, cost, by });
                }
            }
        })
    }

    /// Everything that happens, from this moment on: what was let through, since when the limit was another somewhere, and
    /// since when everywhere.
    async fn play(&mut self, limits: &mut Limits, begins: UnixMillis, steps: &[Step]) -> Played {
        let (log, mut now) = (Log::default(), begins);
        let (mut swapped, mut heard) = (None, None);
        self.gateways.iter_mut().for_each(|gateway| gateway.knows = 0);
        for step in steps {
            match step {
                Step::Pass(later) => now = now.plus(*later),
                Step::Ask(all) => {
                    let asked: Vec<_> = all.iter().map(|asked| self.ask(limits, now, *asked, &log)).collect();
                    for asked in asked {
                        asked.await.unwrap();
                    }
                }
                Step::GiveBack(gateway) => {
                    let redis = leases::of(&self.gateways[*gateway].counters);
                    let link = redis.link().expect("the store is there");
                    redis.give_back(&link, redis.at(now), now).await.expect("it takes it");
                }
                Step::Kill(gateway, asked) => {
                    let asking = self.ask(limits, now, (*gateway, *asked, 1), &log);
                    tokio::task::yield_now().await;
                    asking.abort();
                    // Whatever of it was let through was let through.
                    asking.await.ok();
                    self.gateways[*gateway] = self.gateway(usize::from(swapped.is_some())).await;
                }
                Step::Hear(gateway) => {
                    if swapped.is_none() {
                        // Later than everything that was before.
                        now = now.plus(1);
                        (swapped, limits.since[1]) = (Some(now.0), now);
                    }
                    self.gateways[*gateway].knows = 1;
                }
            }
            if heard.is_none() && self.gateways.iter().all(|gateway| gateway.knows == 1) {
                // What was asked for at this moment may have been before.
                heard = Some(now.0 + 1);
            }
        }
        let through = log.lock().unwrap().clone();
        Played { through, swapped: swapped.unwrap_or(u64::MAX), heard: heard.unwrap_or(u64::MAX) }
    }
}

#[derive(Debug)]
struct Played {
    through: Vec<Through>,
    swapped: u64,
    heard: u64,
}

impl Played {
    /// Which part of a limit has come back between two moments, at the most: while some have not heard of the new one yet,
    /// by the faster of the two.
    fn come_back(&self, [before, after]: [Rate; 2], from: u64, to: u64) -> f64 {
        let within = |begin: u64, end: u64| end.min(to).saturating_sub(begin.max(from)) as f64;
        let period = |rate: Rate| rate.period_ms as f64;
        within(0, self.swapped) / period(before)
            + within(self.swapped, self.heard) / period(before).min(period(after))
            + within(self.heard, u64::MAX) / period(after)
    }
}

/// Runs a property over all cases, and sees that leases were spent in them.
async fn holds(
    sliding: bool,
    property: impl Fn([Rate; 2], &Played) -> Result<(), TestCaseError> + Send + 'static,
) {
    let mut fleet = Fleet::start().await;
    let leased = fleet.leased.clone();
    let handle = tokio::runtime::Handle::current();
    let tried = tokio::task::spawn_blocking(move || {
        let config = ProptestConfig { failure_persistence: None, cases: 128, ..ProptestConfig::default() };
        let (fleet, case) = (std::cell::RefCell::new(&mut fleet), AtomicU64::new(0));
        TestRunner::new(config).run(&(rates(), steps()), |(rates, steps)| {
            let begins = NOW.plus(CASE_MS * case.fetch_add(1, Ordering::Relaxed));
            let name = begins.0.to_string().into();
            let mut limits = Limits { name, sliding, rates, since: [begins; 2] };
            let played = handle.block_on(fleet.borrow_mut().play(&mut limits, begins, &steps));
            property(rates, &played)
        })
    });
    tried.await.unwrap().unwrap();
    let leased = leased.load(Ordering::Relaxed);
    assert!(leased > 500, "{leased} requests of all cases were let through by a lease");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_no_span_is_more_let_through_than_the_limit_what_has_come_back_and_what_may_be_leased() {
    holds(false, |rates, played| {
        // Each gateway holds its share at the most, of the one limit or of the other.
        let shares = f64::from(PERCENT) / 100.0 * GATEWAYS as f64;
        let part = |one: &Through| f64::from(one.cost) / f64::from(rates[one.by].count);
        for (first, from) in played.through.iter().enumerate() {
            // From the first on nothing was leased before, and no gateway, killed or not, adds to the one limit.
            let besides = if first == 0 { 0.0 } else { shares };
            let mut parts = 0.0;
            for to in &played.through[first..] {
                parts += part(to);
                let most = 1.0 + played.come_back(rates, from.at, to.at) + besides;
                prop_assert!(parts <= most + 1e-6, "{parts} of {most} from {from:?} to {to:?}: {played:?}");
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ceiling_stays_one_whoever_is_killed_and_whenever_it_becomes_another() {
    holds(true, |rates, played| {
        let [before, after] = rates;
        assert!(rates.iter().all(|rate| width_ms(*rate) >= 100), "shorter parts have no leases");
        // What was let through longer ago than the shorter of the two may be forgotten at the swap.
        let shorter_ms = before.period_ms.min(after.period_ms);
        for (last, to) in played.through.iter().enumerate() {
            let period_ms = if to.at < played.swapped { before.period_ms } else { shorter_ms };
            let most = if to.at < played.swapped {
                before.count
            } else if to.at < played.heard || played.heard == u64::MAX {
                before.count.max(after.count)
            } else {
                after.count
            };
            let earlier = played.through[..=last].iter().filter(|one| one.at + period_ms > to.at);
            let sum: u32 = earlier.map(|one| one.cost).sum();
            prop_assert!(sum <= most, "{sum} of {most} until {to:?}: {played:?}");
        }
        Ok(())
    })
    .await;
}
