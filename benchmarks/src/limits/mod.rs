//! What limits cost a request: none, counted by the gateway, counted in Redis, and leased there, in turn on one core; what
//! a flood of addresses costs one who behaves; and what one check costs by itself.

mod flood;
mod house;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use gateway::clock;
use tempfile::TempDir;

use self::house::{House, Serving};
use crate::cores::Cores;
use crate::figures::{self, Figure};
use crate::redis::Redis;
use crate::{Failure, builds, callgrind, turns, upstream};

/// How often all are started anew: how a process's pages happen to lie in the processor's caches makes it dearer or cheaper
/// than its equal by as much as a hundredth, for as long as it runs.
const STARTS: usize = 6;
/// Rounds of each start, unless the command line says otherwise.
const ROUNDS: NonZeroUsize = NonZeroUsize::new(35).unwrap();
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
    /// Rounds of each of six starts; the median of their medians is told
    #[arg(long, value_name = "N", default_value_t = ROUNDS)]
    rounds: NonZeroUsize,
    /// Count the instructions of a request instead; needs valgrind
    #[arg(long)]
    instructions: bool,
    /// Keep the profiles, which callgrind_annotate reads, in this directory
    #[arg(long, value_name = "DIR", requires = "instructions")]
    profiles: Option<PathBuf>,
    /// Measure what an earlier build has left in target/release instead of building it
    #[arg(long)]
    as_built: bool,
}

/// One gateway under test.
struct Subject {
    name: &'static str,
    serving: Serving,
}

/// Microseconds of processor time that each request took, by the gateway's name and round by round of one start.
type Rounds = BTreeMap<&'static str, Vec<f64>>;

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
    let figures =
        if options.instructions { counted(options, cores)? } else { measured(options, cores, begun)? };
    figures::print(&figures)?;
    eprintln!("{} s in all", begun.elapsed().as_secs());
    Ok(())
}

fn measured(options: &Options, cores: Cores, begun: Instant) -> Result<Vec<Figure>, Failure> {
    let mut figures = table::figures(cores.proxy)?;
    let (binary, upstream) = (builds::cedargate(options.as_built)?, upstream::start(cores.load)?);
    let (mut all, mut strayed) = (Vec::new(), BTreeMap::<&str, Vec<f64>>::new());
    for start in 1..=STARTS {
        eprintln!("start {start} of {STARTS} …");
        let house = House::new(binary.clone(), upstream)?;
        // It goes after them, so that what they hold of it can go back.
        let (_redis, mut subjects) = started(&house, cores)?;
        // Who comes after whom may matter.
        let behind = start % subjects.len().max(1);
        subjects.rotate_left(behind);
        let rest = (begun + TOTAL - AFTER_ROUNDS).saturating_duration_since(clock::instant());
        let left = u32::try_from(STARTS - start + 1)?;
        all.push(rounds(&subjects, cores, options.rounds.get(), clock::instant() + rest / left)?);
        for subject in &subjects {
            if let Some((name, share)) = subject.strayed()? {
                strayed.entry(name).or_default().push(share);
            }
        }
    }
    figures.extend(told(&all));
    figures.extend(strayed.iter().filter_map(|(name, shares)| Figure::median(*name, shares, "share")));
    // Alone on its core, as whoever is flooded.
    let house = House::new(binary, upstream)?;
    let flooded = house.start(cores.proxy, "flooded", flood::PROXIED, flood::SMALL)?;
    figures.extend(flood::figures(cores, &flooded)?);
    Ok(figures)
}

/// What a request costs in instructions.
fn counted(options: &Options, cores: Cores) -> Result<Vec<Figure>, Failure> {
    if !callgrind::is_here() {
        return Err(callgrind::ABSENT.into());
    }
    let own = TempDir::new()?;
    let folder = options.profiles.clone().unwrap_or_else(|| own.path().to_owned());
    fs::create_dir_all(&folder)?;
    let house = House::new(builds::cedargate(options.as_built)?, upstream::start(cores.load)?)?;
    let house = house.profiled(folder);
    let (_redis, subjects) = started(&house, cores)?;
    let figure = |Subject { name, serving }: &Subject| {
        eprintln!("counting, {name} …");
        let profile = house.profile(name).ok_or("a gateway that is not counted")?;
        let counted = callgrind::requests(&serving.running.process, &serving.target, cores, &profile)?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let each = (counted.instructions / callgrind::REQUESTS) as f64;
        Ok(Figure::once(format!("limits.{name}.instructions"), each, "instructions/request"))
    };
    let mut figures = subjects.iter().map(figure).collect::<Result<Vec<_>, Failure>>()?;
    for subject in &subjects {
        figures.extend(subject.strayed()?.map(|(name, share)| Figure::once(name, share, "share")));
    }
    Ok(figures)
}

/// One gateway of each kind, with the Redis that some of them ask.
fn started(house: &House, cores: Cores) -> Result<(Option<Redis>, Vec<Subject>), Failure> {
    let redis = Redis::start(cores.load)?;
    let start = |name, limits: &str| {
        let serving = house.start(cores.proxy, name, "", limits)?;
        Ok::<_, Failure>(Subject { name, serving })
    };
    let mut subjects = vec![start("none", NONE)?, start("local", COUNTED)?, start("none_again", NONE)?];
    let Some(redis) = redis else {
        eprintln!("left out: limits.redis.*, no redis-server here (Debian: redis-server)");
        return Ok((None, subjects));
    };
    let lines = redis.lines("limits.redis")?;
    for (name, leases) in [("redis", ""), ("leased", LEASED)] {
        let subject = start(name, &format!("{COUNTED}{leases}{lines}"))?;
        subject.serving.asks_redis()?;
        subjects.push(subject);
    }
    Ok((Some(redis), subjects))
}

/// Loads each in turn.
fn rounds(subjects: &[Subject], cores: Cores, wanted: usize, deadline: Instant) -> Result<Rounds, Failure> {
    let loaded: Vec<turns::Subject<'_>> = subjects.iter().map(Subject::loaded).collect();
    let rounds = turns::rounds(cores.load, &loaded, wanted, deadline)?;
    let cpu = rounds.iter().map(|rounds| rounds.iter().map(|round| round.cpu_us).collect());
    Ok(subjects.iter().map(|subject| subject.name).zip(cpu).collect())
}

impl Subject {
    const fn loaded(&self) -> turns::Subject<'_> {
        let Serving { running, target } = &self.serving;
        turns::Subject { name: self.name, process: &running.process, target }
    }

    /// The share of its requests that took another way than its row is about, by the name that this has in figures.
    fn strayed(&self) -> Result<Option<(&'static str, f64)>, Failure> {
        Ok(match self.name {
            "redis" => Some(("limits.redis.unanswered", self.serving.unanswered()?)),
            "leased" => Some(("limits.leased.asked", self.serving.not_leased()?)),
            _ => None,
        })
    }
}

/// Of each start the median, and of those the median with the least and the greatest: rounds of one start are no samples of
/// what differs from start to start.
fn told(starts: &[Rounds]) -> Vec<Figure> {
    let figure = |name: String, unit, of: &dyn Fn(&Rounds) -> Option<Vec<f64>>| {
        let medians = starts.iter().filter_map(|rounds| Some(Figure::median("", &of(rounds)?, unit)?.value));
        Figure::median(name, &medians.collect::<Vec<_>>(), unit)
    };
    let against = |rounds: &Rounds, name: &str, reckon: fn(f64, f64) -> f64| -> Option<Vec<f64>> {
        let (none, these) = (rounds.get("none")?, rounds.get(name)?);
        Some(none.iter().zip(these).map(|(none, this)| reckon(*none, *this)).collect())
    };
    let cpu = |name: &str| figure(format!("limits.{name}.cpu"), "us/request", &|all| all.get(name).cloned());
    let ratio = |name: &str| {
        figure(format!("limits.{name}_over_none"), "ratio", &|all| {
            against(all, name, |none, this| none / this)
        })
    };
    let extra = figure("limits.redis_extra_us".to_owned(), "us/request", &|all| {
        against(all, "redis", |none, this| this - none)
    });
    let others = ["none_again", "local", "leased", "redis"];
    let costs = std::iter::once("none").chain(others).filter_map(cpu);
    costs.chain(others.into_iter().filter_map(ratio)).chain(extra).collect()
}
