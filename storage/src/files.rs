//! Directories and files that nobody else on the machine may read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why a private directory or file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// The system refused.
    #[error("cannot use `{}`", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Other users of the machine can read or write it.
    #[error("`{}` is open to other users (mode {mode:o}); close it with `chmod go= {}`", path.display(), path.display())]
    Exposed {
        /// What is exposed.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to another user, who could put anything there.
    #[error("`{}` belongs to user {owner}, not to the user that runs this program", path.display())]
    NotOurs {
        /// What is not ours.
        path: PathBuf,
        /// The owner's user id.
        owner: u32,
    },
    /// It is a symbolic link or something else that a directory or regular file was expected to be.
    #[error("`{}` is not a plain file or directory", path.display())]
    NotPlain {
        /// What it is about.
        path: PathBuf,
    },
}

/// Makes sure that `path` is a directory of ours with mode 0700; parents that are missing get the same mode.
pub(crate) fn private_dir(path: &Path) -> Result<(), PrivateError> {
    let io = |source| PrivateError::Io { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
    check(path, fs::symlink_metadata(path).map_err(io)?.is_dir())
}

/// Opens `path` with `options`, creating it with mode 0600, never through a symbolic link.
pub(crate) fn private_file(path: &Path, options: &mut OpenOptions) -> Result<File, PrivateError> {
    let io = |source| PrivateError::Io { path: path.to_owned(), source };
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let file = options.mode(0o600).custom_flags(no_follow).open(path).map_err(io)?;
    check(path, file.metadata().map_err(io)?.is_file())?;
    Ok(file)
}

fn check(path: &Path, plain: bool) -> Result<(), PrivateError> {
    let metadata =
        fs::symlink_metadata(path).map_err(|source| PrivateError::Io { path: path.to_owned(), source })?;
    if !plain {
        return Err(PrivateError::NotPlain { path: path.to_owned() });
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(PrivateError::NotOurs { path: path.to_owned(), owner: metadata.uid() });
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(PrivateError::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_made_is_private_and_what_is_open_to_others_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let (dir, file) = (home.path().join("a/b"), home.path().join("a/b/file"));
        private_dir(&dir).unwrap();
        private_file(&file, OpenOptions::new().append(true).create(true)).unwrap();
        assert_eq!((mode(&dir), mode(&file)), (0o700, 0o600));

        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let again = private_file(&file, OpenOptions::new().append(true));
        assert!(matches!(again, Err(PrivateError::Exposed { mode: 0o640, .. })));
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(private_dir(&dir), Err(PrivateError::Exposed { mode: 0o755, .. })));
    }

    #[test]
    fn links_are_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let (real, link) = (home.path().join("real"), home.path().join("link"));
        private_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        assert!(matches!(private_dir(&link), Err(PrivateError::NotPlain { .. })));
        let (target, link) = (real.join("target"), real.join("link"));
        fs::write(&target, "").unwrap();
        symlink(&target, &link).unwrap();
        assert!(matches!(private_file(&link, OpenOptions::new().append(true)), Err(PrivateError::Io { .. })));
    }
}
