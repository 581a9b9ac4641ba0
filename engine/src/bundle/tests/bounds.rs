//! A bundle past a bound is refused, with the place and what to do about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::{Hierarchy, PolicyFacts, bounds};
use super::check;
use super::fixture::{load, sources, with};
use crate::bundle::Bundle;

#[test]
fn a_policy_is_no_longer_than_anybody_reads() {
    let list = |bytes: usize| format!("when {{ context.method != \"{}\" }};", "x".repeat(bytes));
    let at = "  resource == Module::\"docs\"\n);";
    let permit = |bytes: usize| at.replace(");", &format!(") {}", list(bytes)));
    load(&with("grants/docs.cedar", at, &permit(60_000)));
    check("grants/docs.cedar", at, &permit(66_000), "grants/docs.cedar:7", "bytes, at most 65536");
}

#[test]
fn a_condition_nests_no_deeper_than_can_be_evaluated_in_bounded_time() {
    let nested = |levels: usize| {
        format!("{{ {}principal.suspended{} }}", "(true && ".repeat(levels), ")".repeat(levels))
    };
    load(&with("guardrails/account.cedar", "{ principal.suspended }", &nested(90)));
    let at = "guardrails/account.cedar";
    check(
        at,
        "{ principal.suspended }",
        &nested(101),
        "guardrails/account.cedar:2",
        "nests deeper than 100 levels",
    );
}

#[test]
fn an_entity_is_in_no_more_others_than_decisions_can_look_up() {
    let with_parents = |count: usize| {
        let uid = |number: usize| format!("{{ \"type\": \"Role\", \"id\": \"above{number}\" }}");
        let parents: Vec<String> = (0..count).map(uid).collect();
        let mut entities: Vec<String> = (0..count)
            .map(|number| format!("{{ \"uid\": {}, \"attrs\": {{}}, \"parents\": [] }}", uid(number)))
            .collect();
        entities.push(format!(
            "{{ \"uid\": {{ \"type\": \"Group\", \"id\": \"below\" }}, \"attrs\": {{}}, \"parents\": [{}] }}",
            parents.join(", ")
        ));
        let mut files = sources();
        files.files.insert("entities/many.json".to_owned(), format!("[{}]", entities.join(",\n")));
        Bundle::load(&files)
    };
    with_parents(256).expect("as many as there may be");
    let faults = with_parents(257).expect_err("one too many");
    assert_eq!(faults[0].message, "`Group::\"below\"` is in 257 others, at most 256");
}

#[test]
fn a_bundle_has_no_more_policies_than_load_in_seconds() {
    let facts = |number: usize| PolicyFacts {
        limit_class: None,
        id: Arc::from(""),
        forbids: false,
        reason: Arc::from(""),
        owner: Arc::from(""),
        file: String::new(),
        line: number,
        text: String::new(),
    };
    let mut policies: BTreeMap<Arc<str>, Arc<PolicyFacts>> =
        (0..200_000).map(|number| (number.to_string().into(), facts(number).into())).collect();
    let told = |policies: &BTreeMap<Arc<str>, Arc<PolicyFacts>>| {
        let mut faults = Vec::new();
        bounds::check(policies, &Hierarchy::empty(), &mut faults);
        faults.into_iter().map(|fault| fault.message).collect::<Vec<_>>()
    };
    assert!(told(&policies).is_empty());
    policies.insert("one more".into(), facts(0).into());
    assert_eq!(told(&policies), ["200001 policies, at most 200000"]);
}
