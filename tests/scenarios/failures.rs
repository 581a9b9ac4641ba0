//! Whatever breaks, whenever it breaks: each request leaves exactly one record.

use std::time::Duration;

use serde_json::Value;
use tests::client::{Client, Request};
use tests::gateway::{Gateway, Setup};
use tests::session::Browser;
use tests::upstream::{Behaviour, Upstream};
use tests::wait::PATIENCE;

const READ: &str = "/api/docs/list";
const WRITE: &str = "/api/docs/save";

/// The records of requests that carried this `User-Agent`, once a later request stands in the log.
///
/// The log keeps the order in which requests ended, so what comes after the last of them has been
/// written proves that no more can come.
fn records_of(gateway: &Gateway, agent: &str, at_least: usize) -> Vec<Value> {
    let of_it = |record: &Value| record["client"]["user_agent"] == agent && record["kind"] == "request";
    let found = || gateway.audit().records().into_iter().filter(of_it).collect::<Vec<_>>();
    tests::wait::until("the record of a broken request", PATIENCE, || {
        (found().len() >= at_least).then_some(())
    });
    let barrier = Browser::new(gateway.address()).get("/barrier").request_id();
    gateway.audit().of(&barrier);
    found()
}

fn request(gateway: &Gateway, method: &str, target: &str, agent: &str) -> Request {
    Request::new(method, target)
        .with("Host", &gateway.address().to_string())
        .with("X-API-Key", gateway.api_key())
        .with("User-Agent", agent)
}

#[test]
fn an_upstream_that_dies_at_any_point_leaves_one_record() {
    let upstream = Upstream::start();
    let gateway = Setup::demo().upstream(&upstream.url()).start();
    let broken_head = b"HTTP/1.1 200 OK\r\nContent-Le".to_vec();
    let garbage = b"220 smtp.example ready\r\n\r\n".to_vec();
    let bad_chunk = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec();
    let deaths = [
        ("dies/at-once", Behaviour::CloseAtOnce),
        ("dies/unanswered", Behaviour::CloseUnanswered),
        ("dies/in-head", Behaviour::Raw(broken_head)),
        ("dies/garbage", Behaviour::Raw(garbage)),
        ("dies/in-body", Behaviour::CloseInBody),
        ("dies/in-chunk", Behaviour::Raw(bad_chunk)),
    ];
    for (agent, death) in deaths {
        for (method, target) in [("GET", READ), ("POST", WRITE)] {
            let agent = format!("{agent}/{method}");
            // The death before may have been a health check's as well; this one meets a healthy upstream.
            upstream.behave(Behaviour::Answer(Vec::new(), b"ok".to_vec()));
            let well = request(&gateway, "GET", READ, "well");
            tests::wait::until("a healthy upstream", PATIENCE, || {
                let answer = Client::connect(gateway.address()).ask(&well);
                answer.is_ok_and(|answer| answer.status == 200).then_some(())
            });
            upstream.behave(death.clone());
            let request = request(&gateway, method, target, &agent);
            let request = if method == "POST" { request.body("application/json", b"{}") } else { request };
            let answer = Client::connect(gateway.address()).ask(&request);
            let records = records_of(&gateway, &agent, 1);
            if let Ok(answer) = &answer {
                assert!(matches!(answer.status, 502..=504), "{agent}: {}", answer.status);
                let refusal = records[0]["decision"]["refusal"].as_str().unwrap_or_default();
                let known = ["upstream_broken", "upstream_unhealthy", "upstream_unreachable"];
                assert!(known.contains(&refusal), "{agent}: {records:#?}");
            }
            assert_eq!(records.len(), 1, "{agent}: {records:#?}");
            assert_eq!(records[0]["decision"]["outcome"], "permit", "{agent}");
            let end = records[0]["answer"]["end"].as_str().unwrap_or_default().to_owned();
            let told = answer.is_ok();
            assert!(
                end == "upstream_died" || (told && end == "complete"),
                "{agent}: ended as {end}, told: {told}"
            );
        }
    }
    // And it serves on.
    upstream.behave(Behaviour::Answer(Vec::new(), b"ok".to_vec()));
    let answer = Client::connect(gateway.address()).ask(&request(&gateway, "GET", READ, "after"));
    assert_eq!(answer.expect("an answer").status, 200);
}

#[test]
fn a_client_that_leaves_at_any_point_leaves_one_record() {
    let upstream = Upstream::start();
    let gateway = Setup::demo().upstream(&upstream.url()).start();
    let whole = |agent: &str| request(&gateway, "GET", READ, agent).to_bytes();
    let upload = |agent: &str| {
        request(&gateway, "POST", WRITE, agent)
            .with("Content-Type", "application/json")
            .with("Content-Length", "1000")
            .to_bytes()
    };

    // In its own body, before the upstream has answered.
    let mut client = Client::connect(gateway.address());
    client.send(&upload("leaves/in-request-body"));
    client.send(b"0123456789");
    upstream.wait("the beginning of the body", |received| !received.body.is_empty());
    drop(client);
    assert_one(&gateway, "leaves/in-request-body");

    // While the upstream thinks.
    upstream.behave(Behaviour::Silent);
    let mut client = Client::connect(gateway.address());
    client.send(&whole("leaves/waiting"));
    upstream.wait("the request", |received| {
        received.complete && received.header("user-agent") == Some("leaves/waiting")
    });
    drop(client);
    assert_one(&gateway, "leaves/waiting");

    // In the answer's body.
    upstream.behave(Behaviour::StallInBody);
    let mut client = Client::connect(gateway.address());
    client.send(&whole("leaves/in-answer"));
    client.read_some().expect("the beginning of the answer");
    drop(client);
    assert_one(&gateway, "leaves/in-answer");

    // As soon as it has spoken.
    upstream.behave(Behaviour::Answer(Vec::new(), b"ok".to_vec()));
    let mut client = Client::connect(gateway.address());
    client.send(&whole("leaves/at-once"));
    drop(client);
    assert_one(&gateway, "leaves/at-once");
}

fn assert_one(gateway: &Gateway, agent: &str) {
    let records = records_of(gateway, agent, 1);
    assert_eq!(records.len(), 1, "{agent}: {records:#?}");
}

#[test]
fn half_a_head_leaves_one_record_and_a_silent_connection_none() {
    let gateway = Setup::demo().start();
    let before = gateway.audit().records().len();
    // A port scan: connected, said nothing, gone.
    drop(Client::connect(gateway.address()));
    // Half a request line, then gone.
    let mut client = Client::connect(gateway.address());
    client.send(b"GET /half-a-line");
    client.finish();
    assert!(client.rest(PATIENCE).is_some(), "half a request line holds its connection");
    // A whole line and half a header, then gone.
    let mut client = Client::connect(gateway.address());
    client.send(b"GET /half-a-head HTTP/1.1\r\nHost: 127.0.");
    client.finish();
    assert!(client.rest(PATIENCE).is_some(), "half a head holds its connection");
    // A kept connection that closes idle is no request either.
    let mut client = Client::connect(gateway.address());
    let kept = Request::new("GET", "/health").with("Host", &gateway.address().to_string());
    let kept = client.ask(&kept).expect("an answer").request_id();
    drop(client);
    gateway.audit().of(&kept);
    let half =
        |record: &Value| record["request"]["path"].as_str().is_some_and(|path| path.starts_with("/half"));
    gateway.audit().wait_after(before, "half a line", |record| record["request"]["path"] == "/half-a-line");
    gateway.audit().wait_after(before, "half a head", |record| record["request"]["path"] == "/half-a-head");
    let barrier = Browser::new(gateway.address()).get("/barrier").request_id();
    gateway.audit().of(&barrier);
    let records: Vec<Value> = gateway.audit().records().into_iter().skip(before).collect();
    assert_eq!(records.iter().filter(|record| half(record)).count(), 2, "{records:#?}");
    assert_eq!(records.len(), 4, "half a line, half a head, the kept request, the barrier: {records:#?}");
}

#[test]
fn a_body_that_stalls_is_cut_and_recorded() {
    let gateway = Setup::demo().start();
    let mut client = Client::connect(gateway.address());
    let stalled = request(&gateway, "POST", WRITE, "stalls").with("Content-Length", "1000");
    client.send(&stalled.to_bytes());
    client.send(b"0123456789");
    // Nothing more comes; the gateway must give up by itself.
    assert!(
        client.rest(Duration::from_secs(90)).is_some(),
        "an unfinished body holds its connection for ever"
    );
    let record = records_of(&gateway, "stalls", 1).remove(0);
    assert_eq!(record["decision"]["refusal"], "body.too_slow", "{record:#}");
}

#[test]
fn a_head_that_dribbles_is_cut_and_recorded() {
    let gateway = Setup::demo().start();
    let mut client = Client::connect(gateway.address());
    client.send(b"GET /dribble HTTP/1.1\r\nHost: ");
    // Nothing more comes; the gateway must give up by itself.
    assert!(
        client.rest(Duration::from_secs(30)).is_some(),
        "an unfinished head holds its connection for ever"
    );
    let record =
        gateway.audit().wait_after(0, "the dribbled head", |record| record["request"]["path"] == "/dribble");
    assert_eq!(record["answer"]["end"], "deadline", "{record:#}");
}

#[test]
fn a_panic_in_any_stage_leaves_one_record_and_a_gateway_that_serves() {
    let gateway = Setup::demo().start();
    let stages = [
        "receive",
        "route",
        "admit",
        "identify",
        "authorize",
        "spend",
        "shape",
        "forward",
        "respond",
        "record",
    ];
    for stage in stages {
        let agent = format!("fault/{stage}");
        let request = request(&gateway, "GET", READ, &agent).with("X-Cedargate-Fault", stage);
        let answer = Client::connect(gateway.address()).ask(&request);
        // Until a stage has handed the request to the proxy's own loop, a panic is still answered.
        if let Ok(answer) = &answer {
            // What panics while it is recorded has been answered already.
            assert_eq!(answer.status, if stage == "record" { 200 } else { 500 }, "{stage}");
            assert!(
                !answer.text().contains("panic"),
                "{stage}: the answer tells of the inside: {}",
                answer.text()
            );
        } else {
            assert!(["shape", "forward", "respond"].contains(&stage), "{stage}: {answer:?}");
        }
        let record = match &answer {
            Ok(answer) => gateway.audit().of(&answer.request_id()),
            Err(_) => records_of(&gateway, &agent, 1).remove(0),
        };
        assert_eq!(record["answer"]["end"], "panic", "{stage}: {record:#}");
        if answer.is_ok_and(|answer| answer.status == 500) {
            assert_eq!(record["decision"]["refusal"], "faulted", "{stage}: {record:#}");
        }
        let id = record["request_id"].as_str().expect("an id");
        gateway.audit().of(id);
    }
    assert!(gateway.output().contains("panic"), "a panic is loud in the program's own log");
    let after = Client::connect(gateway.address()).ask(&request(&gateway, "GET", READ, "after"));
    assert_eq!(after.expect("an answer").status, 200);
}
