//! The command line: arguments to one verb a file.
//!
//! Exit codes: 0 done, 1 failed, 2 the arguments are not understood, 3 the configuration or the policies are at
//! fault. Errors go to stderr as `error: …` and `remedy: …`; what machines read goes to stdout.

mod account;
mod bundle;
mod check_config;
mod demo;
mod failure;
mod key;
mod limits;
mod oidc;
mod operate;
mod out;
mod password;
mod policy;
mod progress;
mod run;
mod session;
mod source;
mod token;
mod wrap;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A build that can be told to panic says so, because it is for tests alone.
const VERSION: &str = if cfg!(feature = "fault_injection") {
    concat!(env!("CARGO_PKG_VERSION"), " (fault injection: for tests alone)")
} else {
    env!("CARGO_PKG_VERSION")
};

const AFTER: &str = "\
Exit codes: 0 done, 1 failed, 2 arguments not understood, 3 configuration or
policies at fault.

Try it:  cedargate demo          then open the address that it prints
Run it:  cedargate check-config  then  cedargate run";

/// A security gateway that decides by policy.
#[derive(Debug, Parser)]
#[command(name = "cedargate", version = VERSION, max_term_width = 80, after_help = AFTER)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Demo(demo::Args),
    Run(run::Args),
    CheckConfig(check_config::Args),
    Account(account::Args),
    Key(key::Args),
    Session(session::Args),
    Limits(limits::Args),
    Bundle(bundle::Args),
    Policy(policy::Args),
    Oidc(oidc::Args),
    Token(token::Args),
}

/// Runs the process's command line.
#[must_use]
pub fn main() -> ExitCode {
    // What this process creates is for its user alone, whatever the shell's umask says.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    with(std::env::args_os())
}

fn with(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let verb = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli.verb,
        Err(error) => {
            // Help and version come as errors, too, and go to stdout with 0.
            error.print().ok();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let done = match verb {
        Verb::Demo(args) => demo::run(&args),
        Verb::Run(args) => run::run(&args),
        Verb::CheckConfig(args) => check_config::run(&args),
        Verb::Account(args) => account::run(args),
        Verb::Key(args) => key::run(args),
        Verb::Session(args) => session::run(args),
        Verb::Limits(args) => limits::run(args),
        Verb::Bundle(args) => bundle::run(args),
        Verb::Policy(args) => policy::run(&args),
        Verb::Oidc(args) => oidc::run(args),
        Verb::Token(args) => token::run(args),
    };
    done.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use std::process::ExitCode;

    use clap::CommandFactory;

    use super::Cli;

    /// Every page of help.
    fn pages(command: &mut clap::Command, told: &mut Vec<String>) {
        told.push(command.render_long_help().to_string());
        for verb in command.get_subcommands_mut() {
            pages(verb, told);
        }
    }

    #[test]
    fn exit_codes_say_what_went_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let faulty = directory.path().join("faulty.toml");
        std::fs::write(&faulty, "lisen = 1\n").unwrap();
        let faulty = faulty.to_str().unwrap();
        let check = |arguments: &[&str], code: u8| {
            let all = std::iter::once("cedargate").chain(arguments.iter().copied()).map(Into::into);
            assert_eq!(
                format!("{:?}", super::with(all)),
                format!("{:?}", ExitCode::from(code)),
                "{arguments:?}"
            );
        };
        check(&["--version"], 0);
        check(&["help", "run"], 0);
        check(&[], 2);
        check(&["rum"], 2);
        check(&["session", "end", "not-an-id"], 2);
        check(&["key", "add", "reports"], 2);
        check(&["check-config", "--config", faulty], 3);
        check(&["check-config", "--config", faulty, "--json"], 3);
        check(&["check-config", "--config", "/nonexistent"], 3);
        check(&["run", "--config", faulty], 3);
        check(&["policy", "check", "--policies", "/nonexistent"], 3);
        check(&["policy", "diff", "/nonexistent"], 2);
        check(&["policy", "diff", "/nonexistent", "/nonexistent"], 3);
        check(&["policy", "replay"], 2);
        check(&["policy", "replay", "/nonexistent", "--bundle", "/nonexistent"], 3);
        check(&["limits", "show"], 2);
        check(&["limits", "show", "planet", "mars"], 2);
        check(&["limits", "reset", "user"], 2);
        check(&["limits", "show", "user", "ada", "--data-dir", "/nonexistent"], 1);
        check(&["session", "list", "--data-dir", "/nonexistent"], 1);
    }

    #[test]
    fn every_page_of_help_fits_80_columns() {
        let mut command = Cli::command();
        command.build();
        let mut told = Vec::new();
        pages(&mut command, &mut told);
        assert!(told.len() > 2);
        for line in told.iter().flat_map(|page| page.lines()) {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
