//! Whether every request leaves exactly one record: accepted, refused, given up by its client, or caught by the
//! death of the upstream; counted by the clients, the upstream and the file.

mod clients;
mod marks;
mod mortal;

use std::fs;
use std::io::{BufRead, BufReader};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gateway::clock;

use crate::cores::Cores;
use crate::figures::{self, Figure};
use crate::process::pause;
use crate::world::{Bundle, Gateway, World, metric};
use crate::{Failure, builds, load};
use clients::{Tally, Work, client};
use marks::{Marks, number_in};
use mortal::Mortal;

/// Clients at once; each has an address of its own.
const CLIENTS: u8 = 64;
/// How often the upstream dies.
const DEATHS: usize = 20;
/// How long it stays so.
const DEAD: Duration = Duration::from_millis(100);
/// For the gateway to have seen the end of the last connection.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// What the command line may say.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Requests
    #[arg(long, value_name = "N", default_value = "1000000")]
    requests: NonZeroUsize,
    /// Try what an earlier build has left in target/release instead of building it
    #[arg(long)]
    as_built: bool,
}

/// Loads, counts and prints.
///
/// # Errors
/// Something does not build or start, an answer is missing, or a request has no record, or more than one.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let (cores, total) = (Cores::of_machine()?, options.requests.get());
    let binary = builds::cedargate(options.as_built)?;
    let marks = Arc::new(Marks::new(total));
    let mut upstream = Mortal::start(cores.load, marks.clone())?;
    let world = World::make(binary, upstream.address(), cores.proxy)?;
    let gateway = world.start(cores.proxy, "records", Bundle::Shipped)?;
    // Whoever looked whether it listens has connected and asked nothing.
    let before = settled(&gateway, (0, 0), 1)?;
    let work = Arc::new(Work {
        address: gateway.target.address,
        cookie: world.cookie().to_owned(),
        next: AtomicUsize::new(0),
        total,
        marks: marks.clone(),
    });
    let begun = clock::instant();
    let tally = std::thread::scope(|scope| {
        let (theirs, core) = (work.clone(), cores.load);
        let loading = scope.spawn(move || load::on_core(core, || all(theirs)));
        let killing = kill_now_and_then(&mut upstream, &work, || loading.is_finished());
        let tally = loading.join().map_err(|_panic| "the load panicked")?;
        killing.and(tally)
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let after = settled(&gateway, before, tally.unused)?;
    let audit = gateway.directory.join("audit");
    gateway.process.stop()?;
    let garbled = read(&audit, &marks)?;
    let figures = told(&tally, &marks, total, seconds, after.1 - before.1);
    figures::print(&figures)?;
    judge(&tally, &marks, garbled, (after.0 - before.0, after.1 - before.1))
}

/// Connections without a request, and early refusals that were recorded by count.
fn counted(gateway: &Gateway) -> Result<(u64, u64), Failure> {
    let of = |name| metric(gateway.admin, name);
    Ok((of("cedargate_empty_connections_total")?, of("cedargate_audit_summarised_total")?))
}

fn settled(gateway: &Gateway, before: (u64, u64), unused: u64) -> Result<(u64, u64), Failure> {
    let begun = clock::instant();
    loop {
        let now = counted(gateway)?;
        if now.0 - before.0 >= unused || begun.elapsed() > SETTLE_MAX {
            return Ok(now);
        }
        pause(DEAD);
    }
}

async fn all(work: Arc<Work>) -> Result<Tally, Failure> {
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(work.clone(), number + 1));
    }
    let mut all = Tally::default();
    while let Some(tally) = clients.join_next().await {
        all.add(tally??);
    }
    Ok(all)
}

fn kill_now_and_then(upstream: &mut Mortal, work: &Work, is_over: impl Fn() -> bool) -> Result<(), Failure> {
    let mut deaths = 0;
    while !is_over() {
        let asked = work.next.load(Ordering::Relaxed).min(work.total);
        eprint!("\r{asked} of {} requests, {deaths} deaths of the upstream ", work.total);
        if deaths < DEATHS && asked > (deaths + 1) * work.total / (DEATHS + 1) {
            upstream.kill()?;
            pause(DEAD);
            upstream.revive()?;
            deaths += 1;
        }
        pause(DEAD / 5);
    }
    eprintln!();
    Ok(())
}

/// Notes every record of a request; how many lines are no record.
fn read(audit: &Path, marks: &Marks) -> Result<u64, Failure> {
    let mut garbled = 0;
    for entry in fs::read_dir(audit)? {
        let path = entry?.path();
        if path.extension().is_none_or(|end| end != "jsonl") {
            continue;
        }
        for line in BufReader::new(fs::File::open(path)?).lines() {
            let line = line?;
            let Ok(record) = serde_json::from_str::<serde_json::Value>(&line) else {
                garbled += 1;
                continue;
            };
            let of = |part: &str, key: &str| record.get(part).and_then(|it| it.get(key)).cloned();
            if record.get("kind").is_some_and(|kind| kind == "request")
                && let Some(number) = number_in(line.as_bytes())
            {
                marks.recorded(number, of("decision", "outcome").is_some_and(|outcome| outcome == "permit"));
            }
        }
    }
    Ok(garbled)
}

#[expect(clippy::cast_precision_loss, reason = "counts of one run, far below 2^52")]
fn told(tally: &Tally, marks: &Marks, total: usize, seconds: f64, summarised: u64) -> Vec<Figure> {
    let count = |name: &str, value: u64| Figure::once(format!("records.{name}"), value as f64, "requests");
    let differs = marks.disagreements();
    let mut figures = vec![
        count("sent", total as u64),
        count("forwarded", marks.count_forwarded()),
        count("unrecorded", differs.unrecorded),
        count("recorded_again", differs.recorded_again),
        count("forwarded_without_permit", differs.unpermitted),
        count("summarised", summarised),
        Figure::once("records.unused_connections", tally.unused as f64, "connections"),
        Figure::once("records.rate", total as f64 / seconds, "requests/s"),
    ];
    for ((kind, status), answers) in &tally.answers {
        figures.push(count(&format!("answers.{}.{status}", kind.name()), *answers));
    }
    figures
}

/// Everything agrees, or it is said what does not.
fn judge(tally: &Tally, marks: &Marks, garbled: u64, counted: (u64, u64)) -> Result<(), Failure> {
    let differs = marks.disagreements();
    // What is refused before anybody is known may be recorded by count, and is then missing by that count.
    let wanted = marks::Disagreements { unrecorded: counted.1, ..marks::Disagreements::default() };
    if differs != wanted || garbled != 0 {
        return Err(
            format!("{differs:?}, {} by count only, {garbled} lines that are no record", counted.1).into()
        );
    }
    if counted.0 != tally.unused {
        let opened = tally.unused;
        return Err(
            format!("{opened} connections were opened and not used, {} were counted", counted.0).into()
        );
    }
    Ok(())
}
