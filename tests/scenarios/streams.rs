//! Answers and uploads that go on: they pass as they are made, and end with the ground that they stand on.

use tests::client::{Client, Lost};
use tests::gateway::{Gateway, Setup};
use tests::guardrail;
use tests::session::Browser;
use tests::upstream::{Behaviour, Upstream};
use tests::wait::PATIENCE;

const READ: &str = "/api/docs/list";
const WRITE: &str = "/api/docs/save";

const EVENTS: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
    9\r\ndata: 1\n\n\r\n";

fn gateway(upstream: &Upstream) -> Gateway {
    Setup::demo().upstream(&upstream.url()).start()
}

/// Opens a stream of events and reads its first, while the upstream says nothing more.
fn listen(gateway: &Gateway, browser: &Browser) -> (Client, String) {
    let mut client = Client::connect(gateway.address());
    client.send(&browser.request("GET", READ).to_bytes());
    let mut seen = String::new();
    while !seen.ends_with("data: 1\n\n\r\n") {
        seen += &String::from_utf8_lossy(&client.read_some().expect("the first event"));
    }
    assert!(seen.starts_with("HTTP/1.1 200"), "{seen}");
    let id = seen
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("x-request-id: ").map(str::to_owned));
    (client, id.expect("the request's id"))
}

#[test]
fn an_event_arrives_before_the_upstream_ends_and_none_after_the_session_has() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let (browser, other) = (gateway.signed_in("standard_user"), gateway.signed_in("power_user"));
    upstream.behave(Behaviour::RawThenSilent(EVENTS.to_vec()));
    let (mut ended, id) = listen(&gateway, &browser);
    let (mut theirs, other_id) = listen(&gateway, &other);
    let (status, said) = gateway.cli(&["session", "end-all", &gateway.account("standard_user").login]);
    assert!(status.success(), "{said}");
    // Cut, not ended: the last chunk never comes, so nobody takes the answer for whole.
    assert_eq!(ended.rest(PATIENCE), Some(Vec::new()));
    let record = gateway.audit().of(&id);
    assert_eq!(record["answer"]["end"], "revoked", "{record:#}");
    assert_eq!(record["decision"]["refusal"], "credential_rejected", "{record:#}");

    guardrail::add(&gateway.directory().join("policies"), "docs.read");
    assert_eq!(theirs.rest(PATIENCE), Some(Vec::new()));
    let record = gateway.audit().of(&other_id);
    assert_eq!(record["answer"]["end"], "revoked", "{record:#}");
    assert_eq!(record["decision"]["refusal"], "forbidden", "{record:#}");
}

#[test]
fn a_range_passes_both_ways_as_it_is() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let mut browser = gateway.signed_in("standard_user");
    let part = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-4/10\r\nContent-Length: 3\r\n\r\n234";
    upstream.behave(Behaviour::Raw(part.to_vec()));
    let answer = browser.ask(&browser.request("GET", READ).with("Range", "bytes=2-4"));
    assert_eq!(
        (answer.status, answer.header("content-range"), answer.text().as_str()),
        (206, Some("bytes 2-4/10"), "234")
    );
    let seen = upstream.forwarded();
    assert_eq!(seen.first().and_then(|seen| seen.header("range")), Some("bytes=2-4"), "{seen:?}");
}

#[test]
fn an_upload_waits_for_leave_and_one_that_breaks_off_is_no_whole_one() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let browser = gateway.signed_in("standard_user");
    let request = browser.request("POST", WRITE).with("Content-Length", "5").with("Expect", "100-continue");
    let continues = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let mut client = Client::connect(gateway.address());
    client.send(&request.to_bytes());
    client.send(b"hello");
    let answer = client.receive().expect("an answer");
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{answer:?}");
    let seen = upstream.wait("the upload", |seen| seen.method == "POST" && seen.complete);
    assert_eq!(seen.body, b"hello");

    upstream.forget();
    upstream.behave(Behaviour::Raw(continues.to_vec()));
    let mut client = Client::connect(gateway.address());
    client.send(&browser.request("POST", WRITE).with("Content-Length", "1000").to_bytes());
    client.send(b"hel");
    let begun = upstream.wait("the upload's beginning", |seen| seen.body == b"hel");
    assert!(!begun.complete);
    client.finish();
    let lost = client.receive();
    assert!(matches!(lost, Err(Lost::Closed(_))) || lost.is_ok_and(|answer| answer.status == 400));
    assert!(upstream.forwarded().iter().all(|seen| !seen.complete), "half an upload looked whole");
}
