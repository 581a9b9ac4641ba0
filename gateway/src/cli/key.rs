//! `cedargate key`

use std::time::Duration;

use clap::Subcommand;
use uuid::Uuid;

use super::account::set;
use super::failure::Failure;
use super::operate::{Target, table, text};
use super::out::{aside, say};
use crate::admin::control::Verb;
use crate::config;

/// API keys of services: add, list, revoke
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: KeyVerb,
}

#[derive(Debug, Subcommand)]
enum KeyVerb {
    /// Give a service a key; it is shown this once
    Add {
        #[command(flatten)]
        target: Target,
        /// The service's name
        service: String,
        /// What the key is good for: an action, a prefix as docs.* or *;
        /// again for more
        #[arg(long = "scope", value_name = "SCOPE", required = true)]
        scopes: Vec<String>,
        /// A role of the service; again for more
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// How long it lives, for example 90d; a year unless named
        #[arg(long, value_name = "DURATION", value_parser = lifetime)]
        lifetime: Option<Duration>,
    },
    /// Show all keys, without what proves them
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Make a key worthless from the next request on
    Revoke {
        #[command(flatten)]
        target: Target,
        /// The key's id, as `key list` shows it
        id: Uuid,
    },
}

const COLUMNS: [(&str, &str); 6] = [
    ("ID", "id"),
    ("SERVICE", "service"),
    ("SCOPES", "scopes"),
    ("ROLES", "roles"),
    ("LIVE", "live"),
    ("EXPIRES", "expires"),
];

pub(super) fn run(args: Args) -> Result<(), Failure> {
    match args.verb {
        KeyVerb::Add { target, service, scopes, roles, lifetime } => {
            let lifetime_s = lifetime.map(|lifetime| lifetime.as_secs());
            let verb = Verb::KeyAdd { service, scopes: set(scopes), roles: set(roles), lifetime_s };
            target.have(verb, |answer| {
                // The key alone on stdout, so that it can be piped to where it is kept.
                aside(format_args!("key {}, until {}:", text(answer, "id"), text(answer, "expires")));
                say(answer.get("api_key").and_then(|key| key.as_str()).unwrap_or_default());
            })
        }
        KeyVerb::List { target } => {
            target.have(Verb::KeyList {}, |answer| say(table(answer, &COLUMNS).trim_end()))
        }
        KeyVerb::Revoke { target, id } => {
            target.have(Verb::KeyRevoke { key: id }, |_| say(format_args!("revoked {id}")))
        }
    }
}

fn lifetime(text: &str) -> Result<Duration, String> {
    config::duration(text)
        .filter(|lifetime| *lifetime >= Duration::from_secs(1))
        .ok_or_else(|| "write digits and one of s, m, h, d, for example 90d".to_owned())
}
