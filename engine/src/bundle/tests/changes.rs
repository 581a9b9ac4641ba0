//! What a reload must not do on its own.

use super::fixture::{load, sources, with};
use crate::bundle::Bundle;

/// One change, and what is said of it: a part of the one sentence, or nothing.
#[track_caller]
fn check(file: &str, from: &str, to: &str, says: &str) {
    let found = load(&with(file, from, to)).loosens(&load(&sources()));
    if says.is_empty() {
        assert!(found.is_empty(), "{found:?}");
    } else {
        assert!(found.iter().any(|sentence| sentence.contains(says)), "`{says}` is not said: {found:?}");
    }
}

#[test]
fn tightening_and_granting_pass() {
    let (free, switched) =
        ("\"docs.write\" in [\"write\"]", "\"docs.write\" in [\"write\", \"switch.import\"]");
    check("schema.cedarschema", free, switched, "");
    check("grants/docs.cedar", "Role::\"reader\"", "Role::\"editor\"", "");
    check(
        "guardrails/account.cedar",
        "@id(\"switch.import\")",
        "@id(\"network.closed\")\n@reason(\"r\")\n@owner(\"o\")\nforbid (principal, action, resource) unless { context.tls };\n\n@id(\"switch.import\")",
        "",
    );
    check(
        "routes/docs.toml",
        "accept = [\"session\"], ",
        "accept = [\"session\"], conceal = true, audited = true, ",
        "",
    );
    check("routes/docs.toml", "accept = [\"session\", \"api_key\"]", "accept = [\"session\"]", "");
    check(
        "routes/docs.toml",
        "routes = [",
        "routes = [\n  { on = \"GET /api/docs/:id/pages\", action = \"docs.read\" },",
        "",
    );
}

#[test]
fn guardrails_do_not_go_quietly() {
    let file = "guardrails/account.cedar";
    check(file, "account.suspended", "account.other", "guardrail `account.suspended` is gone");
    check(file, "{ principal.suspended }", "{ principal.suspended && !context.tls }", "says something else");
    check(
        file,
        "forbid (principal, action in",
        "forbid (principal is Service, action in",
        "says something else",
    );
}

#[test]
fn kill_switches_do_not_open_quietly() {
    let schema = "schema.cedarschema";
    let from = "\"docs.import\" in [\"write\", \"switch.import\"]";
    check(schema, from, "\"docs.import\" in [\"write\"]", "action `docs.import` is no longer in kill switch");
    let docs = "routes/docs.toml";
    check(
        docs,
        "\"docs.import\"",
        "\"docs.write\"",
        "`POST /api/docs/import` is no longer in kill switch `switch.import`",
    );
    // The row goes, and a broader one takes its path.
    let from = "{ on = \"POST /api/docs/import\", action = \"docs.import\", accept = [\"session\"]";
    let to = "{ on = \"POST /api/docs/:name\", action = \"docs.write\", parameters = { name = \"slug\" }, accept = [\"session\"]";
    let mut changed = with(docs, from, to);
    let schema = changed.files.get_mut("schema.cedarschema").expect("it is there");
    *schema = schema.replace("id?: String", "id?: String, name?: String");
    let found = load(&changed).loosens(&load(&sources()));
    assert!(
        found.iter().any(|sentence| sentence.contains("`POST /api/docs/:name` is no longer in kill switch")),
        "{found:?}"
    );
}

#[test]
fn routes_do_not_open_quietly() {
    let docs = "routes/docs.toml";
    let site = "routes/site.toml";
    check(docs, "accept = [\"session\"], ", "", "now accepts API keys");
    check(docs, "conceal = true", "conceal = false", "no longer concealed");
    check(docs, "audited = true", "audited = false", "no longer recorded");
    check(docs, "upstream = \"botserver\"", "upstream = \"elsewhere\"", "goes to upstream `elsewhere`");
    check(docs, "conceal = true", "conceal = true, leniencies = [\"encoded_slash\"]", "`encoded_slash`");
    check(docs, "conceal = true", "conceal = true, client_sets = [\"user_id\"]", "`user_id` in client_sets");
    check(docs, "conceal = true", "conceal = true, cookies_up = [\"sid\"]", "`sid` in cookies_up");
    check(
        docs,
        "conceal = true",
        "conceal = true, destinations = [\"https://a.example\"]",
        "in destinations",
    );
    check(docs, "conceal = true", "conceal = true, websocket = true", "WebSocket");
    check(docs, "id = \"uuid\"", "id = \"slug\"", "takes other values of its parameters");
    check(docs, ", query = { page = \"int\" }", "", "reads query parameter `page` differently");
    check(docs, "class = \"files\"", "class = \"files\", body_bytes_max = 9", "");
    check(docs, "class = \"files\"", "class = \"files\", deadline_s = 9", "");
    check(docs, "class = \"files\"", "class = \"files\", step_up = { assurance = 2 }", "");
    check(
        docs,
        "module = \"docs\"",
        "module = \"docs\"\nlegacy_bearer = \"drop\"",
        "now drops foreign bearers",
    );
    check(site, "sandbox = true", "sandbox = false", "no longer sandboxes");
    check(site, "sandbox = true", "sandbox = true, service_worker = true", "service workers");
    check(
        site,
        "routes = [",
        "routes = [\n  { on = \"GET /robots.txt\", action = \"site.read\" },",
        "is new and accepts anonymous",
    );
    check(docs, "\"docs.write\"", "\"docs.read\"", "now counts as read");
    check(docs, "module = \"docs\"", "module = \"site\"", "belongs to module `site`");
}

#[test]
fn a_route_does_not_quietly_ask_for_less_of_a_proof() {
    let asking = |asks: &str| {
        let to = format!("class = \"files\", step_up = {{ {asks} }}");
        load(&with("routes/docs.toml", "class = \"files\"", &to))
    };
    let strong = asking("assurance = 2, max_age_s = 300");
    let check = |after: &Bundle, part: &str| {
        let found = after.loosens(&strong);
        assert!(found.iter().any(|sentence| sentence.contains(part)), "{part}: {found:?}");
    };
    check(&load(&sources()), "no longer asks for a step-up");
    check(&asking("max_age_s = 300"), "asks for assurance 1 instead of 2");
    check(&asking("assurance = 2"), "takes proofs that are older than 300 s");
    check(&asking("assurance = 2, max_age_s = 301"), "takes proofs that are older than 300 s");
    assert!(asking("assurance = 2, max_age_s = 60").loosens(&strong).is_empty());
}

#[test]
fn nobody_leaves_a_guardrail_quietly() {
    let entities = "entities/all.json";
    let guard = "principal in Role::\"editor\" && context.class == \"files\"";
    let guarded = with("guardrails/account.cedar", "principal.suspended", guard);
    let check = |file: &str, from: &str, to: &str, says: &str| {
        let mut changed = guarded.clone();
        let text = changed.files.get_mut(file).expect("it is there");
        assert!(text.contains(from));
        *text = text.replace(from, to);
        assert_eq!(load(&changed).loosens(&load(&guarded)), [says]);
    };
    let from = "\"press\" }, \"attrs\": {}, \"parents\": [{ \"type\": \"Role\", \"id\": \"editor\" }]";
    let to = "\"press\" }, \"attrs\": {}, \"parents\": []";
    check(entities, from, to, "group `press` is no longer in role `editor`, which a guardrail names");
    let (from, to) = ("\"reader\" }, \"attrs\": {}", "\"reader\" }, \"attrs\": { \"upstream\": \"admin\" }");
    check(entities, from, to, "role `reader` has other attributes, and upstreams know it by them");
    let (from, to) = ("\"docs.write\" in [\"write\"]", "\"docs.write\" in [\"read\"]");
    let guarded_write = "action in Action::\"write\" && context.class == \"files\"";
    let before = with("guardrails/account.cedar", "principal.suspended", guarded_write);
    let mut after = before.clone();
    let schema = after.files.get_mut("schema.cedarschema").expect("it is there");
    *schema = schema.replace(from, to);
    let found = load(&after).loosens(&load(&before));
    let says = "action `docs.write` is no longer in action group `write`, which a guardrail names";
    assert!(found.iter().any(|sentence| sentence == says), "{found:?}");
    let docs = "routes/docs.toml";
    let says = "route `POST /api/docs/import` is counted as `standard` instead of `files`";
    check(docs, "class = \"files\"", "class = \"standard\"", says);
}

#[test]
fn nothing_is_recorded_that_was_not_before() {
    let schema = "schema.cedarschema";
    check(schema, "page?: Long", "@sensitive page?: Long", "");
    let (open, sensitive) = (load(&sources()), load(&with(schema, "page?: Long", "@sensitive page?: Long")));
    assert_eq!(open.loosens(&sensitive), ["`page` is no longer @sensitive: records would hold its values"]);
}
