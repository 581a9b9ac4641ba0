//! Builds what is measured, as it ships.

use std::ffi::OsStr;
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
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_package(name)) {
        command.env_remove(name);
    }
    let status = command.arg("--target-dir").arg(target()?).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("cargo: {status}").into()) }
}

/// Whether cargo says by this variable which package it runs. A build script that looks at one of them, as that of ring does,
/// would be run anew for a build from here and again for the next from a shell, and all that rests on it be built twice.
fn is_of_package(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("CARGO_PKG_")
        || name.starts_with("CARGO_MANIFEST_")
        || matches!(&*name, "CARGO_CRATE_NAME" | "CARGO_BIN_NAME" | "CARGO_PRIMARY_PACKAGE" | "OUT_DIR")
}

/// The target directory that this program itself was built in.
fn target() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()?;
    let target = own.parent().and_then(Path::parent).map(Path::to_owned);
    target.ok_or_else(|| "this program stands in no target directory".into())
}
