//! `cedargate bundle`

use clap::Subcommand;

use super::failure::Failure;
use super::operate::{Target, text};
use super::out::say;
use crate::admin::control::Verb;

/// The policies of the running gateway: show, reload, rollback
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: BundleVerb,
}

#[derive(Debug, Subcommand)]
enum BundleVerb {
    /// Show the bundle that decides
    Show {
        #[command(flatten)]
        target: Target,
    },
    /// Read the policies directory again
    ///
    /// A bundle that loosens what holds now (a guardrail removed, a kill switch
    /// opened, a route's credentials widened) is taken only with --accept.
    Reload {
        #[command(flatten)]
        target: Target,
        /// The digest of the bundle whose loosenings are accepted
        #[arg(long, value_name = "ID")]
        accept: Option<String>,
    },
    /// Let the bundle before this one decide again
    Rollback {
        #[command(flatten)]
        target: Target,
    },
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    match args.verb {
        BundleVerb::Show { target } => target.have(Verb::BundleShow {}, |answer| {
            say(format_args!("bundle {}", digest(answer)));
            say(format_args!("routes {}", text(answer, "routes")));
        }),
        BundleVerb::Reload { target, accept } => target.have(Verb::BundleReload { accept }, changed),
        BundleVerb::Rollback { target } => target.have(Verb::BundleRollback {}, changed),
    }
}

fn changed(answer: &serde_json::Value) {
    let word = if text(answer, "changed") == "true" { "now decides" } else { "decides already" };
    say(format_args!("bundle {} {word}", digest(answer)));
}

/// Whole, because `--accept` wants it whole.
fn digest(answer: &serde_json::Value) -> &str {
    answer.get("bundle").and_then(|id| id.as_str()).unwrap_or("-")
}
