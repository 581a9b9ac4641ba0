//! What passes over one connection: requests sent ahead of their answers.

use serde_json::{Value, json};
use tests::client::{Client, Request};
use tests::gateway::{Gateway, Setup};

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
