//! `cedargate policy test`

use std::path::Path;

use engine::bundle::Bundle;
use engine::verify::{self, TestReport};

use super::super::out::say;
use super::{Factors, Failure, Policies};

/// Run the test cases beside the policies
///
/// Fails if a case is not decided as it says, or if a route has no case.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    policies: Policies,
    #[command(flatten)]
    factors: Factors,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let bundle = args.policies.load()?;
    let reports = reports(&bundle, &args.policies.directory.join("tests"), &args.factors.meant())?;
    let uncovered = verify::uncovered(&bundle, &reports);
    let failures: Vec<&String> = reports.iter().flat_map(|report| &report.failures).collect();
    failures.iter().for_each(|failure| say(format_args!("failed: {failure}")));
    uncovered.iter().for_each(|route| say(format_args!("without a case: {route}")));
    let passed: usize = reports.iter().map(|report| report.passed).sum();
    say(format_args!(
        "{passed} passed, {} failed, {} routes without a case",
        failures.len(),
        uncovered.len()
    ));
    if failures.is_empty() && uncovered.is_empty() {
        return Ok(());
    }
    Err(Failure::failed("the policies do not do what the cases say", "change the one or the other"))
}

fn reports(bundle: &Bundle, directory: &Path, factors: &verify::Factors) -> Result<Vec<TestReport>, Failure> {
    let unreadable = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::failed(
            format!("{}: {error}", path.display()),
            "put cases there, as policies/README.md shows",
        )
    };
    let entries = std::fs::read_dir(directory).map_err(|error| unreadable(directory, &error))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    paths.sort();
    let report = |path: &std::path::PathBuf| {
        let cases = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        verify::run_tests(bundle, &cases, factors).map_err(|error| unreadable(path, &error))
    };
    paths.iter().map(report).collect()
}
