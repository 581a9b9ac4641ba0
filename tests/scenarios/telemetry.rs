//! Telemetry against a strict collector of our own that is well, slow, of another mind, or away.

use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use prost::Message;
use rustix::process::Signal;
use serde_json::Value;
use tests::client::{Client, Request};
use tests::collector::{Collector, attribute, hex};
use tests::gateway::{Gateway, Setup};
use tests::ports::Port;
use tests::upstream::{Behaviour, Upstream};
use tests::wait::{self, PATIENCE};

const READ: &str = "/api/docs/list";

/// A demo that sends everything quickly.
fn sending(to: &str) -> Setup {
    Setup::demo()
        .environment("OTEL_EXPORTER_OTLP_ENDPOINT", to)
        .environment("OTEL_EXPORTER_OTLP_TIMEOUT", "2000")
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

/// What its `/readyz` says of a signal.
fn state(gateway: &Gateway, signal: &str) -> String {
    let readyz = Request::new("GET", "/readyz").with("Host", &gateway.admin().to_string());
    let told = wait::until("the upstream's first look", PATIENCE, || {
        let told = Client::connect(gateway.admin()).ask(&readyz).expect("an answer").json();
        (told["parts"]["upstream:botserver"]["state"] != "starting").then_some(told)
    });
    assert_eq!(told["ready"], true, "telemetry made it unready: {told:#}");
    told["parts"][format!("telemetry:{signal}")]["state"].as_str().unwrap_or_default().to_owned()
}

fn wait_state(gateway: &Gateway, wanted: &str) {
    wait::until(&format!("telemetry that is {wanted}"), PATIENCE, || {
        (state(gateway, "logs") == wanted).then_some(())
    });
}

fn metrics(gateway: &Gateway) -> String {
    let request = Request::new("GET", "/metrics").with("Host", &gateway.admin().to_string());
    Client::connect(gateway.admin()).ask(&request).expect("an answer").text()
}

/// A counter of the log records' delivery.
fn counted(gateway: &Gateway, name: &str) -> u64 {
    let line = format!("cedargate_telemetry_{name}_total{{signal=\"logs\"}} ");
    let metrics = metrics(gateway);
    let value = metrics.lines().find_map(|told| told.strip_prefix(&line));
    value.unwrap_or_else(|| panic!("no {line} in {metrics}")).parse().expect("a count")
}

fn answer(status: &str) -> Behaviour {
    Behaviour::Raw(
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes(),
    )
}

#[test]
fn a_collector_that_misbehaves_holds_up_no_request_and_is_sent_everything_when_it_is_well() {
    let collector = Collector::default();
    let gateway = sending(&collector.url()).start();
    for (fault, behaviour) in [
        ("silent", Behaviour::Silent),
        ("busy", answer("503 Service Unavailable\r\nRetry-After: 0")),
        ("asks to wait", answer("429 Too Many Requests\r\nRetry-After: 1")),
        ("a broken proxy", answer("502 Bad Gateway")),
        ("hangs up", Behaviour::CloseUnanswered),
        ("dies in its answer", Behaviour::CloseInBody),
    ] {
        collector.behave(behaviour);
        let mut asked: Vec<String> = (0..5).map(|_| ask(&gateway, READ, 200)).collect();
        wait_state(&gateway, "degraded");
        asked.extend((0..5).map(|_| ask(&gateway, READ, 200)));
        collector.heal();
        asked.iter().for_each(|id| arrived(&collector, &gateway, id));
        wait_state(&gateway, "up");
        assert_eq!(counted(&gateway, "dropped"), 0, "{fault}");
    }
    assert!(counted(&gateway, "export_failures") >= 6);
    collector.check_told(&gateway);
}

#[test]
fn a_collector_that_dies_is_sent_what_waited_when_it_is_back() {
    let port = Port::take();
    // It starts without a collector.
    let gateway = sending(&format!("http://{}", port.address())).start();
    for _death in 0..2 {
        let mut asked: Vec<String> = (0..5).map(|_| ask(&gateway, READ, 200)).collect();
        wait_state(&gateway, "degraded");
        asked.extend((0..5).map(|_| ask(&gateway, READ, 200)));
        let collector = Collector::start_at(port.address());
        asked.iter().for_each(|id| arrived(&collector, &gateway, id));
        wait_state(&gateway, "up");
        collector.check_told(&gateway);
    }
    assert_eq!(counted(&gateway, "dropped"), 0);
}

#[test]
fn what_a_collector_refuses_is_counted_and_stands_in_the_file() {
    let collector = Collector::default();
    let gateway = sending(&collector.url()).start();
    arrived(&collector, &gateway, &ask(&gateway, READ, 200));

    collector.behave(answer("400 Bad Request"));
    let refused = ask(&gateway, READ, 200);
    wait::until("the drop", PATIENCE, || (counted(&gateway, "dropped") == 1).then_some(()));
    gateway.audit().of(&refused);

    let partial = ExportLogsPartialSuccess { rejected_log_records: 1, error_message: "too old".to_owned() };
    let partial = ExportLogsServiceResponse { partial_success: Some(partial) };
    collector.behave(Behaviour::Answer(Vec::new(), partial.encode_to_vec()));
    let refused = ask(&gateway, READ, 200);
    wait::until("the second drop", PATIENCE, || (counted(&gateway, "dropped") == 2).then_some(()));
    gateway.audit().of(&refused);

    collector.heal();
    arrived(&collector, &gateway, &ask(&gateway, READ, 200));
    assert_eq!(counted(&gateway, "dropped"), 2);
    wait_said(&gateway, "telemetry is dropped");
}

/// Waits until the program's log says this of log records.
fn wait_said(gateway: &Gateway, what: &str) {
    wait::until(what, PATIENCE, || {
        gateway.output().lines().any(|line| line.contains(what) && line.contains("logs")).then_some(())
    });
}

#[test]
fn what_finds_the_queue_full_is_dropped_and_every_record_is_accounted_for() {
    let port = Port::take();
    let gateway = sending(&format!("http://{}", port.address()))
        .environment("OTEL_BLRP_MAX_QUEUE_SIZE", "4")
        .environment("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "2")
        .start();
    let asked: Vec<String> = (0..12).map(|_| ask(&gateway, READ, 200)).collect();
    // Two are being sent and four wait.
    wait::until("the drops", PATIENCE, || (counted(&gateway, "dropped") >= 6).then_some(()));
    asked.iter().for_each(|id| drop(gateway.audit().of(id)));
    let collector = Collector::start_at(port.address());
    wait::until("all that is left", PATIENCE, || {
        let lines = gateway.audit().records().len() as u64;
        (counted(&gateway, "sent") + counted(&gateway, "dropped") == lines).then_some(())
    });
    assert_eq!(counted(&gateway, "sent"), collector.logs().len() as u64);
    wait_state(&gateway, "up");
    arrived(&collector, &gateway, &ask(&gateway, READ, 200));
    for what in ["telemetry does not arrive", "telemetry is dropped", "telemetry arrives again"] {
        wait_said(&gateway, what);
    }
}

#[test]
fn what_waits_when_the_gateway_ends_is_sent_first() {
    let collector = Collector::default();
    let mut gateway = sending(&collector.url())
        .environment("OTEL_BLRP_SCHEDULE_DELAY", "3600000")
        .environment("OTEL_TRACES_SAMPLER", "always_on")
        .environment("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        .start();
    let asked: Vec<String> = (0..5).map(|_| ask(&gateway, READ, 200)).collect();
    gateway.signal(Signal::TERM);
    assert!(gateway.wait().success(), "{}", gateway.output());
    asked.iter().for_each(|id| arrived(&collector, &gateway, id));
    assert_eq!(collector.logs().len(), gateway.audit().records().len());
    assert!(collector.spans().len() > asked.len());

    // And one that is not there holds nobody up.
    let port = Port::take();
    let mut gateway = sending(&format!("http://{}", port.address())).start();
    ask(&gateway, READ, 200);
    gateway.signal(Signal::TERM);
    assert!(gateway.wait().success(), "{}", gateway.output());
    assert!(gateway.output().contains("telemetry was dropped at the end"), "{}", gateway.output());
}

#[test]
fn without_a_collector_nothing_is_started_and_what_cannot_be_sent_stops_the_start() {
    let gateway = Setup::demo().start();
    assert!(!gateway.process().threads().contains(&"telemetry".to_owned()));
    assert!(!metrics(&gateway).contains("cedargate_telemetry"));
    let said = Setup::demo()
        .environment("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
        .environment("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .try_start()
        .expect_err("grpc is not spoken");
    assert!(said.contains("OTEL_EXPORTER_OTLP_PROTOCOL: ") && said.contains("http/protobuf"), "{said}");
}

#[test]
fn the_collector_s_credential_is_sent_and_told_nowhere() {
    let collector = Collector::default();
    let credential = "collector-credential-8841";
    let gateway = sending(&collector.url())
        .environment("OTEL_EXPORTER_OTLP_HEADERS", &format!("x-collector-key={credential}"))
        .start();
    gateway.keep_secret("credential for the collector", credential);
    arrived(&collector, &gateway, &ask(&gateway, READ, 200));
    let received = collector.received();
    assert!(received.iter().all(|request| request.header("x-collector-key") == Some(credential)));
    // A redirect would carry it to wherever it leads.
    let elsewhere = Collector::default();
    collector.behave(answer(&format!("307 Temporary Redirect\r\nLocation: {}/v1/logs", elsewhere.url())));
    ask(&gateway, READ, 200);
    wait_state(&gateway, "degraded");
    assert!(elsewhere.received().is_empty());
    collector.check_told(&gateway);
}
