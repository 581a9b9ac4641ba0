//! Whether a bundle that is put in place of another costs those who ask meanwhile anything, and whether each answer is one
//! bundle's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gateway::clock;

use crate::cores::Cores;
use crate::figures::{self, Figure};
use crate::load::Outcome;
use crate::process::pause;
use crate::served::{self, Client};
use crate::world::{Bundle, Gateway, PATH, World, metric};
use crate::{Failure, builds, upstream};

/// Requests a second, unless the command line says otherwise.
const RATE: NonZeroU32 = NonZeroU32::new(1_000).unwrap();
/// Connections that carry them.
const CONNECTIONS: u32 = 32;
/// Rounds of a look.
const ROUNDS: usize = 8;
/// For one bundle to be put in place of another; a debug build takes long.
const SWAP_MAX: Duration = Duration::from_secs(180);
/// Between two looks whether it is.
const LOOK: Duration = Duration::from_millis(20);
/// What counts swaps.
const SWAPS: &str = "cedargate_bundle_reloads_total{result=\"taken\"}";
/// The grant by which who asks is permitted, as the generated bundle calls it. Each swap gives it another name.
const GRANT: &str = "@id(\"read";

/// Hex digits of a bundle's digest.
const DIGEST: usize = 64;

/// What the command line may say.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Try what an earlier build has left in target/release instead of building it
    #[arg(long)]
    as_built: bool,
    /// Try this gateway instead
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Policies in the bundle
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    policies: usize,
    /// Requests a second
    #[arg(long, value_name = "N", default_value_t = RATE)]
    rate: NonZeroU32,
}

/// How much of a bundle changes from one swap to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Every policy file: nothing is taken over.
    All,
    /// One of them.
    One,
}

impl Change {
    const fn name(self) -> &'static str {
        match self {
            Self::All => "swap",
            Self::One => "swap.one_file",
        }
    }
}

/// Loads, swaps and prints.
///
/// # Errors
/// Something does not build, start or answer, or an answer is not one bundle's.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let cores = Cores::of_machine()?;
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => builds::cedargate(options.as_built)?,
    };
    let world = World::make(binary, upstream::start(cores.load)?, cores.proxy)?;
    let gateway = world.start(cores.proxy, "swap", Bundle::Generated(options.policies))?;
    // The first requests of all fill pools and caches.
    let client = Client { cores, connections: CONNECTIONS, rate: options.rate };
    client.look(&gateway.target, 1)?;
    let mut figures = Vec::new();
    let mut number = 0;
    for change in [Change::All, Change::One] {
        eprintln!("{} …", change.name());
        let quiet = client.look(&gateway.target, ROUNDS)?;
        let (swapping, swaps) = swapped(client, &gateway, change, &mut number)?;
        let after = client.look(&gateway.target, ROUNDS)?;
        figures.push(counted(change, swaps));
        let looks = [("_quiet", &*quiet), ("", &swapping), ("_after", &after)];
        figures.extend(served::told(change.name(), &looks)?);
    }
    let audit = gateway.directory.join("audit");
    // Its end writes the last records.
    gateway.process.stop()?;
    figures.extend(judged(&audit, number)?);
    figures::print(&figures)
}

/// The same while bundles are swapped one after the other, and how many were.
fn swapped(
    client: Client,
    gateway: &Gateway,
    change: Change,
    number: &mut usize,
) -> Result<(Vec<Outcome>, usize), Failure> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            let mut swaps = 0;
            while !over.load(Ordering::Acquire) {
                *number += 1;
                swap(gateway, change, *number)?;
                swaps += 1;
            }
            Ok::<usize, Failure>(swaps)
        });
        let outcome = client.look(&gateway.target, ROUNDS);
        over.store(true, Ordering::Release);
        let swaps = swapping.join().map_err(|_panic| "who swaps has panicked")??;
        Ok((outcome?, swaps))
    })
}

/// Saves another bundle and waits until it decides.
fn swap(gateway: &Gateway, change: Change, number: usize) -> Result<(), Failure> {
    let before = taken(gateway);
    let policies = gateway.directory.join("policies");
    for file in files(&policies)? {
        let text = fs::read_to_string(&file)?;
        let grant = text.split_once(GRANT).and_then(|(head, rest)| Some((head, rest.split_once('"')?.1)));
        let changed = match (grant, change) {
            (Some((head, rest)), _) => format!("{head}{GRANT}.{number}\"{rest}"),
            // A comment: the same policies, and another text.
            (None, Change::All) => {
                format!("{}\n// {number}\n", text.split("\n// ").next().unwrap_or_default().trim_end())
            }
            (None, Change::One) => continue,
        };
        // As an editor does: written aside, then renamed over.
        let aside = gateway.directory.join("saved");
        fs::write(&aside, changed)?;
        fs::rename(&aside, &file)?;
    }
    let begun = clock::instant();
    while taken(gateway) == before {
        if begun.elapsed() > SWAP_MAX {
            return Err("a saved bundle is not put in place".into());
        }
        pause(LOOK);
    }
    Ok(())
}

/// Bundles that were put in place so far; none is told of before the first.
fn taken(gateway: &Gateway) -> u64 {
    metric(gateway.admin, SWAPS).unwrap_or_default()
}

fn files(policies: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for part in ["grants", "guardrails"] {
        for entry in fs::read_dir(policies.join(part))? {
            files.push(entry?.path());
        }
    }
    files.sort();
    Ok(files)
}

#[expect(clippy::cast_precision_loss, reason = "a count of one run, far below 2^52")]
fn counted(change: Change, swaps: usize) -> Figure {
    Figure::once(format!("{}.swaps", change.name()), swaps as f64, "swaps")
}

/// What the records say: that each answer was decided by a bundle that was live, and by nothing of another.
#[derive(Debug, Default)]
struct Judged {
    /// Digests that decided at some time, as the gateway recorded them.
    live: BTreeSet<String>,
    /// By digest, the grants that permitted by it.
    grants: BTreeMap<String, BTreeSet<String>>,
    requests: u64,
    refused: u64,
}

impl Judged {
    fn record(&mut self, line: &str) -> Result<(), Failure> {
        let record: serde_json::Value = serde_json::from_str(line)?;
        let text =
            |path: &str| record.pointer(path).and_then(|it| it.as_str()).unwrap_or_default().to_owned();
        if text("/kind") == "security" && line.contains(" replaces ") {
            // "… bundle A replaces B": both have decided.
            let words = line.split(|letter: char| !letter.is_ascii_hexdigit());
            self.live.extend(words.filter(|word| word.len() == DIGEST).map(str::to_owned));
        }
        if text("/request/path") != PATH {
            return Ok(());
        }
        self.requests += 1;
        self.refused += u64::from(text("/decision/outcome") != "permit");
        let grants = self.grants.entry(text("/decision/bundle")).or_default();
        let deciding = record.pointer("/decision/deciding").and_then(|it| it.as_array());
        let ids = deciding.into_iter().flatten().filter_map(|it| it.get("id")?.as_str());
        grants.extend(ids.map(str::to_owned));
        Ok(())
    }

    /// Answers of a bundle that was never put in place, or in which one was permitted by another's grant.
    fn mixed(&self) -> u64 {
        let mixed = |(bundle, grants): &(&String, &BTreeSet<String>)| {
            grants.len() > 1 || !self.live.contains(*bundle)
        };
        self.grants.iter().filter(mixed).count() as u64
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of one run, far below 2^52")]
fn judged(audit: &Path, swaps: usize) -> Result<[Figure; 4], Failure> {
    let mut judged = Judged::default();
    let mut files: Vec<PathBuf> =
        fs::read_dir(audit)?.map(|entry| Ok(entry?.path())).collect::<Result<_, Failure>>()?;
    files.retain(|file| file.extension().is_some_and(|end| end == "jsonl"));
    for file in files {
        for line in fs::read_to_string(file)?.lines() {
            judged.record(line)?;
        }
    }
    let mixed = judged.mixed();
    let figures = [
        Figure::once("swap.bundles_that_decided", judged.grants.len() as f64, "bundles"),
        Figure::once("swap.requests", judged.requests as f64, "requests"),
        Figure::once("swap.refused", judged.refused as f64, "requests"),
        Figure::once("swap.mixed", mixed as f64, "bundles"),
    ];
    if mixed > 0 || judged.refused > 0 || judged.requests == 0 {
        return Err(format!("answers are not one bundle's, after {swaps} swaps: {judged:?}").into());
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_not_one_bundles_is_seen() {
        let request = |bundle: &str, grant: &str, outcome: &str| {
            format!(
                r#"{{"kind":"request","request":{{"path":"{PATH}"}},"decision":{{"outcome":"{outcome}","bundle":"{bundle}","deciding":[{{"id":"{grant}"}}]}}}}"#
            )
        };
        let [first, second] = ["a", "b"].map(|digit| digit.repeat(DIGEST));
        let swap = format!(r#"{{"kind":"security","notes":["bundle {second} replaces {first}"]}}"#);
        let check = |lines: &[String], mixed: u64, refused: u64| {
            let mut judged = Judged::default();
            lines.iter().for_each(|line| judged.record(line).unwrap());
            assert_eq!((judged.mixed(), judged.refused), (mixed, refused), "{judged:?}");
        };
        let (a, b) = (request(&first, "read", "permit"), request(&second, "read.1", "permit"));
        check(&[a.clone(), swap.clone(), b.clone()], 0, 0);
        check(&[a.clone(), b.clone()], 2, 0);
        check(&[a.clone(), swap.clone(), b, request(&second, "read", "permit")], 1, 0);
        check(&[a, swap, request(&second, "read.1", "none")], 0, 1);
    }
}
