//! Looks for secrets where none may stand.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Shorter values would be found by chance.
const LENGTH_MIN: usize = 8;

/// The secrets that a test used, and how each is called in a finding.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    known: Vec<(String, Vec<u8>)>,
}

impl Secrets {
    /// Adds a secret, and the spellings in which it would leak just as well: base64, base64url, hex, and
    /// with its reserved characters escaped as in a form.
    pub fn add(&mut self, name: &str, value: &str) {
        assert!(value.len() >= LENGTH_MIN, "the secret {name} is too short to look for");
        let bytes = value.as_bytes();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let escape = |byte: &u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(*byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        };
        let escaped: String = bytes.iter().map(escape).collect();
        let spellings = [
            value.to_owned(),
            STANDARD_NO_PAD.encode(bytes),
            URL_SAFE_NO_PAD.encode(bytes),
            STANDARD.encode(bytes),
            hex,
            escaped,
        ];
        for spelling in spellings {
            self.known.push((name.to_owned(), spelling.into_bytes()));
        }
    }

    /// How many spellings are looked for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nothing is looked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The names of the secrets that stand in `bytes`.
    #[must_use]
    pub fn found_in(&self, bytes: &[u8]) -> Vec<String> {
        let holds = |secret: &[u8]| memchr::memmem::find(bytes, secret).is_some();
        let mut names: Vec<String> =
            self.known.iter().filter(|(_, secret)| holds(secret)).map(|(name, _)| name.clone()).collect();
        names.dedup();
        names
    }

    /// Every finding in the files under `folder`, as `file: secret`; files and folders in `meant_to_hold` are
    /// left out.
    #[must_use]
    pub fn found_under(&self, folder: &Path, meant_to_hold: &[PathBuf]) -> Vec<String> {
        let mut findings = Vec::new();
        let Ok(entries) = std::fs::read_dir(folder) else { return findings };
        for entry in entries.filter_map(Result::ok) {
            let path = entry.path();
            if meant_to_hold.contains(&path) {
                continue;
            }
            if path.is_dir() {
                findings.extend(self.found_under(&path, meant_to_hold));
            } else if path.is_file() {
                let names = self.found_in(&std::fs::read(&path).unwrap_or_default());
                findings.extend(names.into_iter().map(|name| format!("{}: {name}", path.display())));
            }
        }
        findings
    }
}
