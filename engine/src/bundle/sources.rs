//! Which files make a bundle, and their digest.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{BundleFault, BundleId, BundleSources};

/// The file that declares principals, resources, actions and context.
pub(super) const SCHEMA: &str = "schema.cedarschema";
/// The file that brings limits along. A bundle may do without.
pub(super) const LIMITS: &str = "limits.toml";

/// What tells one text from another.
pub(super) type Digest = [u8; 32];

/// What a file in a bundle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Schema,
    Limits,
    Guardrails,
    Grants,
    Entities,
    Routes,
}

impl BundleSources {
    /// Whether a file of the policy folder is part of the bundle. Documentation, goldens, test cases and
    /// invariants stand beside the bundle and decide nothing; everything else counts, and is refused at load
    /// if nobody knows what it is.
    #[must_use]
    pub fn belongs(path: &str) -> bool {
        let beside = ["README.md", "matrix.txt"].contains(&path)
            || ["tests/", "invariants/"].iter().any(|folder| path.starts_with(folder));
        !beside
    }

    /// The digest of what belongs.
    #[must_use]
    pub fn digest(&self) -> BundleId {
        let belonging = self.files.iter().filter(|(path, _)| Self::belongs(path));
        let digest = digest_of(belonging.map(|(path, text)| (path.as_str(), text.as_str())));
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        BundleId(Arc::from(hex))
    }

    /// Files of one part, in path order.
    pub(super) fn part(&self, part: Part) -> impl Iterator<Item = (&str, &str)> {
        let of_part = move |path: &String| part_of(path) == Some(part);
        let files = self.files.iter().filter(move |(path, _)| of_part(path));
        files.map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// A file nobody reads is a fault: a typo in a folder's name must not silently drop a guardrail.
    pub(super) fn unknown(&self, faults: &mut Vec<BundleFault>) {
        for path in self.files.keys() {
            if Self::belongs(path) && part_of(path).is_none() {
                let message = "no part of a bundle has this name";
                let remedy = "use schema.cedarschema, limits.toml, guardrails/*.cedar, grants/*.cedar, \
                              entities/*.json or routes/*.toml, or move the file elsewhere";
                faults.push(BundleFault::new(path, None, message, remedy));
            }
        }
    }
}

impl BundleId {
    /// The 64 hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same, for whoever keeps it.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SHA-256 of these files, by path and text.
pub(super) fn digest_of<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Digest {
    let mut hash = Sha256::new();
    for (path, text) in files {
        // Length-prefixed, so that no text can pretend to be the next file.
        for part in [path, text] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
    }
    hash.finalize().into()
}

fn part_of(path: &str) -> Option<Part> {
    if path == SCHEMA {
        return Some(Part::Schema);
    }
    if path == LIMITS {
        return Some(Part::Limits);
    }
    let (folder, name) = path.split_once('/')?;
    let (stem, extension) = name.rsplit_once('.')?;
    if stem.is_empty() || stem.starts_with('.') || name.contains('/') {
        return None;
    }
    match (folder, extension) {
        ("guardrails", "cedar") => Some(Part::Guardrails),
        ("grants", "cedar") => Some(Part::Grants),
        ("entities", "json") => Some(Part::Entities),
        ("routes", "toml") => Some(Part::Routes),
        _ => None,
    }
}
