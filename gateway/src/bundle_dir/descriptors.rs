//! Directories and files by descriptor: what is checked is what is read.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, Stat};

/// A directory that belongs to root or to us and that nobody else writes to.
pub(super) struct Directory {
    descriptor: OwnedFd,
    guard: Guard,
}

/// What the texts are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// They decide: owners and modes count.
    Deciding,
    /// They are looked at.
    Looking,
}

/// A name in a directory.
pub(super) enum Entry {
    /// As it is.
    Named(String),
    /// It is no UTF-8, so no fault can name it.
    NotUnicode,
}

/// Why something is not read.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) message: String,
    pub(super) remedy: &'static str,
}

const OWN_IT: &str = "chown it to root or to the gateway's user";
const CLOSE_IT: &str = "chmod go-w it: whoever writes there changes who may do what";

impl Directory {
    /// Opens the bundle's directory. It may be one symlink, so that a whole bundle can be swapped as one; a chain of
    /// them is refused, because each link more is another place where somebody else can turn it.
    pub(super) fn open_root(path: &Path, guard: Guard) -> Result<Self, Refused> {
        let target = match std::fs::read_link(path) {
            Ok(target) => path.parent().map_or_else(|| PathBuf::from(&target), |parent| parent.join(&target)),
            Err(_) => path.to_owned(),
        };
        Self::checked(rustix::fs::openat(CWD, &target, DIRECTORY, Mode::empty()), guard)
    }

    /// Opens a directory in this one; a symlink is refused.
    pub(super) fn open_directory(&self, name: &str) -> Result<Self, Refused> {
        Self::checked(rustix::fs::openat(&self.descriptor, name, DIRECTORY, Mode::empty()), self.guard)
    }

    fn checked(opened: rustix::io::Result<OwnedFd>, guard: Guard) -> Result<Self, Refused> {
        let descriptor = opened.map_err(|error| not_opened(error, "a directory"))?;
        let stat = rustix::fs::fstat(&descriptor).map_err(|error| broken(&error.into()))?;
        owned_and_closed(&stat, guard)?;
        Ok(Self { descriptor, guard })
    }

    /// The names in it, at most `entries_max`.
    pub(super) fn entries(&self, entries_max: usize) -> Result<Vec<Entry>, Refused> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.descriptor).map_err(|error| broken(&error.into()))? {
            let entry = entry.map_err(|error| broken(&error.into()))?;
            let name = match entry.file_name().to_str() {
                Ok("." | "..") => continue,
                Ok(name) => Entry::Named(name.to_owned()),
                Err(_) => Entry::NotUnicode,
            };
            if entries.len() >= entries_max {
                let message = "the bundle has too many entries".to_owned();
                return Err(Refused { message, remedy: "remove what is not needed" });
            }
            entries.push(name);
        }
        Ok(entries)
    }

    /// The text of a regular file in it.
    pub(super) fn read_file(&self, name: &str, bytes_max: u64) -> Result<String, Refused> {
        // Not blocking: a FIFO in its place would hold the load for ever.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let descriptor = rustix::fs::openat(&self.descriptor, name, flags, Mode::empty())
            .map_err(|error| not_opened(error, "a regular file"))?;
        let stat = rustix::fs::fstat(&descriptor).map_err(|error| broken(&error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(refused("it is not a regular file", "put a regular file in its place"));
        }
        owned_and_closed(&stat, self.guard)?;
        let mut bytes = Vec::new();
        File::from(descriptor)
            .take(bytes_max.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| broken(&error))?;
        if bytes.len() as u64 > bytes_max {
            let message = format!("it is larger than {bytes_max} bytes");
            return Err(Refused { message, remedy: "split it" });
        }
        String::from_utf8(bytes).map_err(|_| refused("it is not UTF-8 text", "write it in UTF-8"))
    }
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn owned_and_closed(stat: &Stat, guard: Guard) -> Result<(), Refused> {
    if guard == Guard::Looking {
        return Ok(());
    }
    if stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(refused("it belongs to another user", OWN_IT));
    }
    if stat.st_mode & 0o022 != 0 {
        let message = format!("others than its owner can write to it (mode {:04o})", stat.st_mode & 0o7777);
        return Err(Refused { message, remedy: CLOSE_IT });
    }
    Ok(())
}

fn not_opened(error: rustix::io::Errno, wanted: &str) -> Refused {
    use rustix::io::Errno;
    match error {
        Errno::LOOP | Errno::NOTDIR | Errno::NXIO => Refused {
            message: format!("it is a symlink, or not {wanted}"),
            remedy: "put the thing itself there; only the bundle's directory as a whole may be one symlink",
        },
        Errno::NOENT => {
            refused("there is no such file or directory", "name the directory that holds the bundle")
        }
        other => Refused {
            message: format!("it cannot be opened: {}", io::Error::from(other)),
            remedy: "let the gateway's user read it",
        },
    }
}

fn broken(error: &io::Error) -> Refused {
    Refused { message: format!("it cannot be read: {error}"), remedy: "look at the file system" }
}

fn refused(message: &str, remedy: &'static str) -> Refused {
    Refused { message: message.to_owned(), remedy }
}
