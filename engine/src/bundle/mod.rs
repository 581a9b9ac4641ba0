//! A bundle: everything that decides, parsed and checked as one, swapped as one.

mod alike;
mod bounds;
mod check;
mod costs;
pub(crate) mod example;
mod hierarchy;
mod limits;
mod loosens;
mod place;
mod policies;
mod policy_file;
mod sensitive;
mod sources;
mod telling;
#[cfg(test)]
pub(crate) mod tests;
mod vocabulary;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use cedar_policy::PolicySet;

use crate::authz::{PolicyIndex, Prepared};
use crate::route::{RouteTable, read_file};
use limits::ReadLimits;
pub use limits::{CLASSES_MAX, Limits};
pub use loosens::Recounted;
use policies::{Policies, PolicyFiles};
use sources::{Digest, Part, SCHEMA, digest_of};
pub use telling::Progress;
use telling::Telling;

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
    /// Its `@limit_class`: the class of limits that what it permits is counted in, instead of the route's.
    pub limit_class: Option<Arc<str>>,
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
    facts: BTreeMap<Arc<str>, Arc<PolicyFacts>>,
    hierarchy: Arc<Hierarchy>,
    vocabulary: Arc<Vocabulary>,
    /// Parameters that are numbers in the schema, by action.
    numbers: BTreeMap<String, BTreeSet<String>>,
    prepared: Prepared,
    limits: Limits,
    /// The classes that policies give, by their ids; most bundles have none.
    classes: BTreeMap<Arc<str>, Arc<str>>,
    /// What the next bundle need not read again.
    read: ReadBefore,
}

/// What was read of files, for a bundle that has the same ones. What it holds is without a fault, as the bundle is.
struct ReadBefore {
    policies: PolicyFiles,
    /// Of the schema: what `vocabulary` and the validator's word on the policies follow from.
    schema: Digest,
    /// Of the entity files: what `hierarchy` follows from, with the schema.
    entities: Digest,
}

impl Bundle {
    /// Parses and checks the sources. Reports every fault that can be seen at once, sorted by place.
    ///
    /// # Errors
    /// All faults; a bundle with one fault does not exist.
    pub fn load(sources: &BundleSources) -> Result<Self, Vec<BundleFault>> {
        Self::load_telling(sources, &mut |_| ())
    }

    /// The same; `tell` is told how far it has come, about once a file.
    ///
    /// # Errors
    /// All faults; a bundle with one fault does not exist.
    pub fn load_telling(
        sources: &BundleSources,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Self, Vec<BundleFault>> {
        Self::loaded(sources, None, Telling::of(sources, tell))
    }

    /// The same bundle or the same faults as [`Bundle::load`] gives, sooner where files are those of an `earlier` one: what
    /// of it follows from their texts alone is taken over.
    ///
    /// # Errors
    /// All faults; a bundle with one fault does not exist.
    pub fn load_after(sources: &BundleSources, earlier: &Self) -> Result<Self, Vec<BundleFault>> {
        Self::loaded(sources, Some(earlier), Telling::of(sources, &mut |_| ()))
    }

    fn loaded(
        sources: &BundleSources,
        earlier: Option<&Self>,
        telling: Telling<'_>,
    ) -> Result<Self, Vec<BundleFault>> {
        let mut faults = Vec::new();
        let bundle = Self::read(sources, earlier, telling, &mut faults);
        match bundle {
            Some(bundle) if faults.is_empty() => Ok(bundle),
            Some(_) | None => {
                faults.sort();
                faults.dedup();
                Err(faults)
            }
        }
    }

    fn read(
        sources: &BundleSources,
        earlier: Option<&Self>,
        mut telling: Telling<'_>,
        faults: &mut Vec<BundleFault>,
    ) -> Option<Self> {
        sources.unknown(faults);
        let files = earlier.map(|earlier| &earlier.read.policies);
        let policies = Policies::read(sources, files, &mut telling, faults);
        if sources.part(Part::Guardrails).next().is_none() {
            let remedy =
                "a bundle without guardrails is most likely half a bundle: restore guardrails/*.cedar";
            faults.push(BundleFault::new("guardrails/", None, "no guardrails", remedy));
        }
        let limits = ReadLimits::of(sources, faults);
        let mut declared = Vec::new();
        for (file, text) in sources.part(Part::Routes) {
            declared.extend(read_file(file, text, &|class| limits.knows(class), faults));
        }
        if sources.part(Part::Routes).next().is_none() {
            faults.push(BundleFault::new("routes/", None, "no routes", "add routes/<module>.toml"));
        }
        let (vocabulary, schema) = Self::vocabulary_of(sources, earlier, faults)?;
        let same = earlier.filter(|earlier| earlier.read.schema == schema);
        let entities = digest_of(sources.part(Part::Entities));
        let hierarchy = match same.filter(|earlier| earlier.read.entities == entities) {
            Some(earlier) => Arc::clone(&earlier.hierarchy),
            None => Arc::new(Hierarchy::read(sources.part(Part::Entities), &vocabulary.schema, faults)),
        };
        policies.check(&vocabulary.schema, same.is_some(), &hierarchy, &mut telling, faults);
        bounds::check(&policies.facts, &hierarchy, faults);
        check::actions(&vocabulary, &hierarchy, &mut declared, faults);
        let numbers = check::numbers(&declared, faults);
        let Policies { set, facts, files, .. } = policies;
        let reason =
            |id: &str| facts.get(id).map_or_else(|| Arc::from(""), |facts| Arc::clone(&facts.reason));
        let prepared = Prepared::of(&set, &vocabulary, &hierarchy, &numbers, reason);
        bounds::nesting(&facts, prepared.index(), faults);
        declared.iter_mut().for_each(|row| prepared.place(&mut row.route));
        let routes = check::table(&declared, faults);
        if faults.is_empty() {
            limits.check(&declared, &facts, faults);
        }
        let given =
            facts.values().filter_map(|facts| Some((Arc::clone(&facts.id), facts.limit_class.clone()?)));
        let bundle = Self {
            id: sources.digest(),
            classes: given.collect(),
            limits: limits.limits,
            routes,
            policies: set,
            prepared,
            facts,
            hierarchy,
            vocabulary,
            numbers,
            read: ReadBefore { policies: files, schema, entities },
        };
        if faults.is_empty() {
            check::examples(&bundle, &declared, faults);
            costs::check(&bundle, &declared, faults);
        }
        Some(bundle)
    }

    /// The vocabulary, with the digest of the schema that it follows from.
    fn vocabulary_of(
        sources: &BundleSources,
        earlier: Option<&Self>,
        faults: &mut Vec<BundleFault>,
    ) -> Option<(Arc<Vocabulary>, Digest)> {
        let Some(text) = sources.files.get(SCHEMA) else {
            faults.push(BundleFault::new(SCHEMA, None, "the bundle has no schema", "add it"));
            return None;
        };
        let digest = digest_of([(SCHEMA, text.as_str())].into_iter());
        let vocabulary = match earlier.filter(|earlier| earlier.read.schema == digest) {
            Some(earlier) => Arc::clone(&earlier.vocabulary),
            None => Arc::new(Vocabulary::read(text, faults)?),
        };
        Some((vocabulary, digest))
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

    /// The limits that it brings along.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The classes of limits that these policies give to what they permit, each once. Where there are none, it is counted in
    /// the class of its route; where there are several, in all of them, and the tightest answers.
    #[must_use]
    pub fn classes_given<'a>(&self, deciding: impl Iterator<Item = &'a str>) -> Vec<&Arc<str>> {
        if self.classes.is_empty() {
            return Vec::new();
        }
        let mut given: Vec<&Arc<str>> = deciding.filter_map(|id| self.classes.get(id)).collect();
        given.sort_unstable();
        given.dedup();
        given
    }

    /// All its policies, sorted by id.
    pub fn policies(&self) -> impl Iterator<Item = &PolicyFacts> {
        self.facts.values().map(|facts| &**facts)
    }

    /// The policy of this id.
    #[must_use]
    pub fn policy(&self, id: &str) -> Option<&PolicyFacts> {
        self.facts.get(id).map(|facts| &**facts)
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
