//! W3C trace context: a caller's trace is continued, a malformed one begins anew.

use http::HeaderMap;

/// The trace that a request belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// 32 lower-case hex digits, not all zero.
    pub trace_id: String,
    /// Our own span: 16 lower-case hex digits.
    pub span_id: String,
    /// Whether the caller records it.
    pub sampled: bool,
    /// Whether the caller began it.
    pub continued: bool,
}

impl TraceContext {
    /// Continues the caller's trace, or begins one with these random bytes.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap, random: [u8; 24]) -> Self {
        let mut values = headers.get_all("traceparent").iter();
        let caller = match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok().and_then(parse),
            _ => None,
        };
        let (trace, span) = random.split_at(16);
        let (trace_id, sampled, continued) = match caller {
            Some((trace_id, sampled)) => (trace_id, sampled, true),
            None => (hex(trace), false, false),
        };
        Self { trace_id, span_id: hex(span), sampled, continued }
    }

    /// A new trace with these random bytes.
    #[must_use]
    pub fn begin(random: [u8; 24]) -> Self {
        Self::from_headers(&HeaderMap::new(), random)
    }

    /// The header that the upstream is sent.
    #[must_use]
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// Reads version 00 of the header: `00-<32 hex>-<16 hex>-<2 hex>`, as W3C Trace Context section 3.2 spells it.
fn parse(value: &str) -> Option<(String, bool)> {
    let mut parts = value.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let well_formed =
        parts.next().is_none() && version == "00" && is_id(trace, 32) && is_id(span, 16) && is_hex(flags, 2);
    let flags = u8::from_str_radix(flags, 16).ok()?;
    well_formed.then(|| (trace.to_owned(), flags & 1 == 1))
}

fn is_id(text: &str, length: usize) -> bool {
    is_hex(text, length) && text.bytes().any(|byte| byte != b'0')
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: Option<(&str, bool)>) {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", value.parse().unwrap());
        let trace = TraceContext::from_headers(&headers, [7; 24]);
        let expected_id = expected.map_or("07".repeat(16), |(id, _)| id.to_owned());
        assert_eq!(trace.trace_id, expected_id, "{value}");
        assert_eq!(trace.continued, expected.is_some(), "{value}");
        assert_eq!(trace.sampled, expected.is_some_and(|(_, sampled)| sampled), "{value}");
        assert_eq!(trace.span_id, "0707070707070707");
    }

    #[test]
    fn a_caller_is_continued_only_when_it_spells_it_right() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        check(&format!("00-{id}-b7ad6b7169203331-01"), Some((id, true)));
        check(&format!("00-{id}-b7ad6b7169203331-00"), Some((id, false)));
        for wrong in [
            format!("00-{id}-b7ad6b7169203331"),
            format!("00-{id}-b7ad6b7169203331-01-extra"),
            format!("01-{id}-b7ad6b7169203331-01"),
            format!("00-{}-b7ad6b7169203331-01", id.to_uppercase()),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{id}-{}-01", "0".repeat(16)),
            format!("00-{id}-b7ad6b7169203331-zz"),
            "nonsense".to_owned(),
        ] {
            check(&wrong, None);
        }
    }

    #[test]
    fn two_headers_begin_anew() {
        let mut headers = HeaderMap::new();
        for id in ["0af7651916cd43dd8448eb211c80319c", "1af7651916cd43dd8448eb211c80319c"] {
            headers.append("traceparent", format!("00-{id}-b7ad6b7169203331-01").parse().unwrap());
        }
        assert!(!TraceContext::from_headers(&headers, [1; 24]).continued);
    }
}
