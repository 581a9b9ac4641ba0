//! How large a bundle may be, so that a decision stays short and a load ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{BundleFault, Hierarchy, PolicyFacts};
use crate::authz::{NESTING_MAX, PolicyIndex};

/// Policies in one bundle. A hundred thousand load in seconds and take less than a gigabyte (`decide` in the benchmarks).
const POLICIES_MAX: usize = 200_000;

/// Bytes of one policy, its annotations included: some thousand operators, more than anybody reads.
const POLICY_BYTES_MAX: usize = 64 * 1024;

/// Entities that one entity may be in, directly or not. Each is a key that decisions look up.
const ANCESTORS_MAX: usize = 256;

/// Holds what was read against the bounds.
pub(super) fn check(
    policies: &BTreeMap<Arc<str>, Arc<PolicyFacts>>,
    hierarchy: &Hierarchy,
    faults: &mut Vec<BundleFault>,
) {
    if policies.len() > POLICIES_MAX {
        let message = format!("{} policies, at most {POLICIES_MAX}", policies.len());
        faults.push(BundleFault::new(
            "grants/",
            None,
            message,
            "grant to roles and groups instead of to each of many",
        ));
    }
    for facts in policies.values().filter(|facts| facts.text.len() > POLICY_BYTES_MAX) {
        let message = format!("{} has {} bytes, at most {POLICY_BYTES_MAX}", facts.id, facts.text.len());
        let remedy = "split it, or put what it lists into an entity";
        faults.push(BundleFault::new(&facts.file, Some(facts.line), message, remedy));
    }
    for entity in hierarchy.all() {
        let uid = entity.uid();
        let above = hierarchy.ancestors(&uid).map_or(0, Iterator::count);
        if above > ANCESTORS_MAX {
            let message = format!("`{uid}` is in {above} others, at most {ANCESTORS_MAX}");
            faults.push(BundleFault::new("entities/", None, message, "give it fewer parents"));
        }
    }
}

/// Tells of conditions that nest too deeply to be evaluated within the budget.
pub(super) fn nesting(
    policies: &BTreeMap<Arc<str>, Arc<PolicyFacts>>,
    index: &PolicyIndex,
    faults: &mut Vec<BundleFault>,
) {
    let facts = |id: &Arc<str>| policies.get(id);
    for facts in index.foreign().filter_map(facts) {
        let message = format!("the condition of {} nests deeper than {NESTING_MAX} levels", facts.id);
        let remedy = "write a list as `[…].contains(…)` instead of a chain of `||`, or split the policy";
        faults.push(BundleFault::new(&facts.file, Some(facts.line), message, remedy));
    }
}
