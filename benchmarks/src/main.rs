//! Keeps it fast: what a request costs, measured and not estimated.
//!
//! `README.md` beside this crate says what each command prints and how to read it. Figures are worth comparing on
//! one machine alone.

mod builds;
mod callgrind;
mod cores;
mod decide;
mod figures;
mod instructions;
mod load;
mod peers;
mod process;
mod proxy;
mod results;
mod stages;
mod upstream;
mod world;

use std::process::ExitCode;

/// What a benchmark fails with: nobody handles it, somebody reads it.
type Failure = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: cargo run --release -p benchmarks -- COMMAND

  decide                     what one decision costs, by role
  proxy [--nginx PATH] [--envoy PATH] [--rounds N] [--keep] [--as-built]
                             what a request costs, against a proxy that checks nothing; --keep writes the
                             raw rounds to benchmarks/results/
  instructions [--profiles DIR] [--as-built]
                             instructions and allocations a request, held against benchmarks/budget.toml; DIR
                             gets the profiles that callgrind_annotate reads

--as-built measures what an earlier build has left in target/release instead of building it.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((command, [])) if command == "decide" => return decide::decide(),
        Some((command, rest)) if command == "proxy" => proxy::Options::read(rest).map(|it| proxy::run(&it)),
        Some((command, rest)) if command == "instructions" => {
            instructions::Options::read(rest).map(|it| instructions::run(&it))
        }
        _ => None,
    };
    match outcome {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(failure)) => {
            eprintln!("benchmarks: {failure}");
            ExitCode::FAILURE
        }
        None => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
    }
}
