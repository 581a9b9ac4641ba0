//! How a verb ends when it does not do what it was asked.

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

use engine::bundle::BundleFault;

use crate::config::fault::Faults;

/// The verb failed.
const FAILED: u8 = 1;
/// The configuration or the policies are at fault.
const INVALID: u8 = 3;

/// What is told on stderr, and the exit code.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    /// The verb failed, and this can be done about it.
    pub(super) fn failed(message: impl AsRef<str>, remedy: impl AsRef<str>) -> Self {
        Self { code: FAILED, text: format!("error: {}\nremedy: {}\n", message.as_ref(), remedy.as_ref()) }
    }

    /// An error with its causes.
    pub(super) fn of(error: &dyn Error, remedy: impl AsRef<str>) -> Self {
        Self::failed(chain(error), remedy)
    }

    /// The configuration is at fault.
    pub(super) fn configuration(faults: &Faults) -> Self {
        let count = faults.0.len();
        let noun = if count == 1 { "fault" } else { "faults" };
        Self { code: INVALID, text: format!("error: {count} {noun} in the configuration\n{faults}\n") }
    }

    /// The policies are at fault.
    pub(super) fn policies(faults: &[BundleFault]) -> Self {
        let count = faults.len();
        let noun = if count == 1 { "fault" } else { "faults" };
        let mut text = format!("error: {count} {noun} in the policies\n");
        for BundleFault { file, line, message, remedy } in faults {
            let line = line.map(|line| format!(":{line}")).unwrap_or_default();
            writeln!(text, "{file}{line}: {message}\n  remedy: {remedy}").ok();
        }
        Self { code: INVALID, text }
    }

    /// Invalid, and everything about it is told already on stdout.
    pub(super) fn told() -> Self {
        Self { code: INVALID, text: String::new() }
    }

    /// Tells it.
    pub(super) fn report(self) -> ExitCode {
        // Not `eprintln!`: a closed stderr must not change the exit code.
        std::io::Write::write_all(&mut std::io::stderr().lock(), self.text.as_bytes()).ok();
        ExitCode::from(self.code)
    }
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(text, ": {error}").ok();
        cause = error.source();
    }
    text
}
