//! Decisions made again from the records of a gateway that has served.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::client::{Client, Request};
use tests::gateway::{Gateway, Setup};
use tests::session::Browser;
use tests::wait::{self, PATIENCE};
use tests::{guardrail, process, repository};

const READ: &str = "/api/docs/list";
/// Reads the comments on a document, which its query names.
const COMMENTS: &str = "/api/docs/comments?doc_id=";

/// Closes some documents by a parameter that no record may hold.
const LOCKED: &str = r#"
@id("test.locked")
@reason("This document is locked.")
@owner("tests")
forbid (principal, action == Action::"docs.read", resource)
when { context.parameters has doc_id && context.parameters.doc_id like "locked-*" };
"#;

fn policies(gateway: &Gateway) -> PathBuf {
    gateway.directory().join("policies")
}

/// Replaces a file as an editor does: written aside, then renamed over.
fn edit(gateway: &Gateway, path: &str, change: impl Fn(&str) -> String) {
    let file = policies(gateway).join(path);
    let text = fs::read_to_string(&file).expect("a file of the bundle");
    let changed = change(&text);
    assert_ne!(text, changed, "{path}: nothing to change");
    let aside = gateway.directory().join("edited");
    fs::write(&aside, changed).expect("a file aside");
    fs::rename(&aside, &file).expect("a rename");
}

/// The records so far, once that of this request is among them.
fn audit_file(gateway: &Gateway, last: &str) -> PathBuf {
    gateway.audit().of(last);
    gateway.audit().directory().join("audit.jsonl")
}

fn replay(file: &Path, bundle: &Path, more: &[&str]) -> (bool, String) {
    let (file, bundle) = (file.to_string_lossy(), bundle.to_string_lossy());
    let arguments = [&["policy", "replay", &file, "--bundle", &bundle], more].concat();
    let (status, said) = process::cli(&arguments, &[], "");
    (status.success(), said)
}

/// What a run said of one request.
fn of<'a>(said: &'a str, request_id: &str) -> Option<&'a str> {
    said.lines().find(|line| line.contains(request_id))
}

/// People, a program and nobody ask for what they may and may not; the id of the last request.
fn asked(gateway: &Gateway) -> (String, String) {
    let (mut person, mut viewer) = (gateway.signed_in("standard_user"), gateway.signed_in("viewer"));
    let permitted = person.get(READ);
    assert_eq!(permitted.status, 200);
    assert_eq!(viewer.get("/api/tickets").status, 403);
    assert_eq!(viewer.get("/api/docs/comments?doc_id=paper").status, 200);
    let mut nobody = Browser::new(gateway.address());
    assert_eq!(nobody.get("/health").status, 200);
    assert_eq!(nobody.get(READ).status, 401);
    assert_eq!(nobody.get("/no/such/path").status, 404);
    let by_key = Request::new("GET", READ)
        .with("Host", &gateway.address().to_string())
        .with("X-API-Key", gateway.api_key());
    Client::connect(gateway.address()).ask(&by_key).expect("an answer");
    // An administrator in the clear, from this machine: two attributes of the context decide.
    let mut administrator = gateway.signed_in("global_admin");
    administrator.get("/api/users");
    let (status, said) = gateway.cli(&["session", "list"]);
    assert!(status.success(), "{said}");
    let last = nobody.get("/health");
    (permitted.request_id(), last.request_id())
}

#[test]
fn what_a_gateway_has_recorded_is_decided_again_as_it_was() {
    let gateway = Setup::demo().start();
    let (permitted, last) = asked(&gateway);
    let file = audit_file(&gateway, &last);
    let (done, said) = replay(&file, &policies(&gateway), &[]);
    assert!(done, "{said}");
    assert!(said.contains(" same, 0 differ, 0 cannot be replayed, "), "{said}");
    assert!(!said.contains("another bundle"), "{said}");
    let records: Vec<Value> = gateway.audit().records();
    let decided = records.iter().filter(|record| {
        ["request", "control"].contains(&record["kind"].as_str().expect("a kind"))
            && record["decision"]["outcome"] != "none"
    });
    assert!(said.starts_with(&format!("{} same", decided.count())), "{said}");

    // A line each, for programs.
    let (done, told) = replay(&file, &policies(&gateway), &["--json"]);
    assert!(done, "{told}");
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(told.len() >= records.len(), "{} of {}", told.len(), records.len());
    let of_it = told.iter().find(|line| line["request_id"] == permitted.as_str()).expect("its line");
    assert_eq!((&of_it["result"], &of_it["is"]["outcome"]), (&"same".into(), &"permit".into()), "{of_it}");
    assert_eq!(of_it["same_bundle"], true);

    // Through a pipe, and of what is no audit file.
    let text = fs::read_to_string(&file).expect("the records");
    let bundle = policies(&gateway);
    let piped = ["policy", "replay", "-", "--bundle", &bundle.to_string_lossy()];
    assert!(process::cli(&piped, &[], &text).0.success());
    let (status, said) = process::cli(&piped, &[], "no record\n");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("the line is no record") && said.contains("no decision was replayed"), "{said}");
}

#[test]
fn another_bundle_says_which_decisions_it_would_make_otherwise() {
    let gateway = Setup::demo().start();
    let (permitted, last) = asked(&gateway);
    let file = audit_file(&gateway, &last);
    let changed = gateway.directory().join("changed");
    repository::copy(&policies(&gateway), &changed);
    guardrail::add(&changed, "docs.read");
    let (done, said) = replay(&file, &changed, &[]);
    assert!(!done, "{said}");
    let line = of(&said, &permitted).expect("the line of what was permitted");
    assert!(line.contains(&format!("GET {READ}: differs: was permit by ")), "{line}");
    assert!(line.ends_with(&format!("is deny by {}", guardrail::ID)), "{line}");
    assert!(said.contains("of them were decided by another bundle"), "{said}");
    assert!(of(&said, &last).is_none(), "what is the same is not told: {said}");
}

#[test]
fn threat_23_no_record_holds_what_the_schema_calls_sensitive() {
    let gateway = Setup::demo().start();
    edit(&gateway, "schema.cedarschema", |text| text.replace("  doc_id?:", "  @sensitive doc_id?:"));
    edit(&gateway, guardrail::FILE, |text| text.to_owned() + LOCKED);
    let mut person = gateway.signed_in("standard_user");
    wait::until("the locked documents", PATIENCE, || {
        (person.get(&format!("{COMMENTS}locked-first")).status == 403).then_some(())
    });
    let (locked, open) = ("locked-5d0c2f9e7ab14c63a1b2", "open-9a7cf00d5d0c2f9e7ab14c63");
    gateway.keep_secret("a locked document's id", locked);
    gateway.keep_secret("an open document's id", open);
    let refused = person.get(&format!("{COMMENTS}{locked}"));
    assert_eq!(refused.status, 403);
    let permitted = person.get(&format!("{COMMENTS}{open}"));
    assert_eq!(permitted.status, 200);
    let without = person.get(READ);
    let redacted = serde_json::json!({ "context.parameters.doc_id": { "redacted": true } });
    for answer in [&refused, &permitted] {
        let record = gateway.audit().of(&answer.request_id());
        assert_eq!(record["decision"]["read"], redacted, "{record:#}");
        assert_eq!(record["request"]["query_names"], serde_json::json!(["doc_id"]));
    }
    let file = audit_file(&gateway, &without.request_id());
    let (_, said) = replay(&file, &policies(&gateway), &["--json"]);
    for (answer, result) in [(&refused, "not_replayed"), (&permitted, "not_replayed"), (&without, "same")] {
        let line = of(&said, &answer.request_id()).expect("its line");
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["result"], result, "{line:#}");
    }
    assert!(said.contains("`context.parameters.doc_id`, which is redacted in the record"), "{said}");
}
