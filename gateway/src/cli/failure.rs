//! How a verb ends when it does not do what it was asked.

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

use engine::bundle::BundleFault;
use storage::OpenError;

use crate::app::RunError;
use crate::config::fault::Faults;
use crate::shared_sessions::CredentialsError;

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

    /// The gateway did not start, or did not end as it should.
    #[expect(clippy::wildcard_enum_match_arm, reason = "only some errors have a remedy of their own")]
    pub(super) fn run(error: &RunError) -> Self {
        if let RunError::Bundle { faults, .. } = error {
            return Self::policies(faults);
        }
        if let RunError::Misfit(faults) = error {
            return Self::configuration(faults);
        }
        let remedy = match error {
            RunError::Store(error) => store_remedy(error),
            RunError::OwnCredentials(CredentialsError::OnlyHere(_)) => Some(
                "set `session.bring_credentials = true` for one start, or set `store/store.redb` in the data directory aside",
            ),
            RunError::OwnCredentials(CredentialsError::Brought(_)) => {
                Some("see whether that redis answers, and start again: what was brought is there")
            }
            RunError::Listen { .. } => Some("name another address, or stop what listens there"),
            _ => None,
        };
        Self::of(error, remedy.unwrap_or("run `cedargate check-config`"))
    }

    /// Invalid, and everything about it is told already on stdout.
    pub(super) fn told() -> Self {
        Self { code: INVALID, text: String::new() }
    }

    /// The verb failed, and everything about it is told already on stdout.
    pub(super) fn silent() -> Self {
        Self { code: FAILED, text: String::new() }
    }

    /// Tells it.
    pub(super) fn report(self) -> ExitCode {
        // Not `eprintln!`: a closed stderr must not change the exit code.
        std::io::Write::write_all(&mut std::io::stderr().lock(), self.text.as_bytes()).ok();
        ExitCode::from(self.code)
    }
}

/// What to do about a store that does not open.
#[expect(clippy::wildcard_enum_match_arm, reason = "only some errors have a remedy of their own")]
pub(super) fn store_remedy(error: &OpenError) -> Option<&'static str> {
    match error {
        OpenError::Held { .. } => Some("stop the gateway that runs on this data directory, or name another"),
        OpenError::WrongMark { .. } => {
            Some("name a data directory of its own: a demo's accounts are nobody's secret")
        }
        OpenError::WrongKey { .. } => Some("add the key that it was made with: keys.previous_encryption"),
        _ => None,
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
