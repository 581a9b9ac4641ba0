//! What it costs to load a bundle: seconds and memory, in a process of its own.

use std::process::Command;

use engine::authz::Decision;
use engine::bundle::{Bundle, BundleSources};
use gateway::clock;
use serde::{Deserialize, Serialize};

use super::mix::Dimensions;
use super::world::World;
use super::{rows, telling};
use crate::Failure;
use crate::figures::Figure;
use crate::process::memory;

/// What loading took.
#[derive(Debug, Deserialize, Serialize)]
struct Took {
    /// Seconds to parse, check and index.
    seconds: f64,
    /// The most memory that the process ever held, texts included.
    peak_bytes: u64,
    /// What it holds more than before it loaded.
    held_bytes: u64,
    /// Seconds to load it again beside itself after one file has changed.
    again_seconds: f64,
}

/// The rows of loading as many policies.
///
/// # Errors
/// The process fails.
pub(super) fn rows(policies: usize) -> Result<[Figure; 4], Failure> {
    telling(&format!("loading {policies} policies"));
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.args(["decide", "--load-one", &policies.to_string()]).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let took: Took = serde_json::from_slice(&output.stdout)?;
    Ok([
        Figure::once(format!("decide.load_seconds.{policies}"), took.seconds, "s"),
        Figure::once(format!("decide.load_peak_bytes.{policies}"), took.peak_bytes as f64, "bytes"),
        Figure::once(
            format!("decide.bytes_per_policy.{policies}"),
            took.held_bytes as f64 / policies as f64,
            "bytes/policy",
        ),
        Figure::once(format!("decide.load_again_seconds.{policies}"), took.again_seconds, "s"),
    ])
}

/// Loads one bundle and tells what it took.
///
/// # Errors
/// It does not load, or decides nothing.
pub(super) fn one(policies: usize) -> Result<(), Failure> {
    let mut world = World::generate(&Dimensions::of(policies, 0))?;
    let own = std::process::id();
    let before = memory(own, "VmRSS:")?;
    let begun = clock::instant();
    let bundle = rows::loaded(&world)?;
    let seconds = begun.elapsed().as_secs_f64();
    let held_bytes = memory(own, "VmRSS:")?.saturating_sub(before);
    let peak_bytes = memory(own, "VmHWM:")?;
    let again_seconds = again(&mut world.sources, &bundle)?;
    let took = Took { seconds, peak_bytes, held_bytes, again_seconds };
    // It decides, so it was loaded whole and is still there.
    let ask = world.asks.first().ok_or("nobody asks")?;
    let matched = ask.matched(&bundle)?;
    if matches!(bundle.decide(&ask.request(&matched, &[], 0)), Decision::Undecidable { .. }) {
        return Err("what was loaded cannot decide".into());
    }
    println!("{}", serde_json::to_string(&took)?);
    Ok(())
}

/// Changes one file of grants and loads again, as a gateway does when somebody saves it.
///
/// # Errors
/// It does not load.
fn again(sources: &mut BundleSources, bundle: &Bundle) -> Result<f64, Failure> {
    let grants = sources.files.iter_mut().find(|(path, _)| path.starts_with("grants/"));
    grants.ok_or("there are no grants")?.1.push_str("// One line more.\n");
    let begun = clock::instant();
    let again = Bundle::load_after(sources, bundle).map_err(|_faults| "it does not load again")?;
    let seconds = begun.elapsed().as_secs_f64();
    if again.id() == bundle.id() { Err("nothing has changed".into()) } else { Ok(seconds) }
}
