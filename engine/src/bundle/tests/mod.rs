//! The loader judges: each fault with its place and a remedy, all at once.

mod again;
mod alike;
mod bounds;
mod changes;
mod costs;
pub(crate) mod fixture;
mod limits;

use super::Bundle;
use fixture::{load, sources, spell, with};

#[test]
fn a_whole_bundle_loads() {
    let bundle = load(&sources());
    let guardrails: Vec<&str> =
        bundle.policies().filter(|facts| facts.forbids).map(|facts| facts.id.as_ref()).collect();
    assert_eq!(guardrails, ["account.suspended", "switch.import"]);
    let routes: Vec<(&str, bool)> =
        bundle.routes().routes().iter().map(|route| (&*route.name, route.read_only)).collect();
    let expected = [
        ("GET /api/docs", true),
        ("GET /api/docs/:id", true),
        ("PUT /api/docs/:id", false),
        ("POST /api/docs/import", false),
        ("GET /", true),
        ("GET /static/*path", true),
    ];
    assert_eq!(routes, expected);
    let policy = bundle.policy("docs.editors").expect("it is there");
    assert_eq!((policy.file.as_str(), policy.line, &*policy.owner), ("grants/docs.cedar", 7, "docs"));
}

/// One change, and the place and words of the one fault that it must cause.
#[track_caller]
fn check(file: &str, from: &str, to: &str, place: &str, says: &str) {
    let faults = Bundle::load(&with(file, from, to)).expect_err("the change is a fault");
    let spelt = spell(&faults);
    assert!(spelt.contains(&format!("{place}: ")), "not at {place}:\n{spelt}");
    assert!(spelt.contains(says), "does not say `{says}`:\n{spelt}");
    assert!(faults.iter().all(|fault| !fault.remedy.is_empty()), "no remedy:\n{spelt}");
}

#[test]
fn policies_say_who_they_are() {
    let grants = "grants/docs.cedar";
    let guardrails = "guardrails/account.cedar";
    check(grants, "@id(\"docs.readers\")\n", "", "grants/docs.cedar:2", "no @id");
    check(grants, "@reason(\"The site is public\")", "@reason(\" \")", "grants/docs.cedar:16", "no @reason");
    check(grants, "@owner(\"site\")\n", "", "grants/docs.cedar:16", "no @owner");
    check(grants, "docs.editors", "docs.readers", "grants/docs.cedar:7", "taken by grants/docs.cedar:2");
    check(
        grants,
        "docs.editors",
        "switch.import",
        "grants/docs.cedar:7",
        "taken by guardrails/account.cedar:7",
    );
    check(grants, "docs.editors", "Docs Editors", "grants/docs.cedar:7", "not of the form");
    check(grants, "docs.editors", "cedargate.scope", "grants/docs.cedar:7", "begins with `cedargate.`");
    check(grants, "permit (principal,", "forbid (principal,", "grants/docs.cedar:16", "a grant only permits");
    check(
        guardrails,
        "forbid (principal,",
        "permit (principal,",
        "guardrails/account.cedar:7",
        "only forbids",
    );
}

#[test]
fn policies_hold_against_schema_and_entities() {
    let grants = "grants/docs.cedar";
    check(grants, "permit (principal,", "prmit (principal,", "grants/docs.cedar:19", "invalid policy effect");
    check(grants, "Role::\"reader\"", "Role::\"raeder\"", "grants/docs.cedar:2", "is not declared");
    check(grants, "Module::\"site\"", "Module::\"siet\"", "grants/docs.cedar:16", "is not declared");
    check(grants, "\"docs.import\"", "\"docs.imprt\"", "grants/docs.cedar:7", "docs.imprt");
    check(
        grants,
        "principal in Role::\"reader\"",
        "principal == ?principal",
        "grants/docs.cedar:5",
        "template",
    );
    let guardrails = "guardrails/account.cedar";
    check(guardrails, "principal.suspended", "principal.suspnded", "guardrails/account.cedar:2", "suspnded");
    check(guardrails, "principal.suspended", "principal.suspended > 1", "guardrails/account.cedar:2", "type");
    // The validator only warns that this never applies; a guardrail that never applies is none.
    check(
        guardrails,
        "principal is User",
        "principal is Module",
        "guardrails/account.cedar:2",
        "unable to find",
    );
    check(guardrails, "{ principal.suspended }", "{ false }", "guardrails/account.cedar:2", "impossible");
}

#[test]
fn schemas_and_entities_are_whole() {
    let schema = "schema.cedarschema";
    let applies = "appliesTo { principal: [User], resource: Module, context: Facts };";
    check(
        schema,
        "action write;",
        &format!("action write;\nnamespace A {{ action x {applies} }}\nnamespace B {{ action x {applies} }}"),
        schema,
        "A::Action::\"x\" and B::Action::\"x\" have one id",
    );
    check(
        schema,
        "entity Role { upstream?: String };",
        "entity Role",
        "schema.cedarschema:3",
        "unexpected token",
    );
    check(
        schema,
        "suspended: Bool }",
        "suspended: Bool, age: Long }",
        "schema.cedarschema:4",
        "nobody supplies `age`",
    );
    let entities = "entities/all.json";
    check(
        entities,
        "\"parents\": [] },\n  { \"uid\": { \"type\": \"Group\"",
        "\"parents\": [] }\n  { \"uid\": { \"type\": \"Group\"",
        "entities/all.json:4",
        "expected `,`",
    );
    check(entities, "\"Group\"", "\"Gruop\"", "entities/all.json:4", "Gruop");
    check(
        entities,
        "[{ \"type\": \"Role\", \"id\": \"editor\" }]",
        "[{ \"type\": \"Role\", \"id\": \"editr\" }]",
        "entities/all.json:4",
        "which is not declared",
    );
    check(
        entities,
        "\"press\" }, \"attrs\": {}",
        "\"press\" }, \"attrs\": { \"age\": 1 }",
        "entities/all.json:4",
        "age",
    );
    check(
        entities,
        "{ \"type\": \"Role\", \"id\": \"reader\" }, ",
        "{ \"type\": \"Anonymous\", \"id\": \"reader\" }, ",
        "entities/all.json:2",
        "is a principal",
    );
    check(entities, "\"id\": \"site\"", "\"id\": \"docs\"", "entities/all.json:6", "already");
}

#[test]
fn routes_hold_against_schema_and_entities() {
    let docs = "routes/docs.toml";
    check(docs, "\"docs.write\"", "\"docs.wirte\"", "routes/docs.toml:8", "is not in the schema");
    check(docs, "module = \"docs\"", "module = \"dosc\"", "routes/docs.toml:6", "is not declared");
    check(
        docs,
        "page = \"int\"",
        "pages = \"int\"",
        "routes/docs.toml:6",
        "`pages` is not declared in the schema",
    );
    check(
        docs,
        "page = \"int\"",
        "page = \"uuid\"",
        "routes/docs.toml:6",
        "`page` is not declared in the schema",
    );
    check(
        docs,
        "accept = [\"session\"], class",
        "accept = [\"anonymous\"], class",
        "routes/docs.toml:9",
        "Anonymous",
    );
    let schema = "schema.cedarschema";
    check(
        schema,
        "\"docs.write\" in [\"write\"]",
        "\"docs.write\"",
        "routes/docs.toml:8",
        "not in exactly one",
    );
    check(
        schema,
        "\"docs.write\" in [\"write\"]",
        "\"docs.write\" in [\"write\", \"read\"]",
        "routes/docs.toml:8",
        "not in exactly one",
    );
}

#[test]
fn files_that_nobody_reads_are_faults() {
    let check = |path: &str, says: &str| {
        let mut all = sources();
        all.files.insert(path.to_owned(), String::new());
        let spelt = Bundle::load(&all).map_or_else(|faults| spell(&faults), |_| String::new());
        assert!(spelt.contains(says), "{path}: {spelt}");
        assert_eq!(says.is_empty(), spelt.is_empty(), "{path}: {spelt}");
    };
    let unknown = "no part of a bundle";
    check("guardrials/network.cedar", unknown);
    check("guardrails/network.ceder", unknown);
    check("guardrails/deep/network.cedar", unknown);
    check("guardrails/.network.cedar", unknown);
    check("network.cedar", unknown);
    check("README.md", "");
    check("matrix.txt", "");
    check("tests/docs.json", "");
}

#[test]
fn parts_that_are_missing_are_faults() {
    let check = |path: &str, says: &str| {
        let mut all = sources();
        all.files.remove(path);
        let spelt = spell(&Bundle::load(&all).expect_err("a part is missing"));
        assert!(spelt.contains(says), "{path}: {spelt}");
    };
    check("schema.cedarschema", "the bundle has no schema");
    check("guardrails/account.cedar", "no guardrails");
    check("entities/all.json", "`Role::\"reader\"` is not declared");
    let mut saving = sources();
    saving.files.insert("guardrails/network.cedar".to_owned(), "// nothing yet\n".to_owned());
    let spelt = spell(&Bundle::load(&saving).expect_err("a guardrail may be missing"));
    assert!(spelt.contains("guardrails/network.cedar: the file has no policy"), "{spelt}");
}

#[test]
fn all_faults_are_reported_at_once() {
    let mut all = with("routes/docs.toml", "docs.write", "docs.wirte");
    let grants = all.files.get_mut("grants/docs.cedar").expect("it is there");
    *grants = grants.replace("@owner(\"site\")\n", "").replace("Role::\"reader\"", "Role::\"raeder\"");
    let site = all.files.get_mut("routes/site.toml").expect("it is there");
    *site = site.replace("GET /\"", "GOT /\"").replace("sandbox", "sandbx");
    let places: Vec<String> = Bundle::load(&all)
        .expect_err("five faults")
        .iter()
        .map(|fault| format!("{}:{}", fault.file, fault.line.unwrap_or_default()))
        .collect();
    let expected = [
        "grants/docs.cedar:2",
        "grants/docs.cedar:16",
        "routes/docs.toml:8",
        "routes/site.toml:7",
        "routes/site.toml:8",
    ];
    assert_eq!(places, expected);
}

#[test]
fn the_digest_covers_what_decides_and_nothing_else() {
    let digest = |sources: &super::BundleSources| sources.digest().to_string();
    let first = digest(&sources());
    assert_eq!(first.len(), 64);
    assert_eq!(first, load(&sources()).id().to_string());
    let mut beside = sources();
    beside.files.insert("matrix.txt".to_owned(), "anything".to_owned());
    assert_eq!(digest(&beside), first);
    assert_ne!(digest(&with("routes/site.toml", "public", "standard")), first);
    // The same bytes, cut into files elsewhere.
    let mut moved = sources();
    let text = moved.files.remove("routes/site.toml").expect("it is there");
    let docs = moved.files.get_mut("routes/docs.toml").expect("it is there");
    docs.push_str(&text);
    assert_ne!(digest(&moved), first);
}
