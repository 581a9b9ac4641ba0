//! The demo's directory: made for its owner alone, with random secrets that only this demo knows.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// Hex digits of a secret: 256 bits.
const SECRET_DIGITS: usize = 64;

/// Letters and digits that nobody takes for one another. 32 of them, so that each carries five whole bits.
const PASSWORD_ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Groups of a password, each of five characters: 100 bits.
const PASSWORD_GROUPS: usize = 4;

/// The store's file.
const STORE: &str = "store/store.redb";

/// Where secrets lie.
const SECRETS: &str = "secrets";

/// A directory that belongs to one demo.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
}

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The operating system said no.
    #[error("`{path}` cannot be used")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// Somebody else could read or replace what is kept there.
    #[error("`{path}` belongs to somebody else or is shared with everybody; name another with --data-dir")]
    NotOurs {
        /// The file or directory.
        path: PathBuf,
    },
    /// It is a gateway's in earnest.
    #[error("`{path}` holds the store of a gateway that is no demo; name another with --data-dir")]
    Production {
        /// The directory.
        path: PathBuf,
    },
    /// A secret's file holds something else.
    #[error("`{path}` does not hold 64 hex digits; remove the demo's directory to begin anew")]
    NotASecret {
        /// The file.
        path: PathBuf,
    },
    /// The system's randomness is away.
    #[error("the system gives no random bytes")]
    Randomness,
}

impl Directory {
    /// Makes the directory (0700), or takes one that is there, whatever else it holds. One that is there keeps its
    /// mode, less the permission of others to replace what lies in it; what the demo puts there is private by itself.
    ///
    /// # Errors
    /// It cannot be made, or is not ours to close (`/tmp` itself, for one).
    pub fn open(root: &Path) -> Result<Self, DirectoryError> {
        let failed = |source| DirectoryError::Io { path: root.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(failed)?;
        let root = fs::canonicalize(root).map_err(failed)?;
        // The store's own mark says it too, but only once secrets and policies of a demo lie beside it.
        if root.join(STORE).exists() && !root.join(SECRETS).exists() {
            return Err(DirectoryError::Production { path: root });
        }
        let facts = fs::metadata(&root).map_err(failed)?;
        // A directory with the sticky bit is everybody's: closing it would break the machine for others.
        if facts.uid() != rustix::process::geteuid().as_raw() || facts.mode() & 0o1000 != 0 {
            return Err(DirectoryError::NotOurs { path: root });
        }
        if facts.mode() & 0o022 != 0 {
            let closed = Permissions::from_mode(facts.mode() & 0o7755);
            fs::set_permissions(&root, closed).map_err(failed)?;
        }
        Ok(Self { root })
    }

    /// Its path, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// A file or directory in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The file of a secret of this demo, made with 256 random bits at first use.
    ///
    /// # Errors
    /// It can neither be read nor made, or holds something else.
    pub fn secret_file(&self, name: &str) -> Result<PathBuf, DirectoryError> {
        let secrets = self.root.join(SECRETS);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&secrets)
            .map_err(|source| DirectoryError::Io { path: secrets.clone(), source })?;
        let path = secrets.join(name);
        let failed = |source| DirectoryError::Io { path: path.clone(), source };
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => file.write_all(hex(random::<32>()?.as_slice()).as_bytes()).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
        self.secret(name).map(|_| path)
    }

    /// The text of a secret that [`Self::secret_file`] has made.
    ///
    /// # Errors
    /// It cannot be read, is open to others, or holds something else.
    pub fn secret(&self, name: &str) -> Result<Zeroizing<String>, DirectoryError> {
        let path = self.root.join(SECRETS).join(name);
        let text = self.read_private(&path)?;
        if text.len() != SECRET_DIGITS || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(DirectoryError::NotASecret { path });
        }
        Ok(text)
    }

    /// Reads a file that only its owner may read.
    ///
    /// # Errors
    /// It cannot be read or is open to others.
    pub fn read_private(&self, path: &Path) -> Result<Zeroizing<String>, DirectoryError> {
        let failed = |source| DirectoryError::Io { path: path.to_owned(), source };
        let mut file = OpenOptions::new().read(true).open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
            return Err(DirectoryError::NotOurs { path: path.to_owned() });
        }
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text).map_err(failed)?;
        Ok(text)
    }

    /// Writes a file that only its owner may read, whole or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_private(&self, name: &str, text: &str) -> Result<PathBuf, DirectoryError> {
        let path = self.root.join(name);
        let aside = self.root.join(format!(".{name}.new"));
        let write = || {
            // What an interrupted start left; its permissions are not known.
            if let Err(error) = fs::remove_file(&aside)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&aside, &path)
        };
        write().map_err(|source| DirectoryError::Io { path: path.clone(), source })?;
        Ok(path)
    }
}

/// A password that can be read aloud and typed: four groups of five characters.
///
/// # Errors
/// The system gives no random bytes.
pub fn random_password() -> Result<Zeroizing<String>, DirectoryError> {
    let bytes = random::<{ PASSWORD_GROUPS * 5 }>()?;
    let mut password = Zeroizing::new(String::with_capacity(PASSWORD_GROUPS * 6));
    for group in bytes.chunks(5) {
        if !password.is_empty() {
            password.push('-');
        }
        for byte in group {
            // 256 is a multiple of 32, so every character is equally likely.
            let letter = PASSWORD_ALPHABET.get(usize::from(byte % 32)).copied().unwrap_or(b'a');
            password.push(char::from(letter));
        }
    }
    Ok(password)
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, DirectoryError> {
    let mut bytes = Zeroizing::new([0; N]);
    SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| DirectoryError::Randomness)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 2));
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn secrets_are_random_per_directory_private_and_kept() {
        let parent = tempfile::tempdir().unwrap();
        let one = Directory::open(&parent.path().join("one")).unwrap();
        let two = Directory::open(&parent.path().join("two")).unwrap();
        let file = one.secret_file("encryption").unwrap();
        two.secret_file("encryption").unwrap();
        let first = one.secret("encryption").unwrap();
        one.secret_file("encryption").unwrap();
        assert_eq!(*first, *one.secret("encryption").unwrap());
        assert_ne!(*first, *two.secret("encryption").unwrap());
        assert_eq!((mode(one.path()), mode(&one.join("secrets")), mode(&file)), (0o700, 0o700, 0o600));

        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(one.secret("encryption"), Err(DirectoryError::NotOurs { .. })));
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, "not a secret").unwrap();
        assert!(matches!(one.secret_file("encryption"), Err(DirectoryError::NotASecret { .. })));
    }

    #[test]
    fn a_directory_with_other_files_is_taken_and_closed_to_writers() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("theirs.txt"), "kept").unwrap();
        fs::set_permissions(parent.path(), Permissions::from_mode(0o775)).unwrap();
        let directory = Directory::open(parent.path()).unwrap();
        assert_eq!(mode(directory.path()), 0o755);
        let written = directory.write_private("demo.json", "{}").unwrap();
        directory.write_private("demo.json", "{\"a\":1}").unwrap();
        assert_eq!(fs::read_to_string(&written).unwrap(), "{\"a\":1}");
        assert_eq!(mode(&written), 0o600);
        assert_eq!(fs::read_to_string(parent.path().join("theirs.txt")).unwrap(), "kept");

        fs::set_permissions(parent.path(), Permissions::from_mode(0o1777)).unwrap();
        assert!(matches!(Directory::open(parent.path()), Err(DirectoryError::NotOurs { .. })));
    }

    #[test]
    fn nothing_is_put_beside_the_store_of_a_gateway_in_earnest() {
        let parent = tempfile::tempdir().unwrap();
        fs::create_dir(parent.path().join("store")).unwrap();
        assert!(Directory::open(parent.path()).is_ok(), "a directory may be there for it already");
        fs::write(parent.path().join(STORE), "").unwrap();
        assert!(matches!(Directory::open(parent.path()), Err(DirectoryError::Production { .. })));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
        // A demo that was interrupted after its first secret goes on.
        fs::create_dir(parent.path().join("secrets")).unwrap();
        assert!(Directory::open(parent.path()).is_ok());
    }

    #[test]
    fn passwords_do_not_repeat() {
        let one = random_password().unwrap();
        assert_eq!(one.len(), 23);
        assert_ne!(*one, *random_password().unwrap());
    }
}
