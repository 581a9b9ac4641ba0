//! The ids by which one request is found again in traces, logs and other programs' records (W3C Trace Context).

use std::fmt;

use serde::{Serialize, Serializer};

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A trace. All zero is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

/// A span of a trace. All zero is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

/// Where a request stands in its trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// The trace: the caller's, or one that began here.
    pub trace_id: TraceId,
    /// Our own span in it.
    #[serde(skip_serializing_if = "SpanId::is_none")]
    pub span_id: SpanId,
    /// The caller's span; absent when the trace began here.
    #[serde(skip)]
    pub parent_id: Option<SpanId>,
    /// Whether its spans are kept.
    #[serde(skip)]
    pub sampled: bool,
}

impl Trace {
    /// A trace that begins here, made from random bytes. It is not sampled.
    #[must_use]
    pub fn begin(random: [u8; 24]) -> Self {
        let (mut trace, mut span) = ([0; 16], [0; 8]);
        let (first, last) = random.split_at(16);
        trace.copy_from_slice(first);
        span.copy_from_slice(last);
        Self { trace_id: TraceId(trace), span_id: SpanId(span), parent_id: None, sampled: false }
    }

    /// Whether the caller began it.
    #[must_use]
    pub const fn is_continued(&self) -> bool {
        self.parent_id.is_some()
    }
}

impl TraceId {
    /// Whether it names no trace.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0 == [0; 16]
    }

    /// Looks at its 32 hex digits, for which no room is asked of the heap.
    pub fn with_text<T>(&self, look: impl FnOnce(&str) -> T) -> T {
        with_hex(&self.0, look)
    }

    /// Reads 32 lower-case hex digits, not all zero.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        read(text).map(Self).filter(|id| !id.is_none())
    }
}

impl SpanId {
    /// Whether it names no span.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0 == [0; 8]
    }

    /// Looks at its 16 hex digits, for which no room is asked of the heap.
    pub fn with_text<T>(&self, look: impl FnOnce(&str) -> T) -> T {
        with_hex(&self.0, look)
    }

    /// Reads 16 lower-case hex digits, not all zero.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        read(text).map(Self).filter(|id| !id.is_none())
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_hex(&self.0, |hex| f.write_str(hex))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_hex(&self.0, |hex| f.write_str(hex))
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        with_hex(&self.0, |hex| serializer.serialize_str(hex))
    }
}

impl Serialize for SpanId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        with_hex(&self.0, |hex| serializer.serialize_str(hex))
    }
}

/// Hands on the digits without asking the heap for room: every request spells its ids several times.
fn with_hex<T>(bytes: &[u8], then: impl FnOnce(&str) -> T) -> T {
    let mut digits = [b'0'; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        for (digit, value) in pair.iter_mut().zip([byte >> 4, byte & 0xf]) {
            *digit = DIGITS.get(usize::from(value)).copied().unwrap_or(b'0');
        }
    }
    let used = digits.get(..bytes.len().saturating_mul(2)).unwrap_or_default();
    then(std::str::from_utf8(used).unwrap_or_default())
}

fn read<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != N.saturating_mul(2) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_spelt() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        assert_eq!(TraceId::parse(id).unwrap().to_string(), id);
        assert_eq!(SpanId::parse("b7ad6b7169203331").unwrap().to_string(), "b7ad6b7169203331");
        for wrong in [
            "",
            "0",
            &id.replacen("0a", "a", 1),
            &id.to_uppercase(),
            &"0".repeat(32),
            &format!("{id}0"),
            &"é".repeat(16),
        ] {
            assert_eq!(TraceId::parse(wrong), None, "{wrong}");
        }
        assert_eq!(SpanId::parse(&"0".repeat(16)), None);
    }

    #[test]
    fn a_record_has_both_ids_and_leaves_out_a_span_that_is_none() {
        let told = serde_json::to_string(&Trace::begin([0xab; 24])).unwrap();
        let (trace, span) = ("ab".repeat(16), "ab".repeat(8));
        assert_eq!(told, format!(r#"{{"trace_id":"{trace}","span_id":"{span}"}}"#));
        let none = "0".repeat(32);
        assert_eq!(serde_json::to_string(&Trace::default()).unwrap(), format!(r#"{{"trace_id":"{none}"}}"#));
    }
}
