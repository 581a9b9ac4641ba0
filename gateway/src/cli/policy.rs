//! `cedargate policy`: what can be asked of a bundle without running it.

mod check;
mod diff;
mod explain;
mod matrix;
mod replay;
mod test;

use std::path::PathBuf;

use clap::Subcommand;
use engine::bundle::{Bundle, BundleFault};
use engine::verify;

use super::failure::Failure;
use super::progress::Progress;
use crate::bundle_dir;

/// Check, compare, test and explain policies, and decide again what was
/// recorded, without running the gateway
///
/// Everything here only reads the policies directory, and asks the same engine
/// that decides requests.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Check(check::Args),
    Diff(diff::Args),
    Matrix(matrix::Args),
    Test(test::Args),
    Explain(Box<explain::Args>),
    Replay(replay::Args),
}

/// Where the policies lie.
#[derive(Clone, Debug, clap::Args)]
struct Policies {
    /// The policies directory
    #[arg(long = "policies", visible_alias = "bundle", value_name = "DIR", default_value = "policies")]
    directory: PathBuf,
}

/// By which words providers say that two factors were proved.
#[derive(Clone, Debug, clap::Args)]
struct Factors {
    /// An `acr` by which two factors are proved, as `mfa_acr` of a provider
    /// says; again for more
    #[arg(long = "mfa-acr", value_name = "ACR")]
    mfa_acr: Vec<String>,
    /// An `amr` by which two factors are proved, as `mfa_amr` of a provider
    /// says; again for more. `mfa` unless given
    #[arg(long = "mfa-amr", value_name = "AMR")]
    mfa_amr: Vec<String>,
}

impl Factors {
    fn meant(&self) -> verify::Factors {
        let usual = verify::Factors::default();
        let amr = if self.mfa_amr.is_empty() { usual.amr } else { self.mfa_amr.iter().cloned().collect() };
        verify::Factors { acr: self.mfa_acr.iter().cloned().collect(), amr }
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match &args.verb {
        Verb::Check(args) => check::run(args),
        Verb::Diff(args) => diff::run(args),
        Verb::Matrix(args) => matrix::run(args),
        Verb::Test(args) => test::run(args),
        Verb::Explain(args) => explain::run(args),
        Verb::Replay(args) => replay::run(args),
    }
}

impl Policies {
    /// Their bundle. Who waits for a large one at a terminal is told how far it has come.
    fn load(&self) -> Result<Bundle, Failure> {
        self.load_telling().map_err(|faults| Failure::policies(&faults))
    }

    fn load_telling(&self) -> Result<Bundle, Vec<BundleFault>> {
        let mut progress = Progress::begin();
        let loaded = bundle_dir::look_at(&self.directory).and_then(|sources| {
            Bundle::load_telling(&sources, &mut |come| {
                progress.at(come.done, Some(come.all), "checking policies");
            })
        });
        progress.clear();
        loaded
    }

    /// The same for programs, without a word.
    fn load_silently(&self) -> Result<Bundle, Vec<BundleFault>> {
        bundle_dir::look_at(&self.directory).and_then(|sources| Bundle::load(&sources))
    }
}
