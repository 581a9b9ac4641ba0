//! Asks the policy index, and Cedar's `Authorizer`, every request of a folder in the form of Cedar's published corpus.
//!
//! `cedar_corpus DIR`; exits 1 where an answer is not the file's or there is no test, 2 where it was called wrongly.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use tests::cedar::corpus;
use tests::cedar::progress::Progress;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [folder] = arguments.as_slice() else {
        eprintln!(
            "usage: cedar_corpus DIR\nDIR is an unpacked corpus of Cedar's, or any folder in its form."
        );
        return ExitCode::from(2);
    };
    match corpus::run(Path::new(folder), &mut Progress::begin()) {
        Ok(report) => {
            let is_told = writeln!(std::io::stdout(), "{report}").is_ok();
            if is_told && report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(fault) => {
            eprintln!("cedar_corpus: {fault}");
            ExitCode::FAILURE
        }
    }
}
