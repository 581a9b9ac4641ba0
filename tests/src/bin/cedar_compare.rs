//! Compares the policy index with Cedar's `Authorizer` on policies, entities and requests that are generated.
//!
//! `cedar_compare [--comparisons N] [--seed S] [--jobs J]`; exits 1 where an answer differs, 2 where it was called wrongly.

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use tests::cedar::long_run::{self, Outcome, Plan};
use tests::cedar::progress::Progress;

const USAGE: &str = "usage: cedar_compare [--comparisons N] [--seed S] [--jobs J]";

fn main() -> ExitCode {
    let plan = match plan(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(fault) => {
            eprintln!("cedar_compare: {fault}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let begun = Instant::now();
    let outcome = long_run::run(plan, &mut Progress::begin());
    let text = report(plan, &outcome, begun.elapsed().as_secs_f64());
    if std::io::stdout().write_all(text.as_bytes()).is_err() || outcome.difference.is_some() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn plan(mut arguments: impl Iterator<Item = String>) -> Result<Plan, String> {
    let mut plan = Plan { comparisons: 100_000, seed: 1, jobs: 1 };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("`{name}` has no value"))?;
        let number: u64 = value.parse().map_err(|_| format!("`{name} {value}`: `{value}` is no number"))?;
        match name.as_str() {
            "--comparisons" if number > 0 => plan.comparisons = number,
            "--seed" => plan.seed = number,
            "--jobs" if (1..=256).contains(&number) => plan.jobs = number as usize,
            "--comparisons" | "--jobs" => return Err(format!("`{name} {value}` is out of bounds")),
            _ => return Err(format!("`{name}` is not known")),
        }
    }
    Ok(plan)
}

fn report(plan: Plan, outcome: &Outcome, seconds: f64) -> String {
    let mut text = String::new();
    for (name, count) in outcome.seen.counts() {
        text += &format!("{count:>12}  {name}\n");
    }
    let differences = u32::from(outcome.difference.is_some());
    if let Some((number, difference)) = &outcome.difference {
        text += &format!("\nset {number} of seed {}:\n{difference}\n", plan.seed);
    }
    let comparisons = outcome.seen.comparisons();
    text += &format!(
        "\n{comparisons} comparisons, {differences} differences, seed {}, {seconds:.0} s\n",
        plan.seed
    );
    text
}
