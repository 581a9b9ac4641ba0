//! All policies of a bundle: ids that are taken once, and the validator's word on them.
//!
//! What of a load is spared where only some files changed. An earlier bundle is without a fault, and so is each file that
//! stands in it. Cedar's validator judges a policy by itself and the schema (`validate_with_level` joins what it says of
//! each), so a file that is the same is not judged again under the same schema, and of policies that are alike (`alike`) one
//! is. What one file can do to another is looked
//! at in every load: whether an id is taken, and whether what a policy names is declared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{Effect, EntityUid, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};

use super::alike::Alike;
use super::hierarchy::Hierarchy;
use super::policy_file::{PolicyFile, ReadPolicy, Sound};
use super::sources::{Part, digest_of};
use super::{BundleFault, BundleSources, PolicyFacts, Telling};

/// How far a policy may follow attributes from principal or resource. The slice of entities that a decision is
/// given holds these two and nothing behind them.
const DEREFERENCES_MAX: u32 = 1;

/// Files that were read, by their paths.
pub(super) type PolicyFiles = BTreeMap<String, Arc<PolicyFile>>;

/// All policies of a bundle while it is read.
#[derive(Default)]
pub(super) struct Policies {
    pub(super) set: PolicySet,
    pub(super) facts: BTreeMap<Arc<str>, Arc<PolicyFacts>>,
    pub(super) files: PolicyFiles,
    /// Paths of those that were taken from the earlier bundle.
    same: BTreeSet<String>,
}

impl Policies {
    /// Reads the files, guardrails first. What stands in `earlier` with the same text is taken from there.
    pub(super) fn read(
        sources: &BundleSources,
        earlier: Option<&PolicyFiles>,
        telling: &mut Telling<'_>,
        faults: &mut Vec<BundleFault>,
    ) -> Self {
        let mut policies = Self::default();
        for (part, effect) in [(Part::Guardrails, Effect::Forbid), (Part::Grants, Effect::Permit)] {
            for (path, text) in sources.part(part) {
                let digest = digest_of([(path, text)].into_iter());
                let same = earlier.and_then(|files| files.get(path)).filter(|file| file.is(&digest));
                let file = match same {
                    Some(file) => {
                        policies.same.insert(path.to_owned());
                        Arc::clone(file)
                    }
                    None => Arc::new(PolicyFile::read(path, text, digest, effect)),
                };
                policies.add(&file, faults);
                policies.files.insert(path.to_owned(), file);
                telling.done(text.len());
            }
        }
        policies
    }

    fn add(&mut self, file: &PolicyFile, faults: &mut Vec<BundleFault>) {
        faults.extend_from_slice(file.faults());
        for policy in file.policies() {
            let ReadPolicy { id, line, sound } = policy;
            if let Some(first) = self.facts.get(id) {
                let message = format!("@id `{id}` is taken by {}:{}", first.file, first.line);
                let remedy = "rename one of them: an id names one policy";
                faults.push(BundleFault::new(file.path(), Some(*line), message, remedy));
                continue;
            }
            let Some(Sound { policy, facts }) = sound else { continue };
            if let Err(error) = self.set.add(policy.clone()) {
                let remedy = "give the policy an @id of its own";
                faults.push(BundleFault::new(file.path(), Some(*line), error.to_string(), remedy));
            }
            self.facts.insert(Arc::clone(id), Arc::clone(facts));
        }
    }

    /// Holds the policies against the schema and against the declared entities. Where the schema is that of the earlier
    /// bundle, the files that were taken from there have been held against it.
    pub(super) fn check(
        &self,
        schema: &Schema,
        is_same_schema: bool,
        hierarchy: &Hierarchy,
        telling: &mut Telling<'_>,
        faults: &mut Vec<BundleFault>,
    ) {
        let (validator, mut alike) = (Validator::new(schema.clone()), Alike::new(schema));
        for (path, file) in &self.files {
            if !is_same_schema || !self.same.contains(path) {
                self.validate(&validator, &mut alike, file, faults);
            }
            telling.done(file.bytes());
        }
        for policy in self.set.policies() {
            let mut unknown: Vec<EntityUid> = policy.entity_literals();
            unknown.retain(|uid| !hierarchy.knows(uid));
            unknown.sort();
            unknown.dedup();
            // A guardrail on a misspelt role would never forbid anyone.
            for uid in unknown {
                let remedy = "declare it in entities/*.json, or correct its name";
                faults.push(self.fault(policy.id(), &format!("`{uid}` is not declared"), remedy));
            }
        }
    }

    fn validate(
        &self,
        validator: &Validator,
        alike: &mut Alike<'_>,
        file: &PolicyFile,
        faults: &mut Vec<BundleFault>,
    ) {
        let sound = file.policies().iter().filter_map(|policy| policy.sound.as_ref());
        // Not what has another's id: there is one fault of it already.
        let taken = sound.filter(|sound| {
            self.facts.get(&sound.facts.id).is_some_and(|facts| Arc::ptr_eq(facts, &sound.facts))
        });
        // One of each shape, and what has none that others could have.
        let (mut first, mut shapes) = (Vec::new(), BTreeMap::new());
        let mut others = Vec::new();
        for Sound { policy, .. } in taken {
            match alike.shape(policy) {
                None => first.push(policy),
                Some(shape) if alike.knows(&shape) => {}
                Some(shape) if shapes.contains_key(&shape) => others.push((policy, shape)),
                Some(shape) => {
                    first.push(policy);
                    shapes.insert(shape, policy.id());
                }
            }
        }
        let wrong = self.judge(validator, file, &first, faults);
        for (shape, _) in shapes.into_iter().filter(|(_, id)| !wrong.contains(*id)) {
            alike.is_sound(shape);
        }
        let others: Vec<&Policy> =
            others.into_iter().filter(|(_, shape)| !alike.knows(shape)).map(|(policy, _)| policy).collect();
        self.judge(validator, file, &others, faults);
    }

    /// The validator's word on some of a file's policies; the ids of those that something is wrong with.
    fn judge(
        &self,
        validator: &Validator,
        file: &PolicyFile,
        policies: &[&Policy],
        faults: &mut Vec<BundleFault>,
    ) -> BTreeSet<PolicyId> {
        let set = match PolicySet::from_policies(policies.iter().copied().cloned()) {
            Ok(set) => set,
            Err(error) => {
                let remedy = "give each policy an @id of its own";
                faults.push(BundleFault::new(file.path(), None, error.to_string(), remedy));
                return policies.iter().map(|policy| policy.id().clone()).collect();
            }
        };
        let mut wrong = BTreeSet::new();
        let result = validator.validate_with_level(&set, ValidationMode::Strict, DEREFERENCES_MAX);
        for error in result.validation_errors() {
            let help = DetailedError::from(error).help;
            let remedy = help.unwrap_or_else(|| "correct the policy, or the schema".to_owned());
            faults.push(self.fault(error.policy_id(), &error.to_string(), &remedy));
            wrong.insert(error.policy_id().clone());
        }
        for warning in result.validation_warnings() {
            let remedy =
                "a policy that can never decide, or reads other than it looks, is a mistake: correct it";
            faults.push(self.fault(warning.policy_id(), &warning.to_string(), remedy));
            wrong.insert(warning.policy_id().clone());
        }
        wrong
    }

    fn fault(&self, id: &PolicyId, message: &str, remedy: &str) -> BundleFault {
        match self.facts.get::<str>(id.as_ref()) {
            Some(facts) => BundleFault::new(&facts.file, Some(facts.line), message, remedy),
            None => BundleFault::new("", None, message, remedy),
        }
    }
}
