//! `cedargate check-config`

use std::path::Path;

use engine::bundle::{Bundle, BundleFault};
use serde_json::json;

use super::failure::Failure;
use super::out::say;
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
    let checked = checked(file.as_deref());
    if args.json {
        return as_json(&checked);
    }
    let (config, bundle) = checked.map_err(|faults| Failure::configuration(&faults))?;
    let file = file.map_or_else(|| "the environment".into(), |file| file.display().to_string());
    say(format_args!("well: {file}"));
    say(format_args!(
        "well: {} with {} routes",
        config.policies_dir.display(),
        bundle.routes().routes().len()
    ));
    say(format_args!("      bundle {}", bundle.id()));
    notices(&config, &bundle).iter().for_each(|notice| say(format_args!("notice: {notice}")));
    config.questions().iter().for_each(|question| say(format_args!("question: {question}")));
    Ok(())
}

fn as_json(checked: &Result<(Config, Bundle), Faults>) -> Result<(), Failure> {
    let told = match checked {
        Ok((config, bundle)) => json!({
            "valid": true,
            "faults": [],
            "bundle": bundle.id().to_string(),
            "notices": notices(config, bundle),
            "questions": config.questions(),
        }),
        Err(faults) => json!({ "valid": false, "faults": faults.0 }),
    };
    say(told);
    checked.as_ref().map(|_| ()).map_err(|_| Failure::told())
}

fn notices(config: &Config, bundle: &Bundle) -> Vec<String> {
    config.notices().iter().cloned().chain(config.outdone(bundle)).collect()
}

/// Configuration and bundle, if both hold and fit; otherwise the faults of both.
pub(super) fn checked(file: Option<&Path>) -> Result<(Config, Bundle), Faults> {
    let config = Config::load(file, &Environment::of_process());
    let directory = Config::policies_dir_of(file);
    let bundle = directory.as_ref().ok().map(|directory| bundle(directory));
    match (config, bundle) {
        (Ok(config), Some(Ok(bundle))) => {
            let misses = config.misses(&bundle);
            if misses.is_empty() { Ok((config, bundle)) } else { Err(Faults(misses)) }
        }
        (config, bundle) => {
            let faults = config.err().into_iter().chain(bundle.and_then(Result::err));
            Err(Faults(faults.flat_map(|faults| faults.0).collect()))
        }
    }
}

fn bundle(directory: &Path) -> Result<Bundle, Faults> {
    let loaded = bundle_dir::read(directory).and_then(|sources| Bundle::load(&sources));
    let placed = |BundleFault { file, line, message, remedy }| {
        // A fault of the directory itself names it whole.
        let path =
            if directory.as_os_str() == file.as_str() { directory.into() } else { directory.join(file) };
        Fault { place: Place::File { path, line }, message, remedy }
    };
    loaded.map_err(|faults| Faults(faults.into_iter().map(placed).collect()))
}

#[cfg(test)]
mod tests {
    use super::checked;
    use crate::bundle_dir;

    #[test]
    fn faults_of_configuration_and_bundle_are_told_together_and_then_whether_they_fit() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let told = |text: &str| {
            std::fs::write(at("cedargate.toml"), text).unwrap();
            checked(Some(&at("cedargate.toml"))).map(|_| ()).map_err(|faults| faults.to_string())
        };
        let both = told("lisen = 1\n").unwrap_err();
        assert!(both.contains("unknown key `lisen`"), "{both}");
        assert!(both.contains(&format!("{}: there is no such", at("policies").display())), "{both}");

        let whole = whole(directory.path());
        bundle_dir::write_to(&at("policies")).unwrap();
        let misfit = told(&whole).unwrap_err();
        assert!(misfit.contains("goes to upstream `botserver`, which is not configured"), "{misfit}");
        assert_eq!(misfit.matches("remedy").count(), 1, "{misfit}");
        let upstream = "[upstreams.botserver]\naddresses = [\"127.0.0.1:1\"]\nidentity = \"botserver\"\n";
        assert_eq!(told(&format!("{whole}{upstream}")), Ok(()));
    }

    /// A configuration with keys in files.
    fn whole(directory: &std::path::Path) -> String {
        use std::os::unix::fs::PermissionsExt;
        let mut text = "hosts = [{ public_url = \"https://app.example\" }]\n[keys]\n".to_owned();
        for (key, first) in [("encryption", "8f"), ("database", "41"), ("jwt_secret", "c9")] {
            let path = directory.join(key);
            std::fs::write(
                &path,
                format!("{first}3a1c9be07d45526e914fb8a2c3d6070b5ae8f19c24d37786e1fa4c0d9b3512"),
            )
            .unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            text.push_str(&format!("{key} = \"file:{}\"\n", path.display()));
        }
        text
    }
}
