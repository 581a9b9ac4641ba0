//! What is reported of headers that passed.

use http::header::{self, HeaderName};
use http::{HeaderMap, Method};

use super::framing::Body;
use super::{HeaderRules, is_dropped};
use crate::refusal::Malformed;

static SERVICE_WORKER: HeaderName = HeaderName::from_static("service-worker");
/// Credentials that are a header of their own.
static CREDENTIALS: [HeaderName; 2] = [header::AUTHORIZATION, HeaderName::from_static("x-api-key")];

/// What [`super::inspect`] found in headers that it did not refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderFindings {
    /// The host asked for: lower-case, with the port as sent, on the allow-list.
    pub host: String,
    /// Bytes that `Content-Length` announces.
    pub content_length: Option<u64>,
    /// Whether the body comes in chunks.
    pub chunked: bool,
    /// Whether `Upgrade` is there, whatever its value. It never changes which stages run.
    pub upgrade: bool,
    /// Whether it is a whole WebSocket handshake by RFC 6455: `GET`, `Connection: upgrade`,
    /// `Upgrade: websocket`, version 13 and a key.
    pub websocket: bool,
    /// The names that no upstream sees, each once; a route may allow some (see [`super::survives`]).
    pub dropped: Vec<HeaderName>,
    /// Whether the browser fetches a service worker's script (threat 4).
    pub service_worker: bool,
    /// Credentials that were sent more than once, by header or cookie name: whichever is believed, the other
    /// was not checked.
    pub repeated_credentials: Vec<String>,
}

/// Reports, and refuses an upgrade that brings a body: what follows its header could be the body or the new
/// protocol's first bytes (CVE-2026-2833).
pub(super) fn find(
    method: &Method,
    headers: &HeaderMap,
    noted: &[&HeaderName],
    rules: &HeaderRules,
    host: String,
    body: Body,
) -> Result<HeaderFindings, Malformed> {
    let upgrade = headers.contains_key(header::UPGRADE);
    if upgrade && (body.chunked || body.content_length.is_some_and(|bytes| bytes > 0)) {
        return Err(Malformed::FRAMING_UPGRADE_WITH_BODY);
    }
    Ok(HeaderFindings {
        host,
        content_length: body.content_length,
        chunked: body.chunked,
        upgrade,
        websocket: upgrade && is_websocket(method, headers),
        dropped: noted.iter().filter(|name| is_dropped(name.as_str())).copied().cloned().collect(),
        service_worker: headers.contains_key(&SERVICE_WORKER),
        repeated_credentials: repeated_credentials(headers, rules),
    })
}

fn is_websocket(method: &Method, headers: &HeaderMap) -> bool {
    let is = |name: HeaderName, expected: &str| {
        headers.get(name).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(expected.as_bytes()))
    };
    let connection = headers.get_all(header::CONNECTION);
    let has_upgrade = |value: &http::HeaderValue| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    };
    method == Method::GET
        && is(header::UPGRADE, "websocket")
        && connection.iter().any(has_upgrade)
        && is(header::SEC_WEBSOCKET_VERSION, "13")
        && headers.contains_key(header::SEC_WEBSOCKET_KEY)
}

fn repeated_credentials(headers: &HeaderMap, rules: &HeaderRules) -> Vec<String> {
    let mut repeated = Vec::new();
    // As many values as names: none has two.
    if headers.len() > headers.keys_len() {
        let sent_again = |name: &&HeaderName| headers.get_all(*name).iter().nth(1).is_some();
        repeated.extend(CREDENTIALS.iter().filter(sent_again).map(|name| name.as_str().to_owned()));
    }
    if let Some(cookies) = repeated_cookies(headers, &rules.cookies) {
        repeated.extend(cookies);
    }
    repeated
}

/// The cookies of these that were sent more than once, in the order of the rules. The names that were sent are walked
/// once: nearly every request has one of ours, and none twice.
fn repeated_cookies(headers: &HeaderMap, cookies: &[String]) -> Option<Vec<String>> {
    let sent = headers.get_all(header::COOKIE).iter().flat_map(|value| cookie_names(value.as_bytes()));
    let ours: Vec<&[u8]> = sent.filter(|name| cookies.iter().any(|ours| ours.as_bytes() == *name)).collect();
    let is_repeated = |cookie: &&String| ours.iter().filter(|name| **name == cookie.as_bytes()).count() > 1;
    (ours.len() > 1).then(|| cookies.iter().filter(is_repeated).cloned().collect())
}

fn cookie_names(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b';')
        .filter_map(|pair| pair.split(|byte| *byte == b'=').next())
        .map(<[u8]>::trim_ascii)
}
