//! What a decision has looked at in its request's context, with the values that it found: with the principal and the route
//! of the same record, all that is needed to ask again.
//!
//! It is written once, straight into the text that the record's line takes over: most of what a record costs is what it
//! allocates.

use std::net::IpAddr;

use serde::{Serialize, Serializer};

use super::line;
use crate::spelt;
use crate::time::UnixMillis;

/// Bytes of one value that are kept, as of a path parameter. Of a longer one stands `{"cut":"…"}` with what it begins with.
pub const VALUE_BYTES_MAX: usize = 256;

/// Texts of one set that are kept. Of a larger one stands `{"cut":[…]}` with the first of them.
pub const VALUES_MAX: usize = 32;

/// One object of JSON: `{"context.client":"192.0.2.1","context.parameters.id":"7"}`, names ascending. A value that the schema
/// declares `@sensitive` is `{"redacted":true}`. Nothing at all where nothing was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read(String);

impl Read {
    /// Whether nothing was looked at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The object's text; empty where nothing was looked at.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The object's text, for whoever keeps it.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }
}

impl Serialize for Read {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value: serde_json::Value = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        value.serialize(serializer)
    }
}

/// What is read, as it is written.
#[derive(Debug)]
pub(crate) struct Reading(String);

impl Reading {
    pub(crate) fn begin() -> Self {
        Self(String::with_capacity(128))
    }

    /// Begins an entry. A name of a schema can hold anything, so it is escaped.
    fn name(&mut self, name: &str, member: Option<&str>) {
        self.0.push_str(if self.0.is_empty() { "{\"context." } else { ",\"context." });
        line::escape(&mut self.0, name);
        if let Some(member) = member {
            self.0.push('.');
            line::escape(&mut self.0, member);
        }
        self.0.push_str("\":");
    }

    pub(crate) fn redacted(&mut self, name: &str, member: Option<&str>) {
        self.name(name, member);
        self.0.push_str("{\"redacted\":true}");
    }

    pub(crate) fn text(&mut self, name: &str, member: Option<&str>, value: &str) {
        self.name(name, member);
        let kept = cut(value, VALUE_BYTES_MAX);
        if kept.len() == value.len() {
            line::text(&mut self.0, "\"", value);
        } else {
            line::text(&mut self.0, "{\"cut\":\"", kept);
            self.0.push('}');
        }
    }

    pub(crate) fn texts<'a>(&mut self, name: &str, values: impl ExactSizeIterator<Item = &'a str> + Clone) {
        self.name(name, None);
        let whole = values.len() <= VALUES_MAX && values.clone().all(|value| value.len() <= VALUE_BYTES_MAX);
        self.0.push_str(if whole { "[" } else { "{\"cut\":[" });
        for (at, value) in values.take(VALUES_MAX).enumerate() {
            line::text(&mut self.0, if at == 0 { "\"" } else { ",\"" }, cut(value, VALUE_BYTES_MAX));
        }
        self.0.push_str(if whole { "]" } else { "]}" });
    }

    pub(crate) fn address(&mut self, name: &str, address: IpAddr) {
        self.name(name, None);
        self.0.push('"');
        spelt::address(&mut self.0, address);
        self.0.push('"');
    }

    pub(crate) fn moment(&mut self, name: &str, moment: UnixMillis) {
        self.name(name, None);
        self.0.push('"');
        moment.write_rfc3339(&mut self.0);
        self.0.push('"');
    }

    pub(crate) fn number(&mut self, name: &str, number: u64) {
        self.name(name, None);
        spelt::number(&mut self.0, number);
    }

    pub(crate) fn truth(&mut self, name: &str, truth: bool) {
        self.name(name, None);
        self.0.push_str(if truth { "true" } else { "false" });
    }

    pub(crate) fn end(mut self) -> Read {
        if !self.0.is_empty() {
            self.0.push('}');
        }
        Read(self.0)
    }
}

/// As much of a text as fits, cut at a character.
fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn told(read: impl FnOnce(&mut Reading)) -> serde_json::Value {
        let mut reading = Reading::begin();
        read(&mut reading);
        serde_json::from_str(reading.end().as_str()).unwrap()
    }

    #[test]
    fn nothing_read_is_nothing_written() {
        assert!(Reading::begin().end().is_empty());
        assert_eq!(Read::default(), Reading::begin().end());
    }

    #[test]
    fn long_values_are_cut_and_say_so() {
        let whole = "x".repeat(VALUE_BYTES_MAX);
        let check = |value: &str, expected: serde_json::Value| {
            let found = told(|reading| reading.text("parameters", Some("id"), value));
            assert_eq!(found, json!({ "context.parameters.id": expected }));
        };
        check(&whole, json!(whole));
        check(&format!("{whole}y"), json!({ "cut": whole }));
        // Not within a character.
        let almost = "x".repeat(VALUE_BYTES_MAX - 1);
        check(&format!("{almost}é"), json!({ "cut": almost }));
        let scopes = |count: usize| (0..count).map(|number| format!("s{number}")).collect::<Vec<_>>();
        let set =
            |scopes: &[String]| told(|reading| reading.texts("scopes", scopes.iter().map(String::as_str)));
        let (fits, many) = (scopes(VALUES_MAX), scopes(VALUES_MAX + 1));
        assert_eq!(set(&fits), json!({ "context.scopes": fits }));
        assert_eq!(set(&many), json!({ "context.scopes": { "cut": fits } }));
        assert_eq!(set(&[format!("{whole}y")]), json!({ "context.scopes": { "cut": [whole] } }));
        assert_eq!(set(&[]), json!({ "context.scopes": [] }));
    }

    proptest! {
        #[test]
        fn it_is_json_whatever_names_and_values_are(name in "(?s).{0,8}", member in "(?s).{0,8}", value in "(?s).{0,300}") {
            prop_assume!(name != "~");
            let found = told(|reading| {
                reading.text(&name, Some(&member), &value);
                reading.redacted(&name, None);
                reading.truth("~", true);
            });
            let kept = &found[format!("context.{name}.{member}")];
            let kept = if value.len() > VALUE_BYTES_MAX { &kept["cut"] } else { kept };
            prop_assert!(value.starts_with(kept.as_str().unwrap()));
            prop_assert!(value.len() > VALUE_BYTES_MAX || kept == &json!(value));
            prop_assert_eq!(&found[format!("context.{name}")], &json!({ "redacted": true }));
        }
    }
}
