//! Requests over the gateway's connections to an upstream: which of them are used again, what is asked again, and what
//! becomes of answers of every framing.

use tests::client::{Client, Request};
use tests::gateway::{Gateway, Setup};
use tests::session::Browser;
use tests::upstream::{Behaviour, Upstream};

const READ: &str = "/api/docs/list";
const WRITE: &str = "/api/docs/save";
/// What may be done twice, and has a body.
const REPLACE: &str = "/api/calendar/events/00000000-0000-4000-8000-000000000007";

/// After it the upstream's connection is not used again.
const LAST: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn next(bytes: &str) -> Behaviour {
    Behaviour::RawThenNext(bytes.into())
}

fn close(bytes: &str) -> Behaviour {
    Behaviour::Raw(bytes.into())
}

/// A gateway before this upstream, and somebody who is signed in to it.
fn started() -> (Upstream, Gateway, Browser) {
    let upstream = Upstream::start();
    let gateway = Setup::demo().upstream(&upstream.url()).start();
    let browser = gateway.signed_in("standard_user");
    (upstream, gateway, browser)
}

fn request(browser: &Browser, method: &str) -> Request {
    match method {
        "POST" => browser.request(method, WRITE).body("application/json", br#"{"title":"one"}"#),
        "PUT" => browser.request(method, REPLACE).body("application/json", br#"{"title":"two"}"#),
        "PUT in chunks" => {
            browser.request("PUT", REPLACE).in_chunks("application/json", br#"{"title":"two"}"#)
        }
        "PUT of none" => browser.request("PUT", REPLACE).in_chunks("application/json", b""),
        method => browser.request(method, READ),
    }
}

/// One case: what the upstream does with each request that it is sent, what the client asks one after the other over one
/// connection, the status of each answer, and over which of its connections the upstream was asked each time.
struct Case {
    what: &'static str,
    script: Vec<Behaviour>,
    asks: &'static [&'static str],
    statuses: &'static [u16],
    connections: &'static [usize],
}

fn cases() -> Vec<Case> {
    let case = |what, script, asks, statuses, connections| Case { what, script, asks, statuses, connections };
    vec![
        case("a connection is used again", vec![next(OK), next(OK)], &["GET", "GET"], &[200, 200], &[0, 0]),
        case("also after a body", vec![next(OK), next(OK)], &["POST", "PUT"], &[200, 200], &[0, 0]),
        case("not one that was closed", vec![close(OK), next(OK)], &["GET", "GET"], &[200, 200], &[0, 1]),
        case(
            "not one that the upstream wants closed",
            vec![next(LAST), next(OK)],
            &["GET", "GET"],
            &[200, 200],
            &[0, 1],
        ),
        case(
            "what the upstream says past its answer is no answer",
            vec![next("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 201 No\r\n\r\n"), next(OK)],
            &["GET", "GET"],
            &[200, 200],
            &[0, 1],
        ),
        case(
            "what was closed as it was asked is asked again",
            vec![next(OK), close(""), next(OK)],
            &["GET", "GET"],
            &[200, 200],
            &[0, 0, 1],
        ),
        case(
            "with its body, where it may be done twice",
            vec![next(OK), close(""), next(OK)],
            &["GET", "PUT"],
            &[200, 200],
            &[0, 0, 1],
        ),
        case(
            "also in chunks",
            vec![next(OK), close(""), next(OK)],
            &["GET", "PUT in chunks"],
            &[200, 200],
            &[0, 0, 1],
        ),
        case(
            "of which there may be none",
            vec![next(OK), close(""), next(OK)],
            &["GET", "PUT of none"],
            &[200, 200],
            &[0, 0, 1],
        ),
        case("and only there", vec![next(OK), close("")], &["GET", "POST"], &[200, 502], &[0, 0]),
        case("a new connection is not tried twice", vec![close("")], &["GET"], &[502], &[0]),
        case(
            "nor is anything tried three times",
            vec![next(OK), close(""), close("")],
            &["GET", "GET"],
            &[200, 502],
            &[0, 0, 1],
        ),
        case(
            "also where the head of its answer had begun",
            vec![next(OK), close("HTTP/1.1 20"), next(OK)],
            &["GET", "GET"],
            &[200, 200],
            &[0, 0, 1],
        ),
    ]
}

#[test]
fn a_connection_is_used_again_only_where_it_is_in_step() {
    let (upstream, gateway, browser) = started();
    for case in cases() {
        // Nothing of the case before is left waiting.
        upstream.script([next(LAST)]);
        assert_eq!(Client::connect(gateway.address()).ask(&request(&browser, "GET")).unwrap().status, 200);
        upstream.forget();
        upstream.script(case.script);
        let mut client = Client::connect(gateway.address());
        for (method, status) in case.asks.iter().zip(case.statuses) {
            let answer = client
                .ask(&request(&browser, method))
                .unwrap_or_else(|lost| panic!("{}: {lost:?}", case.what));
            assert_eq!(answer.status, *status, "{}: {}", case.what, answer.text());
        }
        let seen = upstream.forwarded();
        let first = seen.first().map_or(0, |seen| seen.connection);
        let mut numbers: Vec<usize> = seen.iter().map(|seen| seen.connection).collect();
        numbers.dedup();
        let places = seen.iter().map(|seen| numbers.iter().position(|number| *number == seen.connection));
        let places: Vec<usize> = places.flatten().collect();
        assert_eq!(places, case.connections, "{}: {numbers:?} from {first}", case.what);
        let expected: &[u8] = if case.asks.contains(&"PUT of none") { b"" } else { br#"{"title":"two"}"# };
        let bodies = seen.iter().filter(|seen| seen.method == "PUT");
        bodies.for_each(|seen| assert_eq!((&*seen.body, seen.complete), (expected, true), "{}", case.what));
    }
}

/// An answer's framing, what of it the client gets, and whether the upstream's connection is used again.
const FRAMINGS: [(&str, &str, &str, u16, &str, bool); 9] = [
    ("GET", "its length", OK, 200, "ok", true),
    (
        "GET",
        "chunks",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3\r\n ya\r\n0\r\n\r\n",
        200,
        "ok ya",
        true,
    ),
    ("GET", "no body", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", true),
    (
        "GET",
        "a length of what is not sent",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        304,
        "",
        true,
    ),
    ("HEAD", "the same to HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 200, "", true),
    ("GET", "an empty body", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "", true),
    (
        "GET",
        "an interim answer",
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        200,
        "ok",
        true,
    ),
    (
        "GET",
        "two lengths",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        502,
        "",
        false,
    ),
    (
        "GET",
        "a protocol that nobody asked for",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        502,
        "",
        false,
    ),
];

#[test]
fn an_answer_of_any_framing_arrives_as_it_was_sent() {
    let (upstream, gateway, browser) = started();
    for (method, what, bytes, status, body, again) in FRAMINGS {
        upstream.forget();
        upstream.script([next(bytes), next(OK)]);
        let mut client = Client::connect(gateway.address());
        let answer = client.ask(&request(&browser, method)).unwrap_or_else(|lost| panic!("{what}: {lost:?}"));
        assert_eq!(answer.status, status, "{what}");
        if status != 502 {
            assert_eq!(answer.text(), body, "{what}");
        }
        if !again {
            continue;
        }
        // The client's connection is in step, and so is the upstream's.
        assert_eq!(client.ask(&request(&browser, "GET")).unwrap().text(), "ok", "{what}");
        let seen = upstream.forwarded();
        let numbers: Vec<usize> = seen.iter().map(|seen| seen.connection).collect();
        assert!(matches!(numbers.as_slice(), [one, other] if one == other), "{what}: {numbers:?}");
    }
    // One that ends with its connection goes on in chunks, and the client's connection outlasts it.
    upstream.script([close("HTTP/1.1 200 OK\r\n\r\nas long as it is"), next(OK)]);
    let mut client = Client::connect(gateway.address());
    let answer = client.ask(&request(&browser, "GET")).unwrap();
    assert_eq!(
        (answer.text().as_str(), answer.header("transfer-encoding")),
        ("as long as it is", Some("chunked"))
    );
    assert_eq!(client.ask(&request(&browser, "GET")).unwrap().text(), "ok");
}

#[test]
fn an_answer_before_the_body_is_whole_reaches_the_client() {
    let (upstream, gateway, browser) = started();
    upstream.script([Behaviour::Early("HTTP/1.1 409 Conflict\r\nContent-Length: 4\r\n\r\nlate".into())]);
    let body = vec![b'x'; 100_000];
    let bytes = browser.request("POST", WRITE).body("application/octet-stream", &body).to_bytes();
    let (head_and_half, rest) = bytes.split_at(bytes.len() - body.len() / 2);
    let mut client = Client::connect(gateway.address());
    client.send(head_and_half);
    let answer = client.receive().unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (409, "late"));
    assert_eq!(
        answer.header("connection"),
        Some("close"),
        "what is left of the body would be read as a request"
    );
    client.send(rest);
    let seen = upstream.wait("the whole body", |seen| seen.method == "POST" && seen.complete);
    assert_eq!(seen.body.len(), body.len());
}

/// An upstream that takes no more of a body may have said why, and the client is still sending when that is known.
#[test]
fn an_answer_of_an_upstream_that_takes_no_more_reaches_a_client_that_still_sends() {
    let (upstream, gateway, browser) = started();
    let said = b"HTTP/1.1 409 Conflict\r\nContent-Length: 4\r\n\r\nfull";
    upstream.script([Behaviour::EarlyThenClose(said.to_vec())]);
    let body = vec![b'x'; 4_000_000];
    let bytes = browser.request("POST", WRITE).body("application/octet-stream", &body).to_bytes();
    let mut client = Client::connect(gateway.address());
    for piece in bytes.chunks(64 * 1024) {
        client.send(piece);
    }
    let answer = client.receive().unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (409, "full"));
    assert_eq!(answer.header("connection"), Some("close"));
}

#[test]
fn nobody_is_asked_on_behalf_of_a_client_that_has_left() {
    let (upstream, gateway, browser) = started();
    upstream.script([Behaviour::Silent, next(OK)]);
    let mut client = Client::connect(gateway.address());
    client.send(&request(&browser, "GET").to_bytes());
    upstream.wait("the request", |seen| seen.target == READ && seen.complete);
    drop(client);
    let left = |record: &serde_json::Value| {
        record["answer"]["end"] == "client_gone" && record["request"]["path"] == READ
    };
    tests::wait::until("the record of who has left", tests::wait::PATIENCE, || {
        gateway.audit().records().into_iter().find(left)
    });
    assert_eq!(Client::connect(gateway.address()).ask(&request(&browser, "GET")).unwrap().text(), "ok");
}
