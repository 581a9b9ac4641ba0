//! What limits cost a request: none, counted by the gateway, counted in Redis, and leased there, in turn on one core; what
//! a flood of addresses costs one who behaves; and what one check costs by itself.

mod flood;
mod house;
mod table;

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use gateway::clock;

use self::house::{House, Serving};
use crate::cores::Cores;
use crate::figures::{self, Figure};
use crate::redis::Redis;
use crate::{Failure, builds, turns, upstream};

/// Rounds, unless the command line says otherwise. Odd, so that the median is one of them.
const ROUNDS: NonZeroUsize = NonZeroUsize::new(201).unwrap();
/// From the first line to the last, building included.
const TOTAL: Duration = Duration::from_secs(10 * 60);
/// What everything after the rounds takes of it.
const AFTER_ROUNDS: Duration = Duration::from_secs(60);

/// No limit at all.
const NONE: &str = "per_address = \"none\"\nper_user = \"none\"\n";
/// Limits that never bind, and are counted like any other.
const COUNTED: &str = "per_address = \"1000000/1s\"\nper_user = \"1000000/1s\"\n";

/// And of which a gateway takes some ahead.
const LEASED: &str = "lease_percent = 1\n";

/// What the command line may say.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Rounds, of which the median is told
    #[arg(long, value_name = "N", default_value_t = ROUNDS)]
    rounds: NonZeroUsize,
    /// Measure what an earlier build has left in target/release instead of building it
    #[arg(long)]
    as_built: bool,
}

/// One gateway under test, and the microseconds of its processor time that each request took, round by round.
struct Subject {
    name: &'static str,
    serving: Serving,
    rounds: Vec<f64>,
}

/// Measures and prints.
///
/// # Errors
/// Something does not build, start or answer, or limits that should be counted in Redis were not.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let begun = clock::instant();
    let cores = Cores::of_machine()?;
    if cores.proxy == cores.load {
        eprintln!("one core only: the gateways share it with their load");
    }
    let mut figures = table::figures(cores.proxy)?;
    let binary = builds::cedargate(options.as_built)?;
    let upstream = upstream::start(cores.load)?;
    let redis = Redis::start(cores.load)?;
    if redis.is_none() {
        eprintln!("left out: limits.redis.*, no redis-server here (Debian: redis-server)");
    }
    let house = House::new(binary, upstream)?;
    let start = |name, limits: &str| {
        let serving = house.start(cores.proxy, name, "", limits)?;
        Ok::<_, Failure>(Subject { name, serving, rounds: Vec::new() })
    };
    let mut subjects = vec![start("none", NONE)?, start("local", COUNTED)?];
    if let Some(redis) = &redis {
        let lines = redis.lines("limits.redis")?;
        for (name, leases) in [("redis", ""), ("leased", LEASED)] {
            let subject = start(name, &format!("{COUNTED}{leases}{lines}"))?;
            subject.serving.asks_redis()?;
            subjects.push(subject);
        }
    }
    rounds(&mut subjects, cores, begun, options.rounds.get())?;
    figures.extend(told(&subjects));
    for Subject { name, serving, .. } in subjects.iter().filter(|subject| subject.name != "none") {
        match *name {
            "redis" => figures.push(serving.unanswered()?),
            "leased" => figures.push(serving.not_leased()?),
            _ => {}
        }
    }
    // Alone on its core, as whoever is flooded.
    drop(subjects);
    let flooded = house.start(cores.proxy, "flooded", flood::PROXIED, flood::SMALL)?;
    figures.extend(flood::figures(cores, &flooded)?);
    figures::print(&figures)?;
    eprintln!("{} s in all", begun.elapsed().as_secs());
    Ok(())
}

/// Loads each in turn.
fn rounds(subjects: &mut [Subject], cores: Cores, begun: Instant, wanted: usize) -> Result<(), Failure> {
    let loaded: Vec<turns::Subject<'_>> = subjects.iter().map(Subject::loaded).collect();
    let rounds = turns::rounds(cores.load, &loaded, wanted, begun + TOTAL - AFTER_ROUNDS)?;
    for (subject, rounds) in subjects.iter_mut().zip(rounds) {
        subject.rounds = rounds.iter().map(|round| round.cpu_us).collect();
    }
    Ok(())
}

impl Subject {
    const fn loaded(&self) -> turns::Subject<'_> {
        let Serving { running, target } = &self.serving;
        turns::Subject { name: self.name, process: &running.process, target }
    }
}

fn told(subjects: &[Subject]) -> Vec<Figure> {
    let of = |subject: &Subject| {
        Figure::median(format!("limits.{}.cpu", subject.name), &subject.rounds, "us/request")
    };
    let against = |name: &str, reckon: fn(f64, f64) -> f64| -> Option<Vec<f64>> {
        let rounds = |name: &str| subjects.iter().find(|it| it.name == name).map(|it| &it.rounds);
        let (none, these) = (rounds("none")?, rounds(name)?);
        Some(none.iter().zip(these).map(|(none, this)| reckon(*none, *this)).collect())
    };
    let ratio = |name: &str| {
        let rounds = against(name, |none, this| none / this)?;
        Figure::median(format!("limits.{name}_over_none"), &rounds, "ratio")
    };
    let extra = against("redis", |none, this| this - none)
        .and_then(|rounds| Figure::median("limits.redis_extra_us", &rounds, "us/request"));
    subjects
        .iter()
        .filter_map(of)
        .chain([ratio("local"), ratio("leased"), ratio("redis"), extra].into_iter().flatten())
        .collect()
}
