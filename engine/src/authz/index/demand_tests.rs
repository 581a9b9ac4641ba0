//! Conditions by which policies are looked up, against Cedar's `Authorizer`: rows in every order, over values of every
//! kind, present and absent.

use std::collections::HashSet;
use std::str::FromStr;

use cedar_policy::{Context, Entities, EntityUid, PolicySet, Request};
use proptest::prelude::*;

use super::PolicyIndex;
use crate::authz::cedar_core::{Entity, EntityUID, Expr, PartialValue, Unknown};
use crate::authz::oracle;

/// The same attributes, each with another kind of value in another entity, or absent.
const ENTITIES: &str = r#"[
  { "uid": { "type": "User", "id": "1" }, "attrs": { "a": "x", "b": true, "s": ["x", "y"], "n": 1, "r": { "a": "x", "b": false }, "e": { "__entity": { "type": "User", "id": "2" } } }, "parents": [{ "type": "Team", "id": "t" }] },
  { "uid": { "type": "User", "id": "2" }, "attrs": { "a": true, "b": "x", "s": [], "n": "1", "r": { "a": { "a": "x" } }, "e": { "__entity": { "type": "Team", "id": "t" } } }, "parents": [] },
  { "uid": { "type": "User", "id": "3" }, "attrs": { "a": { "__entity": { "type": "Team", "id": "t" } }, "b": false, "s": [["x"], "x", 1], "e": { "__entity": { "type": "User", "id": "nobody" } } }, "parents": [{ "type": "Team", "id": "t" }] },
  { "uid": { "type": "Team", "id": "t" }, "attrs": { "a": "y", "b": true }, "parents": [{ "type": "Team", "id": "u" }] },
  { "uid": { "type": "Team", "id": "u" }, "attrs": { "a": { "__extn": { "fn": "decimal", "arg": "1.0" } }, "b": { "__extn": { "fn": "decimal", "arg": "1.0" } }, "s": { "__extn": { "fn": "decimal", "arg": "1.0" } }, "n": { "__extn": { "fn": "decimal", "arg": "1.0" } }, "r": { "__extn": { "fn": "decimal", "arg": "1.0" } }, "e": { "__extn": { "fn": "decimal", "arg": "1.0" } } }, "parents": [] },
  { "uid": { "type": "Action", "id": "read" }, "attrs": {}, "parents": [{ "type": "Action", "id": "all" }] },
  { "uid": { "type": "Action", "id": "all" }, "attrs": {}, "parents": [] }
]"#;

const SUBJECTS: [&str; 6] =
    ["User::\"1\"", "User::\"2\"", "User::\"3\"", "Team::\"t\"", "Team::\"u\"", "User::\"nobody\""];
const ACTIONS: [&str; 2] = ["Action::\"read\"", "Action::\"all\""];
const CONTEXTS: [&str; 4] = [
    "{}",
    r#"{ "a": "x", "b": true, "s": ["y"], "r": { "a": "x" } }"#,
    r#"{ "a": 1, "b": false, "s": ["x", "y", "z", ""], "r": { "r": { "a": "x" } } }"#,
    r#"{ "a": { "__entity": { "type": "Team", "id": "t" } }, "b": "true", "s": "x", "r": [] }"#,
];

/// Terms about a path `P`.
const TERMS: [&str; 44] = [
    "P.a == \"x\"",
    "\"y\" == P.a",
    "P.a == \"x\"",
    "P.a != \"x\"",
    "P.n == 1",
    "1 < P.n",
    "P.n <= 1",
    "P.b",
    "!P.b",
    "!(P.b)",
    "P.b == true",
    "P has a",
    "P has b",
    "P has r.a",
    "P has r",
    "!(P has a)",
    "P.s.contains(\"x\")",
    "P.s.contains(P.a)",
    "[\"x\", \"z\"].contains(P.a)",
    "[\"x\", [\"y\"]].contains(P.a)",
    "P.s.containsAny([\"x\", \"z\"])",
    "[\"y\"].containsAny(P.s)",
    "P.s.containsAll([\"y\", \"x\"])",
    "P.s.containsAll([])",
    "P.s.isEmpty()",
    "P.a in Team::\"t\"",
    "P.e in [Team::\"u\", User::\"nobody\"]",
    "P.e is User",
    "P.e.a == \"y\"",
    "P.r.a == \"x\"",
    "P.r.b",
    "P.a like \"x*\"",
    "P.a + 1 == 2",
    "P.hasTag(\"t\")",
    "P in Team::\"u\"",
    "P is Team",
    "P == User::\"1\"",
    "P.a == principal",
    // Of what the request names itself, which is of a kind that no request changes.
    "P like \"x\"",
    "P < 1",
    "P.contains(\"x\")",
    "[\"x\"].containsAny(P)",
    "P == \"x\"",
    "[User::\"1\", \"x\"].contains(P)",
];

/// Terms that hold, do not, or fail, whatever is asked.
const OTHERS: [&str; 8] = [
    "true",
    "false",
    "1 == 1",
    "context.missing",
    "principal.e == resource",
    "action == Action::\"read\"",
    "action in [Action::\"all\"]",
    "(if principal has a then resource.b else true)",
];

fn term() -> impl Strategy<Value = String> {
    let path = prop::sample::select(&["principal", "resource", "context", "principal.e", "context.r"][..]);
    prop_oneof![
        8 => (prop::sample::select(&TERMS[..]), path).prop_map(|(term, path)| term.replace('P', path)),
        1 => prop::sample::select(&OTHERS[..]).prop_map(str::to_owned),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    let row = prop::collection::vec(term(), 1..5).prop_map(|terms| terms.join(" && ")).boxed();
    let nested = row.clone().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 1..4).prop_map(|all| format!("({})", all.join(") && ("))),
            3 => prop::collection::vec(inner.clone(), 1..4).prop_map(|any| format!("({})", any.join(") || ("))),
            1 => inner.prop_map(|inner| format!("!({inner})")),
        ]
    });
    prop_oneof![2 => row, 1 => nested]
}

fn policy() -> impl Strategy<Value = String> {
    let clause = (prop::bool::weighted(0.8), condition());
    (any::<bool>(), prop::collection::vec(clause, 1..3)).prop_map(|(permit, clauses)| {
        let effect = if permit { "permit" } else { "forbid" };
        let clauses: Vec<String> = clauses
            .iter()
            .map(|(when, condition)| format!("{} {{ {condition} }}", if *when { "when" } else { "unless" }))
            .collect();
        format!("{effect} (principal, action, resource) {};", clauses.join(" "))
    })
}

fn check(texts: &[String]) -> Result<[usize; 3], TestCaseError> {
    let policies = PolicySet::from_str(&texts.join("\n")).unwrap();
    let index = PolicyIndex::new(&policies);
    let entities = Entities::from_json_str(ENTITIES, None).unwrap();
    let mut seen = [0; 3];
    for (principal, resource) in
        SUBJECTS.iter().flat_map(|one| SUBJECTS.iter().map(move |other| (one, other)))
    {
        for (action, context) in ACTIONS
            .iter()
            .zip(CONTEXTS.chunks(2))
            .flat_map(|(action, contexts)| contexts.iter().map(move |context| (action, context)))
        {
            let uid = |text: &str| EntityUid::from_str(text).unwrap();
            let said = Context::from_json_str(context, None).unwrap();
            let request = Request::new(uid(principal), uid(action), uid(resource), said, None).unwrap();
            let (found, right) =
                (index.evaluate(&request, &entities), oracle::evaluate(&policies, &request, &entities));
            prop_assert_eq!(
                &found,
                &right,
                "{} {} {} {}\n{}",
                principal,
                action,
                resource,
                context,
                texts.join("\n")
            );
            seen[0] += usize::from(found.permits);
            seen[1] += usize::from(!found.permits && !found.determining.is_empty());
            seen[2] += usize::from(!found.erring.is_empty());
        }
    }
    Ok(seen)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn what_is_looked_up_by_its_condition_agrees_with_cedar(texts in prop::collection::vec(policy(), 1..40)) {
        check(&texts)?;
    }
}

/// Every term alone, in every place of a row of two, so that none depends on what the property happens to draw.
#[test]
fn every_term_agrees_with_cedar_before_and_behind_every_other() {
    let of_principal = TERMS.map(|term| term.replace('P', "principal"));
    let terms: Vec<String> = of_principal.into_iter().chain(OTHERS.map(str::to_owned)).collect();
    let mut seen = [0; 3];
    for first in &terms {
        for (effect, operator) in [("permit", "&&"), ("forbid", "||")] {
            let row = |second: &String| {
                format!("{effect} (principal, action, resource) when {{ {first} {operator} {second} }};")
            };
            let rows: Vec<String> = terms.iter().map(row).collect();
            // Many are looked up; few are checked one by one.
            for few in std::iter::once(&rows[..]).chain(rows.chunks(8)) {
                let here = check(few).unwrap();
                seen.iter_mut().zip(here).for_each(|(all, here)| *all += here);
            }
        }
    }
    assert!(seen.iter().all(|times| *times > 0), "{seen:?}");
}

/// A store may leave an attribute open, where a library's user evaluates in parts. Then nothing can be said of a demand at its
/// path, and Cedar is asked of each policy that has one, whether they are checked one by one or looked up.
#[test]
fn what_is_left_open_is_asked_of_cedar() {
    let uid = EntityUid::from_str("User::\"1\"").unwrap();
    let open = PartialValue::Residual(Expr::unknown(Unknown::new_untyped("a")));
    let person = Entity::new_with_attr_partial_value(
        AsRef::<EntityUID>::as_ref(&uid).clone(),
        [("a".into(), open)],
        HashSet::new(),
        HashSet::new(),
        [],
    );
    let entities = Entities::from_entities([person.into()], None).unwrap();
    let action = EntityUid::from_str("Action::\"read\"").unwrap();
    let request = Request::new(uid.clone(), action, uid, Context::empty(), None).unwrap();
    for count in [1, 16, 17, 40] {
        let policy = |number: usize| {
            let condition = ["principal.a == \"x\"", "principal has a", "true"][number % 3];
            format!("permit (principal, action, resource) when {{ {condition} }};\n")
        };
        let text: String = (0..count).map(policy).collect();
        let policies = PolicySet::from_str(&text).unwrap();
        let index = PolicyIndex::new(&policies);
        let verdict = index.evaluate(&request, &entities);
        assert_eq!(verdict, oracle::evaluate(&policies, &request, &entities), "{count}");
        assert_eq!(verdict.erring.len(), count.div_ceil(3), "{count}");
    }
}
