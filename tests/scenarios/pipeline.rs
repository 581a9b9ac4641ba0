//! Each stage and what it may refuse with, through the whole product.

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::client::{Client, Request, Response};
use tests::gateway::{Gateway, Setup};
use tests::jwt;
use tests::session::{Browser, LOGIN, WHOAMI};
use tests::upstream::{Behaviour, Upstream};
use tests::wait::PATIENCE;

/// A read that any signed-in user may do.
const READ: &str = "/api/docs/list";
/// A write that any signed-in user may do.
const WRITE: &str = "/api/docs/save";
/// A kill switch forbids it to everybody.
const SWITCHED_OFF: &str = "/api/auth/login";
/// A read that guests are not granted.
const BUSINESS: &str = "/api/products/items";

/// The role names that BotServer knows; any other makes its caller anonymous there.
const BOTSERVER_ROLES: [&str; 10] = [
    "anonymous",
    "user",
    "bot_viewer",
    "bot_operator",
    "bot_owner",
    "bot",
    "moderator",
    "service",
    "admin",
    "super_admin",
];

fn with_key(gateway: &Gateway, method: &str, target: &str) -> Request {
    Request::new(method, target)
        .with("Host", &gateway.address().to_string())
        .with("X-API-Key", gateway.api_key())
}

fn ask(gateway: &Gateway, request: &Request) -> Response {
    Client::connect(gateway.address()).ask(request).expect("an answer")
}

#[test]
fn a_permitted_request_is_forwarded_with_our_word_for_who_it_is_and_recorded() {
    let gateway = Setup::demo().start();
    let mut browser = gateway.signed_in("standard_user");
    let answer = browser.get("/api/docs/list?q=findme");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = answer.json();
    assert_eq!(
        (&seen["method"], &seen["path"], &seen["query"]),
        (&"GET".into(), &READ.into(), &"q=findme".into())
    );
    let headers = &seen["headers"];
    assert!(headers["cookie"].is_null(), "a cookie went upstream: {headers}");
    assert_eq!(headers["x-request-id"], answer.request_id().as_str());
    let (head, claims) = jwt::read(jwt::bearer(headers["authorization"].as_str().expect("an identity")));
    check_claims(&head, &claims);

    let record = gateway.audit().of(&answer.request_id());
    assert_eq!(record["decision"]["outcome"], "permit");
    let deciding = record["decision"]["deciding"].as_array().expect("a list");
    assert!(
        !deciding.is_empty()
            && deciding.iter().all(|policy| policy["id"].is_string() && policy["reason"].is_string())
    );
    assert_eq!(record["decision"]["bundle"].as_str().map(str::len), Some(64));
    assert_eq!(record["route"]["name"], "GET /api/docs/list");
    assert_eq!(record["principal"]["name"], gateway.account("standard_user").login.as_str());
    assert_eq!(record["principal"]["scheme"], "session");
    assert_eq!(record["request"]["query_names"], serde_json::json!(["q"]));
    assert_eq!((&record["answer"]["status"], &record["answer"]["end"]), (&200.into(), &"complete".into()));
    assert!(!record.to_string().contains("findme"), "a query value is in the record: {record}");
    check_stages(&record);
}

fn check_claims(head: &Value, claims: &Value) {
    assert_eq!(head["alg"], "HS256");
    assert_eq!(
        (&claims["iss"], &claims["aud"], &claims["type"]),
        (&"general-bots".into(), &"general-bots-api".into(), &"access".into())
    );
    let subject = claims["sub"].as_str().expect("a subject");
    assert!(subject.len() == 36 && subject != "00000000-0000-0000-0000-000000000000", "{subject}");
    let life = claims["exp"].as_u64().expect("an end") - claims["iat"].as_u64().expect("a beginning");
    assert!((1..=60).contains(&life), "the identity lives for {life} s");
    for role in claims["roles"].as_array().expect("roles") {
        assert!(BOTSERVER_ROLES.contains(&role.as_str().expect("a name")), "BotServer does not know {role}");
    }
}

fn check_stages(record: &Value) {
    let stages: Vec<&str> = record["stages_us"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|pair| pair[0].as_str().expect("a name"))
        .collect();
    // The peer is chosen, which is a part of `forward`, before the headers are shaped for it.
    let order = [
        "receive",
        "route",
        "admit",
        "identify",
        "authorize",
        "spend",
        "forward",
        "shape",
        "respond",
        "record",
    ];
    let mut rest = order.iter();
    assert!(stages.iter().all(|stage| rest.any(|next| next == stage)), "the stages ran as {stages:?}");
    for stage in ["receive", "route", "identify", "authorize", "forward"] {
        assert!(stages.contains(&stage), "{stage} left no time: {stages:?}");
    }
}

#[test]
fn a_refusal_by_policy_is_explained_to_programs_and_to_people() {
    let gateway = Setup::demo().start();
    let mut browser = gateway.signed_in("guest_user");
    let answer = browser.get(BUSINESS);
    assert_eq!(answer.status, 403);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["status"], 403);
    assert!(problem["type"].as_str().is_some_and(|kind| kind.ends_with("forbidden")), "{problem}");
    assert!(problem.to_string().contains(&answer.request_id()), "the problem names its request: {problem}");
    let record = gateway.audit().of(&answer.request_id());
    assert_eq!(
        (&record["decision"]["outcome"], &record["decision"]["refusal"]),
        (&"deny".into(), &"forbidden".into())
    );

    let page = browser.navigate(BUSINESS);
    assert_eq!(page.status, 403);
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")));
    assert!(page.text().contains(&page.request_id()), "the page names its request");
}

#[test]
fn who_is_nobody_is_asked_to_sign_in() {
    let gateway = Setup::demo().start();
    let mut browser = Browser::new(gateway.address());
    let answer = browser.get(READ);
    assert_eq!(answer.status, 401);
    assert!(answer.header("www-authenticate").is_some(), "401 carries a challenge");
    assert_eq!(gateway.audit().of(&answer.request_id())["decision"]["refusal"], "unauthenticated");
    assert_eq!(browser.get(WHOAMI).status, 401);
}

#[test]
fn every_answer_carries_the_headers_that_protect_browsers() {
    let upstream = Upstream::start();
    let leaky = [("Server", "leaky/1.0"), ("X-Powered-By", "leak"), ("Content-Type", "text/plain")];
    let leaky = leaky.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    upstream.behave(Behaviour::Answer(leaky, b"ok".to_vec()));
    let gateway = Setup::demo().upstream(&upstream.url()).start();
    let host = gateway.address().to_string();
    let get = |target: &str| Request::new("GET", target).with("Host", &host);
    let answers = [
        ("forwarded", ask(&gateway, &get("/health")), 200),
        ("a page of ours", ask(&gateway, &get(LOGIN)), 200),
        ("unrouted", ask(&gateway, &get("/no/such/route")), 404),
        ("unauthenticated", ask(&gateway, &get(READ)), 401),
        ("malformed", ask(&gateway, &get("/a/../b")), 400),
        (
            "unparsable",
            ask(&gateway, &Request::new("GET", "/health").with("Host", &host).with("A B", "c")),
            400,
        ),
    ];
    for (name, answer, status) in answers {
        assert_eq!(answer.status, status, "{name}");
        for header in ["x-content-type-options", "x-request-id", "referrer-policy"] {
            assert!(answer.header(header).is_some(), "{name}: no {header}: {:?}", answer.headers);
        }
        assert!(answer.header("x-powered-by").is_none(), "{name}: x-powered-by");
        assert!(
            !answer.header("server").unwrap_or_default().to_lowercase().contains("leaky"),
            "{name}: server"
        );
        assert!(!answer.header("server").unwrap_or_default().contains("Pingora"), "{name}: server");
    }
}

#[test]
fn an_address_that_asks_too_often_is_told_when_to_come_back() {
    let gateway = Setup::demo().environment("BOTSERVER_RATE_LIMIT_PER_IP", "5").start();
    let request = Request::new("GET", "/health").with("Host", &gateway.address().to_string());
    let answers: Vec<Response> = (0..7).map(|_| ask(&gateway, &request)).collect();
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429]);
    // Five per minute is one in twelve seconds.
    let wait: u32 = answers[5].header("retry-after").expect("a time").parse().expect("seconds");
    assert!((1..=12).contains(&wait), "{wait}");
    assert_eq!(gateway.audit().of(&answers[5].request_id())["decision"]["refusal"], "throttled");
}

#[test]
fn a_spent_quota_refuses_and_a_refused_caller_does_not_spend_it() {
    let gateway = Setup::demo().environment("BOTSERVER_RATE_LIMIT_PER_USER", "3").start();
    // What policy refuses costs nothing of the quota.
    for _ in 0..3 {
        assert_eq!(ask(&gateway, &with_key(&gateway, "POST", SWITCHED_OFF)).status, 403);
    }
    let answers: Vec<Response> = (0..4).map(|_| ask(&gateway, &with_key(&gateway, "GET", READ))).collect();
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    assert!(answers[3].header("retry-after").is_some());
    assert_eq!(gateway.audit().of(&answers[3].request_id())["decision"]["refusal"], "quota_spent");
}

#[test]
fn a_body_past_the_bound_is_refused_announced_or_not() {
    let upstream = Upstream::start();
    let gateway =
        Setup::demo().upstream(&upstream.url()).environment("BOTSERVER_MAX_UPLOAD_SIZE", "1000").start();
    let announced = with_key(&gateway, "POST", WRITE).body("application/json", &[b'x'; 1001]);
    let answer = ask(&gateway, &announced);
    assert_eq!(answer.status, 413);
    assert_eq!(gateway.audit().of(&answer.request_id())["decision"]["refusal"], "too_large");
    assert!(upstream.forwarded().is_empty(), "nothing of an announced excess goes upstream");
    assert_eq!(
        ask(&gateway, &with_key(&gateway, "POST", WRITE).body("application/json", &[b'x'; 1000])).status,
        200
    );

    let mut client = Client::connect(gateway.address());
    client.send(&with_key(&gateway, "POST", WRITE).with("Transfer-Encoding", "chunked").to_bytes());
    client.send(format!("7d0\r\n{}\r\n0\r\n\r\n", "x".repeat(2000)).as_bytes());
    let answer = client.receive().expect("an answer");
    assert_eq!(answer.status, 413);
    assert_eq!(gateway.audit().of(&answer.request_id())["decision"]["refusal"], "too_large");
    assert!(upstream.forwarded().iter().filter(|received| received.complete).count() <= 1);
}

#[test]
fn head_is_routed_as_get_and_has_no_body() {
    let gateway = Setup::demo().start();
    let mut client = Client::connect(gateway.address());
    let head = client.ask(&Request::new("HEAD", "/health").with("Host", &gateway.address().to_string()));
    let head = head.expect("an answer");
    assert_eq!((head.status, head.body.len()), (200, 0));
    // The connection is still in step.
    let get = client.ask(&Request::new("GET", "/health").with("Host", &gateway.address().to_string()));
    assert_eq!(get.expect("an answer").status, 200);
}

#[test]
fn refusals_keep_the_connection() {
    let gateway = Setup::demo().start();
    let mut client = Client::connect(gateway.address());
    let host = gateway.address().to_string();
    for (target, status) in
        [(READ, 401), ("/no/such/route", 404), ("/a/../b", 400), ("/health", 200), (WHOAMI, 401)]
    {
        let answer = client.ask(&Request::new("GET", target).with("Host", &host)).expect("an answer");
        assert_eq!(answer.status, status, "{target}");
    }
    // A body that came with the refused request is taken or the connection ends; it is never read as a request.
    let smuggled = format!("GET /smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let refused =
        Request::new("POST", WRITE).with("Host", &host).body("application/json", smuggled.as_bytes());
    let answer = client.ask(&refused).expect("an answer");
    assert_eq!(answer.status, 401);
    if answer.header("connection") == Some("close") {
        assert_eq!(client.rest(PATIENCE), Some(Vec::new()), "something follows the last answer");
    } else {
        let next = client.ask(&Request::new("GET", "/health").with("Host", &host)).expect("an answer");
        assert_eq!(next.status, 200, "out of step");
    }
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let gateway = Setup::demo().start();
    let host = gateway.address().to_string();
    let upload = vec![b'x'; 3 * 1024 * 1024];
    for attempt in 0..10 {
        let request =
            Request::new("POST", WRITE).with("Host", &host).body("application/octet-stream", &upload);
        let answer = Client::connect(gateway.address()).ask(&request);
        assert_eq!(answer.map(|answer| answer.status), Ok(401), "attempt {attempt}");
    }
}

#[test]
fn a_trace_is_continued_and_a_request_id_from_outside_is_not_believed() {
    let gateway = Setup::demo().start();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = with_key(&gateway, "GET", READ)
        .with("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01"))
        .with("X-Request-Id", "6f9619ff-8b86-4d01-b42d-00cf4fc964ff");
    let answer = ask(&gateway, &request);
    assert_ne!(answer.request_id(), "6f9619ff-8b86-4d01-b42d-00cf4fc964ff");
    let seen = answer.json()["headers"].clone();
    let parent = seen["traceparent"].as_str().expect("a trace goes upstream");
    assert!(parent.starts_with(&format!("00-{trace}-")) && !parent.contains("00f067aa0ba902b7"), "{parent}");
    assert_eq!(gateway.audit().of(&answer.request_id())["trace_id"], trace);
}

#[test]
fn a_dead_upstream_is_a_502_that_says_nothing_of_the_inside() {
    let upstream = Upstream::start();
    let url = upstream.url();
    let gateway = Setup::demo().upstream(&url).start();
    let address = upstream.address().to_string();
    drop(upstream);
    let answer = ask(&gateway, &Request::new("GET", "/health").with("Host", &gateway.address().to_string()));
    assert!(matches!(answer.status, 502 | 503), "{}", answer.status);
    assert!(!answer.text().contains(&address), "the answer names the upstream's address: {}", answer.text());
    let record = gateway.audit().of(&answer.request_id());
    assert!(
        record["decision"]["refusal"].as_str().is_some_and(|code| [
            "upstream_unreachable",
            "upstream_unhealthy"
        ]
        .contains(&code)),
        "{record:#}"
    );
}

#[test]
fn a_large_body_streams_both_ways_at_constant_memory() {
    let upstream = Upstream::start();
    let megabytes = 64;
    let body = vec![b'x'; megabytes * 1024 * 1024];
    upstream.behave(Behaviour::Answer(Vec::new(), body.clone()));
    let gateway = Setup::demo().upstream(&upstream.url()).start();
    assert_eq!(ask(&gateway, &with_key(&gateway, "GET", READ)).body.len(), body.len());
    let before = gateway.process().memory_peak_bytes();
    let request = with_key(&gateway, "POST", "/api/docs/import").body("application/octet-stream", &body);
    let answer = ask(&gateway, &request);
    assert_eq!((answer.status, answer.body.len()), (200, body.len()), "{}", answer.text());
    let received =
        upstream.wait("the whole upload", |received| received.complete && received.method == "POST");
    assert_eq!(received.body.len(), body.len());
    let grown = gateway.process().memory_peak_bytes().saturating_sub(before);
    assert!(grown < 32 * 1024 * 1024, "the gateway grew by {grown} bytes for {megabytes} MiB each way");
}

#[test]
fn a_record_stands_in_the_file_within_200_ms_of_its_answer() {
    let gateway = Setup::demo().start();
    let mut waits: Vec<Duration> = (0..21)
        .map(|_| {
            let id = ask(&gateway, &with_key(&gateway, "GET", READ)).request_id();
            let answered = Instant::now();
            gateway.audit().of(&id);
            answered.elapsed()
        })
        .collect();
    // The middle one: a machine that compiles beside the test delays some, and says nothing of the product.
    waits.sort_unstable();
    assert!(waits[10] <= Duration::from_millis(200), "{waits:?}");
}
