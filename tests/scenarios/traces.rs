//! Trace ids join client, gateway, upstream, audit record and collector; the metrics are one truth in two forms.

use serde_json::Value;
use tests::client::{Client, Request};
use tests::collector::{Collector, attribute, hex};
use tests::gateway::{Gateway, Setup};
use tests::peer::{Rotel, promtool};
use tests::upstream::{Received, Upstream};
use tests::wait::{self, PATIENCE};

const READ: &str = "/api/docs/list";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn sending(to: &str, sampler: &str) -> Setup {
    Setup::demo()
        .environment("OTEL_EXPORTER_OTLP_ENDPOINT", to)
        .environment("OTEL_TRACES_SAMPLER", sampler)
        .environment("OTEL_BLRP_SCHEDULE_DELAY", "20")
        .environment("OTEL_BSP_SCHEDULE_DELAY", "20")
        .environment("OTEL_METRIC_EXPORT_INTERVAL", "100")
}

/// Asks as part of a trace; the audit record, and what the upstream received.
fn ask(gateway: &Gateway, upstream: &Upstream, traceparent: Option<&str>) -> (Value, Received) {
    let mut request = Request::new("GET", READ)
        .with("Host", &gateway.address().to_string())
        .with("X-API-Key", gateway.api_key());
    if let Some(traceparent) = traceparent {
        request = request.with("traceparent", traceparent);
    }
    let answer = Client::connect(gateway.address()).ask(&request).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = answer.request_id();
    let received = upstream.wait("the request", |received| received.header("x-request-id") == Some(&id));
    (gateway.audit().of(&id), received)
}

#[test]
fn a_sampled_request_is_a_span_with_one_below_it_for_each_stage() {
    let (collector, upstream) = (Collector::default(), Upstream::start());
    let gateway = sending(&collector.url(), "parentbased_always_off").upstream(&upstream.url()).start();
    // Neither of these is kept.
    let (unsampled, told) = ask(&gateway, &upstream, Some(&format!("00-{TRACE}-{CALLER}-00")));
    assert_eq!(unsampled["trace_id"], TRACE);
    assert!(told.header("traceparent").is_some_and(|told| told.ends_with("-00")));
    ask(&gateway, &upstream, None);
    let (line, told) = ask(&gateway, &upstream, Some(&format!("00-{TRACE}-{CALLER}-01")));
    let span_id = line["span_id"].as_str().expect("a span");
    assert_eq!(told.header("traceparent"), Some(format!("00-{TRACE}-{span_id}-01").as_str()));
    let spans =
        wait::until("the spans", PATIENCE, || Some(collector.spans()).filter(|spans| !spans.is_empty()));
    let (server, stages) = spans.split_first().expect("a span");
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
    assert_eq!((hex(&server.span_id).as_str(), hex(&server.parent_span_id).as_str()), (span_id, CALLER));
    assert_eq!((server.name.as_str(), server.kind), ("GET /api/docs/list", 2));
    assert_eq!(attribute(&server.attributes, "http.response.status_code").as_deref(), Some("200"));
    let total_us = line["answer"]["total_us"].as_u64().expect("a time");
    assert_eq!(server.end_time_unix_nano - server.start_time_unix_nano, total_us * 1_000);
    let expected: Vec<(String, u64)> =
        serde_json::from_value(line["stages_us"].clone()).expect("stages as documented");
    let found: Vec<(String, u64)> = stages
        .iter()
        .map(|span| (span.name.clone(), (span.end_time_unix_nano - span.start_time_unix_nano) / 1_000))
        .collect();
    assert_eq!(found, expected);
    assert!(
        stages.iter().all(|span| span.parent_span_id == server.span_id && span.span_id != server.span_id)
    );
    let log = collector.wait_log("the log record", |log| hex(&log.span_id) == span_id);
    assert_eq!((hex(&log.trace_id).as_str(), log.flags), (TRACE, 1));
    collector.check_told(&gateway);
}

#[test]
fn a_collector_that_is_not_ours_takes_logs_traces_and_metrics() {
    let (rotel, upstream) = (Rotel::start(), Upstream::start());
    let gateway = sending(&rotel.url(), "always_on").upstream(&upstream.url()).start();
    let (line, told) = ask(&gateway, &upstream, Some(&format!("00-{TRACE}-{CALLER}-00")));
    let text = |field: &Value| field.as_str().expect("text").to_owned();
    let (request_id, span_id) = (text(&line["request_id"]), text(&line["span_id"]));
    assert_eq!(line["trace_id"], TRACE);
    assert_eq!(told.header("traceparent"), Some(format!("00-{TRACE}-{span_id}-01").as_str()));
    let id = format!("cedargate.request_id: Str({request_id})");
    rotel.wait(
        "the log record",
        "LogRecord",
        &[&id, TRACE, &span_id, "cedargate.request", "http.route: Str"],
    );
    rotel.wait("the server's span", "Span", &[&id, TRACE, CALLER, &span_id, "SPAN_KIND_SERVER"]);
    for stage in ["receive", "authorize", "forward"] {
        rotel.wait(stage, "Span", &[TRACE, &span_id, stage, "SPAN_KIND_INTERNAL"]);
    }
    rotel.wait(
        "a metric",
        "Metric",
        &["cedargate_requests_total", "IsMonotonic: true", "outcome: Str(permit)"],
    );
    rotel.wait("a histogram", "Metric", &["cedargate_stage_duration_seconds", "stage: Str(authorize)"]);
    gateway.check_told("rotel", rotel.output().as_bytes());
}

#[test]
fn the_metrics_are_the_same_for_whoever_asks_and_whoever_is_sent_them() {
    let (collector, upstream) = (Collector::default(), Upstream::start());
    let gateway = sending(&collector.url(), "always_off").upstream(&upstream.url()).start();
    let (line, _) = ask(&gateway, &upstream, None);
    let request = Request::new("GET", "/metrics").with("Host", &gateway.admin().to_string());
    let text = Client::connect(gateway.admin()).ask(&request).expect("an answer").text();
    let (accepted, said) = promtool(&text);
    assert!(accepted && said.is_empty(), "promtool: {said}\n{text}");
    let (accepted, _) = promtool("not a metric\n");
    assert!(!accepted, "promtool accepts anything");
    let policy = line["decision"]["deciding"][0]["id"].as_str().expect("a deciding policy");
    let decided = format!("cedargate_policy_decisions_total{{outcome=\"permit\",policy=\"{policy}\"}} 1");
    assert!(text.lines().any(|told| told == decided), "{decided} in {text}");
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    for name in names {
        wait::until(name, PATIENCE, || collector.metrics().contains_key(name).then_some(()));
    }
}
