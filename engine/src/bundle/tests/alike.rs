//! What is spared the validator is what it would have found nothing wrong with.

use std::collections::BTreeSet;

use cedar_policy::{Policy, PolicyId, PolicySet, ValidationMode, Validator};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::fixture::{load, with};
use crate::bundle::Bundle;

/// Right ones and wrong ones, of which many differ in an id alone. One role is spelt with a Cyrillic letter.
const PRINCIPALS: [&str; 16] = [
    "principal",
    "principal is User",
    "principal is Group",
    "principal is Nobody",
    "principal == User::\"ann\"",
    "principal == User::\"bob\"",
    "principal == Group::\"press\"",
    "principal in Role::\"reader\"",
    "principal in Role::\"editor\"",
    "principal in Role::\"r\u{435}ader\"",
    "principal in Level::\"low\"",
    "principal in Level::\"lwo\"",
    "principal in Raole::\"reader\"",
    "principal in Action::\"read\"",
    "principal is User in Role::\"reader\"",
    "principal is User in Role::\"editor\"",
];
const ACTIONS: [&str; 8] = [
    "action",
    "action == Action::\"docs.read\"",
    "action == Action::\"docs.raed\"",
    "action == Action::\"site.read\"",
    "action in Action::\"read\"",
    "action in [Action::\"docs.read\", Action::\"docs.write\"]",
    "action in [Action::\"docs.read\", Action::\"docs.wirte\"]",
    "action in []",
];
const RESOURCES: [&str; 8] = [
    "resource",
    "resource is Module",
    "resource is Level",
    "resource == Module::\"docs\"",
    "resource == Module::\"site\"",
    "resource in Module::\"docs\"",
    "resource == Level::\"low\"",
    "resource == Moduel::\"docs\"",
];
const CONDITIONS: [&str; 5] = ["", "", "", "when { context.tls }", "when { 1 == \"one\" }"];

proptest! {
    #[test]
    fn what_is_said_of_policies_together_is_what_is_said_of_each_alone(
        // Few of these, so that many policies differ in their principal alone.
        asked in [(select(&ACTIONS[..]), select(&RESOURCES[..])), (select(&ACTIONS[1..2]), select(&RESOURCES[1..2]))],
        written in vec((select(&PRINCIPALS[..]), 0..2_usize, select(&CONDITIONS[..]), 0..3), 1..24),
    ) {
        let enumerated = "entity Level enum [\"low\", \"high\"];\nentity User in [Group, Role, Level] ";
        let mut sources = with("schema.cedarschema", "entity User in [Group, Role] ", enumerated);
        let validator = Validator::new(load(&sources).vocabulary.schema.clone());
        let mut alone = BTreeSet::new();
        for (number, (principal, asked_for, condition, file)) in written.iter().enumerate() {
            let (action, resource) = asked[*asked_for];
            let id = format!("one.{number}");
            let text = format!("permit ({principal}, {action}, {resource}) {condition};");
            let policy = Policy::parse(Some(PolicyId::new(&id)), &text).unwrap();
            let set = PolicySet::from_policies([policy]).unwrap();
            let said = validator.validate_with_level(&set, ValidationMode::Strict, 1);
            alone.extend(said.validation_errors().map(ToString::to_string));
            alone.extend(said.validation_warnings().map(ToString::to_string));
            let file = sources.files.entry(format!("grants/{file}.cedar")).or_default();
            file.push_str(&format!("@id(\"{id}\")\n@reason(\"r\")\n@owner(\"o\")\n{text}\n"));
        }
        let faults = Bundle::load(&sources).map_or_else(|faults| faults, |_| Vec::new());
        // Of names that nobody has declared it is not the validator that tells.
        let together = faults.into_iter().map(|fault| fault.message).filter(|said| !said.ends_with("is not declared"));
        prop_assert_eq!(together.collect::<BTreeSet<_>>(), alone);
    }
}
