//! The index against Cedar's `Authorizer`: the same decision, reasons and errors, whatever is asked.

use std::collections::HashMap;
use std::str::FromStr;

use cedar_policy::{Context, Entities, EntityUid, PolicyId, PolicySet, Request, SlotId, Template};
use proptest::prelude::*;

use super::{Placed, PolicyIndex, ReadyRequest};
use crate::authz::oracle;
use crate::authz::scene::Part;

/// Entities that are in one another over three levels, some without attributes that conditions read, and names that
/// nobody declares. `Twin` has the ids of `User`: only the type tells them apart.
const ENTITIES: &str = r#"[
  { "uid": { "type": "User", "id": "a" }, "attrs": { "n": 1, "on": true }, "parents": [{ "type": "Team", "id": "x" }] },
  { "uid": { "type": "User", "id": "b" }, "attrs": { "n": 9223372036854775807 }, "parents": [{ "type": "Team", "id": "y" }, { "type": "Team", "id": "z" }] },
  { "uid": { "type": "Twin", "id": "a" }, "attrs": { "on": "yes" }, "parents": [{ "type": "Team", "id": "x" }] },
  { "uid": { "type": "Team", "id": "x" }, "attrs": {}, "parents": [{ "type": "Team", "id": "z" }] },
  { "uid": { "type": "Team", "id": "y" }, "attrs": { "n": 2 }, "parents": [] },
  { "uid": { "type": "Team", "id": "z" }, "attrs": {}, "parents": [] },
  { "uid": { "type": "Doc", "id": "a" }, "attrs": { "owner": { "__entity": { "type": "User", "id": "a" } } }, "parents": [{ "type": "Team", "id": "x" }] },
  { "uid": { "type": "Doc", "id": "b" }, "attrs": {}, "parents": [] },
  { "uid": { "type": "Action", "id": "read" }, "attrs": {}, "parents": [{ "type": "Action", "id": "look" }] },
  { "uid": { "type": "Action", "id": "list" }, "attrs": {}, "parents": [{ "type": "Action", "id": "look" }] },
  { "uid": { "type": "Action", "id": "look" }, "attrs": {}, "parents": [{ "type": "Action", "id": "all" }] },
  { "uid": { "type": "Action", "id": "all" }, "attrs": {}, "parents": [] }
]"#;

const SUBJECTS: [&str; 9] = [
    "User::\"a\"",
    "User::\"b\"",
    "User::\"nobody\"",
    "Twin::\"a\"",
    "Team::\"x\"",
    "Team::\"y\"",
    "Team::\"z\"",
    "Doc::\"a\"",
    "Doc::\"b\"",
];
const ACTIONS: [&str; 5] =
    ["Action::\"read\"", "Action::\"list\"", "Action::\"look\"", "Action::\"all\"", "Action::\"unknown\""];
const TYPES: [&str; 4] = ["User", "Twin", "Team", "Doc"];

/// Conditions that hold, do not, and fail in every way that evaluation knows.
const CONDITIONS: [&str; 16] = [
    "",
    "when { true }",
    "when { false }",
    "unless { context.flag }",
    "when { context.flag } unless { principal has n }",
    "when { principal.n > 0 }",
    "when { principal.n + 1 > 0 }",
    "when { principal.on }",
    "when { resource.owner == principal }",
    "when { resource has owner && resource.owner.n == 1 }",
    "when { context.missing }",
    "when { 1 }",
    "when { \"text\" like \"t*t\" }",
    "when { principal in Team::\"z\" || context.missing }",
    "when { ip(context.address).isLoopback() }",
    "when { [principal, resource].contains(User::\"a\") && decimal(\"1.5\").lessThan(decimal(context.amount)) }",
];

fn one_of(names: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(names)
}

/// A part of a scope, for a static policy or with a slot in the place of an entity.
fn part(variable: &'static str) -> impl Strategy<Value = String> {
    let entity =
        prop_oneof![6 => one_of(&SUBJECTS).prop_map(str::to_owned), 1 => Just(format!("?{variable}"))];
    prop_oneof![
        2 => Just(variable.to_owned()),
        2 => one_of(&TYPES).prop_map(move |kind| format!("{variable} is {kind}")),
        3 => entity.clone().prop_map(move |entity| format!("{variable} == {entity}")),
        3 => entity.clone().prop_map(move |entity| format!("{variable} in {entity}")),
        2 => (one_of(&TYPES), entity).prop_map(move |(kind, entity)| format!("{variable} is {kind} in {entity}")),
    ]
}

fn action() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("action".to_owned()),
        one_of(&ACTIONS).prop_map(|action| format!("action == {action}")),
        one_of(&ACTIONS).prop_map(|action| format!("action in {action}")),
        prop::collection::vec(one_of(&ACTIONS), 0..4)
            .prop_map(|actions| format!("action in [{}]", actions.join(", "))),
    ]
}

fn policy() -> impl Strategy<Value = String> {
    (any::<bool>(), part("principal"), action(), part("resource"), one_of(&CONDITIONS)).prop_map(
        |(permit, principal, action, resource, condition)| {
            let effect = if permit { "permit" } else { "forbid" };
            format!("{effect} ({principal}, {action}, {resource}) {condition};")
        },
    )
}

/// The policies as a set. Those with slots become templates with two links each, to what `filled` names.
fn set(texts: &[String], filled: [&str; 2]) -> PolicySet {
    let mut set = PolicySet::new();
    for (number, text) in texts.iter().enumerate() {
        let id = PolicyId::new(format!("p{number}"));
        if !text.contains('?') {
            set.add(cedar_policy::Policy::parse(Some(id), text).unwrap()).unwrap();
            continue;
        }
        set.add_template(Template::parse(Some(id.clone()), text).unwrap()).unwrap();
        for (link, entity) in filled.iter().enumerate() {
            let entity = EntityUid::from_str(entity).unwrap();
            let slots = [("?principal", SlotId::principal()), ("?resource", SlotId::resource())];
            let slots = slots.into_iter().filter(|(name, _)| text.contains(name));
            let slots: HashMap<SlotId, EntityUid> = slots.map(|(_, slot)| (slot, entity.clone())).collect();
            set.link(id.clone(), PolicyId::new(format!("p{number}l{link}")), slots).unwrap();
        }
    }
    set
}

fn context(flag: bool, address: &str) -> Context {
    let json = serde_json::json!({ "flag": flag, "address": address, "amount": "2.0" });
    Context::from_json_value(json, None).unwrap()
}

fn request(principal: &str, action: &str, resource: &str, context: Context) -> Request {
    let uid = |text: &str| EntityUid::from_str(text).unwrap();
    Request::new(uid(principal), uid(action), uid(resource), context, None).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_index_agrees_with_cedar(
        texts in prop::collection::vec(policy(), 1..24),
        filled in [one_of(&SUBJECTS), one_of(&SUBJECTS)],
        flag in any::<bool>(),
        address in one_of(&["127.0.0.1", "192.0.2.1", "no address"]),
    ) {
        let policies = set(&texts, filled);
        let index = PolicyIndex::new(&policies);
        let entities = Entities::from_json_str(ENTITIES, None).unwrap();
        for principal in SUBJECTS {
            for action in ACTIONS {
                for resource in ["Doc::\"a\"", "Doc::\"b\"", "Team::\"x\"", "User::\"nobody\""] {
                    let request = request(principal, action, resource, context(flag, address));
                    let (found, right) =
                        (index.evaluate(&request, &entities), oracle::evaluate(&policies, &request, &entities));
                    prop_assert_eq!(&found, &right, "{} {} {}\n{}", principal, action, resource, texts.join("\n"));
                    // What was made ready for another index, or for other parts, is none the worse.
                    let other = PolicyIndex::new(&PolicySet::new());
                    let parts = [Part::Principal, Part::Action, Part::Resource];
                    let [by, what, of] = parts;
                    for (made_by, made_for) in
                        [(&index, parts), (&index, [by, what, by]), (&index, [of, by, what]), (&other, parts)]
                    {
                        let uids = [request.principal(), request.action(), request.resource()];
                        let made = std::array::from_fn(|at: usize| {
                            let uid = uids[at].unwrap();
                            let ready = match made_for[at] {
                                Part::Principal => made_by.principal(uid, &entities),
                                Part::Action => made_by.action(uid, &entities),
                                Part::Resource => made_by.resource(uid, &entities),
                            };
                            ready.unwrap()
                        });
                        let [principal, action, resource] = &made;
                        let (context, entities) = (request.context().unwrap(), &entities);
                        let ready = ReadyRequest { principal, action, resource, context, entities };
                        prop_assert_eq!(&index.evaluate_ready(ready), &right);
                    }
                }
            }
        }
    }
}

/// The generator is worth nothing where all that it asks is refused alike.
#[test]
fn the_comparison_sees_every_kind_of_answer() {
    let texts: Vec<String> = [
        "permit (principal in Team::\"z\", action in [Action::\"look\", Action::\"all\"], resource);",
        "permit (principal is User, action, resource is Doc in Team::\"x\") when { principal.n + 1 > 0 };",
        "forbid (principal == Twin::\"a\", action, resource == ?resource);",
    ]
    .map(str::to_owned)
    .into();
    let policies = set(&texts, ["Doc::\"a\"", "Doc::\"b\""]);
    let (index, entities) = (PolicyIndex::new(&policies), Entities::from_json_str(ENTITIES, None).unwrap());
    let check = |principal: &str,
                 action: &str,
                 resource: &str,
                 permits: bool,
                 determining: &[&str],
                 erring: &[&str]| {
        let request = request(principal, action, resource, context(true, "127.0.0.1"));
        let verdict = index.evaluate(&request, &entities);
        assert_eq!(verdict, oracle::evaluate(&policies, &request, &entities));
        let ids = |ids: &crate::authz::PolicyIds<'_>| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            (verdict.permits, ids(&verdict.determining)),
            (permits, determining.iter().map(ToString::to_string).collect())
        );
        assert_eq!(ids(&verdict.erring), erring);
    };
    let (read, doc) = ("Action::\"read\"", "Doc::\"a\"");
    check("User::\"a\"", read, doc, true, &["p0", "p1"], &[]);
    check("User::\"b\"", read, doc, true, &["p0"], &["p1"]);
    check("Twin::\"a\"", read, doc, false, &["p2l0"], &[]);
    check("Team::\"z\"", read, "Doc::\"b\"", true, &["p0"], &[]);
    check("Team::\"y\"", read, "Doc::\"b\"", false, &[], &[]);
    check("User::\"nobody\"", read, doc, false, &[], &["p1"]);
    check("User::\"a\"", "Action::\"unknown\"", "Doc::\"b\"", false, &[], &[]);
}

/// Ids that sort otherwise as text than as numbers, and a set that was built in another order.
#[test]
fn answers_are_sorted_by_id_as_text() {
    let mut policies = PolicySet::new();
    for id in ["b", "a10", "a9", "A", "ä"] {
        let policy =
            cedar_policy::Policy::parse(Some(PolicyId::new(id)), "permit (principal, action, resource);");
        policies.add(policy.unwrap()).unwrap();
    }
    let request = request("User::\"a\"", ACTIONS[0], "Doc::\"a\"", context(true, ""));
    let index = PolicyIndex::new(&policies);
    let verdict = index.evaluate(&request, &Entities::empty());
    assert_eq!(verdict, oracle::evaluate(&policies, &request, &Entities::empty()));
    assert_eq!(verdict.determining.iter().collect::<Vec<_>>(), ["A", "a10", "a9", "b", "ä"]);
}

#[test]
fn nothing_is_asked_of_no_policy() {
    let request = request("User::\"a\"", ACTIONS[0], "Doc::\"a\"", context(true, ""));
    let index = PolicyIndex::new(&PolicySet::new());
    let verdict = index.evaluate(&request, &Entities::empty());
    assert_eq!(verdict, oracle::evaluate(&PolicySet::new(), &request, &Entities::empty()));
    assert!(!verdict.permits);
}

proptest! {
    /// A forbid that were taken for a permit would be the worst of all faults.
    #[test]
    fn a_place_says_what_it_was_given(position in 0_u32..1 << 30, permits: bool, conditional: bool) {
        let placed = Placed::new(position, permits, conditional).unwrap();
        prop_assert_eq!((placed.position(), placed.permits(), placed.is_conditional()), (position, permits, conditional));
        prop_assert_eq!(Placed::new(position | 1 << 30, permits, conditional), None);
    }
}

#[test]
fn nothing_is_said_where_policies_have_no_place() {
    let policies = PolicySet::from_str("permit(principal, action, resource);").unwrap();
    let mut index = PolicyIndex::new(&policies);
    let [who, what, on] = ["User::\"a\"", "Action::\"read\"", "Doc::\"a\""].map(|uid| uid.parse().unwrap());
    let request = Request::new(who, what, on, Context::empty(), None).unwrap();
    assert!(index.evaluate(&request, &Entities::empty()).permits);
    index.overfull = true;
    let said = index.evaluate(&request, &Entities::empty());
    assert!(!said.permits && !said.erring.is_empty(), "{said:?}");
    let places = usize::try_from(u32::MAX).unwrap();
    assert!(super::table::has_places(places) && !super::table::has_places(places + 1));
}

/// Policies of a pair that are the same for all its actions stand beside it, where 64 bits tell actions apart; where there are
/// more, a bit is several's. Of principals and of resources there are few.
#[test]
fn actions_are_told_apart_however_many_there_are() {
    for count in [2, 9, 61, 62, 63, 64, 65, 130] {
        let named = |number: usize| format!("Action::\"x{}\"", number % count);
        let pair =
            |number: usize| (format!("User::\"u{}\"", number % 8), format!("Doc::\"d{}\"", number / 8));
        let texts: Vec<String> = (0..count)
            .flat_map(|number| {
                let ((who, on), next) = (pair(number), number + 1);
                let scope = |actions: &str| format!("(principal == {who}, {actions}, resource == {on});");
                let both = scope(&format!("action in [{}, {}]", named(number), named(next)));
                // With the same actions, with one of them, or with all.
                let more = match number % 4 {
                    0 => None,
                    1 => Some(both.clone()),
                    2 => Some(scope(&format!("action in [{}]", named(next)))),
                    _ => Some(scope("action")),
                };
                [Some(format!("permit{both}")), more.map(|scope| format!("forbid{scope}"))]
            })
            .flatten()
            .collect();
        let policies = set(&texts, ["", ""]);
        let (index, entities) = (PolicyIndex::new(&policies), Entities::empty());
        let is_beside = format!("{:?}", index.table).contains("Same(");
        assert_eq!(is_beside, index.actions.count() < 64, "{count}");
        for (number, far) in (0..count).flat_map(|number| [0, 1, 2, 63, 64, 65].map(|far| (number, far))) {
            let (who, on) = pair(number);
            let asked = request(&who, &named(number + far), &on, Context::empty());
            let right = oracle::evaluate(&policies, &asked, &entities);
            assert_eq!(index.evaluate(&asked, &entities), right, "{count}: {number} asks for {far} more");
        }
    }
}
