//! `cedargate run`

use super::failure::Failure;
use super::source::Source;
use crate::{logging, tls};

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
    tls::install_provider(config.tls_min_version)
        .map_err(|error| Failure::of(&error, "report this: nothing may install one before"))?;
    let log =
        logging::begin(&config.log).map_err(|error| Failure::of(&error, "name another: log.directory"))?;
    for notice in config.notices() {
        tracing::warn!("{notice}");
    }
    drop(log);
    Ok(())
}
