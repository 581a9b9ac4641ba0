//! Names and values as OTLP has them, and who it is that sends.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

/// The semantic conventions whose names are used: <https://opentelemetry.io/schemas/1.42.0>.
pub(super) const SCHEMA: &str = "https://opentelemetry.io/schemas/1.42.0";

/// Who sends, and since when it counts.
#[derive(Clone)]
pub(super) struct Origin {
    pub(super) resource: Resource,
    pub(super) scope: InstrumentationScope,
    pub(super) since_ns: u64,
}

impl Origin {
    pub(super) fn new(resource: &[(String, String)]) -> Self {
        let mut attributes = vec![
            text("service.version", env!("CARGO_PKG_VERSION")),
            // Two gateways behind one name, or one that was started again, do not add up their counters wrongly.
            text(
                "service.instance.id",
                uuid::Builder::from_random_bytes(crate::random::bytes()).into_uuid().to_string(),
            ),
        ];
        attributes.retain(|ours| !resource.iter().any(|(key, _)| *key == ours.key));
        attributes.extend(resource.iter().map(|(key, value)| text(key, value.as_str())));
        Self {
            resource: Resource { attributes, ..Resource::default() },
            scope: InstrumentationScope {
                name: "cedargate".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..InstrumentationScope::default()
            },
            since_ns: now_ns(),
        }
    }
}

/// Nanoseconds since 1970.
pub(super) fn now_ns() -> u64 {
    crate::clock::now().0.saturating_mul(1_000_000)
}

/// Nanoseconds since 1970 of a time as records spell it; 0, which OTLP reads as unknown, when it is none.
pub(super) fn time_ns(rfc3339: &str) -> u64 {
    let time = rfc3339.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_nanosecond);
    time.ok().and_then(|time| u64::try_from(time).ok()).unwrap_or(0)
}

pub(super) fn text(key: &str, value: impl Into<String>) -> KeyValue {
    any(key, string(value))
}

pub(super) fn number(key: &str, value: u64) -> KeyValue {
    any(key, integer(value))
}

pub(super) fn texts(key: &str, values: impl IntoIterator<Item = String>) -> KeyValue {
    let values = values.into_iter().map(string).collect();
    any(key, AnyValue { value: Some(Value::ArrayValue(ArrayValue { values })) })
}

pub(super) fn map(key: &str, values: Vec<KeyValue>) -> KeyValue {
    any(key, AnyValue { value: Some(Value::KvlistValue(KeyValueList { values })) })
}

pub(super) fn string(value: impl Into<String>) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(value.into())) }
}

fn integer(value: u64) -> AnyValue {
    AnyValue { value: Some(Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX))) }
}

fn any(key: &str, value: AnyValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}
