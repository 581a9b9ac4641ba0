//! A collector of our own that takes nothing but what OTLP over HTTP allows, and misbehaves on demand.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::gateway::Gateway;
use crate::upstream::{Behaviour, Received, Upstream};
use crate::wait::{self, PATIENCE};

/// A listening collector; ends when dropped.
#[derive(Debug)]
pub struct Collector(Upstream);

impl Default for Collector {
    fn default() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }
}

impl Collector {
    /// One at this address, where another may have ended.
    #[must_use]
    pub fn start_at(address: SocketAddr) -> Self {
        let collector = Self(Upstream::start_at(address));
        collector.heal();
        collector
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// As the gateway is told of it.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// Takes everything from now on.
    pub fn heal(&self) {
        self.behave(Behaviour::Answer(
            vec![("Content-Type".into(), "application/x-protobuf".into())],
            Vec::new(),
        ));
    }

    /// Changes what it does from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.0.behave(behaviour);
    }

    /// Everything that was sent to it, taken or not.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.0.received()
    }

    /// Every log record that it has taken.
    #[must_use]
    pub fn logs(&self) -> Vec<LogRecord> {
        self.taken::<ExportLogsServiceRequest>("/v1/logs")
            .into_iter()
            .flat_map(|request| request.resource_logs)
            .inspect(|logs| whole(logs.resource.as_ref()))
            .flat_map(|logs| logs.scope_logs)
            .inspect(|logs| ours(logs.scope.as_ref()))
            .flat_map(|logs| logs.log_records)
            .collect()
    }

    /// Every span that it has taken.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.taken::<ExportTraceServiceRequest>("/v1/traces")
            .into_iter()
            .flat_map(|request| request.resource_spans)
            .inspect(|spans| whole(spans.resource.as_ref()))
            .flat_map(|spans| spans.scope_spans)
            .inspect(|spans| ours(spans.scope.as_ref()))
            .flat_map(|spans| spans.spans)
            .collect()
    }

    /// The metrics of the last export that it has taken, by name.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<String, Metric> {
        self.taken::<ExportMetricsServiceRequest>("/v1/metrics")
            .into_iter()
            .next_back()
            .into_iter()
            .flat_map(|request| request.resource_metrics)
            .inspect(|metrics| whole(metrics.resource.as_ref()))
            .flat_map(|metrics| metrics.scope_metrics)
            .flat_map(|metrics| metrics.metrics)
            .map(|metric| (metric.name.clone(), metric))
            .collect()
    }

    /// Waits for a log record that `wanted` recognises.
    pub fn wait_log(&self, what: &str, wanted: impl Fn(&LogRecord) -> bool) -> LogRecord {
        wait::until(what, PATIENCE, || self.logs().into_iter().find(&wanted))
    }

    /// Fails when a secret of the gateway stands in anything that was sent, the credential for the collector aside.
    pub fn check_told(&self, gateway: &Gateway) {
        for received in self.received() {
            gateway.check_told("the collector", &received.body);
            for (name, value) in
                received.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("x-collector-key"))
            {
                gateway.check_told(name, value.as_bytes());
            }
        }
    }

    /// What was taken at a path. Anything that OTLP would not have sent fails the test.
    fn taken<M: Message + Default>(&self, path: &str) -> Vec<M> {
        let received = self.received();
        for request in received.iter().filter(|request| request.complete) {
            assert_eq!(request.method, "POST", "{request:?}");
            let known = ["/v1/logs", "/v1/traces", "/v1/metrics"].contains(&request.target.as_str());
            assert!(known, "{}", request.target);
            assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
        }
        let taken = received.iter().filter(|request| request.answered && request.target == path);
        taken.map(|request| M::decode(request.body.as_slice()).expect("protobuf of the signal")).collect()
    }
}

fn whole(resource: Option<&Resource>) {
    let resource = resource.expect("who sends it");
    for name in ["service.name", "service.version", "service.instance.id"] {
        assert!(attribute(&resource.attributes, name).is_some(), "{name} is missing: {resource:?}");
    }
}

fn ours(scope: Option<&InstrumentationScope>) {
    assert_eq!(scope.map(|scope| scope.name.as_str()), Some("cedargate"));
}

/// An attribute as text; lists with commas between.
#[must_use]
pub fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    let mut found = attributes.iter().filter(|attribute| attribute.key == name);
    let value = found.next()?.value.as_ref();
    assert!(found.next().is_none(), "{name} stands twice");
    Some(value.map(told).unwrap_or_default())
}

fn told(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::ArrayValue(list)) => list.values.iter().map(told).collect::<Vec<_>>().join(","),
        Some(Value::KvlistValue(map)) => {
            let pair = |pair: &KeyValue| {
                format!("{}={}", pair.key, pair.value.as_ref().map(told).unwrap_or_default())
            };
            map.values.iter().map(pair).collect::<Vec<_>>().join(",")
        }
        other => panic!("a value of another kind: {other:?}"),
    }
}

/// Bytes of an id as they are written elsewhere.
#[must_use]
pub fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
