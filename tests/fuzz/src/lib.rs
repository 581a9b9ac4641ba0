//! What must hold for any bytes from outside. The targets feed these functions; `cargo test` feeds them a few
//! inputs, so that they cannot rot unnoticed where no fuzzer runs.

mod bundle;
// Files of the gateway, under the names that they know each other by.
#[expect(dead_code, reason = "the gateway uses more of them")]
mod config;
// The very files of the ordinary tests: this workspace cannot use that crate, which builds the whole gateway.
#[path = "../../src/cedar/compare.rs"]
pub mod compare;
mod frames;
#[path = "../../src/cedar/generate/mod.rs"]
pub mod generate;
mod index;
#[expect(dead_code, reason = "the gateway uses more of them")]
mod oidc;
#[expect(dead_code, reason = "the gateway uses more of them")]
mod pages;
mod tokens;

pub use bundle::route_file;
pub use frames::websocket;
pub use index::cedar;
pub use tokens::{callback, cookie, signed_token, token};

use std::net::{IpAddr, Ipv4Addr};

use engine::chunked::{Chunked, Progress};
use engine::headers::{self, Audience, HeaderRules};
use engine::path::{CanonicalPath, Leniencies, decode_segment, split_target};
use engine::query::CanonicalQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

/// A path that is accepted is a fixed point, cannot climb, and can be forwarded.
pub fn path(bytes: &[u8]) {
    let Ok(path) = CanonicalPath::parse(bytes) else { return };
    assert_eq!(CanonicalPath::parse(path.as_str().as_bytes()).as_ref(), Ok(&path), "not a fixed point");
    assert!(path.as_str().starts_with('/') && !path.as_str().starts_with("//"));
    assert!(path.as_str().parse::<http::uri::PathAndQuery>().is_ok());
    let is_strict = path.lenient() == Leniencies::default();
    for segment in path.segments().map(decode_segment) {
        assert!(!segment.contains(char::is_control));
        assert!(!(is_strict && segment.contains(['/', '\\', ';', '%'])));
        assert!(segment.split(['/', '\\']).all(|piece| piece != "." && piece != ".."));
    }
}

/// A query that is accepted is a fixed point, keeps its names and values, and can be forwarded.
pub fn query(bytes: &[u8]) {
    let Ok(query) = CanonicalQuery::parse(Some(bytes)) else { return };
    let again = CanonicalQuery::parse(Some(query.as_str().as_bytes()));
    assert_eq!(again.as_ref(), Ok(&query), "not a fixed point");
    assert!(format!("/?{}", query.as_str()).parse::<http::uri::PathAndQuery>().is_ok());
    assert!(!query.as_str().contains([';', ' ', '#', '"', '<', '>']));
    for name in query.names() {
        assert!(query.value(name).is_some_and(|value| !value.contains('\0')));
    }
}

/// A chunked body ends at the same byte however it is cut, and where it is accepted its last line is empty.
pub fn chunked(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let (end, outcome) = Chunked::default().advance(bytes);
    let (mut cut, mut taken, mut progress) = (Chunked::default(), 0, Progress::More);
    for piece in bytes.chunks(usize::from(*size).max(1)) {
        let (more, now) = cut.advance(piece);
        (taken, progress) = (taken + more, now);
    }
    assert_eq!((taken, progress), (end, outcome), "cut into pieces of {size}");
    match outcome {
        Progress::More => assert_eq!(end, bytes.len()),
        Progress::End => assert!(bytes[..end].ends_with(b"\r\n\r\n") && bytes[..end].contains(&b'0')),
        Progress::Fault(_) => assert!(end < bytes.len(), "a fault is a byte's"),
    }
}

/// A request head that is accepted has one length, one host of ours, and no header that slips past.
pub fn request(bytes: &[u8]) {
    let is_whole = headers::inspect_block(bytes).is_ok();
    let Some((method, target, sent)) = head(bytes) else { return };
    let (raw_path, raw_query) = split_target(target);
    path(raw_path);
    query(raw_query.unwrap_or_default());
    let rules = HeaderRules { hosts: vec!["gate.example".to_owned()], cookies: vec!["cedargate".to_owned()] };
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let client = headers::client_address(peer, &sent, &[]);
    assert_eq!(client.client, peer, "nobody is trusted");
    let audience = headers::audience(&method, &sent);
    assert!(audience == Audience::Program || !sent.contains_key("hx-request"));
    for name in headers::nominated(&sent) {
        assert!(!headers::is_dropped(name.as_str()) && name != "authorization" && name != "host");
    }
    let Ok(found) = headers::inspect(&method, Version::HTTP_11, &sent, &rules) else { return };
    assert!(found.host == "gate.example" || found.host.starts_with("gate.example:"));
    assert!(!(found.chunked && found.content_length.is_some()));
    assert!(!(is_whole && sent.get_all("content-length").iter().count() > 1));
    for name in sent.keys() {
        let passes = !found.dropped.contains(name);
        assert!(!(passes && name.as_str().contains('_')), "{name}");
        assert_eq!(passes, headers::survives(name.as_str(), &[]), "{name}");
    }
}

/// Reads a head as generously as any parser might: what is no header is passed over.
fn head(bytes: &[u8]) -> Option<(Method, &[u8], HeaderMap)> {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let mut first = lines.next()?.splitn(3, |byte| *byte == b' ');
    let method = Method::from_bytes(first.next()?).ok()?;
    let target = first.next()?;
    let mut headers = HeaderMap::new();
    for line in lines.take(200) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        let (name, value) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii()));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    Some((method, target, headers))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_claims_hold_for_a_few_inputs() {
        for bytes in [&b""[..], b"/", b"/a/%2e%2e/b", b"/caf%c3%a9;x/%252f", b"/|%2F", b"\xff\0"] {
            super::path(bytes);
            super::query(bytes);
        }
        for bytes in [&b""[..], b"a=1&b", b"a[]=%20+&&;", b"%75ser_id=1", b"a=%ff"] {
            super::query(bytes);
        }
        for bytes in
            [&b""[..], b"\x03", b"\x021;a=\"b\"\r\nx\r\n0\r\nA: b\r\n\r\nGET", b"\x00\r\n\r\n", b"\x090\n\n"]
        {
            super::chunked(bytes);
        }
        super::request(b"GET /a%7eb?c=%41 HTTP/1.1\r\nHost: Gate.example:80\r\nX_User_Id: 1\r\n\r\n");
        super::request(
            b"POST / HTTP/1.1\r\nHost: gate.example\r\nConnection: X-User-Id, a\r\nContent-Length: 1\r\n\r\n",
        );
        super::request(b"\xff");
        for bytes in [
            &b"\x01\x02h\xc3\x89\x00\x80\x01\xa9\x82\x00"[..],
            b"\x81\x82abcd\x00\x01",
            b"\xff\x81\xfe",
            b"\x81\x01\xff",
        ] {
            super::websocket(bytes);
        }
    }
}
