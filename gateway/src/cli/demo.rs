//! `cedargate demo`

use super::failure::Failure;
use crate::demo::settings::SettingsError;
use crate::demo::{self, DemoArgs, DemoError};

/// Try it: a gateway with accounts and keys of its own, and an upstream
///
/// Needs nothing else. It prints what to open and whom to sign in as, and
/// keeps all of it in one directory. Nothing in there is for production.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    demo: DemoArgs,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    demo::run(&args.demo).map_err(|error| {
        if let DemoError::Run(error) = &error {
            return Failure::run(error);
        }
        if let DemoError::Settings(SettingsError::Faults(faults)) = &error {
            return Failure::configuration(faults);
        }
        Failure::of(&error, error.remedy())
    })
}
