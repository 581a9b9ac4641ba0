//! The bundle that the binary carries, so that a first start needs nothing but the binary.

use std::fs::DirBuilder;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use engine::bundle::BundleSources;

// `SHIPPED: &[(&str, &str)]`, made by build.rs from the policies folder.
include!(concat!(env!("OUT_DIR"), "/shipped.rs"));

/// Why the shipped bundle could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{}`", path.display())]
pub struct WriteError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// Every file of the policies folder by relative path, with what is for people and tests.
#[must_use]
pub fn shipped() -> BundleSources {
    let files = SHIPPED.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    BundleSources { files }
}

/// Writes the shipped bundle into a directory that is not there yet, for its owner alone to change.
///
/// It is written aside and renamed whole, so that a start that was cut short leaves no half of a bundle behind.
///
/// # Errors
/// When the directory is there already, or cannot be written.
pub fn write_to(directory: &Path) -> Result<(), WriteError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| WriteError { path, source }
    };
    let mut name = directory.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let aside = directory.with_file_name(name);
    make_directory(&aside).map_err(failed(&aside))?;
    for (relative, text) in SHIPPED {
        let path = aside.join(relative);
        if let Some(parent) = path.parent() {
            make_directory(parent).map_err(failed(parent))?;
        }
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed(&path))?;
    }
    // Never over something: the directory may hold a person's edits.
    rustix::fs::renameat_with(
        rustix::fs::CWD,
        &aside,
        rustix::fs::CWD,
        directory,
        rustix::fs::RenameFlags::NOREPLACE,
    )
    .map_err(|error| {
        std::fs::remove_dir_all(&aside).ok();
        failed(directory)(error.into())
    })
}

fn make_directory(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
