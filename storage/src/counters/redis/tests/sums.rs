//! Three gateways that are asked at once, while what lies between them and the store holds up questions or answers: what is let
//! through at all of them together is the limit's and what their parts let through besides, whatever comes when.

use std::cell::Cell;
use std::path::PathBuf;

use engine::limit::share;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tempfile::TempDir;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::*;
use crate::redis::RedisPlace;
use crate::redis::server::PATIENCE;

const GATEWAYS: usize = 3;
const CASES: u32 = 48;
/// So long that nothing of a limit comes back meanwhile.
const PERIOD_MS: u64 = 86_400_000;

tokio::task_local! {
    /// What became of the question of the request that this is.
    static ANSWERED: Cell<Option<Answered>>;
}

/// What is held up between a gateway and the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Nothing,
    /// Each comes to the store when it is let go, long after it was given up.
    Questions,
    /// The store has done what it was asked, and nobody hears of it.
    Answers,
}

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    Hold(usize, Held),
    /// All at once: so many requests at a gateway, one after the other, each of this cost.
    Ask(Vec<(usize, u32, u32)>),
    /// A gateway tells the store what it has counted without it.
    Merge(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let gateway = 0..GATEWAYS;
    let held = prop_oneof![2 => Just(Held::Nothing), 2 => Just(Held::Questions), 2 => Just(Held::Answers)];
    let cost = prop_oneof![6 => Just(1_u32), 1 => 2_u32..8];
    let asked = prop::collection::vec((gateway.clone(), 1_u32..30, cost), 1..5);
    let step = prop_oneof![
        3 => (gateway.clone(), held).prop_map(|(gateway, held)| Step::Hold(gateway, held)),
        5 => asked.prop_map(Step::Ask),
        1 => gateway.prop_map(Step::Merge),
    ];
    prop::collection::vec(step, 1..14)
}

/// A request that was let through.
#[derive(Clone, Copy, Debug)]
struct Through {
    cost: u32,
    /// By which gateway without an answer; by the store where there was one.
    alone: Option<usize>,
}

struct Gateway {
    counters: Arc<Counters>,
    way: watch::Sender<Held>,
}

/// Gateways, and the store that they share.
struct Fleet {
    server: Server,
    folder: TempDir,
    gateways: Vec<Gateway>,
}

impl Fleet {
    async fn start() -> Self {
        let mut fleet =
            Self { server: Server::start(), folder: TempDir::new().unwrap(), gateways: Vec::new() };
        for number in 0..GATEWAYS {
            let (way, place) = fleet.way(number);
            let gateways = u32::try_from(GATEWAYS).unwrap();
            let settings = RedisSettings { place, gateways, ..fleet.server.settings() };
            let observer: Observer = Box::new(|answered, _| {
                // A trial is no request.
                ANSWERED.try_with(|told| told.set(Some(answered))).ok();
            });
            let counters = Arc::new(Counters::redis(settings, observer));
            fleet.gateways.push(Gateway { counters, way });
        }
        fleet
    }

    /// A way to the store on which something can be held up.
    fn way(&self, number: usize) -> (watch::Sender<Held>, RedisPlace) {
        let place = self.server.place();
        let RedisAddress::Unix(store) = place.address else { panic!("it is a socket") };
        let socket = self.folder.path().join(number.to_string());
        let listener = UnixListener::bind(&socket).unwrap();
        let (way, held) = watch::channel(Held::Nothing);
        tokio::spawn(relays(listener, store, held));
        (way, RedisPlace { address: RedisAddress::Unix(socket), ..place })
    }

    /// Nothing is held up any more, and every gateway has a connection. Nothing runs beside their requests: a trial would
    /// count as late as they do.
    async fn ready(&self) {
        for gateway in &self.gateways {
            gateway.way.send_replace(Held::Nothing);
            if leases::of(&gateway.counters).link().is_some() {
                continue;
            }
            let tended = gateway.counters.clone();
            let tending = tokio::spawn(async move { tended.tend().await });
            reaches(&gateway.counters, up).await;
            tending.abort();
            assert!(tending.await.is_err_and(|ended| ended.is_cancelled()));
        }
    }

    /// What was let through.
    async fn play(&self, take: Take<'_>, name: &str, steps: &[Step]) -> Vec<Through> {
        self.ready().await;
        let mut through = Vec::new();
        for step in steps {
            match step {
                Step::Hold(gateway, held) => drop(self.gateways[*gateway].way.send_replace(*held)),
                Step::Ask(all) => {
                    let asking = all.iter().map(|asked| (asked.0, self.ask(take, name, *asked)));
                    let is_open = |gateway: usize| *self.gateways[gateway].way.borrow() == Held::Nothing;
                    let (open, held): (Vec<_>, Vec<_>) = asking.partition(|(gateway, _)| is_open(*gateway));
                    for (_, asked) in open {
                        through.extend(asked.await.unwrap());
                    }
                    // It is later only now, so that nobody is late who is not held up.
                    for (_, asked) in held {
                        while !asked.is_finished() {
                            tokio::time::advance(PATIENCE).await;
                        }
                        through.extend(asked.await.unwrap());
                    }
                }
                Step::Merge(gateway) => {
                    let Gateway { counters, way } = &self.gateways[*gateway];
                    let redis = leases::of(counters);
                    if let (Held::Nothing, Some(link)) = (*way.borrow(), redis.link()) {
                        redis.merge(&link).await.expect("it takes it");
                    }
                }
            }
        }
        through
    }

    fn ask(
        &self,
        take: Take<'_>,
        name: &str,
        (gateway, count, cost): (usize, u32, u32),
    ) -> JoinHandle<Vec<Through>> {
        let counters = self.gateways[gateway].counters.clone();
        let (name, sliding, rate) = (name.to_owned(), take.key.sliding, take.rate);
        tokio::spawn(async move {
            let takes = [Take::new(LimitKey::everybody(&name).sliding(sliding), rate).costing(cost)];
            let mut through = Vec::new();
            for _ in 0..count {
                let asks = async { (counters.take(&takes, NOW).await, ANSWERED.with(Cell::get)) };
                let (outcome, answered) = ANSWERED.scope(Cell::new(None), asks).await;
                if outcome == Outcome::Admitted {
                    let alone = (answered != Some(Answered::Answered)).then_some(gateway);
                    through.push(Through { cost, alone });
                }
            }
            through
        })
    }
}

/// Lets each connection through to the store, as far as nothing of it is held up.
async fn relays(listener: UnixListener, store: PathBuf, held: watch::Receiver<Held>) {
    while let Ok((near, _)) = listener.accept().await {
        let (questions, answered) = near.into_split();
        // Who finds nothing there yet comes again.
        let Ok(far) = UnixStream::connect(&store).await else { continue };
        let (answers, asked) = far.into_split();
        tokio::spawn(passes(questions, asked, held.clone(), Held::Questions));
        tokio::spawn(passes(answers, answered, held.clone(), Held::Answers));
    }
}

async fn passes(
    mut from: OwnedReadHalf,
    mut into: OwnedWriteHalf,
    mut held: watch::Receiver<Held>,
    holds: Held,
) {
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        let goes_on = held.wait_for(|held| *held != holds).await.is_ok();
        if !goes_on || into.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
}

/// How much more than the limit was let through in all: of what its gateways let through alone.
fn beyond(rate: Rate, through: &[Through], case: &str) -> u32 {
    let gateways = u32::try_from(GATEWAYS).unwrap();
    let of = |is_of: &dyn Fn(&Through) -> bool| -> (u32, u32) {
        let some = through.iter().filter(|one| is_of(one));
        some.fold((0, 1), |(sum, dearest), one| (sum + one.cost, dearest.max(one.cost)))
    };
    let (by_store, _) = of(&|one| one.alone.is_none());
    assert!(by_store <= rate.count, "{by_store} by the store: {case}");
    for gateway in 0..GATEWAYS {
        let (alone, dearest) = of(&|one| one.alone == Some(gateway));
        let part = share(rate, gateways, dearest).count;
        assert!(alone <= part, "{alone} of {part} at {gateway}: {case}");
    }
    let (alone, dearest) = of(&|one| one.alone.is_some());
    let (all, once_more) = (by_store + alone, rate.count.max(gateways * dearest));
    assert!(
        all <= rate.count + once_more,
        "{all} in all, and {once_more} more than the limit may be: {case}"
    );
    all.saturating_sub(rate.count)
}

#[tokio::test]
async fn all_gateways_together_let_no_more_through_than_the_limit_and_what_their_parts_come_to() {
    let fleet = Fleet::start().await;
    fleet.ready().await;
    // As long as a thread is at work beside it the clock stands still, unless a case puts it on.
    let (ends, end) = std::sync::mpsc::sync_channel::<()>(1);
    let beside = tokio::task::spawn_blocking(move || end.recv().is_err());
    tokio::time::pause();
    let (mut runner, mut most) = (TestRunner::default(), 0);
    let cases = ((3_u32..20).prop_map(|part| part * GATEWAYS as u32), any::<bool>(), steps());
    for number in 0..CASES {
        let (count, sliding, steps) = cases.new_tree(&mut runner).unwrap().current();
        let (rate, name) = (Rate { count, period_ms: PERIOD_MS }, number.to_string());
        let take = Take::new(LimitKey::everybody(&name).sliding(sliding), rate);
        let through = fleet.play(take, &name, &steps).await;
        most = most.max(beyond(rate, &through, &format!("{take:?}, {steps:?}: {through:?}")));
    }
    drop(ends);
    assert!(beside.await.unwrap());
    assert!(most > 0, "in no case was anything let through beyond the limit");
}
