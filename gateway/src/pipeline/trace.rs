//! W3C trace context: a caller's trace is continued, a malformed one begins anew.

use engine::trace::{SpanId, Trace, TraceId};
use http::HeaderMap;

use crate::config::telemetry::Sampler;

/// Continues the caller's trace, or begins one with these random bytes.
#[must_use]
pub fn trace(headers: &HeaderMap, random: [u8; 24], sampler: Sampler) -> Trace {
    let mut values = headers.get_all("traceparent").iter();
    let caller = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok().and_then(parse),
        _ => None,
    };
    let begun = Trace::begin(random);
    let (trace_id, parent_id) =
        caller.map_or((begun.trace_id, None), |caller| (caller.trace_id, Some(caller.parent_id)));
    let sampled = sampler.keeps(caller.map(|caller| caller.sampled), trace_id);
    Trace { trace_id, parent_id, sampled, ..begun }
}

/// The header that the upstream is sent.
#[must_use]
pub fn traceparent(trace: &Trace) -> String {
    let mut text = String::with_capacity(55);
    text.push_str("00-");
    trace.trace_id.with_text(|id| text.push_str(id));
    text.push('-');
    trace.span_id.with_text(|id| text.push_str(id));
    text.push_str(if trace.sampled { "-01" } else { "-00" });
    text
}

/// What a caller says of its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Caller {
    trace_id: TraceId,
    parent_id: SpanId,
    sampled: bool,
}

/// Reads version 00 of the header: `00-<32 hex>-<16 hex>-<2 hex>`, as W3C Trace Context section 3.2 spells it.
fn parse(value: &str) -> Option<Caller> {
    let mut parts = value.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version != "00" || parts.next().is_some() || flags.len() != 2 {
        return None;
    }
    let lower_hex = flags.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let flags = u8::from_str_radix(flags, 16).ok().filter(|_| lower_hex)?;
    Some(Caller {
        trace_id: TraceId::parse(trace)?,
        parent_id: SpanId::parse(span)?,
        sampled: flags & 1 == 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::telemetry::Root;

    const ID: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn check(value: &str, expected: Option<bool>) {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", value.parse().unwrap());
        let trace = trace(&headers, [7; 24], Sampler::default());
        let known = expected.is_some();
        assert_eq!(
            trace.trace_id.to_string(),
            if known { ID.to_owned() } else { "07".repeat(16) },
            "{value}"
        );
        assert_eq!(trace.parent_id.map(|id| id.to_string()), known.then(|| SPAN.to_owned()), "{value}");
        assert_eq!(trace.sampled, expected.unwrap_or(false), "{value}");
        assert_eq!(trace.span_id.to_string(), "0707070707070707");
    }

    #[test]
    fn a_caller_is_continued_only_when_it_spells_it_right() {
        check(&format!("00-{ID}-{SPAN}-01"), Some(true));
        check(&format!("00-{ID}-{SPAN}-00"), Some(false));
        for wrong in [
            format!("00-{ID}-{SPAN}"),
            format!("00-{ID}-{SPAN}-01-extra"),
            format!("01-{ID}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", ID.to_uppercase()),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{ID}-{}-01", "0".repeat(16)),
            format!("00-{ID}-{SPAN}-zz"),
            format!("00-{ID}-{SPAN}-+1"),
            format!("00-{ID}-{SPAN}-1"),
            "nonsense".to_owned(),
        ] {
            check(&wrong, None);
        }
    }

    #[test]
    fn two_headers_begin_anew() {
        let mut headers = HeaderMap::new();
        for id in [ID, "1af7651916cd43dd8448eb211c80319c"] {
            headers.append("traceparent", format!("00-{id}-{SPAN}-01").parse().unwrap());
        }
        assert!(!trace(&headers, [1; 24], Sampler::default()).is_continued());
    }

    #[test]
    fn the_upstream_is_told_our_span_and_what_was_decided() {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", format!("00-{ID}-{SPAN}-01").parse().unwrap());
        let never = Sampler { follows_caller: false, root: Root::Never };
        let trace = trace(&headers, [7; 24], never);
        assert_eq!(traceparent(&trace), format!("00-{ID}-0707070707070707-00"));
    }
}
