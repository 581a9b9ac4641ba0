//! Cedar itself, asked beside the gateway's own evaluation.

use serde_json::Value;
use tests::client::{Client, Request, Response};
use tests::production::{HOST, Production};
use tests::upstream::Upstream;

/// Anybody may ask for it.
const OPEN: &str = "/health";

fn ask(production: &Production, fault: Option<&str>) -> Response {
    let mut request = Request::new("GET", OPEN).with("Host", HOST).with("Accept", "application/json");
    if let Some(fault) = fault {
        request = request.with("X-Cedargate-Fault", fault);
    }
    Client::connect(production.address()).ask(&request).expect("an answer")
}

fn counted(production: &Production, result: &str) -> u64 {
    let request = Request::new("GET", "/metrics").with("Host", &production.admin().to_string());
    let metrics = Client::connect(production.admin()).ask(&request).expect("an answer").text();
    let name = format!("cedargate_oracle_total{{result=\"{result}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |count| count.parse().expect("a count"))
}

fn asking(share: &str) -> (Upstream, Production) {
    let upstream = Upstream::start();
    let production =
        Production::before(upstream.address()).with_lines(format!("engine.oracle = \"{share}\""));
    (upstream, production)
}

#[test]
fn cedar_is_asked_as_often_as_the_configuration_says() {
    for (share, expected) in [("off", 0), ("always", 12), ("sample:4", 3), ("sample:1000", 1)] {
        let (_upstream, production) = asking(share);
        let _process = production.start();
        for _ in 0..12 {
            assert_eq!(ask(&production, None).status, 200);
        }
        assert_eq!(
            (counted(&production, "agrees"), counted(&production, "differs")),
            (expected, 0),
            "{share}"
        );
    }
}

#[test]
fn where_cedar_decides_otherwise_the_request_is_refused_and_it_is_made_known() {
    let (_upstream, production) = asking("always");
    let process = production.start();
    let answer = ask(&production, Some("oracle"));
    assert_eq!(answer.status, 403, "{}", answer.text());
    let record = production.audit().of(&answer.request_id());
    assert_eq!(record["decision"]["outcome"], "error");
    assert_eq!(record["decision"]["erring"], serde_json::json!(["cedargate.oracle"]));
    assert_eq!((counted(&production, "agrees"), counted(&production, "differs")), (0, 1));
    let told =
        |record: &Value| record["kind"] == "security" && record["decision"]["refusal"] == "oracle_differs";
    let event = production.audit().wait_after(0, "the difference", told);
    let note = event["notes"][0].as_str().expect("a note");
    assert!(note.contains("the gateway decided: deny; Cedar decides: permit by "), "{note}");
    assert!(process.output().contains("Cedar decides: permit by "), "{}", process.output());
    // The next one is decided as ever.
    assert_eq!(ask(&production, None).status, 200);
}
