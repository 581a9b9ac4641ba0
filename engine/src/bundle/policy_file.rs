//! One policy file: its policies, what each must say of itself, and what is wrong in it whatever stands elsewhere.

use std::str::FromStr;
use std::sync::Arc;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{Effect, ParseErrors, Policy, PolicyId, PolicySet};

use super::place::Place;
use super::sources::Digest;
use super::{BundleFault, PolicyFacts};
use crate::limit::class_fault;

/// Ids that the gateway itself records as deciding.
const RESERVED: &str = "cedargate.";

/// A file that was read. It follows from its path and its text alone.
pub(super) struct PolicyFile {
    path: String,
    digest: Digest,
    bytes: usize,
    policies: Vec<ReadPolicy>,
    faults: Vec<BundleFault>,
}

/// A policy as it stands in its file.
pub(super) struct ReadPolicy {
    /// Its `@id`, empty where it has none.
    pub(super) id: Arc<str>,
    /// Line on which it begins, from 1.
    pub(super) line: usize,
    /// `None` where something is wrong with it.
    pub(super) sound: Option<Sound>,
}

/// A policy that says of itself what it must.
pub(super) struct Sound {
    /// It, under its `@id`.
    pub(super) policy: Policy,
    /// What it says of itself.
    pub(super) facts: Arc<PolicyFacts>,
}

impl PolicyFile {
    /// Reads one file, whose policies all have this effect. `digest` is that of path and text.
    pub(super) fn read(path: &str, text: &str, digest: Digest, effect: Effect) -> Self {
        let place = Place::new(path, text);
        let mut file = Self {
            path: path.to_owned(),
            digest,
            bytes: text.len(),
            policies: Vec::new(),
            faults: Vec::new(),
        };
        let parsed = match PolicySet::from_str(text) {
            Ok(parsed) => parsed,
            Err(errors) => {
                parse_faults(&place, &errors, &mut file.faults);
                return file;
            }
        };
        file.judge(&place, &parsed);
        let mut from = 0;
        for policy in in_order(&parsed) {
            let own = policy.to_cedar().unwrap_or_default();
            let rest = text.get(from..).unwrap_or_default();
            let at = rest.find(&own).map_or(from, |offset| from + offset);
            from = at + own.len();
            let read = file.policy(&place, at, policy, own, effect);
            file.policies.push(read);
        }
        file
    }

    /// Whether it was read from the path and the text of this digest.
    pub(super) fn is(&self, digest: &Digest) -> bool {
        self.digest == *digest
    }

    /// Its path in the bundle.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The length of its text.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Its policies, in their order.
    pub(super) fn policies(&self) -> &[ReadPolicy] {
        &self.policies
    }

    /// What is wrong in it by itself.
    pub(super) fn faults(&self) -> &[BundleFault] {
        &self.faults
    }

    fn judge(&mut self, place: &Place<'_>, parsed: &PolicySet) {
        // An editor that has only begun to save leaves an empty file: its guardrails would be gone.
        if parsed.is_empty() && parsed.num_of_templates() == 0 {
            self.faults.push(place.fault(None, "the file has no policy", "write one, or remove the file"));
        }
        for template in parsed.templates() {
            let text = place.text();
            let at = text.find("?principal").or_else(|| text.find("?resource"));
            let message = format!("`{}` is a template", template.annotation("id").unwrap_or("a policy"));
            self.faults.push(place.fault(
                at,
                message,
                "write a static policy: name the role or module instead of a slot",
            ));
        }
    }

    fn policy(
        &mut self,
        place: &Place<'_>,
        at: usize,
        policy: &Policy,
        text: String,
        effect: Effect,
    ) -> ReadPolicy {
        let before = self.faults.len();
        if policy.effect() != effect {
            let (message, remedy) = match effect {
                Effect::Forbid => ("a guardrail only forbids", "move this permit to grants/"),
                Effect::Permit => ("a grant only permits", "move this forbid to guardrails/"),
            };
            self.faults.push(place.fault(Some(at), message, remedy));
        }
        // `Policy::annotation` parses the key that it is asked for, which took a seventh of the time of a load.
        let said: Vec<(&str, &str)> = policy.annotations().collect();
        let [id, reason, owner] = self.annotations(place, at, &said);
        let limit_class = self.limit_class(place, at, &said, effect);
        let line = place.line(at);
        let sound = (self.faults.len() == before).then(|| Sound {
            policy: policy.new_id(PolicyId::new(&id)),
            facts: Arc::new(PolicyFacts {
                id: Arc::clone(&id),
                forbids: effect == Effect::Forbid,
                reason,
                owner,
                limit_class,
                file: self.path.clone(),
                line,
                text,
            }),
        });
        ReadPolicy { id, line, sound }
    }

    /// Its id, reason and owner.
    fn annotations(&mut self, place: &Place<'_>, at: usize, all: &[(&str, &str)]) -> [Arc<str>; 3] {
        let said: [Arc<str>; 3] = ["id", "reason", "owner"].map(|key| {
            let value = all.iter().find(|(name, _)| *name == key).map(|(_, value)| value.trim());
            let value = value.unwrap_or_default();
            if value.is_empty() {
                let message = format!("the policy has no @{key}");
                let remedy = format!("write `@{key}(\"…\")` before it");
                self.faults.push(place.fault(Some(at), message, remedy));
            }
            Arc::from(value)
        });
        let [id, ..] = &said;
        if !id.is_empty() && !is_id(id) {
            let message = format!("@id `{id}` is not of the form a-z 0-9 . _ -, or begins with `{RESERVED}`");
            self.faults.push(place.fault(
                Some(at),
                message,
                "rename it: records, metrics and tests carry it",
            ));
        }
        said
    }
}

impl PolicyFile {
    /// The class that it gives to what it permits. Whether the class has a limit is looked at when all files are read.
    fn limit_class(
        &mut self,
        place: &Place<'_>,
        at: usize,
        all: &[(&str, &str)],
        effect: Effect,
    ) -> Option<Arc<str>> {
        let (_, class) = all.iter().find(|(name, _)| *name == "limit_class")?;
        let class = class.trim();
        if effect == Effect::Forbid {
            let remedy = "write `@limit_class` before the grant whose requests it is for";
            self.faults.push(place.fault(
                Some(at),
                "a guardrail permits nobody, so that it counts nobody",
                remedy,
            ));
        }
        if let Some(fault) = class_fault(class) {
            let message = format!("@limit_class `{class}` {fault}");
            self.faults.push(place.fault(Some(at), message, "use 1 to 32 of a-z, 0-9, `-` and `_`"));
        }
        Some(Arc::from(class))
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
