//! Attributes in OTLP's own bytes.
//!
//! A record has about thirty attributes. As values of `opentelemetry-proto` each is four pieces of memory, asked for and
//! given back for every request: ten times the work of writing the bytes. Spans are few and go the usual way; a test
//! reads what is written here with the types that collectors read with.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

use super::attributes;

/// Takes attributes.
pub(super) trait Attributes {
    /// A text.
    fn text(&mut self, key: &str, value: &str);
    /// A whole number.
    fn number(&mut self, key: &str, value: u64);
}

impl Attributes for Vec<KeyValue> {
    fn text(&mut self, key: &str, value: &str) {
        self.push(attributes::text(key, value));
    }

    fn number(&mut self, key: &str, value: u64) {
        self.push(attributes::number(key, value));
    }
}

/// A log record's bytes, to which attributes are added.
#[derive(Default)]
pub(super) struct RecordBytes(Vec<u8>);

/// `LogRecord.attributes`, `KeyValue.key`, `KeyValue.value`, `AnyValue.string_value` with their lengths to follow, and
/// `AnyValue.int_value`: number of the field and how it is written, as protobuf puts them into one byte.
const ATTRIBUTE: u8 = 6 << 3 | 2;
const KEY: u8 = 1 << 3 | 2;
const VALUE: u8 = 2 << 3 | 2;
const STRING: u8 = 1 << 3 | 2;
const INT: u8 = 3 << 3;
/// `ScopeLogs.log_records`, `ResourceLogs.scope_logs` and `ExportLogsServiceRequest.resource_logs`.
const RECORD: u8 = 2 << 3 | 2;
const SCOPE: u8 = 2 << 3 | 2;
const RESOURCE: u8 = 1 << 3 | 2;

impl RecordBytes {
    /// Begins another record with everything but its attributes; the room of the last one is used again.
    pub(super) fn begin(&mut self, head: &LogRecord) {
        self.0.clear();
        self.0.extend_from_slice(&head.encode_to_vec());
    }

    /// An attribute of any kind.
    pub(super) fn any(&mut self, attribute: KeyValue) {
        // A record that has nothing else: encoded messages one after the other are the message with the fields of both.
        let only = LogRecord { attributes: vec![attribute], ..LogRecord::default() };
        self.0.extend_from_slice(&only.encode_to_vec());
    }

    /// Ends it as one of a scope's records.
    pub(super) fn end(&self, scope: &mut Vec<u8>) {
        scope.push(RECORD);
        length(scope, self.0.len());
        scope.extend_from_slice(&self.0);
    }

    /// A whole number under a key of two parts.
    pub(super) fn number_below(&mut self, before: &str, key: &str, value: u64) {
        let value = value.min(i64::MAX as u64);
        self.attribute(before, key, encoded_len_varint(value).saturating_add(1));
        self.0.push(INT);
        encode_varint(value, &mut self.0);
    }

    /// An attribute's head, up to its value of so many bytes.
    fn attribute(&mut self, before: &str, key: &str, value_len: usize) {
        let out = &mut self.0;
        let key_len = before.len().saturating_add(key.len());
        out.push(ATTRIBUTE);
        length(out, delimited(key_len).saturating_add(delimited(value_len)));
        out.push(KEY);
        length(out, key_len);
        out.extend_from_slice(before.as_bytes());
        out.extend_from_slice(key.as_bytes());
        out.push(VALUE);
        length(out, value_len);
    }
}

impl Attributes for RecordBytes {
    fn text(&mut self, key: &str, value: &str) {
        self.attribute("", key, delimited(value.len()));
        self.0.push(STRING);
        length(&mut self.0, value.len());
        self.0.extend_from_slice(value.as_bytes());
    }

    fn number(&mut self, key: &str, value: u64) {
        self.number_below("", key, value);
    }
}

/// An `ExportLogsServiceRequest` of one resource and one scope, each encoded without what it holds, and the scope's records.
pub(super) fn request(resource: &[u8], scope: &[u8], records: &[u8]) -> Vec<u8> {
    let scope_len = scope.len().saturating_add(records.len());
    let resource_len = resource.len().saturating_add(delimited(scope_len));
    let mut out = Vec::with_capacity(delimited(resource_len));
    out.push(RESOURCE);
    length(&mut out, resource_len);
    out.extend_from_slice(resource);
    out.push(SCOPE);
    length(&mut out, scope_len);
    out.extend_from_slice(scope);
    out.extend_from_slice(records);
    out
}

/// Bytes of a field of so many bytes with its tag and length.
fn delimited(len: usize) -> usize {
    len.saturating_add(encoded_len_varint(len as u64)).saturating_add(1)
}

fn length(out: &mut Vec<u8>, len: usize) {
    encode_varint(len as u64, out);
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::logs::v1::ScopeLogs;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_what_collectors_read(
            texts in prop::collection::vec((".{0,200}", ".{0,300}"), 0..5),
            numbers in prop::collection::vec((".{0,20}", 0..=i64::MAX as u64), 0..5),
            event_name in ".{0,200}",
        ) {
            let head = LogRecord { event_name, ..LogRecord::default() };
            let (mut record, mut scope) = (RecordBytes::default(), Vec::new());
            let mut expected = Vec::new();
            for _twice in 0..2 {
                record.begin(&head);
                expected.clear();
                for (key, value) in &texts {
                    record.text(key, value);
                    expected.text(key, value);
                }
                for (key, value) in &numbers {
                    record.number(key, *value);
                    expected.number(key, *value);
                    record.number_below("below.", key, *value);
                    expected.number(&format!("below.{key}"), *value);
                }
                let list = attributes::texts("list", texts.iter().map(|(key, _)| key.clone()));
                record.any(list.clone());
                expected.push(list);
                record.end(&mut scope);
            }
            let read = ScopeLogs::decode(scope.as_slice()).unwrap();
            let whole = LogRecord { attributes: expected, ..head };
            prop_assert_eq!(read.log_records, vec![whole.clone(), whole]);
        }
    }
}
