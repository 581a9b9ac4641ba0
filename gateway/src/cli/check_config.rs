//! `cedargate check-config`

use engine::bundle::{Bundle, BundleFault};
use serde_json::json;

use super::failure::Failure;
use super::source::Source;
use crate::bundle_dir;
use crate::config::Config;
use crate::config::environment::Environment;
use crate::config::fault::{Fault, Faults, Place};

/// Check configuration, keys, certificates and policies without running
///
/// Checks the configuration file, the environment, keys, certificates and the
/// policies as `run` would, tells every fault at once, and asks what it cannot
/// see for itself.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
    /// Tell it as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let file = args.source.file();
    let found = Config::load(file.as_deref(), &Environment::of_process());
    let checked = found.and_then(|config| with_bundle(&config).map(|bundle| (config, bundle)));
    if args.json {
        return as_json(&checked);
    }
    let (config, bundle) = checked.map_err(|faults| Failure::configuration(&faults))?;
    let file = file.map_or_else(|| "the environment".into(), |file| file.display().to_string());
    println!("well: {file}");
    println!("well: {} with {} routes", config.policies_dir.display(), bundle.routes().routes().len());
    println!("      bundle {}", bundle.id());
    config.notices().iter().for_each(|notice| println!("notice: {notice}"));
    config.questions().iter().for_each(|question| println!("question: {question}"));
    Ok(())
}

fn as_json(checked: &Result<(Config, Bundle), Faults>) -> Result<(), Failure> {
    let told = match checked {
        Ok((config, bundle)) => json!({
            "valid": true,
            "faults": [],
            "bundle": bundle.id().to_string(),
            "notices": config.notices(),
            "questions": config.questions(),
        }),
        Err(faults) => json!({ "valid": false, "faults": faults.0 }),
    };
    println!("{told}");
    checked.as_ref().map(|_| ()).map_err(|_| Failure::told())
}

/// The bundle that the configuration names, if both hold and fit.
fn with_bundle(config: &Config) -> Result<Bundle, Faults> {
    let loaded = bundle_dir::read(&config.policies_dir).and_then(|sources| Bundle::load(&sources));
    let in_directory = |BundleFault { file, line, message, remedy }| {
        let place = Place::File { path: config.policies_dir.join(file), line };
        Fault { place, message, remedy }
    };
    let bundle = loaded.map_err(|faults| Faults(faults.into_iter().map(in_directory).collect()))?;
    let misses = config.misses(&bundle);
    if misses.is_empty() { Ok(bundle) } else { Err(Faults(misses)) }
}
