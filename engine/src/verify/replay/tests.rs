//! Records as the engine writes them, decided again.

use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Outcome, Replay, replay};
use crate::audit::{AskedFacts, AuditEvent, EventKind, Outcome as Recorded, RouteFacts};
use crate::authz::{AuthzRequest, Decision};
use crate::bundle::Bundle;
use crate::bundle::example::{EXAMPLE_CLIENT, EXAMPLE_TIME, example_principal};
use crate::bundle::tests::fixture::{load, sources, with};
use crate::identity::{Identity, Principal, PrincipalKind};
use crate::path::CanonicalPath;
use crate::query::CanonicalQuery;
use crate::time::UnixMillis;

const SCHEMA: &str = "schema.cedarschema";
const GUARD: &str = "guardrails/account.cedar";
const ID: &str = "4f9c1b52-6a1e-4b7d-9a60-2f2f0d6c1a11";

/// What a request is, besides its line and who sends it.
#[derive(Clone, Copy)]
struct From {
    client: IpAddr,
    tls: bool,
    now: UnixMillis,
}

const PLAIN: From = From { client: EXAMPLE_CLIENT, tls: true, now: EXAMPLE_TIME };

fn person(roles: &[&str]) -> Identity {
    Identity::Known(Arc::new(principal(roles)))
}

fn principal(roles: &[&str]) -> Principal {
    let roles = roles.iter().map(|role| (*role).to_owned()).collect();
    example_principal(PrincipalKind::User, roles, [].into())
}

/// A bundle whose first guardrail has this condition.
fn guarded(condition: &str) -> Bundle {
    load(&with(GUARD, "{ principal.suspended }", &format!("{{ {condition} }}")))
}

/// The line of this request.
fn record(bundle: &Bundle, line: &str, identity: &Identity, from: From) -> String {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = CanonicalPath::parse(path.as_bytes()).unwrap();
    let query = CanonicalQuery::parse(Some(query.as_bytes())).unwrap();
    let matched = bundle.routes().find(&method.parse().unwrap(), &path).unwrap();
    let route = &matched.route;
    let (decision, read) = bundle.decide_telling(&AuthzRequest {
        identity,
        action: &route.action,
        module: &route.module,
        hint: route.hint,
        parameters: &matched.asked(&query),
        class: &route.class,
        method,
        client: from.client,
        tls: from.tls,
        now: from.now,
    });
    let mut time = String::new();
    from.now.write_rfc3339(&mut time);
    let mut event = AuditEvent::empty(EventKind::Request, time, Uuid::from_u128(7));
    event.client.address = Some(from.client);
    event.principal = match identity {
        Identity::Anonymous => None,
        Identity::Known(principal) => Some(Arc::clone(principal)),
    };
    let sensitive = matched.parameters.iter().any(|(name, _)| bundle.is_sensitive(name));
    event.request = Some(AskedFacts {
        method: method.to_owned(),
        host: "docs.example".to_owned(),
        path: if sensitive { route.pattern.clone() } else { path.as_str().to_owned() },
        query_names: query.assigned_names().map(str::to_owned).collect(),
    });
    let told = |name: &str, value: &str| (!bundle.is_sensitive(name)).then(|| value.to_owned());
    let parameters = matched.parameters.iter().map(|(name, value)| (name.clone(), told(name, value)));
    event.route = Some(RouteFacts {
        names: Arc::clone(&route.recorded),
        parameters: parameters.collect(),
        class: Arc::clone(&route.class),
        cost: route.cost,
    });
    event.decision.bundle = bundle.id().shared();
    event.decision.read = read;
    (event.decision.outcome, event.decision.deciding, event.decision.erring) = match decision {
        Decision::Permit(permit) => (Recorded::Permit, permit.deciding().to_vec(), Vec::new()),
        Decision::Deny(denial) => (Recorded::Deny, denial.forbidding, Vec::new()),
        Decision::Undecidable { erring } => (Recorded::Error, Vec::new(), erring),
    };
    let mut line = String::new();
    event.write_line(&mut line);
    line
}

/// What became of it, in one line.
fn spell(told: &Replay) -> String {
    match &told.outcome {
        Outcome::Same(said) => format!("same {said}"),
        Outcome::Differs { was, is } => format!("{was} -> {is}"),
        Outcome::NotReplayed { why } => why.clone(),
        Outcome::NoDecision { why } => (*why).to_owned(),
    }
}

fn read(line: &str) -> Value {
    let record: Value = serde_json::from_str(line).unwrap();
    record["decision"]["read"].clone()
}

#[test]
fn a_record_holds_what_policy_has_looked_at_and_no_more() {
    let reader = person(&["reader"]);
    let check = |condition: &str, line: &str, expected: Value| {
        let bundle = guarded(condition);
        let line = record(&bundle, line, &reader, PLAIN);
        assert_eq!(read(&line), expected, "{condition}: {line}");
        assert!(spell(&replay(&bundle, &line)).starts_with("same "), "{condition}: {line}");
    };
    check("principal.suspended", "GET /api/docs?page=7", Value::Null);
    check("!context.tls", "GET /api/docs?page=7", json!({ "context.tls": true }));
    check(
        "context.client.isInRange(ip(\"10.0.0.0/8\"))",
        "GET /api/docs",
        json!({ "context.client": "192.0.2.1" }),
    );
    check("context.client.isLoopback()", "GET /api/docs", json!({ "context.client": "192.0.2.1" }));
    check(
        "context.time < datetime(\"2020-01-01\")",
        "GET /api/docs",
        json!({ "context.time": "2026-01-07T12:00:00.000Z" }),
    );
    check(
        "context.method == \"PUT\" || context.class == \"admin\" || context.assurance > 2",
        "GET /api/docs",
        json!({ "context.assurance": 1, "context.class": "standard", "context.method": "GET" }),
    );
    check("context.scopes.contains(\"*\")", "GET /api/docs", json!({ "context.scopes": [] }));
    // Whether a parameter is there is a look at it; that it is not there leaves nothing to tell.
    check(
        "context.parameters has page && context.assurance > 2",
        "GET /api/docs?page=7",
        json!({ "context.assurance": 1, "context.parameters.page": "7" }),
    );
    let page = "context.parameters has page && context.parameters.page > 9";
    check(page, "GET /api/docs?page=7", json!({ "context.parameters.page": "7" }));
    check(page, "GET /api/docs", Value::Null);
    check(page, &format!("GET /api/docs/{ID}"), Value::Null);
    // What is behind something that decides is not looked at, unless the index leaves policies out by it.
    check(
        "context.assurance > 2 && context.class like \"a*\"",
        "GET /api/docs",
        json!({ "context.assurance": 1 }),
    );
    check(
        "context.assurance > 2 && !context.tls",
        "GET /api/docs",
        json!({ "context.assurance": 1, "context.tls": true }),
    );
    // All parameters as one value, and the whole context.
    check(
        "[context.parameters].contains(context.parameters) && context.assurance > 2",
        "GET /api/docs?page=7",
        json!({ "context.assurance": 1, "context.parameters.page": "7" }),
    );
    check(
        "[context].contains(context) && principal.suspended",
        "GET /api/docs?page=7",
        json!({
            "context.assurance": 1, "context.class": "standard", "context.client": "192.0.2.1", "context.method": "GET",
            "context.parameters.page": "7", "context.scopes": [], "context.time": "2026-01-07T12:00:00.000Z",
            "context.tls": true,
        }),
    );
}

#[test]
fn another_bundle_is_asked_the_same_and_says_what_it_looks_for_in_vain() {
    let (reader, before) = (person(&["reader"]), load(&sources()));
    let line = record(&before, "GET /api/docs?page=7", &reader, PLAIN);
    assert_eq!(spell(&replay(&before, &line)), "same permit by docs.readers");
    let check = |condition: &str, expected: &str| {
        let bundle = guarded(condition);
        let told = replay(&bundle, &line);
        assert_eq!(spell(&told), expected, "{condition}");
        assert_eq!((told.bundle.as_str(), told.asked.as_str()), (before.id().as_str(), "GET /api/docs"));
        assert_ne!(told.bundle, bundle.id().as_str());
    };
    let differs = "permit by docs.readers -> deny by account.suspended";
    check("principal in Role::\"reader\"", differs);
    check("context.client.isInRange(ip(\"192.0.2.0/24\"))", differs);
    check("context.time > datetime(\"2026-01-01\")", differs);
    check("context.method == \"GET\"", differs);
    check("context.class == \"standard\"", differs);
    check("context.assurance == 1", differs);
    check(
        "context.parameters has page",
        "policy looks at `context.parameters.page`, which is not in the record",
    );
    check("context.parameters has id", "same permit by docs.readers");
    check("!context.tls", "policy looks at `context.tls`, which is not in the record");
    check(
        "context.parameters has page && context.parameters.page == 7",
        "policy looks at `context.parameters.page`, which is not in the record",
    );
    // A grant that is gone, a route that is gone or that takes no session any more, and one that asks for more.
    let changed = |file: &str, from: &str, to: &str| spell(&replay(&load(&with(file, from, to)), &line));
    assert_eq!(
        changed("grants/docs.cedar", "principal in Role::\"reader\"", "principal in Role::\"editor\""),
        "permit by docs.readers -> deny"
    );
    assert_eq!(
        changed("routes/docs.toml", "\"GET /api/docs\"", "\"GET /api/papers\""),
        "permit by docs.readers -> unrouted"
    );
    assert_eq!(
        changed(
            "routes/docs.toml",
            "{ on = \"GET /api/docs\", action = \"docs.read\"",
            "{ on = \"GET /api/docs\", accept = [\"api_key\"], action = \"docs.read\""
        ),
        "permit by docs.readers -> not_accepted"
    );
    assert_eq!(
        changed(
            "routes/docs.toml",
            "{ on = \"GET /api/docs\", action = \"docs.read\"",
            "{ on = \"GET /api/docs\", action = \"docs.write\""
        ),
        "permit by docs.readers -> deny"
    );
}

#[test]
fn what_the_schema_calls_sensitive_is_in_no_record() {
    let secret = "s3cret-name";
    let page = "context.parameters has page && context.parameters.page == 7391";
    let check = |from: &str, to: &str, condition: &str, line: &str, expected: Value, replayed: &str| {
        let mut files = with(SCHEMA, from, to);
        let guard = files.files.get_mut(GUARD).unwrap();
        *guard = guard.replace("{ principal.suspended }", &format!("{{ {condition} }}"));
        let bundle = load(&files);
        let line = record(&bundle, line, &person(&["reader"]), PLAIN);
        assert!(!line.contains(secret) && !line.contains("7391"), "{line}");
        assert_eq!(read(&line), expected, "{line}");
        assert_eq!(spell(&replay(&bundle, &line)), replayed);
    };
    let redacted = json!({ "context.parameters.page": { "redacted": true } });
    let in_vain = "policy looks at `context.parameters.page`, which is redacted in the record";
    check(
        "page?: Long",
        "@sensitive page?: Long",
        page,
        "GET /api/docs?page=7391",
        redacted.clone(),
        in_vain,
    );
    check(
        "parameters: Parameters",
        "@sensitive parameters: Parameters",
        page,
        "GET /api/docs?page=7391",
        redacted,
        in_vain,
    );
    // Not looked at, so nothing is missing.
    check(
        "page?: Long",
        "@sensitive page?: Long",
        "principal.suspended",
        "GET /api/docs?page=7391",
        Value::Null,
        "same permit by docs.readers",
    );
    check(
        "tls: Bool",
        "@sensitive tls: Bool",
        "!context.tls",
        "GET /api/docs",
        json!({ "context.tls": { "redacted": true } }),
        "policy looks at `context.tls`, which is redacted in the record",
    );
    // In the path, where it is in the path and among the route's parameters as well.
    let mut files = with(SCHEMA, "id?: String", "@sensitive id?: String");
    let routes = files.files.get_mut("routes/docs.toml").unwrap();
    *routes = routes.replace("id = \"uuid\"", "id = \"slug\"");
    let open = load(&files);
    let guard = files.files.get_mut(GUARD).unwrap();
    *guard = guard.replace(
        "{ principal.suspended }",
        "{ context.parameters has id && context.parameters.id == \"x\" }",
    );
    let looking = load(&files);
    for (bundle, expected) in [
        (&open, "same permit by docs.readers"),
        (&looking, "policy looks at `context.parameters.id`, which is redacted in the record"),
    ] {
        let line = record(bundle, &format!("GET /api/docs/{secret}"), &person(&["reader"]), PLAIN);
        assert!(!line.contains(secret) && line.contains("\"path\":\"/api/docs/:id\""), "{line}");
        assert_eq!(spell(&replay(bundle, &line)), expected);
    }
}

#[test]
fn a_value_that_was_cut_is_not_guessed() {
    let bundle = {
        let mut files = with(
            GUARD,
            "{ principal.suspended }",
            "{ context.parameters has id && context.parameters.id == \"x\" }",
        );
        let routes = files.files.get_mut("routes/docs.toml").unwrap();
        *routes = routes
            .replace("id = \"uuid\"", "id = \"text\"")
            .replace("query = { page = \"int\" }", "query = { page = \"int\", id = \"text\" }");
        load(&files)
    };
    let long = "x".repeat(300);
    let line = record(&bundle, &format!("GET /api/docs?id={long}"), &person(&["reader"]), PLAIN);
    assert_eq!(read(&line), json!({ "context.parameters.id": { "cut": "x".repeat(256) } }));
    let told = spell(&replay(&bundle, &line));
    assert_eq!(told, "policy looks at `context.parameters.id`, which is cut in the record");
    // In the path it is whole.
    let line = record(&bundle, &format!("GET /api/docs/{long}"), &person(&["reader"]), PLAIN);
    assert_eq!(spell(&replay(&bundle, &line)), "same permit by docs.readers");
}

#[test]
fn records_that_hold_no_decision_or_too_little_say_so() {
    let bundle = load(&sources());
    let whole: Value =
        serde_json::from_str(&record(&bundle, "GET /api/docs?page=7", &person(&["reader"]), PLAIN)).unwrap();
    let check = |pointer: &str, value: Value, expected: &str| {
        let mut changed = whole.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = changed.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        if value.is_null() {
            parent.remove(name)
        } else {
            parent.insert(name.to_owned(), value)
        };
        let told = spell(&replay(&bundle, &changed.to_string()));
        assert!(told.contains(expected), "{pointer}: {told}");
    };
    check("/kind", json!("opening"), "the request has a record of its own");
    check("/kind", json!("summary"), "it counts early refusals");
    check("/kind", json!("security"), "it belongs to no request");
    check("/decision/outcome", json!("none"), "it was refused before policy was asked");
    check("/decision/deciding", json!([{ "id": "cedargate.built_in.rollback" }]), "by a rule of its own");
    check("/decision/erring", json!(["cedargate.oracle"]), "Cedar decided otherwise");
    check("/decision/erring", json!(["cedargate.request"]), "did not fit the schema");
    check("/principal/roles", Value::Null, "a version that did not record roles");
    check("/principal/authenticated_at", Value::Null, "a version that did not record roles");
    check("/principal/cut", json!(true), "more roles, groups or scopes than a record holds");
    check("/route", Value::Null, "no request or no route");
    check("/request", Value::Null, "no request or no route");
    check("/request/method", json!("G E T"), "is no request line");
    check("/request/path", json!("/api/../docs"), "is no request line");
    check("/request/path", json!("/".to_owned() + &"x".repeat(2_047)), "same permit by docs.readers");
    check("/route/resource", json!("Page::\"docs\""), "is no module");
    check("/time", json!("today"), "is no time of a record");
    check("/kind", json!("unheard-of"), "the line is no record");
    check("/client", Value::Null, "same permit by docs.readers");
    check(
        "/request/query_names",
        json!(vec!["other"; 32]),
        "more query parameters than a record has names of",
    );
    check("/request/query_names", json!(vec!["page"; 32]), "same permit by docs.readers");
    for line in ["", "{", "[]", "null", "{}", "\u{0}"] {
        let told = replay(&bundle, line);
        assert!(spell(&told).starts_with("the line is no record: "), "{line}: {told:?}");
    }
}

fn conditions() -> impl Strategy<Value = String> {
    let one = prop_oneof![
        Just("context.tls"),
        Just("context.client.isInRange(ip(\"192.0.2.0/24\"))"),
        Just("context.client.isLoopback()"),
        Just("context.time < datetime(\"2026-01-07T12:00:01Z\")"),
        Just("context.assurance > 1"),
        Just("context.class == \"files\""),
        Just("context.method == \"PUT\""),
        Just("context.scopes.contains(\"docs.read\")"),
        Just("principal.suspended"),
        Just("principal in Role::\"reader\""),
        Just("context.parameters has page && context.parameters.page > 5"),
        Just("context.parameters has id && context.parameters.id like \"4*\""),
        Just("[context.parameters].contains(context.parameters)"),
        Just("[context].contains(context)"),
    ];
    let not = (one, any::<bool>())
        .prop_map(|(one, not)| if not { format!("!({one})") } else { format!("({one})") });
    (proptest::collection::vec(not, 1..4), any::<bool>()).prop_map(|(some, all)| {
        format!("principal is User && ({})", some.join(if all { " && " } else { " || " }))
    })
}

proptest! {
    // Each loads two bundles.
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever policy looks at, the same bundle decides again as it did; and of another it is told right, or not at all.
    #[test]
    fn a_decision_is_replayed_as_it_was_or_not_at_all(
        (condition, other) in (conditions(), conditions()),
        line in prop_oneof![
            Just("GET /api/docs".to_owned()), (0_u32..12).prop_map(|page| format!("GET /api/docs?page={page}")),
            Just(format!("GET /api/docs/{ID}")), Just(format!("PUT /api/docs/{ID}")),
        ],
        roles in proptest::sample::subsequence(vec!["reader", "editor"], 0..=2),
        (assurance, suspended, tls) in (1_u8..4, any::<bool>(), any::<bool>()),
        client in prop_oneof![Just("192.0.2.1"), Just("::ffff:192.0.2.9"), Just("::1"), Just("2001:db8::1")],
        late in 0_u64..3_000,
    ) {
        let (bundle, other) = (guarded(&condition), guarded(&other));
        let identity = Identity::Known(Arc::new(Principal { assurance, suspended, ..principal(&roles) }));
        let from = From { client: client.parse().unwrap(), tls, now: EXAMPLE_TIME.plus(late) };
        let line_of = |bundle: &Bundle| record(bundle, &line, &identity, from);
        let before = line_of(&bundle);
        let told = replay(&bundle, &before);
        prop_assert!(matches!(told.outcome, Outcome::Same(_)), "{told:?}: {before}");
        let expected: Value = serde_json::from_str(&line_of(&other)).unwrap();
        let is = match replay(&other, &before).outcome {
            Outcome::Same(is) | Outcome::Differs { is, .. } => is,
            Outcome::NotReplayed { why } => {
                prop_assert!(why.contains("is not in the record"), "{why}");
                return Ok(());
            }
            Outcome::NoDecision { why } => return Err(TestCaseError::fail(why)),
        };
        prop_assert_eq!(is.word.as_str(), expected["decision"]["outcome"].as_str().unwrap());
        let ids: Vec<_> = expected["decision"]["deciding"].as_array().unwrap().iter().map(|by| by["id"].as_str().unwrap()).collect();
        prop_assert_eq!(is.policies, ids);
    }
}
