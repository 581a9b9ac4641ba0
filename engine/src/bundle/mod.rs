//! A bundle: everything that decides, parsed and checked as one, swapped as one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::route::RouteTable;

/// The texts of a bundle by relative path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BundleSources {
    /// Relative path with `/` separators, to text.
    pub files: BTreeMap<String, String>,
}

/// The digest of a bundle: 64 lower-case hex digits of SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BundleId(Arc<str>);

impl fmt::Display for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong with a bundle, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleFault {
    /// Relative path of the file.
    pub file: String,
    /// Line, from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// Everything that decides.
#[derive(Debug)]
pub struct Bundle {
    id: BundleId,
    routes: RouteTable,
}

impl Bundle {
    /// The digest of its sources.
    #[must_use]
    pub fn id(&self) -> &BundleId {
        &self.id
    }

    /// Its routes.
    #[must_use]
    pub fn routes(&self) -> &RouteTable {
        &self.routes
    }
}
