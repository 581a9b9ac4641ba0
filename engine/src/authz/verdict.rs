//! What policies say of a request, with those that say it by name.

use std::fmt;
use std::sync::Arc;

use super::index::{PolicyIndex, Positions};

/// What all policies together say of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict<'i> {
    /// Some policy permits and none forbids.
    pub permits: bool,
    /// The permitting policies, or the forbidding ones.
    pub determining: PolicyIds<'i>,
    /// Those whose evaluation failed. Cedar skips them: where a `forbid` is among them, whoever takes `permits` for the
    /// last word lets something pass that was to be forbidden.
    pub erring: PolicyIds<'i>,
}

/// Ids of policies, sorted.
///
/// Those that an index found are its own and are read when they are asked for: a copy of each would be counted beside its
/// text, which is in none of the processor's caches where policies are many.
#[derive(Clone)]
pub struct PolicyIds<'i>(Named<'i>);

#[derive(Clone)]
enum Named<'i> {
    Placed(&'i PolicyIndex, Positions),
    Given(Vec<Arc<str>>),
}

impl Verdict<'_> {
    /// The same, for as long as it is wanted.
    #[must_use]
    pub fn into_owned(self) -> Verdict<'static> {
        let Self { permits, determining, erring } = self;
        Verdict { permits, determining: determining.into_owned(), erring: erring.into_owned() }
    }
}

impl<'i> PolicyIds<'i> {
    /// Those at these places of an index, ascending.
    pub(super) const fn placed(index: &'i PolicyIndex, positions: Positions) -> Self {
        Self(Named::Placed(index, positions))
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let (index, positions, given) = match &self.0 {
            Named::Placed(index, positions) => (Some(index), positions.as_slice(), &[][..]),
            Named::Given(ids) => (None, &[][..], ids.as_slice()),
        };
        let placed = positions.iter().filter_map(move |position| index?.id(*position));
        placed.chain(given).map(|id| &**id)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Named::Placed(_, positions) => positions.len(),
            Named::Given(ids) => ids.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same, for as long as they are wanted.
    #[must_use]
    pub fn into_owned(self) -> PolicyIds<'static> {
        let ids = match self.0 {
            Named::Placed(index, positions) => {
                positions.iter().filter_map(|position| index.id(*position)).cloned().collect()
            }
            Named::Given(ids) => ids,
        };
        PolicyIds(Named::Given(ids))
    }
}

impl Default for PolicyIds<'_> {
    fn default() -> Self {
        Self(Named::Given(Vec::new()))
    }
}

/// Of ids in any order.
impl FromIterator<Arc<str>> for PolicyIds<'_> {
    fn from_iter<I: IntoIterator<Item = Arc<str>>>(ids: I) -> Self {
        let mut ids: Vec<_> = ids.into_iter().collect();
        ids.sort_unstable();
        Self(Named::Given(ids))
    }
}

impl PartialEq for PolicyIds<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for PolicyIds<'_> {}

impl fmt::Debug for PolicyIds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
