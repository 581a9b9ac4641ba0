//! Telemetry against a strict collector of our own that is well, slow, of another mind, or away.

use serde_json::Value;
use tests::client::{Client, Request};
use tests::collector::{Collector, attribute, hex};
use tests::gateway::{Gateway, Setup};
use tests::upstream::Upstream;
use tests::wait::{self, PATIENCE};

const READ: &str = "/api/docs/list";

/// A demo that sends everything quickly.
fn sending(to: &str) -> Setup {
    Setup::demo()
        .environment("OTEL_EXPORTER_OTLP_ENDPOINT", to)
        .environment("OTEL_EXPORTER_OTLP_TIMEOUT", "500")
        .environment("OTEL_BLRP_SCHEDULE_DELAY", "20")
        .environment("OTEL_BSP_SCHEDULE_DELAY", "20")
        .environment("OTEL_METRIC_EXPORT_INTERVAL", "100")
}

fn request(gateway: &Gateway, target: &str) -> Request {
    Request::new("GET", target)
        .with("Host", &gateway.address().to_string())
        .with("X-API-Key", gateway.api_key())
}

/// Asks once; the request's id.
fn ask(gateway: &Gateway, target: &str, status: u16) -> String {
    let answer = Client::connect(gateway.address()).ask(&request(gateway, target)).expect("an answer");
    assert_eq!(answer.status, status, "{}", answer.text());
    answer.request_id()
}

/// Waits until the log record of this request has arrived, and compares it with the line in the file.
fn arrived(collector: &Collector, gateway: &Gateway, request_id: &str) {
    let of_it = |log: &opentelemetry_proto::tonic::logs::v1::LogRecord| {
        log.event_name == "cedargate.request"
            && attribute(&log.attributes, "cedargate.request_id").as_deref() == Some(request_id)
    };
    let log = collector.wait_log(&format!("the log record of {request_id}"), of_it);
    let line = gateway.audit().of(request_id);
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    for (name, field) in [
        ("client.address", &line["client"]["address"]),
        ("http.request.method", &line["request"]["method"]),
        ("url.path", &line["request"]["path"]),
        ("server.address", &line["request"]["host"]),
        ("http.response.status_code", &line["answer"]["status"]),
        ("http.response.body.size", &line["answer"]["bytes_out"]),
        ("user.id", &line["principal"]["id"]),
        ("user.name", &line["principal"]["name"]),
        ("cedargate.route.name", &line["route"]["name"]),
        ("cedargate.route.action", &line["route"]["action"]),
        ("cedargate.decision.outcome", &line["decision"]["outcome"]),
        ("cedargate.decision.bundle", &line["decision"]["bundle"]),
        ("cedargate.decision.refusal", &line["decision"]["refusal"]),
        ("error.type", &line["decision"]["refusal"]),
        ("cedargate.upstream", &line["upstream"]),
        ("cedargate.total_us", &line["answer"]["total_us"]),
    ] {
        assert_eq!(attribute(&log.attributes, name), text(field), "{name}: {line:#}");
    }
    assert_eq!(hex(&log.trace_id), line["trace_id"].as_str().expect("a trace"));
    assert_eq!(hex(&log.span_id), line["span_id"].as_str().expect("a span"));
    assert!(log.time_unix_nano > 0 && log.observed_time_unix_nano >= log.time_unix_nano, "{log:?}");
    assert_eq!(
        collector.logs().iter().filter(|log| of_it(log)).count(),
        1,
        "more than one log record of a request"
    );
}

#[test]
fn every_audit_record_arrives_as_a_log_record() {
    let (collector, upstream) = (Collector::default(), Upstream::start());
    let gateway = sending(&collector.url()).upstream(&upstream.url()).start();
    let permitted = ask(&gateway, READ, 200);
    let unrouted = ask(&gateway, "/no/such/path", 404);
    let mut client = Client::connect(gateway.address());
    let nobody = Request::new("GET", READ).with("Host", &gateway.address().to_string());
    let nobody = client.ask(&nobody).expect("an answer").request_id();
    for id in [&permitted, &unrouted, &nobody] {
        arrived(&collector, &gateway, id);
    }
    // Not only requests: what the file holds so far is what has arrived.
    let ids = |record: &Value| (record["kind"].to_string(), record["request_id"].to_string());
    let lines: Vec<_> = gateway.audit().records().iter().map(ids).collect();
    wait::until("every line", PATIENCE, || {
        let logs: Vec<_> = collector
            .logs()
            .iter()
            .map(|log| {
                let kind = log.event_name.trim_start_matches("cedargate.");
                let id = attribute(&log.attributes, "cedargate.request_id").unwrap_or_default();
                (format!("\"{kind}\""), format!("\"{id}\""))
            })
            .collect();
        (logs.get(..lines.len()) == Some(&lines)).then_some(())
    });
    collector.check_told(&gateway);
}
