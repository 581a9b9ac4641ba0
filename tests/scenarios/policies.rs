//! The shipped policies: whole, complete, and as the golden matrix says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use engine::bundle::BundleSources;
use tests::policies::{self, ROLES};
use tests::process;
use tests::repository;

/// The one declared path that is no route: the fallback that would open everything.
const FALLBACK: &str = "GET /*";

#[test]
fn every_role_of_botserver_is_there() {
    let roles = policies::shipped().roles();
    let missing: Vec<_> = ROLES.iter().filter(|role| !roles.contains(**role)).collect();
    assert!(missing.is_empty(), "no role {missing:?}");
}

/// A route with its parameters' names left out: what it matches is the same.
fn shape(method: &str, pattern: &str) -> String {
    let segment = |segment: &str| match segment.chars().next() {
        Some(':' | '{') => ":".to_owned(),
        Some('*') => "*".to_owned(),
        _ => segment.to_owned(),
    };
    let segments: Vec<String> = pattern.split('/').map(segment).collect();
    format!("{method} {}", segments.join("/"))
}

#[test]
fn every_mounted_route_of_botserver_has_a_row() {
    let Some(table) = repository::shared_data("botserver-routes.tsv") else {
        println!("the table of BotServer's routes is not beside this checkout, so coverage was not compared");
        return;
    };
    let bundle = policies::shipped();
    let routed: BTreeSet<String> =
        bundle.routes().routes().iter().map(|route| shape(route.method.as_str(), &route.pattern)).collect();
    let mut missing = BTreeSet::new();
    let mut mounted = 0;
    for row in table.lines().skip(1) {
        let columns: Vec<&str> = row.split('\t').collect();
        let [method, path, _module, _file, _line, _handler, is_mounted, ..] = columns[..] else {
            panic!("not a row: {row}");
        };
        let found = shape(if method == "ANY" { "GET" } else { method }, path);
        if is_mounted == "yes" && found != FALLBACK {
            mounted += 1;
            if !routed.contains(&found) {
                missing.insert(found);
            }
        }
    }
    assert!(missing.is_empty(), "{} of {mounted} mounted routes have no row: {missing:#?}", missing.len());
}

#[test]
fn the_matrix_is_the_golden_one() {
    tests::golden::check("policies/matrix.txt", &engine::verify::matrix(&policies::shipped()));
}

#[test]
fn every_case_is_answered_as_expected_and_every_route_has_one() {
    let bundle = policies::shipped();
    let mut reports = Vec::new();
    for text in repository::texts("policies/tests", &[".json"]) {
        let report = engine::verify::run_tests(&bundle, &text.content, &engine::verify::Factors::default());
        let report = report.unwrap_or_else(|error| panic!("{}: {error}", text.path));
        assert!(report.failures.is_empty(), "{}: {:#?}", text.path, report.failures);
        reports.push(report);
    }
    let uncovered = engine::verify::uncovered(&bundle, &reports);
    assert!(uncovered.is_empty(), "no case for {uncovered:#?}");
}

#[test]
fn no_route_upgrades_for_a_caller_without_a_name() {
    let bundle = policies::shipped();
    let anonymous = bundle.routes().routes().iter().filter(|route| route.websocket && route.accept.anonymous);
    let names: Vec<&str> = anonymous.map(|route| &*route.name).collect();
    assert!(names.is_empty(), "anonymous WebSockets: {names:?}");
}

#[test]
fn what_is_public_only_reads() {
    let bundle = policies::shipped();
    let allowed: BTreeMap<&str, &str> = BTreeMap::from([
        ("POST /.cedargate/login", "the login form"),
        ("GET /.cedargate/oidc/callback", "a provider sends people back who are not signed in yet"),
        ("POST /.cedargate/oidc/logout", "a provider says so without an account, by what it has signed"),
        ("POST /api/client-errors", "browsers report their errors before anybody is signed in"),
        ("GET /api/auth", "a visitor's chat begins before anybody is signed in"),
        ("POST /api/email/click/:campaign_id/:email", "mail programs report a click without signing in"),
        ("POST /api/legal/consent", "visitors answer about cookies before anybody is signed in"),
        ("POST /api/sessions", "a visitor's chat begins before anybody is signed in"),
        ("POST /webhook/telegram", "Telegram calls it"),
        ("POST /webhook/whatsapp/:bot_id", "WhatsApp calls it"),
    ]);
    let public = bundle.routes().routes().iter().filter(|route| route.accept.anonymous && !route.read_only);
    let writes: Vec<&str> =
        public.map(|route| &*route.name).filter(|name| !allowed.contains_key(name)).collect();
    assert!(writes.is_empty(), "anonymous writes that nobody explained: {writes:#?}");
}

/// Changes one file of the shipped bundle and says what the load says.
fn changed(path: &str, change: impl Fn(&str) -> String) -> Result<(), String> {
    let BundleSources { mut files } = policies::sources();
    let text = files.get(path).unwrap_or_else(|| panic!("no {path}"));
    let text = change(text);
    files.insert(path.to_owned(), text);
    policies::load(&BundleSources { files }).map(drop)
}

#[test]
fn a_broken_bundle_names_file_line_and_remedy() {
    type Change = fn(&str) -> String;
    let broken: [(&str, &str, Change); 5] = [
        ("grants/docs.cedar", "syntax", |text| text.replacen("permit", "prmit", 1)),
        ("grants/docs.cedar", "no reason", |text| text.replacen("@reason", "@raison", 1)),
        ("routes/docs.toml", "an unknown key", |text| text.replacen("action =", "acton =", 1)),
        ("routes/docs.toml", "an undeclared action", |text| text.replacen("docs.read", "docs.raed", 1)),
        ("guardrails/principals.cedar", "a permit among guardrails", |text| {
            text.replacen("\nforbid", "\npermit", 1)
        }),
    ];
    for (path, what, change) in broken {
        let said = changed(path, change).expect_err(what);
        assert!(said.contains(&format!("{path}:")), "{what}: no place in {said}");
        assert!(said.lines().count() >= 2, "{what}: no remedy in {said}");
    }
}

/// Changes of every kind to a copy of the shipped policies.
fn edited(folder: &Path) {
    tests::repository::copy(&repository::root().join("policies"), folder);
    let edit = |file: &str, from: &str, to: &str| {
        let path = folder.join(file);
        let text = fs::read_to_string(&path).expect("a file of the bundle");
        assert!(text.contains(from), "{file} has no {from}");
        fs::write(path, text.replacen(from, to, 1)).expect("a file of the bundle");
    };
    let row = "{ on = \"POST /api/docs/ai\", action = \"ai.chat\", class = \"llm\"";
    edit("routes/docs.toml", row, &format!("{row}, cost = 20"));
    edit("routes/docs.toml", "  { on = \"GET /api/docs/list\", action = \"docs.read\" },\n", "");
    let new = "  { on = \"GET /api/docs/new\", action = \"docs.read\"";
    edit("routes/docs.toml", new, &new.replace("/new", "/newest"));
    edit("guardrails/switches.cedar", "@id(\"switch.editor\")", "@id(\"switch.editors\")");
    edit(
        "guardrails/switches.cedar",
        "Action::\"switch.terminal\", resource)",
        "Action::\"switch.terminal\", resource) unless { context.tls }",
    );
    let managers = "\"managers\"}, \"attrs\": {}, \"parents\": [";
    let more = format!("{managers}{{\"type\": \"Role\", \"id\": \"viewer\"}}, ");
    edit("entities/groups.json", managers, &more);
    let admin = "\"kb.admin\"\n  in [\"write\", \"admin\"]";
    edit("schema.cedarschema", admin, &admin.replace(", \"admin\"", ""));
    // What is only written otherwise is told of nowhere.
    edit("schema.cedarschema", "entity Operator;", "// Nobody else.\nentity   Operator;");
    edit("schema.cedarschema", "entity Role {", "entity Role { floor?: Long,");
    edit("schema.cedarschema", "  kb_id?: String,\n", "  kb_id?: String,\n  zone?: Set<Long>,\n");
    let grant = "@id(\"ai.dear\")\n@reason(\"Who pays for it asks more often.\")\n@owner(\"tests\")\n\
                 @limit_class(\"dear\")\npermit (principal in Role::\"power_user\", action == Action::\"ai.chat\", resource);\n";
    fs::write(folder.join("grants/dear.cedar"), grant).expect("a grant");
    let limits = "[per_user]\nrate = \"2000/1h\"\n[class.dear]\nrate = \"400/1m\"\nalgorithm = \"sliding\"\n";
    fs::write(folder.join("limits.toml"), limits).expect("limits");
}

#[test]
fn the_difference_of_two_bundles_is_told_as_the_golden_one_and_by_the_exit_code() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (repository::root().join("policies"), folder.path().join("policies"));
    edited(&new);
    let diff = |old: &Path, new: &Path, more: &[&str]| {
        let folders = [old.to_string_lossy(), new.to_string_lossy()];
        let arguments = [&["policy", "diff", &folders[0], &folders[1]], more].concat();
        let (status, said) = process::cli(&arguments, &[], "");
        (status.code(), said)
    };
    let (code, said) = diff(&old, &new, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
    // The digests change with every change of the shipped policies.
    let told: String = said.lines().skip(2).map(|line| format!("{line}\n")).collect();
    tests::golden::check("tests/golden/policy_diff.txt", &told);
    let (code, said) = diff(&old, &new, &["--json"]);
    let told: serde_json::Value = serde_json::from_str(said.trim()).unwrap_or_else(|_| panic!("{said}"));
    assert_eq!((code, &told["different"]), (Some(1), &serde_json::Value::from(true)), "{said}");
    let cost = serde_json::json!({
        "kind": "route", "name": "POST /api/docs/ai", "how": "changed",
        "said": [{ "what": "cost", "before": "1", "after": "20" }],
    });
    let has = |list: &str, wanted: &serde_json::Value| {
        told[list].as_array().is_some_and(|items| items.contains(wanted))
    };
    assert!(has("changes", &cost), "{said}");
    assert!(has("loosens", &"guardrail `switch.editor` is gone".into()), "{said}");
    assert!(has("loosens", &"limit `per-user` is 2000/1h instead of 1000/1h".into()), "{said}");

    let (code, said) = diff(&old, &old, &[]);
    assert!(code == Some(0) && said.ends_with("nothing that decides differs\n"), "{code:?} {said}");
    fs::write(new.join("limits.toml"), "per_user = 1\n").expect("limits");
    let (code, said) = diff(&old, &new, &[]);
    assert!(code == Some(3) && said.contains(&format!("{}:1", new.join("limits.toml").display())), "{said}");
}
