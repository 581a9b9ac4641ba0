//! How long the body is, where there can be no two opinions.

use http::{HeaderMap, header};

use crate::refusal::Malformed;

/// How the body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Body {
    pub(super) content_length: Option<u64>,
    pub(super) chunked: bool,
}

/// Reads the framing; stricter than RFC 9112, which lets some contradictions be repaired. A repair is what
/// the other server may do differently.
pub(super) fn body(headers: &HeaderMap) -> Result<Body, Malformed> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let (length, coding) = (lengths.next(), codings.next());
    if length.is_some() && coding.is_some() {
        return Err(Malformed::FRAMING_BOTH_LENGTHS);
    }
    if lengths.next().is_some() {
        return Err(Malformed::FRAMING_CONTENT_LENGTH_REPEATED);
    }
    if codings.next().is_some() {
        return Err(Malformed::FRAMING_TRANSFER_ENCODING);
    }
    // Exactly as every client spells it: `Chunked` and `chunked;x` are read by some servers and not by others.
    if coding.is_some_and(|coding| coding.as_bytes() != b"chunked") {
        return Err(Malformed::FRAMING_TRANSFER_ENCODING);
    }
    let content_length = match length {
        Some(length) => Some(decimal(length.as_bytes()).ok_or(Malformed::FRAMING_CONTENT_LENGTH)?),
        None => None,
    };
    Ok(Body { content_length, chunked: coding.is_some() })
}

/// One plain decimal number: no sign, no list, no blank, no leading zero.
fn decimal(text: &[u8]) -> Option<u64> {
    let is_plain = match text {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if is_plain { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}
