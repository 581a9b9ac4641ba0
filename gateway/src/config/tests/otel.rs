//! The standard variables of OpenTelemetry.

use std::time::Duration;

use super::super::telemetry::{Root, Sampler, Telemetry};
use super::{HOSTS, check, keys, read};

const TO: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");

/// The telemetry of a whole configuration with these variables, and its notices.
fn asked(variables: &[(&str, &str)]) -> (Option<Telemetry>, String) {
    let environment = variables.iter().fold(keys(), |all, (name, value)| all.with(name, value));
    let config = read(HOSTS, &environment).unwrap();
    let notices = config.notices().join("\n");
    (config.telemetry, notices)
}

#[test]
fn without_a_destination_nothing_is_sent() {
    assert!(asked(&[]).0.is_none());
    assert!(asked(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).0.is_none());
    assert!(asked(&[("OTEL_SERVICE_NAME", "edge"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).0.is_none());
    assert!(asked(&[TO, ("OTEL_SDK_DISABLED", "true")]).0.is_none());
    let none = [
        TO,
        ("OTEL_LOGS_EXPORTER", "none"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_METRICS_EXPORTER", "none"),
    ];
    assert!(asked(&none).0.is_none());
    let told = asked(&[TO, ("BOTSERVER_ENABLE_AUDIT", "false")]).0.unwrap();
    assert!(told.logs.is_none() && told.traces.is_some() && told.metrics.is_some());
}

#[test]
fn a_signal_s_own_variable_stands_before_the_general_one() {
    let (told, notices) = asked(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example/otlp/"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://logs.example:4318/here"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-one=a%20b, x-two=c"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-three=d%2Ce"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "750"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod,service.name=other"),
        ("OTEL_SERVICE_NAME", "edge"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_EXPORTER_OTLP_ENDPONT", "x"),
    ]);
    let told = told.unwrap();
    let headers = |destination: &super::super::telemetry::Destination| -> Vec<String> {
        let pair = |(name, value): &(http::HeaderName, super::super::secret::Secret<String>)| {
            format!("{name}={}", value.expose())
        };
        destination.headers.iter().map(pair).collect()
    };
    let (logs, traces, metrics) = (told.logs.unwrap(), told.traces.unwrap(), told.metrics.unwrap());
    assert_eq!(logs.url.as_str(), "http://logs.example:4318/here");
    assert_eq!(traces.url.as_str(), "https://collector.example/otlp/v1/traces");
    assert_eq!(metrics.url.as_str(), "https://collector.example/otlp/v1/metrics");
    assert_eq!(headers(&logs), ["x-one=a b", "x-two=c"]);
    assert_eq!(headers(&traces), ["x-three=d,e"]);
    assert_eq!((logs.timeout, metrics.timeout), (Duration::from_millis(250), Duration::from_millis(750)));
    assert!(!format!("{logs:?}").contains("a b"), "{logs:?}");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(told.resource, [pair("service.name", "edge"), pair("deployment.environment.name", "prod")]);
    assert_eq!((told.log_batches.queue_max, told.log_batches.batch_max), (100, 100));
    assert_eq!((told.span_batches.queue_max, told.span_batches.delay), (2048, Duration::ZERO));
    for part in [
        "telemetry and its headers go to logs.example unencrypted",
        "OTEL_EXPORTER_OTLP_ENDPONT is set, and nothing here reads it; did you mean OTEL_EXPORTER_OTLP_ENDPOINT?",
    ] {
        assert!(notices.contains(part), "`{part}` is not in:\n{notices}");
    }
    assert!(!notices.contains("collector.example"), "{notices}");
}

#[test]
fn samplers() {
    let check = |variables: &[(&str, &str)], follows_caller, root| {
        let told = asked(&[&[TO], variables].concat()).0.unwrap();
        assert_eq!(told.sampler, Sampler { follows_caller, root }, "{variables:?}");
    };
    let (name, share) = ("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG");
    check(&[], true, Root::share(0.01));
    check(&[(share, "0.5")], true, Root::share(0.5));
    check(&[(name, "always_on")], false, Root::Always);
    check(&[(name, "traceidratio"), (share, "0.25")], false, Root::share(0.25));
    check(&[(name, "parentbased_traceidratio")], true, Root::share(1.0));
    check(&[(name, "parentbased_always_off")], true, Root::Never);
    // Spans that nobody takes are not asked of those behind us.
    check(&[(name, "always_on"), ("OTEL_TRACES_EXPORTER", "none")], true, Root::Never);
}

#[test]
fn what_cannot_be_done_stops_the_start_and_no_secret_is_told() {
    let one = |name: &str, value: &str, parts: &[&str]| {
        let parts = [&[name], parts].concat();
        check(
            "",
            &[("OTEL_LOGS_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none"), TO, (name, value)],
            &parts,
        );
    };
    one("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", &["`grpc` is not spoken", "`http/protobuf`", "4318"]);
    one("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", &["is not spoken"]);
    one("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", &["`none`"]);
    one("OTEL_TRACES_EXPORTER", "zipkin", &["`otlp` or `none`"]);
    one("OTEL_EXPORTER_OTLP_TIMEOUT", "0", &["from 1 to 600000"]);
    one("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere.pem", &["/nowhere.pem"]);
    one("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key.pem", &["cannot be shown to a collector"]);
    one("OTEL_TRACES_SAMPLER", "jaeger_remote", &["parentbased_traceidratio"]);
    one("OTEL_TRACES_SAMPLER_ARG", "1.5", &["from 0 to 1"]);
    one("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096", &["from 1 to 2048"]);
    one("OTEL_SDK_DISABLED", "yes", &["`true`"]);
    one("OTEL_RESOURCE_ATTRIBUTES", "nothing", &["key=value"]);
    one("OTEL_EXPORTER_OTLP_HEADERS", "s3cr3t-text", &["may hold a secret"]);
    for url in ["127.0.0.1:4318", "ftp://host", "http://user:s3cr3t-text@host:4318", "unix:/run/otel"] {
        one("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url, &["OTEL_EXPORTER_OTLP_HEADERS"]);
    }
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_HEADERS", "s3cr3t-text"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "bad name=s3cr3t-text"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "name=s3cr3t-text%0a"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:s3cr3t-text@host:4318"),
    ] {
        let told = read(HOSTS, &keys().with(TO.0, TO.1).with(name, value)).unwrap_err();
        assert!(told.contains(name) && !told.contains("s3cr3t"), "{told}");
    }
}
