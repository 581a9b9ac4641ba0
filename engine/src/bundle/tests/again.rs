//! A bundle that takes over what an earlier one has read is the one that reads everything.

use std::collections::BTreeSet;
use std::sync::Arc;

use cedar_policy::{ValidationMode, Validator};
use proptest::collection::vec;
use proptest::prelude::*;

use super::fixture::{load, sources, spell, with};
use crate::authz::AuthzRequest;
use crate::bundle::example::example_principal;
use crate::bundle::{Bundle, BundleSources, Progress};
use crate::identity::{Identity, PrincipalKind};
use crate::time::UnixMillis;

/// A change of one file, of which some make a fault: alone, or with what others have made.
#[derive(Clone, Copy, Debug)]
enum Edit {
    /// The text of a file as it was at first.
    Restore(&'static str),
    Remove(&'static str),
    /// All occurrences, where there are any.
    Replace(&'static str, &'static str, &'static str),
    /// A file of policies, under one name or another, with this text.
    Write(&'static str, &'static str),
    /// The same text under another name.
    Move(&'static str, &'static str),
}

const DOCS: &str = "grants/docs.cedar";
const MORE: &str = "grants/more.cedar";
const FIRST: &str = "grants/a.cedar";
const ACCOUNT: &str = "guardrails/account.cedar";
const NETWORK: &str = "guardrails/network.cedar";
const SCHEMA: &str = "schema.cedarschema";
const ENTITIES: &str = "entities/all.json";
const ROUTES: &str = "routes/docs.toml";

const AUDITORS: &str = "@id(\"docs.auditors\")\n@reason(\"They read\")\n@owner(\"docs\")\n\
    permit (principal in Role::\"auditor\", action == Action::\"docs.read\", resource);\n";
/// Its id is taken by `grants/docs.cedar`, where that is there.
const READERS: &str = "@id(\"docs.readers\")\n@reason(\"Again\")\n@owner(\"docs\")\n\
    permit (principal in Role::\"editor\", action == Action::\"docs.import\", resource);\n";
const PRESS: &str = "@id(\"docs.press\")\n@reason(\"The press reads\")\n@owner(\"docs\")\n\
    permit (principal in Group::\"press\", action in Action::\"read\", resource) when { context.tls };\n";
const TLS: &str = "@id(\"network.tls\")\n@reason(\"Only encrypted\")\n@owner(\"security\")\n\
    forbid (principal, action in Action::\"write\", resource) unless { context.tls };\n";
/// Not by every schema below: one of them has no such parameter.
const PAGES: &str = "@id(\"docs.pages\")\n@reason(\"First pages\")\n@owner(\"docs\")\n\
    permit (principal, action == Action::\"docs.read\", resource)\n\
    when { context.parameters has page && context.parameters.page < 3 };\n";
const HALF: &str = "@id(\"docs.half\")\n@reason(\"An editor is at it\")\npermit (principal, act";

const EDITS: [Edit; 31] = [
    Edit::Restore(DOCS),
    Edit::Restore(DOCS),
    Edit::Restore(ACCOUNT),
    Edit::Restore(ACCOUNT),
    Edit::Restore(SCHEMA),
    Edit::Restore(SCHEMA),
    Edit::Restore(ENTITIES),
    Edit::Restore(ENTITIES),
    Edit::Restore(ROUTES),
    Edit::Remove(MORE),
    Edit::Remove(FIRST),
    Edit::Remove(NETWORK),
    Edit::Remove(DOCS),
    Edit::Remove(ACCOUNT),
    Edit::Write(MORE, AUDITORS),
    Edit::Write(MORE, PRESS),
    Edit::Write(MORE, PAGES),
    Edit::Write(FIRST, READERS),
    Edit::Write(FIRST, HALF),
    Edit::Write(NETWORK, TLS),
    Edit::Write(NETWORK, PRESS),
    Edit::Move(MORE, FIRST),
    Edit::Replace(DOCS, "Role::\"reader\"", "Role::\"editor\""),
    Edit::Replace(DOCS, "@owner(\"site\")\n", ""),
    Edit::Replace(DOCS, "action == Action::\"docs.read\"", "action == Action::\"docs.raed\""),
    Edit::Replace(ACCOUNT, "{ principal.suspended }", "{ principal.suspended && context.tls }"),
    Edit::Replace(SCHEMA, "page?: Long, ", ""),
    Edit::Replace(SCHEMA, "\"docs.write\" in [\"write\"]", "\"docs.write\" in [\"read\"]"),
    Edit::Replace(ENTITIES, "\"id\": \"reader\"", "\"id\": \"auditor\""),
    Edit::Replace(ENTITIES, "\"parents\": [{ \"type\": \"Role\", \"id\": \"editor\" }]", "\"parents\": []"),
    Edit::Replace(ROUTES, "\"docs.import\"", "\"docs.purge\""),
];

fn apply(edit: Edit, to: &mut BundleSources) {
    let files = &mut to.files;
    match edit {
        Edit::Restore(path) => {
            files.insert(path.to_owned(), sources().files.remove(path).expect("the fixture has it"));
        }
        Edit::Remove(path) => drop(files.remove(path)),
        Edit::Replace(path, from, to) => {
            if let Some(text) = files.get_mut(path) {
                *text = text.replace(from, to);
            }
        }
        Edit::Write(path, text) => drop(files.insert(path.to_owned(), text.to_owned())),
        Edit::Move(from, to) => {
            if let Some(text) = files.remove(from) {
                files.insert(to.to_owned(), text);
            }
        }
    }
}

/// Everything that a bundle says of everybody that it knows, and of nobody.
fn said(bundle: &Bundle) -> Vec<String> {
    let some = |names: &BTreeSet<String>, name: &str| {
        names.iter().filter(|known| known.as_str() == name).cloned().collect::<BTreeSet<_>>()
    };
    let mut said: Vec<String> = bundle.policies().map(|facts| format!("{facts:?}")).collect();
    let mut who = vec![Identity::Anonymous];
    for name in ["reader", "editor", "auditor", "press"] {
        for suspended in [false, true] {
            let mut principal = example_principal(
                PrincipalKind::User,
                some(&bundle.roles(), name),
                some(&bundle.groups(), name),
            );
            principal.suspended = suspended;
            who.push(Identity::Known(Arc::new(principal)));
        }
    }
    for route in bundle.routes().routes() {
        for (identity, tls) in who.iter().flat_map(|identity| [(identity, true), (identity, false)]) {
            let parameters = [("page".into(), "2".into())];
            let request = AuthzRequest {
                identity,
                action: &route.action,
                module: &route.module,
                hint: route.hint,
                parameters: if &*route.name == "GET /api/docs" { &parameters } else { &[] },
                class: &route.class,
                method: "GET",
                client: "192.0.2.1".parse().expect("an address"),
                tls,
                now: UnixMillis(1_767_787_200_000),
            };
            said.push(format!("{route:?} {:?}", bundle.decide_telling(&request)));
        }
    }
    said
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    /// Any row of changes, each read after the last that was well.
    #[test]
    fn it_says_and_refuses_what_one_that_reads_everything_does(
        edits in vec(prop::sample::select(&EDITS[..]), 1..9)
    ) {
        let mut now = sources();
        let mut earlier = load(&now);
        for edit in edits {
            apply(edit, &mut now);
            match (Bundle::load(&now), Bundle::load_after(&now, &earlier)) {
                (Ok(anew), Ok(after)) => {
                    prop_assert_eq!(anew.id(), after.id());
                    prop_assert_eq!(said(&anew), said(&after));
                    prop_assert_eq!(anew.loosens(&earlier), after.loosens(&earlier));
                    earlier = after;
                }
                (Err(anew), Err(after)) => prop_assert_eq!(anew, after),
                (anew, after) => prop_assert!(false, "{:?} anew, {:?} after", anew, after),
            }
        }
    }
}

#[test]
fn what_is_the_same_is_taken_over_and_nothing_else() {
    let first = load(&sources());
    let after = |sources: &BundleSources| {
        Bundle::load_after(sources, &first).unwrap_or_else(|faults| panic!("{}", spell(&faults)))
    };
    let check = |sources: &BundleSources, taken: [(&str, bool); 2], vocabulary: bool, hierarchy: bool| {
        let bundle = after(sources);
        for (path, same) in taken {
            let [before, now] = [&first, &bundle].map(|bundle| bundle.read.policies.get(path));
            let (Some(before), Some(now)) = (before, now) else { panic!("{path} is gone") };
            assert_eq!(Arc::ptr_eq(before, now), same, "{path}");
        }
        assert_eq!(Arc::ptr_eq(&first.vocabulary, &bundle.vocabulary), vocabulary);
        assert_eq!(Arc::ptr_eq(&first.hierarchy, &bundle.hierarchy), hierarchy);
    };
    check(&sources(), [(DOCS, true), (ACCOUNT, true)], true, true);
    check(&with(DOCS, "The site is public", "It is public"), [(DOCS, false), (ACCOUNT, true)], true, true);
    check(
        &with(SCHEMA, "page?: Long", "@sensitive page?: Long"),
        [(DOCS, true), (ACCOUNT, true)],
        false,
        false,
    );
    check(&with(ENTITIES, "\n]", "\n ]"), [(DOCS, true), (ACCOUNT, true)], true, false);
    check(&with(ROUTES, "conceal = true", "conceal = false"), [(DOCS, true), (ACCOUNT, true)], true, true);
}

/// Files that were taken over are not held against the same schema again; against another one they are.
#[test]
fn a_changed_schema_or_hierarchy_judges_what_was_taken_over() {
    let first = load(&sources());
    let check = |changed: &BundleSources, says: &str| {
        let spelt = spell(&Bundle::load_after(changed, &first).expect_err("it is a fault"));
        assert!(spelt.contains(says), "{spelt}");
    };
    check(&with(SCHEMA, "{ suspended: Bool }", "{ }"), "guardrails/account.cedar:2");
    check(&with(ENTITIES, "\"id\": \"reader\"", "\"id\": \"raeder\""), "grants/docs.cedar:2");
}

/// What the sparing rests on: that Cedar's validator says of many policies what it says of each.
#[test]
fn the_validator_says_of_all_policies_what_it_says_of_each_file() {
    let mut all = sources();
    let wrong = [
        (
            "grants/a.cedar",
            "permit (principal in Role::\"reader\", action == Action::\"docs.raed\", resource);",
        ),
        ("grants/b.cedar", "permit (principal, action, resource) when { principal.suspended };"),
        ("grants/c.cedar", "permit (principal is User, action, resource) when { 1 == \"one\" };"),
        ("grants/d.cedar", "permit (principal is Group, action == Action::\"docs.read\", resource);"),
        ("grants/e.cedar", "permit (principal, action, resource is Moduel);"),
        ("grants/f.cedar", "permit (principal, action, resource) when { context.class == \"fil\u{435}s\" };"),
    ];
    for (number, (path, text)) in wrong.iter().enumerate() {
        let text = format!("@id(\"wrong.{number}\")\n@reason(\"r\")\n@owner(\"o\")\n{text}\n");
        all.files.insert((*path).to_owned(), text);
    }
    let faults = Bundle::load(&all).expect_err("six faults and more");
    let said: BTreeSet<String> = faults.iter().map(|fault| fault.message.clone()).collect();
    for (path, _) in wrong {
        assert!(faults.iter().any(|fault| fault.file == path), "nothing is said of {path}");
    }
    let mut whole = load(&sources()).policies.clone();
    for (number, (_, text)) in wrong.iter().enumerate() {
        let id = cedar_policy::PolicyId::new(format!("wrong.{number}"));
        whole.add(cedar_policy::Policy::parse(Some(id), text).expect("it parses")).expect("a free id");
    }
    let validator = Validator::new(load(&sources()).vocabulary.schema.clone());
    let result = validator.validate_with_level(&whole, ValidationMode::Strict, 1);
    let errors = result.validation_errors().map(ToString::to_string);
    assert_eq!(said, errors.chain(result.validation_warnings().map(ToString::to_string)).collect());
}

#[test]
fn a_load_tells_how_far_it_has_come() {
    let mut told: Vec<Progress> = Vec::new();
    Bundle::load_telling(&sources(), &mut |progress| told.push(progress)).expect("it loads");
    assert_eq!(told.len(), 4, "two files, read and checked");
    assert!(told.is_sorted_by_key(|progress| progress.done));
    assert!(told.iter().all(|progress| progress.all == told[0].all));
    assert_eq!(told.last().map(|progress| progress.done), Some(told[0].all));
}
