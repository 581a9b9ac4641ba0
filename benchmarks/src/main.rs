//! Keeps it fast: what a request costs, measured and not estimated.
//!
//! `README.md` beside this crate says what each command prints and how to read it. Figures are worth comparing on
//! one machine alone.

mod builds;
mod callgrind;
mod collector;
mod cores;
mod decide;
mod faults;
mod figures;
mod gateways;
mod identity;
mod instructions;
mod limits;
mod load;
mod peers;
mod process;
mod proxy;
mod records;
mod redis;
mod results;
mod secrets;
mod served;
mod slow;
mod stages;
mod stores;
mod swap;
mod turns;
mod upstream;
mod witness;
mod world;

use std::process::ExitCode;

use clap::Parser as _;

/// The gateway's allocator, counting what each thread asks of it.
#[global_allocator]
static ALLOCATOR: alloc_counter::AllocCounter<mimalloc::MiMalloc> =
    alloc_counter::AllocCounter(mimalloc::MiMalloc);

/// What a benchmark fails with: nobody handles it, somebody reads it.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Keeps Cedargate fast: what a request costs, measured and not estimated
#[derive(clap::Parser)]
#[command(bin_name = "cargo run --release -p benchmarks --")]
enum Benchmark {
    /// What one decision costs, by the number of policies, and what it costs to load them
    Decide(decide::Options),
    /// What a request costs, against a proxy that checks nothing and against other proxies
    Proxy(proxy::Options),
    /// Whether every request leaves one record, whatever becomes of it
    Records(records::Options),
    /// What slow, silent and many clients cost one who behaves
    Slow(slow::Options),
    /// What it costs those who ask when another bundle is put in place, and whether each answer is one bundle's
    Swap(swap::Options),
    /// What limits cost: none, counted by the gateway, and by gateways together in Redis
    Limits(limits::Options),
    /// What it costs to know somebody, by session, token and password
    Identity(identity::Options),
    /// What requests wait for a Redis that is gone, hangs, is slow or was replaced
    Faults(faults::Options),
    /// Instructions and allocations a request, held against benchmarks/budget.toml
    Instructions(instructions::Options),
    /// Says when the core that it was started on was away, for a benchmark that has started it
    #[command(hide = true)]
    Witness,
}

fn main() -> ExitCode {
    let outcome = match Benchmark::parse() {
        Benchmark::Decide(options) => decide::run(&options),
        Benchmark::Proxy(options) => proxy::run(&options),
        Benchmark::Records(options) => records::run(&options),
        Benchmark::Slow(options) => slow::run(&options),
        Benchmark::Swap(options) => swap::run(&options),
        Benchmark::Limits(options) => limits::run(&options),
        Benchmark::Identity(options) => identity::run(&options),
        Benchmark::Faults(options) => faults::run(&options),
        Benchmark::Instructions(options) => instructions::run(&options),
        Benchmark::Witness => witness::watch(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("benchmarks: {failure}{}", causes(&*failure));
            ExitCode::FAILURE
        }
    }
}

/// What an error goes back to.
fn causes(failure: &dyn std::error::Error) -> String {
    let next = std::iter::successors(failure.source(), |cause| cause.source());
    next.map(|cause| format!(": {cause}")).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// What clap checks only where assertions are compiled in.
    #[test]
    fn the_command_line_holds_together() {
        Benchmark::command().debug_assert();
    }
}
