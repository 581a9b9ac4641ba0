//! `cedargate session`

use clap::Subcommand;
use uuid::Uuid;

use super::failure::Failure;
use super::operate::{Target, table, text};
use super::out::say;
use crate::admin::control::Verb;

/// Who is signed in: list, end, end-all
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: SessionVerb,
}

#[derive(Debug, Subcommand)]
enum SessionVerb {
    /// Show the live sessions
    List {
        #[command(flatten)]
        target: Target,
        /// Of one account, by login or id
        #[arg(long, value_name = "LOGIN")]
        account: Option<String>,
    },
    /// End a session: its next request is anonymous
    End {
        #[command(flatten)]
        target: Target,
        /// The session's id, as `session list` shows it
        id: Uuid,
    },
    /// End all sessions of an account
    EndAll {
        #[command(flatten)]
        target: Target,
        /// The login, or the account's id
        account: String,
    },
}

const COLUMNS: [(&str, &str); 6] = [
    ("ID", "id"),
    ("LOGIN", "login"),
    ("USED", "used"),
    ("ENDS", "absolute_end"),
    ("CLIENT", "client"),
    ("USER AGENT", "user_agent"),
];

pub(super) fn run(args: Args) -> Result<(), Failure> {
    match args.verb {
        SessionVerb::List { target, account } => {
            target.have(Verb::SessionList { account }, |answer| say(table(answer, &COLUMNS).trim_end()))
        }
        SessionVerb::End { target, id } => {
            target.have(Verb::SessionEnd { session: id }, |_| say(format_args!("ended {id}")))
        }
        SessionVerb::EndAll { target, account } => target.have(Verb::SessionEndAll { account }, |answer| {
            say(format_args!("ended all of {}", text(answer, "account")))
        }),
    }
}
