//! Builds what is measured, as it ships.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;

/// The repository.
#[must_use]
pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The gateway, in release; `as_built` takes what an earlier build has left.
///
/// # Errors
/// It does not build.
pub(crate) fn cedargate(as_built: bool) -> Result<PathBuf, Failure> {
    cargo(as_built, &repository().join("Cargo.toml"), &["-p", "gateway", "--bin", "cedargate"])?;
    Ok(target()?.join("release/cedargate"))
}

/// The pass-through, in release and with the same target directory: what both depend on alike is built once.
///
/// # Errors
/// It does not build.
pub(crate) fn bare(as_built: bool) -> Result<PathBuf, Failure> {
    cargo(as_built, &repository().join("benchmarks/bare/Cargo.toml"), &[])?;
    Ok(target()?.join("release/bare"))
}

fn cargo(as_built: bool, manifest: &Path, selection: &[&str]) -> Result<(), Failure> {
    if as_built {
        return Ok(());
    }
    eprintln!("building {} …", manifest.parent().unwrap_or(manifest).display());
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["build", "--release", "--locked", "--quiet", "--manifest-path"])
        .arg(manifest)
        .args(selection);
    let status = command.arg("--target-dir").arg(target()?).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("cargo: {status}").into()) }
}

/// The target directory that this program itself was built in.
fn target() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()?;
    let target = own.parent().and_then(Path::parent).map(Path::to_owned);
    target.ok_or_else(|| "this program stands in no target directory".into())
}
