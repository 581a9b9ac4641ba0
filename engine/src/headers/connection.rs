//! What `Connection` may nominate.

use http::HeaderMap;
use http::header::{self, HeaderName};

use super::is_dropped;

/// Names that `Connection` can ask to be taken off without harm to what we say upstream: all but those that we
/// set or decide by. A client that nominates one of these would have an upstream see a request without its
/// identity (CVE-2025-48865), its host or its length.
const KEPT: [&str; 22] = [
    "accept",
    "authorization",
    "cache-control",
    "close",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "origin",
    "range",
    "referer",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "user-agent",
    "x-api-key",
];

/// The header names that `Connection` nominates and that may be taken off, each once. Identity, forwarding and
/// every other name that is dropped from outside is ours to set, so its nomination is ignored.
#[must_use]
pub fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let mut names: Vec<HeaderName> = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        for token in value.as_bytes().split(|byte| *byte == b',') {
            let Ok(name) = HeaderName::from_bytes(token.trim_ascii()) else { continue };
            let is_ours = KEPT.contains(&name.as_str()) || is_dropped(name.as_str());
            if !is_ours && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}
