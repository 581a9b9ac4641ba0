//! What requests wait for a Redis that is there no longer as it was: by the gateway's own timers, and as its clients see it.

mod fault;
mod group;
mod records;
mod scene;

use std::time::Duration;

use gateway::clock;

use self::fault::Fault;
use self::records::{Records, Spent};
use self::scene::{Scene, Shared};
use crate::cores::Cores;
use crate::figures::{self, Figure};
use crate::gateways::Gateways;
use crate::load::{Answer, Outcome, Pace, by_the_clock};
use crate::process::pause;
use crate::witness::{Hole, Witness};
use crate::world::metrics;
use crate::{Failure, builds, upstream};

/// Requests a second, and connections that carry them.
const RATE: u32 = 400;
const CONNECTIONS: u32 = 16;
/// How long requests fill pools and caches.
const WARM: Duration = Duration::from_millis(300);
/// How long the control run takes, beside each fault.
const CONTROL: Duration = Duration::from_millis(1_500);
/// How long requests are under way when it happens.
const BEFORE: Duration = Duration::from_millis(200);
/// What a budget may be overrun by, as the gateway's histogram has it, and in microseconds.
const OVERRUN_MAX: &str = "{le=\"0.002\"}";
const OVERRUN_MAX_US: u64 = 2_000;

/// What the command line may say.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Try what an earlier build has left in target/release instead of building it
    #[arg(long)]
    as_built: bool,
}

/// Breaks it in all ways and prints.
///
/// # Errors
/// Something does not build, start or answer, a request was lost, or somebody was signed out.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let cores = Cores::of_machine()?;
    let gateways = Gateways::new(builds::cedargate(options.as_built)?, upstream::start(cores.load)?)?;
    let (begun, mut figures) = (clock::instant(), Vec::new());
    for shared in Shared::ALL {
        for fault in Fault::ALL {
            eprintln!("{} {} …", shared.name(), fault.name());
            let name = format!("faults.{}.{}", shared.name(), fault.name());
            let seen = seen(&gateways, cores, shared, fault);
            match seen.map_err(|failure| format!("{name}: {failure}{}", crate::causes(&*failure)))? {
                Some(seen) => figures.extend(seen.told(&name, shared)),
                None => eprintln!("left out: {name}, no redis-server here (Debian: redis-server)"),
            }
        }
    }
    figures::print(&figures)?;
    eprintln!("{} s in all", begun.elapsed().as_secs());
    Ok(())
}

/// What was seen of one fault.
struct Seen {
    control: Outcome,
    answers: Vec<Answer>,
    /// In the control run.
    control_overruns: Overruns,
    overruns: Overruns,
    /// The stage that waits, of the control run and of what was seen afterwards.
    control_stages: Vec<Spent>,
    stages: Vec<Spent>,
    /// When the gateway's core was away, where somebody can tell.
    holes: Option<Vec<Hole>>,
}

/// Requests whose budget was over before an answer was there.
#[derive(Clone, Copy, Debug, Default)]
struct Overruns {
    all: u64,
    /// Those that waited on for more than 2 ms then.
    long: u64,
}

/// Looks at one; nothing where there is no redis-server.
fn seen(gateways: &Gateways, cores: Cores, shared: Shared, fault: Fault) -> Result<Option<Seen>, Failure> {
    let Some(mut scene) = Scene::set(gateways, cores, shared, fault)? else { return Ok(None) };
    let witness = Witness::of(cores.proxy)?;
    let mut records = Records::new(scene.gateway.audit())?;
    let load = |scene: &Scene, time| {
        let pace = Pace { connections: CONNECTIONS, per_second: RATE, time };
        by_the_clock(cores.load, &scene.target, pace, &scene.asked)
    };
    let warm = load(&scene, WARM)?;
    records.stages(shared.stage(), warm.len())?;
    let before = Overruns::of(&scene)?;
    let control = load(&scene, CONTROL)?;
    let control_stages = records.stages(shared.stage(), control.len())?;
    let between = Overruns::of(&scene)?;
    let (rounds, time) = fault.rounds();
    let mut answers = Vec::new();
    for _ in 0..rounds {
        answers.extend(broken(&mut scene, cores, fault, time)?);
        fault.mends(&mut scene.servers)?;
        scene.is_up()?;
    }
    let stages = records.stages(shared.stage(), answers.len())?;
    let (control_overruns, overruns) = (between.since(before), Overruns::of(&scene)?.since(between));
    let control = Outcome::of(&control);
    let holes = witness.map(|witness| witness.holes());
    Ok(Some(Seen { control, answers, control_overruns, overruns, control_stages, stages, holes }))
}

/// The answers while it happens and afterwards, for so long.
fn broken(scene: &mut Scene, cores: Cores, fault: Fault, time: Duration) -> Result<Vec<Answer>, Failure> {
    let Scene { servers, target, asked, .. } = scene;
    let pace = Pace { connections: CONNECTIONS, per_second: RATE, time: BEFORE + time };
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| by_the_clock(cores.load, target, pace, asked));
        pause(BEFORE);
        let broken = fault.breaks(servers);
        let answers = loading.join().map_err(|_panic| "the load panicked")?;
        broken.and(answers)
    })
}

impl Overruns {
    /// So far.
    fn of(scene: &Scene) -> Result<Self, Failure> {
        let text = metrics(scene.gateway.admin)?;
        let name = format!("cedargate_{}_redis_overrun_seconds", scene.shared.name());
        let count = |metric: String| -> Result<u64, Failure> {
            let value = text.lines().find_map(|line| line.strip_prefix(&metric)?.strip_prefix(' '));
            Ok(value.ok_or_else(|| format!("the gateway tells no {metric}"))?.trim().parse()?)
        };
        let (all, short) = (count(format!("{name}_count"))?, count(format!("{name}_bucket{OVERRUN_MAX}"))?);
        Ok(Self { all, long: all.saturating_sub(short) })
    }

    const fn since(self, before: Self) -> Self {
        Self { all: self.all.saturating_sub(before.all), long: self.long.saturating_sub(before.long) }
    }
}

impl Seen {
    #[expect(clippy::cast_precision_loss, reason = "counts and microseconds of one run, far below 2^52")]
    fn told(self, name: &str, shared: Shared) -> Vec<Figure> {
        let refused = self.answers.iter().filter(|answer| answer.status != 200).count();
        let served = Outcome::of(&self.answers);
        let us = |what: &str, outcome: &Outcome, percent| {
            Figure::once(format!("{name}.{what}"), outcome.percentile_us(percent) as f64, "us")
        };
        let count = |what: &str, count: u64| Figure::once(format!("{name}.{what}"), count as f64, "requests");
        let stage = shared.stage();
        let spent = self.stages.iter().map(|spent| Answer { status: 0, latency_us: spent.us });
        let stages = Outcome::of(&spent.collect::<Vec<_>>());
        let mut figures = vec![
            us(&format!("{stage}_p99"), &stages, 99),
            us(&format!("{stage}_max"), &stages, 100),
            count("past_budget_by_2ms_control", self.control_overruns.long),
            count("past_budget", self.overruns.all),
            count("past_budget_by_2ms", self.overruns.long),
            us("p99_control", &self.control, 99),
            us("p99", &served, 99),
            Figure::once(
                format!("{name}.refused"),
                refused as f64 / self.answers.len().max(1) as f64,
                "share",
            ),
        ];
        figures.extend(self.late(name, shared));
        figures
    }

    /// Of the requests that were in the stage for longer than a budget and 2 ms, those whose core was there for as long: the
    /// others have not waited for Redis but for the machine.
    #[expect(clippy::cast_precision_loss, reason = "counts and microseconds of one run, far below 2^52")]
    fn late(&self, name: &str, shared: Shared) -> Vec<Figure> {
        let Some(holes) = &self.holes else { return Vec::new() };
        let (stage, max) = (shared.stage(), shared.budget_us() + OVERRUN_MAX_US);
        let mut figures = Vec::new();
        for (of, stages) in [("_control", &self.control_stages), ("", &self.stages)] {
            let late: Vec<&Spent> = stages.iter().filter(|spent| spent.us > max).collect();
            for spent in &late {
                eprintln!("{name}{of}: {}", spent.told(holes));
            }
            let on_core = late.iter().filter(|spent| spent.present(holes) > max).count();
            for (what, count) in [("late", late.len()), ("late_on_core", on_core)] {
                figures.push(Figure::once(format!("{name}.{stage}_{what}{of}"), count as f64, "requests"));
            }
        }
        let away: u64 = holes.iter().map(|hole| hole.within(0, u64::MAX)).sum();
        figures.push(Figure::once(format!("{name}.core_away"), away as f64, "us"));
        figures
    }
}
