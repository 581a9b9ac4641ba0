//! Changing the rules of a running gateway.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use tests::gateway::{Gateway, Setup};
use tests::guardrail;
use tests::session::Browser;
use tests::wait::{self, PATIENCE};

const READ: &str = "/api/docs/list";

/// The policies that a demo watches: its own copy in its data directory.
fn policies(gateway: &Gateway) -> PathBuf {
    gateway.directory().join("policies")
}

/// Replaces a file as an editor does: written aside, then renamed over.
fn edit(gateway: &Gateway, path: &str, change: impl Fn(&str) -> String) {
    let file = policies(gateway).join(path);
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let changed = change(&text);
    assert_ne!(text, changed, "{path}: nothing to change");
    let aside = gateway.directory().join("edited");
    fs::write(&aside, changed).expect("a file aside");
    fs::rename(&aside, &file).expect("a rename");
}

fn until_status(browser: &mut Browser, target: &str, status: u16) {
    wait::until(&format!("{status} of {target}"), PATIENCE, || {
        (browser.get(target).status == status).then_some(())
    });
}

/// Reloads what loosens, as an operator who has read what it loosens.
fn accept(gateway: &Gateway) {
    let (status, said) = gateway.cli(&["bundle", "reload"]);
    assert!(!status.success() && said.contains("--accept"), "{said}");
    let id = said.split(|letter: char| !letter.is_ascii_hexdigit()).find(|word| word.len() == 64);
    let id = id.unwrap_or_else(|| panic!("no bundle id in {said}")).to_owned();
    let (status, said) = gateway.cli(&["bundle", "reload", "--accept", &id]);
    assert!(status.success(), "{said}");
}

#[test]
fn a_changed_policy_changes_the_answer_without_a_restart() {
    let gateway = Setup::demo().start();
    let mut browser = gateway.signed_in("standard_user");
    let before = browser.get(READ);
    assert_eq!(before.status, 200);
    let bundle = gateway.audit().of(&before.request_id())["decision"]["bundle"].clone();
    edit(&gateway, guardrail::FILE, |text| text.to_owned() + &guardrail::closing("docs.read"));
    until_status(&mut browser, READ, 403);
    let refused = browser.get(READ);
    let record = gateway.audit().of(&refused.request_id());
    let deciding = &record["decision"]["deciding"][0];
    assert_eq!(
        (&deciding["id"], &deciding["reason"]),
        (&json!(guardrail::ID), &json!(guardrail::REASON)),
        "{record:#}"
    );
    assert_ne!(record["decision"]["bundle"], bundle, "the bundle's digest did not change");
}

/// Valid by Cedar's strict validation and well for the examples that a load tries, whose client is elsewhere; beyond
/// a `Long` when it is evaluated for us.
const OVERFLOWS: &str = r#"
@id("test.overflows")
@reason("Nobody.")
@owner("tests")
forbid (principal, action == Action::"docs.read", resource)
when { context.client.isLoopback() && context.assurance + 9223372036854775807 > 0 };
"#;

/// Cedar leaves a policy out whose evaluation fails: a guardrail would fail open.
#[test]
fn a_guardrail_that_cannot_be_evaluated_refuses() {
    let gateway = Setup::demo().start();
    let mut browser = gateway.signed_in("standard_user");
    assert_eq!(browser.get(READ).status, 200);
    edit(&gateway, "guardrails/principals.cedar", |text| format!("{text}{OVERFLOWS}"));
    until_status(&mut browser, READ, 403);
    let refused = browser.get(READ);
    let record = gateway.audit().of(&refused.request_id());
    let decision = &record["decision"];
    assert_eq!(decision["outcome"], "error", "{record:#}");
    assert_eq!(decision["refusal"], "forbidden", "{record:#}");
    assert_eq!(decision["erring"], serde_json::json!(["test.overflows"]), "{record:#}");
    assert!(!refused.text().contains("overflow"), "the client is told which policy failed");
    // Another action is decided as before.
    assert_eq!(browser.get("/api/auth/me").status, 200);
}

#[test]
fn threat_17_a_file_event_neither_removes_a_guardrail_nor_serves_a_broken_bundle() {
    let gateway = Setup::demo().start();
    let mut browser = gateway.signed_in("standard_user");
    edit(&gateway, guardrail::FILE, |text| text.to_owned() + &guardrail::closing("docs.read"));
    until_status(&mut browser, READ, 403);

    // The guardrail leaves again, together with a change that may be taken up: neither is.
    edit(&gateway, guardrail::FILE, |text| text.replace(&guardrail::closing("docs.read"), ""));
    wait::until("word of the refused bundle", PATIENCE, || {
        gateway.output().contains(guardrail::ID).then_some(())
    });
    assert_eq!(browser.get(READ).status, 403, "a file event removed a guardrail");

    // A person who says so may.
    accept(&gateway);
    until_status(&mut browser, READ, 200);

    // A broken bundle changes nothing, and says where it is broken.
    edit(&gateway, "grants/docs.cedar", |text| text.replacen("permit", "prmit", 1));
    wait::until("word of the broken bundle", PATIENCE, || {
        gateway.output().contains("docs.cedar").then_some(())
    });
    assert_eq!(browser.get(READ).status, 200);
}

#[test]
fn threat_01_a_click_link_leads_to_listed_origins_and_nowhere_else() {
    let gateway = Setup::demo().start();
    let click = |to: &str| format!("/api/marketing/track/click/spring/{to}");
    let mut browser = Browser::new(gateway.address());
    assert_eq!(browser.get(&click("https://shop.example/offers/1")).status, 400, "nothing is listed yet");
    edit(&gateway, "routes/marketing.toml", |text| {
        text.replace("destinations = []", "destinations = [\"https://shop.example\"]")
    });
    accept(&gateway);
    let passed = browser.get(&click("https://shop.example/offers/1"));
    assert_eq!(passed.status, 200);
    assert_eq!(
        passed.json()["path"],
        click("https://shop.example/offers/1"),
        "the upstream sees it as it was"
    );
    for to in [
        "https://shop.example.evil.example/",
        "https://evil.example/",
        "http://shop.example/",
        "/shop.example",
    ] {
        assert_eq!(browser.get(&click(to)).status, 400, "{to}");
    }
}

#[test]
fn threat_17_a_file_that_others_could_write_is_not_read() {
    use std::os::unix::fs::PermissionsExt;
    let gateway = Setup::demo().start();
    let mut browser = gateway.signed_in("standard_user");
    assert_eq!(browser.get(READ).status, 200);
    let planted = policies(&gateway).join("guardrails/planted.cedar");
    fs::write(&planted, guardrail::closing("docs.read")).expect("a planted file");
    fs::set_permissions(&planted, fs::Permissions::from_mode(0o666)).expect("open to all");
    wait::until("word of the planted file", PATIENCE, || {
        gateway.output().contains("planted.cedar").then_some(())
    });
    assert_eq!(browser.get(READ).status, 200, "a file that anybody can write decides");
}
