//! A bundle: everything that decides, parsed and checked as one, swapped as one.

mod bounds;
mod check;
pub(crate) mod example;
mod hierarchy;
mod loosens;
mod place;
mod policies;
mod sensitive;
mod sources;
#[cfg(test)]
pub(crate) mod tests;
mod vocabulary;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use cedar_policy::{Effect, PolicySet};

use crate::authz::{PolicyIndex, Prepared};
use crate::route::{RouteTable, read_file};
use policies::Policies;
use sources::{Part, SCHEMA};

pub(crate) use hierarchy::{Hierarchy, uid};
pub(crate) use place::Place;
pub(crate) use vocabulary::{Action, Vocabulary};

/// The texts of a bundle by relative path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BundleSources {
    /// Relative path with `/` separators, to text.
    pub files: BTreeMap<String, String>,
}

/// The digest of a bundle: 64 lower-case hex digits of SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BundleId(Arc<str>);

/// What is wrong with a bundle, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// What a policy says of itself, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFacts {
    /// Its `@id`.
    pub id: Arc<str>,
    /// Whether it is a guardrail.
    pub forbids: bool,
    /// Its `@reason`.
    pub reason: Arc<str>,
    /// Its `@owner`.
    pub owner: Arc<str>,
    /// Relative path of its file.
    pub file: String,
    /// Line on which it begins, from 1.
    pub line: usize,
    /// Its text, annotations included.
    pub text: String,
}

/// Everything that decides.
pub struct Bundle {
    id: BundleId,
    routes: RouteTable,
    policies: PolicySet,
    facts: BTreeMap<String, PolicyFacts>,
    hierarchy: Hierarchy,
    vocabulary: Vocabulary,
    /// Parameters that are numbers in the schema, by action.
    numbers: BTreeMap<String, BTreeSet<String>>,
    prepared: Prepared,
}

impl Bundle {
    /// Parses and checks the sources. Reports every fault that can be seen at once, sorted by place.
    ///
    /// # Errors
    /// All faults; a bundle with one fault does not exist.
    pub fn load(sources: &BundleSources) -> Result<Self, Vec<BundleFault>> {
        let mut faults = Vec::new();
        let bundle = Self::read(sources, &mut faults);
        match bundle {
            Some(bundle) if faults.is_empty() => Ok(bundle),
            Some(_) | None => {
                faults.sort();
                faults.dedup();
                Err(faults)
            }
        }
    }

    fn read(sources: &BundleSources, faults: &mut Vec<BundleFault>) -> Option<Self> {
        sources.unknown(faults);
        let mut policies = Policies::default();
        for (part, effect) in [(Part::Guardrails, Effect::Forbid), (Part::Grants, Effect::Permit)] {
            for (file, text) in sources.part(part) {
                policies.read(file, text, effect, faults);
            }
        }
        if sources.part(Part::Guardrails).next().is_none() {
            let remedy =
                "a bundle without guardrails is most likely half a bundle: restore guardrails/*.cedar";
            faults.push(BundleFault::new("guardrails/", None, "no guardrails", remedy));
        }
        let mut declared = Vec::new();
        for (file, text) in sources.part(Part::Routes) {
            declared.extend(read_file(file, text, faults));
        }
        if sources.part(Part::Routes).next().is_none() {
            faults.push(BundleFault::new("routes/", None, "no routes", "add routes/<module>.toml"));
        }
        let Some(schema) = sources.files.get(SCHEMA) else {
            faults.push(BundleFault::new(SCHEMA, None, "the bundle has no schema", "add it"));
            return None;
        };
        let vocabulary = Vocabulary::read(schema, faults)?;
        let hierarchy = Hierarchy::read(sources.part(Part::Entities), &vocabulary.schema, faults);
        policies.check(&vocabulary.schema, &hierarchy, faults);
        bounds::check(&policies.facts, &hierarchy, faults);
        check::actions(&vocabulary, &hierarchy, &mut declared, faults);
        let numbers = check::numbers(&declared, faults);
        let routes = check::table(&declared, faults);
        let Policies { set, facts } = policies;
        let reason =
            |id: &str| facts.get(id).map_or_else(|| Arc::from(""), |facts| Arc::clone(&facts.reason));
        let prepared = Prepared::of(&set, &vocabulary, &hierarchy, &numbers, reason);
        bounds::nesting(&facts, prepared.index(), faults);
        let bundle = Self {
            id: sources.digest(),
            routes,
            policies: set,
            prepared,
            facts,
            hierarchy,
            vocabulary,
            numbers,
        };
        if faults.is_empty() {
            check::examples(&bundle, &declared, faults);
        }
        Some(bundle)
    }

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

    /// All its policies, sorted by id.
    pub fn policies(&self) -> impl Iterator<Item = &PolicyFacts> {
        self.facts.values()
    }

    /// The policy of this id.
    #[must_use]
    pub fn policy(&self, id: &str) -> Option<&PolicyFacts> {
        self.facts.get(id)
    }

    /// Names of the roles that it declares.
    #[must_use]
    pub fn roles(&self) -> BTreeSet<String> {
        self.hierarchy.ids(&self.vocabulary.types.role)
    }

    /// Names of the groups that it declares.
    #[must_use]
    pub fn groups(&self) -> BTreeSet<String> {
        self.hierarchy.ids(&self.vocabulary.types.group)
    }

    /// Whether the action exists and is in `Action::"read"` alone; every other action is a write.
    #[must_use]
    pub fn is_read_only(&self, action: &str) -> bool {
        let action = self.vocabulary.actions.get(action);
        action.and_then(vocabulary::Action::read_only) == Some(true)
    }

    /// Whether the schema declares a parameter of this name `@sensitive`: then no record holds its value.
    #[must_use]
    pub fn is_sensitive(&self, parameter: &str) -> bool {
        self.prepared.is_sensitive(parameter) || self.prepared.is_sensitive(sensitive::PARAMETERS)
    }

    pub(crate) fn cedar(&self) -> &PolicySet {
        &self.policies
    }

    pub(crate) fn index(&self) -> &PolicyIndex {
        self.prepared.index()
    }

    pub(crate) fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    pub(crate) fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    pub(crate) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    pub(crate) fn is_number(&self, action: &str, parameter: &str) -> bool {
        self.numbers.get(action).is_some_and(|names| names.contains(parameter))
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle").field("id", &self.id).finish_non_exhaustive()
    }
}
