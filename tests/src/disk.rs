//! A disk that is small enough to be filled.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What fills it.
const FILLING: &str = "filling";

/// A file system of its own in memory; taken off when dropped. Mounting needs root, as `.ci/run` is.
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounts one of this many bytes at a folder, which is made, for its owner alone.
    #[must_use]
    pub fn mount(at: &Path, bytes: usize) -> Self {
        DirBuilder::new().recursive(true).mode(0o700).create(at).expect("a folder to mount at");
        let options = format!("size={bytes},mode=0700");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).status();
        assert!(status.expect("mount runs").success(), "a disk of its own needs root");
        Self { at: at.to_owned() }
    }

    /// Takes every byte that is left.
    pub fn fill(&self) {
        let mut file = File::create(self.at.join(FILLING)).expect("a file");
        while file.write_all(&[0; 512]).is_ok() {}
    }

    /// Gives them back.
    pub fn free(&self) {
        std::fs::remove_file(self.at.join(FILLING)).expect("the filling");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.at).status().ok();
    }
}
