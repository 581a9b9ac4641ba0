//! `cedargate run`

use storage::Mark;

use super::failure::Failure;
use super::out::say;
use super::source::Source;
use crate::app::{self, Start};
use crate::logging;

/// Run the gateway until SIGTERM or Ctrl-C
///
/// Reads the configuration file and the environment, loads the policies and
/// serves. Every fault is told at once before anything listens.
///
/// SIGTERM and Ctrl-C drain and stop; SIGHUP reads the policies again.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let config = args.source.load()?;
    // Held until the end, so that the last lines are written.
    let _log =
        logging::begin(&config.log).map_err(|error| Failure::of(&error, "name another: log.directory"))?;
    config.notices().iter().for_each(|notice| tracing::warn!("{notice}"));
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let ready = |ready: &app::Ready| {
        tracing::info!(gateway = %ready.gateway, admin = %ready.admin, "ready");
        say(format_args!("ready {scheme}://{}", ready.gateway));
    };
    app::run(Start { config, mark: Mark::Production, notice: None }, ready)
        .map_err(|error| Failure::run(&error))
}
