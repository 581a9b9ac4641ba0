//! Where the configuration comes from.

use std::path::{Path, PathBuf};

use super::failure::Failure;
use crate::config::Config;
use crate::config::environment::Environment;

/// Read when no other is named and it is there.
const USUAL: &str = "cedargate.toml";

/// The configuration to use.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Source {
    /// The configuration file; otherwise ./cedargate.toml, if there is one
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

impl Source {
    /// The file, if there is one.
    pub(super) fn file(&self) -> Option<PathBuf> {
        self.config.clone().or_else(|| Path::new(USUAL).exists().then(|| PathBuf::from(USUAL)))
    }

    /// The checked configuration.
    pub(super) fn load(&self) -> Result<Config, Failure> {
        let environment = Environment::of_process();
        Config::load(self.file().as_deref(), &environment).map_err(|faults| Failure::configuration(&faults))
    }
}
