//! `cedargate policy matrix`

use std::io::Write;

use engine::verify;

use super::{Failure, Policies};

/// Show who may do what: every role against every route
///
/// The matrix lies beside the policies as matrix.txt, where a reviewer sees
/// what a change of policy changes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    policies: Policies,
    /// Write it to matrix.txt in the policies directory
    #[arg(long, conflicts_with = "check")]
    write: bool,
    /// Fail if matrix.txt in the policies directory says otherwise
    #[arg(long)]
    check: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let matrix = verify::matrix(&args.policies.load()?);
    let path = args.policies.directory.join("matrix.txt");
    if args.write {
        return std::fs::write(&path, matrix).map_err(|error| {
            Failure::failed(format!("cannot write {}: {error}", path.display()), "let it be written")
        });
    }
    if !args.check {
        // A reader that has seen enough closes the pipe; that is no failure.
        std::io::stdout().lock().write_all(matrix.as_bytes()).ok();
        return Ok(());
    }
    if std::fs::read_to_string(&path).is_ok_and(|written| written == matrix) {
        return Ok(());
    }
    let message = format!("{} does not say what the policies say", path.display());
    Err(Failure::failed(message, "run `cedargate policy matrix --write`, and read the difference"))
}
