//! Instructions and allocations a request, held against the committed budget.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tempfile::TempDir;

use crate::callgrind::{self, Counted};
use crate::cores::Cores;
use crate::figures::{self, Figure};
use crate::load::Target;
use crate::process::{Process, free_address, under};
use crate::world::{Bundle, World, plain_request};
use crate::{Failure, builds, upstream};

/// The budget's file.
const BUDGET: &str = "benchmarks/budget.toml";

/// What the command line may say.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Keep the profiles, which callgrind_annotate reads, in this directory
    #[arg(long, value_name = "DIR")]
    profiles: Option<PathBuf>,
    /// Measure what an earlier build has left in target/release instead of building it
    #[arg(long)]
    as_built: bool,
}

/// What one request may cost.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Budget {
    /// Instructions at most.
    instructions: u64,
    /// Allocations at most.
    allocations: u64,
}

/// Counts, prints and holds against the budget.
///
/// # Errors
/// There is no valgrind, something does not build or start, or the budget is exceeded.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    if !callgrind::is_here() {
        return Err(callgrind::ABSENT.into());
    }
    let budgets: BTreeMap<String, Budget> =
        toml::from_str(&fs::read_to_string(builds::repository().join(BUDGET))?)?;
    let (bare, cedargate) = (builds::bare(options.as_built)?, builds::cedargate(options.as_built)?);
    let (cores, own) = (Cores::of_machine()?, TempDir::new()?);
    let folder = options.profiles.clone().unwrap_or_else(|| own.path().to_owned());
    fs::create_dir_all(&folder)?;
    let upstream = upstream::start(cores.load)?;
    let world = World::make(cedargate, upstream, cores.proxy)?;
    let (mut figures, mut faults) = (Vec::new(), Vec::new());
    let mut take = |name: &str, counted: Counted| {
        let found = Budget {
            instructions: counted.instructions / callgrind::REQUESTS,
            allocations: (counted.allocations + callgrind::REQUESTS / 2) / callgrind::REQUESTS,
        };
        figures.extend(told(name, found));
        faults.extend(exceeded(name, found, budgets.get(name).copied()));
    };
    eprintln!("counting the pass-through …");
    let out = folder.join("bare.callgrind");
    let (process, target) = start_bare(cores.proxy, &bare, upstream, &out)?;
    take("bare", callgrind::requests(&process, &target, cores, &out)?);
    drop(process);
    for (name, bundle) in [("line", Bundle::Line), ("full", Bundle::Shipped)] {
        eprintln!("counting the gateway, {name} …");
        let out = folder.join(format!("{name}.callgrind"));
        let gateway =
            world.start_under(cores.proxy, name, bundle, &callgrind::words(&out), callgrind::START_MAX)?;
        take(name, callgrind::requests(&gateway.process, &gateway.target, cores, &out)?);
    }
    figures::print(&figures)?;
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
}

fn start_bare(
    core: usize,
    binary: &Path,
    upstream: std::net::SocketAddr,
    out: &Path,
) -> Result<(Process, Target), Failure> {
    let listen = free_address()?;
    let mut command = under(&callgrind::words(out), binary);
    command.args([listen.to_string(), upstream.to_string()]);
    let process = Process::start_within(core, &mut command, listen, callgrind::START_MAX)?;
    Ok((process, Target { address: listen, request: plain_request(listen) }))
}

fn told(name: &str, found: Budget) -> [Figure; 2] {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let figure =
        |what: &str, value: u64, unit| Figure::once(format!("instructions.{name}{what}"), value as f64, unit);
    [
        figure("", found.instructions, "instructions/request"),
        figure(".allocations", found.allocations, "allocations/request"),
    ]
}

fn exceeded(name: &str, found: Budget, budget: Option<Budget>) -> Option<String> {
    let Some(budget) = budget else { return Some(format!("{BUDGET} has no [{name}]")) };
    let over = |what: &str, found: u64, most: u64| {
        (found > most).then(|| format!("a request of `{name}` takes {found} {what}, and {most} are budgeted"))
    };
    let faults: Vec<String> = [
        over("instructions", found.instructions, budget.instructions),
        over("allocations", found.allocations, budget.allocations),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!faults.is_empty()).then(|| {
        format!(
            "{}: take it back (`instructions --profiles DIR`, then callgrind_annotate, shows where it goes), or raise \
             {BUDGET} in the same commit and say there what it buys",
            faults.join("; ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_instruction_more_than_budgeted_is_a_fault_with_its_figure_and_remedy() {
        let budget = Budget { instructions: 75_000, allocations: 90 };
        assert_eq!(exceeded("line", budget, Some(budget)), None);
        for found in [Budget { instructions: 75_001, ..budget }, Budget { allocations: 91, ..budget }] {
            let said = exceeded("line", found, Some(budget)).unwrap();
            assert!(said.contains(BUDGET) && said.contains("budgeted"), "{said}");
        }
        assert!(exceeded("line", budget, None).is_some());
    }

    #[test]
    fn the_committed_budget_names_what_is_counted() {
        let text = fs::read_to_string(builds::repository().join(BUDGET)).unwrap();
        let budgets: BTreeMap<String, Budget> = toml::from_str(&text).unwrap();
        assert_eq!(budgets.keys().map(String::as_str).collect::<Vec<_>>(), ["bare", "full", "line"]);
    }
}
