//! What a decision costs, from HTTP fields to the answer, by the number of policies.
//!
//! `README.md` beside this crate says what each row is. The generators are here with their seeds: `mix` and `conditions`
//! make the policies, `world` the people, routes and requests around them, `papers` the workloads of Cedar's paper.

mod cedar;
mod conditions;
mod instructions;
mod library;
mod load;
mod measure;
mod memory;
mod mix;
mod papers;
mod peers;
mod random;
mod rows;
mod shipped;
mod world;

use std::io::IsTerminal as _;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::figures::Figure;
use crate::{Failure, callgrind, figures, results};
use memory::Memory;
use mix::Dimensions;

/// Numbers of policies.
const SIZES: [usize; 5] = [10, 100, 1_000, 10_000, 100_000];
/// Shares of policies without a scope, in percent.
const UNSCOPED: [usize; 3] = [0, 5, 20];
/// Numbers of policies whose loading is measured.
const LOADED: [usize; 2] = [10_000, 100_000];

/// What the command line may say.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Leave out what has more policies than this
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    policies_max: usize,
    /// Leave out what has fewer policies than this
    #[arg(long, value_name = "N", default_value_t = 0)]
    policies_min: usize,
    /// Keep the figures in benchmarks/results, by date
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    peers: peers::Options,
    /// Count the instructions of a decision instead, up to 10,000 policies; needs valgrind
    #[arg(long)]
    instructions: bool,
    /// Decide with as many policies when told to by the standard input, under callgrind
    #[arg(long, value_name = "N", hide = true)]
    count_one: Option<usize>,
    /// Load a bundle of as many policies, tell what it took and end
    #[arg(long, value_name = "N", hide = true)]
    load_one: Option<usize>,
}

/// Measures and prints.
///
/// # Errors
/// Something does not load, or the index and Cedar's `Authorizer` disagree.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    if let Some(policies) = options.load_one {
        return load::one(policies);
    }
    if let Some(policies) = options.count_one {
        return instructions::one(policies);
    }
    let figures = if options.instructions { counted(options)? } else { measured(options)? };
    figures::print(&figures)?;
    if options.keep { results::keep(&[], &figures) } else { Ok(()) }
}

impl Options {
    fn wanted(&self) -> RangeInclusive<usize> {
        self.policies_min..=self.policies_max
    }
}

fn counted(options: &Options) -> Result<Vec<Figure>, Failure> {
    if !callgrind::is_here() {
        return Err(callgrind::ABSENT.into());
    }
    let sizes = instructions::SIZES.into_iter().filter(|policies| options.wanted().contains(policies));
    sizes.map(instructions::row).collect()
}

fn measured(options: &Options) -> Result<Vec<Figure>, Failure> {
    let mut figures = vec![measure::clock_cost()];
    figures.extend(shipped::rows()?);
    figures.extend(papers::rows()?);
    let sizes: Vec<usize> =
        SIZES.into_iter().filter(|policies| options.wanted().contains(policies)).collect();
    let memory = Arc::new(Memory::new());
    for unscoped in UNSCOPED {
        let all: Vec<_> = sizes.iter().map(|policies| Dimensions::of(*policies, unscoped)).collect();
        figures.extend(rows::side_by_side(&all, &memory)?);
    }
    figures.push(Figure::once("decide.memory_ns", memory.fast_ns() as f64, "ns"));
    figures.push(Figure::once("decide.memory_loud", memory.loud(), "share"));
    for policies in sizes {
        figures.extend(library::rows(policies)?);
    }
    for policies in LOADED.into_iter().filter(|policies| options.wanted().contains(policies)) {
        figures.extend(load::rows(policies)?);
    }
    figures.extend(peers::rows(&options.peers, options.policies_max)?);
    Ok(figures)
}

/// Tells whoever watches what is being done.
fn telling(what: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("{what} …");
    }
}
