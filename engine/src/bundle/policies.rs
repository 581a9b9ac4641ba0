//! Policy files: what they must say of themselves, and the validator's word on them.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{
    Effect, EntityUid, ParseErrors, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator,
};

use super::hierarchy::Hierarchy;
use super::place::Place;
use super::{BundleFault, PolicyFacts};

/// How far a policy may follow attributes from principal or resource. The slice of entities that a decision is
/// given holds these two and nothing behind them.
const DEREFERENCES_MAX: u32 = 1;

/// Ids that the gateway itself records as deciding.
const RESERVED: &str = "cedargate.";

/// All policies of a bundle while it is read.
#[derive(Default)]
pub(super) struct Policies {
    pub(super) set: PolicySet,
    pub(super) facts: BTreeMap<String, PolicyFacts>,
}

impl Policies {
    /// Reads one file, whose policies all have this effect.
    pub(super) fn read(&mut self, file: &str, text: &str, effect: Effect, faults: &mut Vec<BundleFault>) {
        let place = Place::new(file, text);
        let parsed = match PolicySet::from_str(text) {
            Ok(parsed) => parsed,
            Err(errors) => return parse_faults(&place, &errors, faults),
        };
        // An editor that has only begun to save leaves an empty file: its guardrails would be gone.
        if parsed.is_empty() && parsed.num_of_templates() == 0 {
            faults.push(place.fault(None, "the file has no policy", "write one, or remove the file"));
        }
        for template in parsed.templates() {
            let at = text.find("?principal").or_else(|| text.find("?resource"));
            let message = format!("`{}` is a template", template.annotation("id").unwrap_or("a policy"));
            faults.push(place.fault(
                at,
                message,
                "write a static policy: name the role or module instead of a slot",
            ));
        }
        let mut from = 0;
        for policy in in_order(&parsed) {
            let own = policy.to_cedar().unwrap_or_default();
            let rest = text.get(from..).unwrap_or_default();
            let at = rest.find(&own).map_or(from, |offset| from + offset);
            from = at + own.len();
            self.add(&place, at, policy, own, effect, faults);
        }
    }

    fn add(
        &mut self,
        place: &Place<'_>,
        at: usize,
        policy: &Policy,
        text: String,
        effect: Effect,
        faults: &mut Vec<BundleFault>,
    ) {
        let before = faults.len();
        if policy.effect() != effect {
            let (message, remedy) = match effect {
                Effect::Forbid => ("a guardrail only forbids", "move this permit to grants/"),
                Effect::Permit => ("a grant only permits", "move this forbid to guardrails/"),
            };
            faults.push(place.fault(Some(at), message, remedy));
        }
        let [id, reason, owner] = self.annotations(place, at, policy, faults);
        if faults.len() > before {
            return;
        }
        let facts = PolicyFacts {
            id: Arc::from(id.as_str()),
            forbids: effect == Effect::Forbid,
            reason: Arc::from(reason.as_str()),
            owner: Arc::from(owner.as_str()),
            file: place.file().to_owned(),
            line: place.line(at),
            text,
        };
        if let Err(error) = self.set.add(policy.new_id(PolicyId::new(id.as_str()))) {
            faults.push(place.fault(Some(at), error.to_string(), "give the policy an @id of its own"));
        }
        self.facts.insert(id, facts);
    }

    /// Its id, reason and owner.
    fn annotations(
        &self,
        place: &Place<'_>,
        at: usize,
        policy: &Policy,
        faults: &mut Vec<BundleFault>,
    ) -> [String; 3] {
        let said = ["id", "reason", "owner"].map(|key| {
            let value = policy.annotation(key).map(str::trim).unwrap_or_default();
            if value.is_empty() {
                let message = format!("the policy has no @{key}");
                faults.push(place.fault(Some(at), message, format!("write `@{key}(\"…\")` before it")));
            }
            value.to_owned()
        });
        let [id, ..] = &said;
        if !id.is_empty() && !is_id(id) {
            let message = format!("@id `{id}` is not of the form a-z 0-9 . _ -, or begins with `{RESERVED}`");
            faults.push(place.fault(Some(at), message, "rename it: records, metrics and tests carry it"));
        }
        if let Some(first) = self.facts.get(id.as_str()) {
            let message = format!("@id `{id}` is taken by {}:{}", first.file, first.line);
            faults.push(place.fault(Some(at), message, "rename one of them: an id names one policy"));
        }
        said
    }

    /// Holds every policy against the schema and against the declared entities.
    pub(super) fn check(&self, schema: &Schema, hierarchy: &Hierarchy, faults: &mut Vec<BundleFault>) {
        let validator = Validator::new(schema.clone());
        let result = validator.validate_with_level(&self.set, ValidationMode::Strict, DEREFERENCES_MAX);
        for error in result.validation_errors() {
            let help = DetailedError::from(error).help;
            let remedy = help.unwrap_or_else(|| "correct the policy, or the schema".to_owned());
            faults.push(self.fault(error.policy_id(), &error.to_string(), &remedy));
        }
        for warning in result.validation_warnings() {
            let remedy =
                "a policy that can never decide, or reads other than it looks, is a mistake: correct it";
            faults.push(self.fault(warning.policy_id(), &warning.to_string(), remedy));
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

    fn fault(&self, id: &PolicyId, message: &str, remedy: &str) -> BundleFault {
        match self.facts.get::<str>(id.as_ref()) {
            Some(facts) => BundleFault::new(&facts.file, Some(facts.line), message, remedy),
            None => BundleFault::new("", None, message, remedy),
        }
    }
}

/// Cedar numbers the policies of a text `policy0`, `policy1` and so on, and keeps them unordered.
fn in_order(parsed: &PolicySet) -> Vec<&Policy> {
    let mut policies: Vec<&Policy> = parsed.policies().collect();
    policies.sort_by_key(|policy| {
        let id: &str = policy.id().as_ref();
        id.strip_prefix("policy").and_then(|number| number.parse::<usize>().ok())
    });
    policies
}

fn parse_faults(place: &Place<'_>, errors: &ParseErrors, faults: &mut Vec<BundleFault>) {
    for error in errors.iter() {
        let detail = DetailedError::from(error);
        let at = detail.source_locations.first().map(|label| label.loc.start);
        let label = detail.source_locations.into_iter().next().and_then(|label| label.label);
        let remedy = detail.help.or(label).unwrap_or_else(|| "correct the policy's syntax".to_owned());
        faults.push(place.fault(at, detail.message, remedy));
    }
}

fn is_id(text: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
    !text.starts_with(RESERVED) && text.bytes().all(allowed)
}
