//! The limits that a bundle brings along.

use super::fixture::{load, sources, spell, with};
use crate::bundle::{Bundle, BundleSources, CLASSES_MAX, Limits};
use crate::limit::{Limit, Rate};
use crate::verify::{Factors, explain, matrix, run_tests};

fn limited(text: &str) -> BundleSources {
    let mut sources = sources();
    sources.files.insert("limits.toml".to_owned(), text.to_owned());
    sources
}

/// The same, where a grant gives a class.
fn given(text: &str, class: &str) -> BundleSources {
    let mut sources = limited(text);
    let grant = format!("@id(\"docs.editors\")\n@limit_class(\"{class}\")");
    let changed = with("grants/docs.cedar", "@id(\"docs.editors\")", &grant);
    sources.files.insert("grants/docs.cedar".to_owned(), changed.files["grants/docs.cedar"].clone());
    sources
}

const WHOLE: &str = r#"
[per_address]
rate = "200/1m"

[per_user]
rate = "none"

[class.files]
rate = "5/90s"
algorithm = "sliding"
shadow = true

[class.premium]
rate = "900/1h"
"#;

#[test]
fn limits_are_read_and_are_part_of_what_a_bundle_is() {
    let bundle = load(&given(WHOLE, "premium"));
    let limit =
        |text: &str, sliding, shadow| Limit { rate: text.parse().unwrap_or(Rate::NONE), sliding, shadow };
    let expected = Limits {
        per_address: Some(limit("200/1m", false, false)),
        per_user: Some(limit("none", false, false)),
        classes: [
            ("files".into(), limit("5/90s", true, true)),
            ("premium".into(), limit("900/1h", false, false)),
        ]
        .into(),
    };
    assert_eq!(bundle.limits(), &expected);
    let ids = [sources(), limited(""), limited("# one"), given(WHOLE, "premium")]
        .map(|files| load(&files).id().clone());
    let distinct: std::collections::BTreeSet<&str> = ids.iter().map(|id| id.as_str()).collect();
    assert_eq!(distinct.len(), 4, "a change of the file is another bundle");
    assert_eq!(load(&sources()).limits(), &Limits::default());
    assert_eq!(load(&limited("")).limits(), &Limits::default());
    // Where only this file has changed, all else is taken over and the limits are not.
    let later = Bundle::load_after(&limited("[per_user]\nrate = \"1/1s\"\n"), &bundle).expect("it holds");
    assert_eq!(later.limits().per_user.map(|limit| limit.to_string()).as_deref(), Some("1/1s"));
}

#[test]
fn a_policy_gives_what_it_permits_another_class() {
    let bundle = load(&given(WHOLE, "premium"));
    let classes = |ids: &[&str]| -> Vec<String> {
        bundle.classes_given(ids.iter().copied()).into_iter().map(|class| class.to_string()).collect()
    };
    assert!(classes(&["docs.readers", "nobody's", "account.suspended"]).is_empty());
    assert_eq!(classes(&["docs.editors", "docs.readers", "docs.editors"]), ["premium"]);
    assert!(load(&sources()).classes_given(["docs.editors"].into_iter()).is_empty());

    let matrix = matrix(&bundle);
    let said = "\n## limits\n\nper-address 200/1m\nper-user none\nfiles 5/90s sliding, shadowed\n\
                premium 900/1h  [given by docs.editors]\n\n## docs\n";
    assert!(matrix.contains(said), "{matrix}");

    let case = |role: &str, class: &str| {
        let case = format!(
            r#"[{{"name": "n", "role": "{role}", "on": "GET /api/docs", "decision": "permit", "class": {class}}}]"#
        );
        let report = run_tests(&bundle, &case, &Factors::default()).expect("it is a list");
        (report.passed, report.failures.join("; "))
    };
    assert_eq!(case("editor", "\"premium\""), (1, String::new()));
    assert_eq!(case("reader", "[\"standard\"]"), (1, String::new()));
    let (passed, failed) = case("reader", "[\"premium\", \"standard\"]");
    assert_eq!(passed, 0);
    assert_eq!(failed, "n: reader on GET /api/docs: counted in standard, expected in premium, standard");
}

/// What grants count in another class after a change, as `grant: before to after`.
#[track_caller]
fn recounts(before: &BundleSources, after: &BundleSources, expected: &[&str]) {
    let (earlier, later) = (load(before), load(after));
    let spelt = |found: std::collections::BTreeSet<crate::bundle::Recounted>| -> Vec<String> {
        found.into_iter().map(|one| format!("{}: {} to {}", one.grant, one.before, one.after)).collect()
    };
    assert_eq!(spelt(later.recounted(&earlier)), expected);
    assert!(later.recounted(&later).is_empty(), "nothing has changed");
}

#[test]
fn what_grants_count_in_another_class_is_seen() {
    let premium = given(WHOLE, "premium");
    let changed = |sources: &BundleSources, file: &str, from: &str, to: &str| {
        let mut changed = sources.clone();
        let text = changed.files.get_mut(file).expect("the fixture has it");
        assert!(text.contains(from), "{file}: {from}");
        *text = text.replace(from, to);
        changed
    };
    let unlimited = sources();
    recounts(&unlimited, &premium, &["docs.editors: files to premium", "docs.editors: standard to premium"]);
    recounts(&premium, &unlimited, &["docs.editors: premium to files", "docs.editors: premium to standard"]);
    recounts(&premium, &changed(&premium, "routes/docs.toml", ", audited = true", ""), &[]);
    let other = changed(
        &changed(&premium, "grants/docs.cedar", "\"premium\"", "\"wide\""),
        "limits.toml",
        "class.premium",
        "class.wide",
    );
    // Readers are counted in the route's class, and are editors as well for all that is known.
    let says = [
        "docs.editors: premium to standard",
        "docs.editors: premium to wide",
        "docs.editors: standard to wide",
    ];
    recounts(&premium, &other, &says);
    // The same grant is about more: who is in it, what is in an action group of it, what a row asks for.
    let editors = "\"attrs\": {}, \"parents\": [{ \"type\": \"Role\", \"id\": \"editor\" }]";
    let left = changed(&premium, "entities/all.json", editors, "\"attrs\": {}, \"parents\": []");
    recounts(&left, &premium, &["docs.editors: premium to standard", "docs.editors: standard to premium"]);
    recounts(&premium, &left, &["docs.editors: premium to standard", "docs.editors: standard to premium"]);
    let narrow = changed(&premium, "grants/docs.cedar", "[Action::\"docs.read\", ", "[");
    let row = "{ on = \"GET /api/docs\", action = \"docs.";
    let written = changed(&narrow, "routes/docs.toml", &format!("{row}read\""), &format!("{row}write\""));
    recounts(&narrow, &written, &["docs.editors: standard to premium"]);
    // What a row's attributes of roles say may be in a condition.
    let named = "\"reader\" }, \"attrs\": { \"upstream\": \"admin\" }";
    let renamed = changed(&premium, "entities/all.json", "\"reader\" }, \"attrs\": {}", named);
    recounts(&premium, &renamed, &["docs.editors: premium to standard", "docs.editors: standard to premium"]);
    // A role more is about nobody who was there, unless it is in one of theirs.
    let reader = "  { \"uid\": { \"type\": \"Role\", \"id\": \"reader\" }";
    let more = format!(
        "  {{ \"uid\": {{ \"type\": \"Role\", \"id\": \"guest\" }}, \"attrs\": {{}}, \"parents\": [] }},\n{reader}"
    );
    recounts(&premium, &changed(&premium, "entities/all.json", reader, &more), &[]);
    // What nobody was permitted before is not counted otherwise than before.
    let purge = "\n@id(\"docs.purgers\")\n@reason(\"r\")\n@owner(\"o\")\n@limit_class(\"premium\")\n\
        permit (principal in Role::\"editor\", action == Action::\"docs.purge\", resource);\n";
    let mut purging = premium.clone();
    purging.files.get_mut("grants/docs.cedar").expect("the fixture has it").push_str(purge);
    recounts(&premium, &purging, &[]);
}

#[test]
fn an_explanation_tells_what_a_request_is_counted_by() {
    use crate::bundle::example::{example, example_parameters, example_principal};
    use crate::identity::{Identity, PrincipalKind};
    let bundle = load(&given(WHOLE, "premium"));
    let said = |role: &str| {
        let route = bundle.routes().named("GET /api/docs").expect("the fixture has it");
        let principal = example_principal(PrincipalKind::User, [role.to_owned()].into(), [].into());
        let identity = Identity::Known(std::sync::Arc::new(principal));
        explain(&bundle, &example(route, &identity, &example_parameters(route)))
    };
    let premium = "counted in class `premium`, instead of `standard`: 900/1h\n";
    assert!(said("editor").contains(premium), "{}", said("editor"));
    for role in ["reader", "nobody"] {
        assert!(!said(role).contains("counted"), "{}", said(role));
    }
}

#[test]
fn a_limit_that_does_not_hold_is_told_with_its_place() {
    let check = |text: &str, place: &str, says: &str| {
        let faults = Bundle::load(&limited(text)).expect_err(text);
        let spelt = spell(&faults);
        assert!(spelt.contains(&format!("{place}: ")) && spelt.contains(says), "{text}:\n{spelt}");
        assert_eq!(faults.len(), 1, "{text}:\n{spelt}");
        assert!(faults.iter().all(|fault| !fault.remedy.is_empty()), "{spelt}");
    };
    check("[per_adress]\nrate = \"1/1m\"\n", "limits.toml:1", "`per_adress` is no limit");
    check("\n[per_user]\nshadow = true\n", "limits.toml:2", "the limit has no rate");
    check("\n[per_user]\nrate = \"1 per minute\"\n", "limits.toml:3", "`1 per minute` is not a rate");
    check("[per_user]\nrate = \"0/1m\"\n", "limits.toml:2", "write a count from 1 to 1000000");
    check("[class.files]\nrate = \"none\"\n", "limits.toml:2", "`none` is not a rate");
    check("[per_user]\nrate = 100\n", "limits.toml:2", "invalid type");
    check("[per_user]\nrate = \"1/1m\"\nalgorithm = \"leaky\"\n", "limits.toml:3", "unknown variant");
    check("[per_user]\nrate = \"1/1m\"\nshadow = \"yes\"\n", "limits.toml:3", "invalid type");
    check("[per_user]\nrate = \"1/1m\"\naway = \"open\"\n", "limits.toml:3", "unknown field `away`");
    check("per_user = \"1/1m\"\n", "limits.toml:1", "invalid type");
    check("class = 5\n", "limits.toml:1", "`class` is no table");
    check("[class.files]\nrate = \"1/1m\n", "limits.toml:2", "invalid");
    check("\n[class.chat]\nrate = \"1/1m\"\n", "limits.toml:2", "no route or policy is of it");
    check(
        "[class.per-user]\nrate = \"1/1m\"\n",
        "limits.toml:1",
        "is the name of a limit that everybody has",
    );
    check("[class.per-address]\nrate = \"1/1m\"\n", "limits.toml:1", "everybody has");
    check("[class.refusals]\nrate = \"1/1m\"\n", "limits.toml:1", "everybody has");
    check("[class.\"a b\"]\nrate = \"1/1m\"\n", "limits.toml:1", "`a b` names no class");
    let many: String =
        (0..=CLASSES_MAX).map(|class| format!("[class.c{class}]\nrate = \"1/1m\"\n")).collect();
    check(&many, "limits.toml:1", "65 classes have a limit, at most 64");
    // All at once, and the same file where it is not at its place.
    let both = "[per_user]\nrate = \"x\"\n[per_address]\nrate = \"y\"\n";
    assert_eq!(Bundle::load(&limited(both)).expect_err(both).len(), 2);
    let mut elsewhere = sources();
    elsewhere.files.insert("routes/limits.toml".to_owned(), "[per_user]\nrate = \"1/1m\"\n".to_owned());
    assert!(Bundle::load(&elsewhere).is_err());
}

#[test]
fn a_class_that_is_given_or_named_has_a_limit() {
    let check = |sources: &BundleSources, place: &str, says: &str| {
        let spelt = spell(&Bundle::load(sources).expect_err("it is a fault"));
        assert!(spelt.contains(&format!("{place}: ")) && spelt.contains(says), "{spelt}");
    };
    let premium = "[class.premium]\nrate = \"900/1h\"\n";
    check(&given("", "premium"), "grants/docs.cedar:7", "[class.premium]");
    // Not even one that routes may always name: a configuration need not have a limit of it.
    check(&given("", "llm"), "grants/docs.cedar:7", "@limit_class `llm` has no limit");
    check(&given(premium, "Premium!"), "grants/docs.cedar:7", "`Premium!` names no class");
    check(&given(premium, " "), "grants/docs.cedar:7", "names no class");
    check(&given(premium, "per-user"), "grants/docs.cedar:7", "everybody has");
    let forbid = with(
        "guardrails/account.cedar",
        "@id(\"switch.import\")",
        "@id(\"switch.import\")\n@limit_class(\"files\")",
    );
    check(&forbid, "guardrails/account.cedar:7", "a guardrail permits nobody");
    // A route may name a class that the file gives a limit, and no other of its own.
    let named = with("routes/docs.toml", "class = \"files\"", "class = \"premium\"");
    check(&named, "routes/docs.toml:9", "or give it a limit in limits.toml");
    let mut limited = named;
    limited.files.insert("limits.toml".to_owned(), premium.to_owned());
    load(&limited);
    // A file that cannot be read at all is one fault, whatever else names its classes.
    limited.files.insert("limits.toml".to_owned(), "[class.premium".to_owned());
    assert_eq!(Bundle::load(&limited).expect_err("it is broken").len(), 1);
}
