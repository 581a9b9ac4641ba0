//! What passes over one connection: requests sent ahead of their answers, requests in a drain, TLS to the upstream.

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::client::{Client, Request};
use tests::gateway::{Gateway, Setup};
use tests::production::{HOST, Production};
use tests::tls::Certificate;
use tests::upstream::Upstream;
use tests::wait::PATIENCE;

/// Requests of every kind that keeps its connection: each one's bytes follow from its number and its mark.
const KINDS: usize = 7;

fn request(gateway: &Gateway, kind: usize, mark: &str) -> (&'static str, Vec<u8>) {
    let host = gateway.address().to_string();
    let new = |method: &str, target: &str| {
        Request::new(method, target).with("Host", &host).with("User-Agent", mark)
    };
    match kind {
        0 => ("GET", new("GET", "/health").to_bytes()),
        1 => ("HEAD", new("HEAD", "/health").to_bytes()),
        2 => ("GET", new("GET", "/api/docs/list?a=b").with("X-API-Key", gateway.api_key()).to_bytes()),
        3 => {
            let sized = new("POST", "/api/client-errors").body("application/json", b"GET / HTTP/1.1\r\n\r\n");
            ("POST", sized.to_bytes())
        }
        4 => {
            let chunked = new("POST", "/api/client-errors").with("Transfer-Encoding", "chunked");
            let chunks = b"5\r\nhello\r\nA;a=b\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n";
            ("POST", [chunked.to_bytes().as_slice(), chunks].concat())
        }
        // Refused, with a body that is read away.
        5 => ("POST", new("POST", "/no/such/route").body("text/plain", b"0\r\n\r\n").to_bytes()),
        _ => ("GET", new("GET", "/api/tickets").to_bytes()),
    }
}

/// What is the same of a record however its request was sent.
fn told(record: &Value) -> Value {
    json!({
        "request": record["request"],
        "route": record["route"],
        "decision": record["decision"],
        "status": record["answer"]["status"],
        "end": record["answer"]["end"],
        "bytes_in": record["answer"]["bytes_in"],
        "bytes_out": record["answer"]["bytes_out"],
    })
}

/// Statuses and records of requests of these kinds, sent in these pieces over one connection.
fn outcome(gateway: &Gateway, kinds: &[usize], mark: &str, pieces: usize) -> (Vec<u16>, Vec<Value>) {
    let requests: Vec<_> = kinds.iter().map(|kind| request(gateway, *kind, mark)).collect();
    let mut client = Client::connect(gateway.address());
    let mut answers = Vec::new();
    if pieces == 0 {
        for (method, bytes) in &requests {
            client.send(bytes);
            answers.push(client.receive_to(method).expect("an answer"));
        }
    } else {
        let all = requests.iter().flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>();
        for piece in all.chunks(all.len().div_ceil(pieces)) {
            client.send(piece);
        }
        for (method, _) in &requests {
            answers.push(client.receive_to(method).expect("an answer"));
        }
    }
    let records = answers.iter().map(|answer| told(&gateway.audit().of(&answer.request_id()))).collect();
    (answers.iter().map(|answer| answer.status).collect(), records)
}

#[test]
fn requests_sent_ahead_are_answered_and_recorded_as_if_sent_one_by_one() {
    let gateway = Setup::demo().start();
    // Every kind after every other, in runs of seven.
    for step in 1..KINDS {
        let kinds: Vec<usize> = (0..KINDS).map(|at| at * step % KINDS).collect();
        let expected = outcome(&gateway, &kinds, &format!("alone/{step}/00"), 0);
        for pieces in [1, 2, 7, 40] {
            let mark = format!("ahead/{step}/{pieces:02}");
            let found = outcome(&gateway, &kinds, &mark, pieces);
            assert_eq!(found, expected, "{kinds:?} in {pieces} pieces");
            let marked = |record: &&Value| record["client"]["user_agent"] == mark.as_str();
            let records = gateway.audit().records();
            assert_eq!(records.iter().filter(marked).count(), KINDS, "one record each");
        }
    }
}

#[test]
fn a_request_that_has_begun_when_the_drain_begins_is_served() {
    let upstream = Upstream::start();
    let mut gateway = Setup::demo().upstream(&upstream.url()).start();
    let whole = request(&gateway, 0, "in-the-drain").1;
    let (first, second) = whole.split_at(whole.len() / 2);
    let mut begun = Client::connect(gateway.address());
    // On a kept connection: the gateway has taken it over, whatever its listener does.
    begun.send(&whole);
    assert_eq!(begun.receive().expect("an answer").status, 200);
    begun.send(first);
    let mut idle = Client::connect(gateway.address());
    idle.send(&whole);
    assert_eq!(idle.receive().expect("an answer").status, 200);
    gateway.signal(Signal::TERM);
    // Connections without a request are closed; so the drain is under way.
    assert_eq!(idle.rest(PATIENCE), Some(Vec::new()));
    begun.send(second);
    let answer = begun.receive().expect("a request that arrives during the drain is served");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(begun.rest(PATIENCE), Some(Vec::new()));
    assert!(gateway.wait().success(), "{}", gateway.output());
    let record = gateway.audit().of(&answer.request_id());
    assert_eq!(record["answer"]["end"], "complete", "{record:#}");
}

#[test]
fn an_upstream_over_tls_is_spoken_to_only_by_its_name_and_authority() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let (own, other) = (folder.path().join("own"), folder.path().join("other"));
    for folder in [&own, &other] {
        std::fs::create_dir(folder).expect("a folder");
    }
    let certificate = Certificate::make(&own, "bots.example");
    let stranger = Certificate::make(&other, "bots.example");
    let address = certificate.serve();
    for (name, authority, status) in [
        ("bots.example", &certificate, 200),
        ("other.example", &certificate, 502),
        ("bots.example", &stranger, 502),
    ] {
        let tls = format!("tls = {{ name = \"{name}\", ca = {:?} }}", authority.cert);
        let production = Production::default().with_upstream(format!("addresses = [\"{address}\"]\n{tls}"));
        let _process = production.start();
        let asked = Request::new("GET", "/health").with("Host", HOST);
        let answer = Client::connect(production.address()).ask(&asked).expect("an answer");
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        let record = production.audit().of(&answer.request_id());
        if status == 200 {
            assert_eq!(answer.text(), "ok");
            assert!(
                record["upstream"].as_str().is_some_and(|it| it.contains(&address.to_string())),
                "{record:#}"
            );
        } else {
            assert_eq!(record["decision"]["refusal"], "upstream_unreachable", "{record:#}");
        }
    }
}
