//! Heads of messages: a first line, and the fields under it.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

/// Fields of one head, at most. More than any bound that is named to a client.
pub(super) const FIELDS_MAX: usize = 256;

/// The head of a request. Its target is taken from the wire by `receive`.
#[derive(Debug, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The version of HTTP.
    pub version: Version,
    /// The fields.
    pub headers: HeaderMap,
}

/// The head of an answer.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// The version of HTTP.
    pub version: Version,
    /// What stands beside the status, where that is not the usual words.
    pub reason: Option<Bytes>,
    /// The fields.
    pub headers: HeaderMap,
}

/// Where a head ends: past its first empty line. A bare LF ends a line as well: what has one is told apart later, and until
/// then it has to have an end. Searched from the beginning of a line on.
///
/// # Errors
/// There is no end yet; where the line begins that is not whole.
pub(super) fn end(bytes: &[u8], mut line: usize) -> Result<usize, usize> {
    loop {
        let rest = bytes.get(line..).unwrap_or_default();
        let length = memchr::memchr(b'\n', rest).ok_or(line)?;
        let is_empty = matches!(rest.get(..length), Some(b"" | b"\r"));
        line = line.saturating_add(length).saturating_add(1);
        if is_empty {
            return Ok(line);
        }
    }
}

/// Reads the head of a request. Whether all readers see its end where it was found: a line that ends in a bare LF is none to
/// some.
///
/// # Errors
/// What is none.
pub(super) fn request(head: &Bytes, into: &mut RequestHead) -> Result<bool, &'static str> {
    let (line, fields_at, strict) = line(head, 0).ok_or("a head without a line")?;
    let method = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    into.method = Method::from_bytes(method).map_err(|_| "a method")?;
    into.version = if line.ends_with(b" HTTP/1.1") {
        Version::HTTP_11
    } else if line.ends_with(b" HTTP/1.0") {
        Version::HTTP_10
    } else {
        return Err("a version");
    };
    into.headers.clear();
    Ok(fields(head, fields_at, &mut into.headers)? && strict)
}

/// Reads the head of an answer.
///
/// # Errors
/// What is none.
pub(super) fn response(head: &Bytes, into: &mut ResponseHead) -> Result<(), &'static str> {
    let (line, fields_at, _) = line(head, 0).ok_or("a head without a line")?;
    let (version, rest) = line.split_at_checked(9).ok_or("a status line")?;
    into.version = match version {
        b"HTTP/1.1 " => Version::HTTP_11,
        b"HTTP/1.0 " => Version::HTTP_10,
        _ => return Err("a version"),
    };
    let (status, said) = rest.split_at_checked(3).ok_or("a status")?;
    into.status = StatusCode::from_bytes(status).map_err(|_| "a status")?;
    let said = match said {
        b"" => said,
        [b' ', said @ ..] => said,
        _ => return Err("a status"),
    };
    let usual = into.status.canonical_reason().unwrap_or_default();
    into.reason = (said != usual.as_bytes()).then(|| Bytes::copy_from_slice(said));
    if said.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err("a reason");
    }
    into.headers.clear();
    fields(head, fields_at, &mut into.headers).map(drop)
}

/// The line that begins here, without its end; where the next one begins; and whether it ends as it must, and not in a
/// bare LF.
fn line(bytes: &[u8], at: usize) -> Option<(&[u8], usize, bool)> {
    let rest = bytes.get(at..)?;
    let length = memchr::memchr(b'\n', rest)?;
    let (line, next) = (rest.get(..length)?, at.saturating_add(length).saturating_add(1));
    let strict = line.strip_suffix(b"\r");
    Some((strict.unwrap_or(line), next, strict.is_some()))
}

/// The fields from here to the empty line. Whether all of these lines end as they must.
fn fields(head: &Bytes, mut at: usize, into: &mut HeaderMap) -> Result<bool, &'static str> {
    let mut all_strict = true;
    loop {
        let (field, next, strict) = line(head, at).ok_or("a head without an end")?;
        all_strict &= strict;
        if field.is_empty() {
            return Ok(all_strict);
        }
        let colon = memchr::memchr(b':', field).ok_or("a field without a colon")?;
        let (name, rest) = field.split_at_checked(colon).unwrap_or_default();
        // A name with a blank in it is none, so neither is a line that continues the one before it.
        let name = HeaderName::from_bytes(name).map_err(|_| "a field's name")?;
        // Blanks of RFC 9110 alone: another reader would not take a form feed off, and read another value.
        let value = head.slice_ref(trimmed(rest.get(1..).unwrap_or_default()));
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| "a field's value")?;
        if into.len() >= FIELDS_MAX {
            return Err("more fields than anybody needs");
        }
        into.try_append(name, value).map_err(|_| "more fields than a map holds")?;
        at = next;
    }
}

/// Without the spaces and tabs around it.
fn trimmed(value: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let begin = value.iter().position(is_text).unwrap_or(value.len());
    let end = value.iter().rposition(is_text).map_or(begin, |last| last.saturating_add(1));
    value.get(begin..end).unwrap_or_default()
}
