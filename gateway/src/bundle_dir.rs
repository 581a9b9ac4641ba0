//! Reads a policies directory so that nobody but its owner decides what is read (threat 17).
//!
//! Everything goes through descriptors of directories that were checked, so that no swap of a path gets between a
//! check and a read. All of it is read twice and must agree: a checkout or an editor's rename in between is a fault,
//! not a bundle without its guardrail.

mod descriptors;
mod shipped;
pub mod watch;

#[cfg(test)]
mod tests;

use std::path::Path;

use engine::bundle::{BundleFault, BundleSources};

use descriptors::{Directory, Entry, Guard};
pub use shipped::{WriteError, shipped, write_to};
pub use watch::{Watch, WatchError};

/// The bound of one file: schemas and route files of the largest product are a tenth of it.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// The bound of all files together.
pub const BUNDLE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The bound of the number of entries, whatever they are.
pub const BUNDLE_ENTRIES_MAX: usize = 4096;

/// The parts of a bundle that are folders, and how their files end.
const PARTS: [(&str, &str); 4] =
    [("guardrails", ".cedar"), ("grants", ".cedar"), ("entities", ".json"), ("routes", ".toml")];
const SINGLE: [&str; 2] = ["schema.cedarschema", "limits.toml"];
/// What lies beside a bundle and is for people and tests.
const BESIDE: [&str; 4] = ["README.md", "matrix.txt", "tests", "invariants"];

/// Reads a directory's bundle.
///
/// # Errors
/// Every entry that is unknown, too large, no regular file, a symlink, or writable by others than its owner, who is
/// root or this process's user; and files that changed while they were read.
pub fn read(directory: &Path) -> Result<BundleSources, Vec<BundleFault>> {
    read_twice(directory, || {})
}

/// Reads a work tree's bundle for a look at it: whose it is and who else writes there does not matter where nothing is
/// decided by it.
///
/// # Errors
/// As [`read`], but for owners and modes.
pub fn look_at(directory: &Path) -> Result<BundleSources, Vec<BundleFault>> {
    Reading::of(directory, Guard::Looking)
}

/// `between` runs between the two readings.
fn read_twice(directory: &Path, between: impl FnOnce()) -> Result<BundleSources, Vec<BundleFault>> {
    let first = Reading::of(directory, Guard::Deciding)?;
    between();
    let second = Reading::of(directory, Guard::Deciding)?;
    if first == second {
        return Ok(second);
    }
    let changed = second.files.iter().find(|(path, text)| first.files.get(*path) != Some(*text));
    let gone = first.files.keys().find(|path| !second.files.contains_key(*path));
    let file = changed.map(|(path, _)| path).or(gone).cloned().unwrap_or_default();
    Err(vec![BundleFault {
        file,
        line: None,
        message: "it changed while the bundle was read".into(),
        remedy: "wait until whatever writes there is done, and load again".into(),
    }])
}

#[derive(Default)]
struct Reading {
    sources: BundleSources,
    faults: Vec<BundleFault>,
    bytes: u64,
    entries: usize,
}

impl Reading {
    fn of(directory: &Path, guard: Guard) -> Result<BundleSources, Vec<BundleFault>> {
        let mut reading = Self::default();
        match Directory::open_root(directory, guard) {
            Ok(root) => reading.root(&root),
            Err(error) => reading.fault(&directory.display().to_string(), &error.message, error.remedy),
        }
        if reading.faults.is_empty() { Ok(reading.sources) } else { Err(reading.faults) }
    }

    fn root(&mut self, root: &Directory) {
        for name in self.names(root, "") {
            if BESIDE.contains(&name.as_str()) {
                continue;
            }
            if SINGLE.contains(&name.as_str()) {
                self.file(root, &name, &name);
            } else if let Some((part, ending)) = PARTS.into_iter().find(|(part, _)| *part == name) {
                self.part(root, part, ending);
            } else {
                self.fault(&name, "nothing of this name belongs to a bundle", "move it out of the directory");
            }
        }
    }

    fn part(&mut self, root: &Directory, part: &str, ending: &str) {
        let directory = match root.open_directory(part) {
            Ok(directory) => directory,
            Err(error) => return self.fault(&format!("{part}/"), &error.message, error.remedy),
        };
        for name in self.names(&directory, part) {
            let path = format!("{part}/{name}");
            if name.ends_with(ending) {
                self.file(&directory, &name, &path);
            } else {
                let message = format!("only files that end in `{ending}` belong here");
                self.fault(&path, &message, "rename it, or move it out of the directory");
            }
        }
    }

    /// The names in a directory, in order; what editors leave beside a file is passed over, and never read.
    fn names(&mut self, directory: &Directory, path: &str) -> Vec<String> {
        let entries = match directory.entries(BUNDLE_ENTRIES_MAX.saturating_sub(self.entries)) {
            Ok(entries) => entries,
            Err(error) => {
                self.fault(&format!("{path}/"), &error.message, error.remedy);
                return Vec::new();
            }
        };
        self.entries = self.entries.saturating_add(entries.len());
        let mut names = Vec::new();
        for entry in entries {
            match entry {
                Entry::Named(name) if name.starts_with(['.', '#']) || name.ends_with('~') => {}
                Entry::Named(name) => names.push(name),
                Entry::NotUnicode => {
                    self.fault(&format!("{path}/"), "a name in it is not UTF-8", "rename it");
                }
            }
        }
        names.sort();
        names
    }

    fn file(&mut self, directory: &Directory, name: &str, path: &str) {
        match directory.read_file(name, FILE_BYTES_MAX) {
            Ok(text) => {
                self.bytes = self.bytes.saturating_add(text.len() as u64);
                if self.bytes > BUNDLE_BYTES_MAX {
                    let message = format!("with it the bundle is larger than {BUNDLE_BYTES_MAX} bytes");
                    self.fault(path, &message, "remove what is not needed");
                    return;
                }
                self.sources.files.insert(path.to_owned(), text);
            }
            Err(error) => self.fault(path, &error.message, error.remedy),
        }
    }

    fn fault(&mut self, file: &str, message: &str, remedy: &str) {
        self.faults.push(BundleFault {
            file: file.to_owned(),
            line: None,
            message: message.to_owned(),
            remedy: remedy.to_owned(),
        });
    }
}
