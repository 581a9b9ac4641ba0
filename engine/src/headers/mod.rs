//! What headers may come in, and which are dropped in every spelling.
//!
//! [`inspect`] refuses what two servers could frame or attribute differently, and reports the rest.
//! [`is_dropped`] knows the names by which something before us would hand on an identity, an address or a
//! trace: from outside they are claims, so none reaches an upstream.

mod audience;
mod block;
mod client;
mod connection;
mod dropped;
mod families;
mod findings;
mod framing;
mod host;

#[cfg(test)]
mod tests;

pub use audience::{Audience, audience};
pub use block::inspect_block;
pub use client::{ClientAddress, FORWARDED_HOPS_MAX, client_address};
pub use connection::nominated;
pub use dropped::{DropReason, drop_reason, is_dropped, survives};
pub use findings::HeaderFindings;

use http::header::{self, HeaderName};
use http::{HeaderMap, Method, Version};

use crate::bytes;
use crate::refusal::Malformed;

/// Header lines of a request, at most. Browsers send about 20, a chain of proxies adds as many.
pub const HEADERS_COUNT_MAX: usize = 100;

/// Bytes of one header value, at most: four full cookies of a browser.
pub const HEADER_VALUE_BYTES_MAX: usize = 16 * 1024;

/// Bytes of all names and values together, at most.
pub const HEADERS_BYTES_MAX: usize = 32 * 1024;

/// Bytes of a header name, at most: three times the longest that is registered.
pub const HEADER_NAME_BYTES_MAX: usize = 128;

/// Letters of a method, at most. The longest that is registered has 17.
pub const METHOD_BYTES_MAX: usize = 32;

/// What a listener's configuration says about headers.
#[derive(Clone, Debug, Default)]
pub struct HeaderRules {
    /// The hosts that are served, in lower case: a name or an address, with a port or without.
    ///
    /// An entry without a port answers to every port, one with a port to that port as it is written. The
    /// client's letter case does not matter; a trailing dot does: `example.com.` is another host, because
    /// cookies and certificates treat it as one. IPv6 addresses stand in brackets.
    pub hosts: Vec<String>,
    /// The cookies that are credentials of ours, by exact name.
    pub cookies: Vec<String>,
}

/// Judges the headers of one request.
///
/// # Errors
/// A [`Malformed`] that names what is ambiguous, unsupported or over its bound.
pub fn inspect(
    method: &Method,
    version: Version,
    headers: &HeaderMap,
    rules: &HeaderRules,
) -> Result<HeaderFindings, Malformed> {
    // HTTP/2 has framing of its own; until that is made safe, only HTTP/1.1 is spoken (threat 6).
    if version != Version::HTTP_11 {
        return Err(Malformed::FRAMING_VERSION);
    }
    refuse_method(method)?;
    refuse_sizes(headers)?;
    let body = framing::body(headers)?;
    let host = host::host(headers, &rules.hosts)?;
    let noted: Vec<&HeaderName> = headers.keys().filter(|name| !dropped::is_plain(name.as_str())).collect();
    refuse_overrides(&noted)?;
    refuse_repeats(headers)?;
    refuse_bytes(headers)?;
    refuse_expectation(headers)?;
    findings::find(method, headers, &noted, rules, host, body)
}

/// `TRACE` reflects credentials, `CONNECT` and `PRI` change what the connection is. An extension method passes
/// here and is unrouted unless a route names it.
fn refuse_method(method: &Method) -> Result<(), Malformed> {
    let name = method.as_str();
    if matches!(name, "TRACE" | "TRACK" | "CONNECT" | "PRI") {
        return Err(Malformed::METHOD_REFUSED);
    }
    // Some servers read `get` as `GET`, others do not.
    let is_plain = name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    if name.is_empty() || name.len() > METHOD_BYTES_MAX || !is_plain {
        return Err(Malformed::METHOD_MALFORMED);
    }
    Ok(())
}

fn refuse_sizes(headers: &HeaderMap) -> Result<(), Malformed> {
    if headers.len() > HEADERS_COUNT_MAX {
        return Err(Malformed::HEADERS_TOO_MANY);
    }
    let mut total: usize = 0;
    for (name, value) in headers {
        if name.as_str().len() > HEADER_NAME_BYTES_MAX {
            return Err(Malformed::HEADERS_NAME_TOO_LONG);
        }
        if value.len() > HEADER_VALUE_BYTES_MAX {
            return Err(Malformed::HEADERS_VALUE_TOO_LONG);
        }
        total = total.saturating_add(name.as_str().len()).saturating_add(value.len());
    }
    if total > HEADERS_BYTES_MAX { Err(Malformed::HEADERS_TOO_LARGE) } else { Ok(()) }
}

/// Policy decides by the method on the wire, so an upstream must not find another one in a header.
fn refuse_overrides(noted: &[&HeaderName]) -> Result<(), Malformed> {
    if noted.iter().any(|name| dropped::overrides_method(name.as_str())) {
        return Err(Malformed::METHOD_OVERRIDE);
    }
    Ok(())
}

/// Headers that have one value and that something here or upstream decides by. Of two, the one that is checked
/// need not be the one that is believed.
static SINGLE: [HeaderName; 12] = [
    header::ACCESS_CONTROL_REQUEST_METHOD,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::ORIGIN,
    header::RANGE,
    header::REFERER,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::UPGRADE,
    HeaderName::from_static("sec-fetch-dest"),
    HeaderName::from_static("sec-fetch-mode"),
    HeaderName::from_static("sec-fetch-site"),
];

fn refuse_repeats(headers: &HeaderMap) -> Result<(), Malformed> {
    // As many values as names: none has two.
    if headers.len() == headers.keys_len() {
        return Ok(());
    }
    if SINGLE.iter().any(|name| headers.get_all(name).iter().nth(1).is_some()) {
        return Err(Malformed::HEADERS_REPEATED);
    }
    Ok(())
}

/// Headers that are read here as text. Bytes above ASCII in them could make a rule miss what an upstream
/// reads (CVE-2026-73552); in others they are the client's own business and pass as they are.
static READ_HERE: [HeaderName; 15] = [
    header::ACCEPT,
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::EXPECT,
    header::HOST,
    header::ORIGIN,
    header::UPGRADE,
    HeaderName::from_static("sec-fetch-dest"),
    HeaderName::from_static("sec-fetch-mode"),
    HeaderName::from_static("sec-fetch-site"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-proto"),
];

fn refuse_bytes(headers: &HeaderMap) -> Result<(), Malformed> {
    // Next to never is there a byte that is neither a blank nor a plain character.
    if headers.values().all(|value| bytes::are_plain(value.as_bytes())) {
        return Ok(());
    }
    // A parser may build values unchecked, so that this is not left to it.
    let is_control = |byte: &u8| matches!(byte, 0..=0x1f | 0x7f) && *byte != b'\t';
    if headers.values().any(|value| value.as_bytes().iter().any(is_control)) {
        return Err(Malformed::HEADERS_CONTROL);
    }
    let mut beyond = headers.iter().filter(|(_, value)| !value.as_bytes().is_ascii());
    if beyond.any(|(name, _)| READ_HERE.contains(name)) { Err(Malformed::HEADERS_NOT_ASCII) } else { Ok(()) }
}

fn refuse_expectation(headers: &HeaderMap) -> Result<(), Malformed> {
    match headers.get(header::EXPECT) {
        Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            Err(Malformed::EXPECT_UNSUPPORTED)
        }
        Some(_) | None => Ok(()),
    }
}
