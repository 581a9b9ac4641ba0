//! The two handshakes of a bridged WebSocket: the client's with us, and ours with the upstream.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::refusal::{Malformed, Refusal};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::super::http1::HOP;
use crate::pipeline::headers::{HeaderEdits, Names};

/// What RFC 6455, section 1.3, appends to a key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of the upstream's answer to a handshake, at most: as much as a head of a client.
const ANSWER_BYTES_MAX: usize = 32 * 1024;
/// Headers of that answer, at most.
const ANSWER_HEADERS_MAX: usize = 100;

/// Headers of a handshake that belong to one hop, beside those of every message.
static HANDSHAKE: Names<6> = Names::new([
    "content-length",
    "sec-websocket-key",
    "sec-websocket-accept",
    "sec-websocket-version",
    "sec-websocket-protocol",
    // None is offered and none is let through: what a frame means without one is what is checked.
    "sec-websocket-extensions",
]);

/// What the client asks for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    key: HeaderValue,
    protocols: Vec<String>,
}

impl Asked {
    /// Reads a handshake that `engine::headers` has found whole.
    ///
    /// # Errors
    /// The key is not one of 16 bytes, or the protocols are not tokens.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        let refused = || Refusal::Malformed(Malformed::UPGRADE_REFUSED);
        let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
        let (Some(key), None) = (keys.next(), keys.next()) else { return Err(refused()) };
        let length = STANDARD.decode(key.as_bytes()).map(|key| key.len());
        if length != Ok(16) {
            return Err(refused());
        }
        let protocols = protocols(headers).ok_or_else(refused)?;
        Ok(Self { key: key.clone(), protocols })
    }
}

/// The protocols of a handshake; `None` where one is no token.
fn protocols(headers: &HeaderMap) -> Option<Vec<String>> {
    let mut protocols = Vec::new();
    for value in headers.get_all(header::SEC_WEBSOCKET_PROTOCOL) {
        for protocol in value.to_str().ok()?.split(',').map(str::trim) {
            // A header name is a token, and so is a protocol.
            HeaderName::try_from(protocol).ok()?;
            protocols.push(protocol.to_owned());
        }
    }
    Some(protocols)
}

/// A key as it travels.
pub(super) fn key(random: [u8; 16]) -> String {
    STANDARD.encode(random)
}

/// What proves that a key was read.
fn accept(key: &[u8]) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat()))
}

/// The handshake that the upstream is sent: the client's request as it was shaped, with our key.
pub(super) fn request(
    target: &str,
    mut headers: HeaderMap,
    edits: HeaderEdits,
    asked: &Asked,
    key: &str,
) -> Vec<u8> {
    edits.apply(&mut headers);
    HOP.remove_from(&mut headers);
    HANDSHAKE.remove_from(&mut headers);
    let mut lines = vec![
        ("upgrade", "websocket".to_owned()),
        ("connection", "Upgrade".to_owned()),
        ("sec-websocket-version", "13".to_owned()),
        ("sec-websocket-key", key.to_owned()),
    ];
    if !asked.protocols.is_empty() {
        lines.push(("sec-websocket-protocol", asked.protocols.join(", ")));
    }
    head(format!("GET {target} HTTP/1.1"), &headers, &lines)
}

/// The answer that the client is sent.
pub(super) fn answer(asked: &Asked, protocol: Option<String>, mut headers: HeaderMap) -> Vec<u8> {
    HOP.remove_from(&mut headers);
    HANDSHAKE.remove_from(&mut headers);
    let mut lines = vec![
        ("upgrade", "websocket".to_owned()),
        ("connection", "Upgrade".to_owned()),
        ("sec-websocket-accept", accept(asked.key.as_bytes())),
    ];
    lines.extend(protocol.map(|protocol| ("sec-websocket-protocol", protocol)));
    head("HTTP/1.1 101 Switching Protocols".to_owned(), &headers, &lines)
}

fn head(first: String, headers: &HeaderMap, lines: &[(&str, String)]) -> Vec<u8> {
    let mut head = first.into_bytes();
    let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    for (name, value) in pairs.chain(lines.iter().map(|(name, value)| (*name, value.as_bytes()))) {
        head.extend_from_slice(b"\r\n");
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value);
    }
    head.extend_from_slice(b"\r\n\r\n");
    head
}

/// What the upstream answered.
#[derive(Debug)]
pub(super) struct Answered {
    status: String,
    headers: HeaderMap,
    rest: Vec<u8>,
}

/// An upstream that has changed the protocol as asked.
#[derive(Debug)]
pub(super) struct Accepted {
    /// Its headers.
    pub(super) headers: HeaderMap,
    /// The protocol that it chose among those offered.
    pub(super) protocol: Option<String>,
    /// What it sent after its head.
    pub(super) rest: Vec<u8>,
}

/// Reads the upstream's answer.
///
/// # Errors
/// It breaks off, or is no head of HTTP/1.1 within its bounds.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Answered> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if end.unwrap_or(bytes.len()) > ANSWER_BYTES_MAX {
            return Err(io::Error::other("its head is too large"));
        }
        if let Some(end) = end {
            let rest = bytes.split_off(end.saturating_add(4));
            return parse(&bytes, rest).ok_or_else(|| io::Error::other("it is no head of HTTP/1.1"));
        }
    }
}

fn parse(head: &[u8], rest: Vec<u8>) -> Option<Answered> {
    let mut lines = head.strip_suffix(b"\r\n\r\n")?.split(|byte| *byte == b'\n');
    let first = std::str::from_utf8(lines.next()?).ok()?.trim_end_matches('\r');
    let status = first.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.to_owned();
    let mut headers = HeaderMap::new();
    for line in lines {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at_checked(colon)?;
        let value = value.get(1..)?.trim_ascii();
        headers.append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
        if headers.len() > ANSWER_HEADERS_MAX {
            return None;
        }
    }
    Some(Answered { status, headers, rest })
}

impl Answered {
    /// The upstream has understood our handshake and offers nothing that we did not.
    pub(super) fn check(self, asked: &Asked, key: &str) -> Result<Accepted, String> {
        if self.status != "101" {
            return Err(format!("it answered {}", self.status.escape_debug().take(16).collect::<String>()));
        }
        let is = |name, value: &str| {
            self.headers
                .get(name)
                .is_some_and(|found| found.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
        };
        let named = |value: &HeaderValue| {
            value
                .as_bytes()
                .split(|byte| *byte == b',')
                .any(|it| it.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
        };
        let connection = self.headers.get_all(header::CONNECTION).iter().any(named);
        if !is(header::UPGRADE, "websocket") || !connection {
            return Err("it has not changed to WebSocket".to_owned());
        }
        // Exact: it is base64, in which case counts.
        let proof = self.headers.get(header::SEC_WEBSOCKET_ACCEPT);
        if proof.map(HeaderValue::as_bytes) != Some(accept(key.as_bytes()).as_bytes()) {
            return Err("its key is wrong".to_owned());
        }
        if self.headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
            return Err("it uses an extension that was not offered".to_owned());
        }
        let chosen = protocols(&self.headers).ok_or("its protocol is no token")?;
        let protocol = match chosen.as_slice() {
            [] => None,
            [one] if asked.protocols.contains(one) => Some(one.clone()),
            _ => return Err("it chose a protocol that was not offered".to_owned()),
        };
        Ok(Accepted { headers: self.headers, protocol, rest: self.rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::try_from(*value).unwrap())
        };
        lines.iter().map(pair).collect()
    }

    fn asked(protocols: &str) -> Asked {
        Asked::read(&headers(&[("sec-websocket-key", KEY), ("sec-websocket-protocol", protocols)])).unwrap()
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        assert_eq!(accept(KEY.as_bytes()), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_has_sixteen_bytes_and_comes_once() {
        let refused =
            |lines: &[(&'static str, &str)]| assert!(Asked::read(&headers(lines)).is_err(), "{lines:?}");
        refused(&[]);
        refused(&[("sec-websocket-key", "")]);
        refused(&[("sec-websocket-key", "AAAA")]);
        refused(&[("sec-websocket-key", "not base64 at all!!!!!==")]);
        refused(&[("sec-websocket-key", KEY), ("sec-websocket-protocol", "a b")]);
        refused(&[("sec-websocket-key", KEY), ("sec-websocket-protocol", "a,,b")]);
        let mut twice = headers(&[("sec-websocket-key", KEY)]);
        twice.append("sec-websocket-key", HeaderValue::from_static(KEY));
        assert!(Asked::read(&twice).is_err());
    }

    #[test]
    fn what_leaves_has_our_key_and_no_extension() {
        let came = headers(&[
            ("host", "gate.example"),
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", KEY),
            ("sec-websocket-version", "13"),
            ("sec-websocket-extensions", "permessage-deflate"),
            ("cookie", "secret"),
        ]);
        let mut edits = HeaderEdits::default();
        edits.remove(header::COOKIE);
        let sent = request("/ws?a=b", came, edits, &asked("chat, v2"), "OURS");
        let expected = "GET /ws?a=b HTTP/1.1\r\nhost: gate.example\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
            sec-websocket-version: 13\r\nsec-websocket-key: OURS\r\nsec-websocket-protocol: chat, v2\r\n\r\n";
        assert_eq!(String::from_utf8(sent).unwrap(), expected);
    }

    async fn answered(head: &str) -> Result<Accepted, String> {
        let mut bytes = head.as_bytes();
        let answered = read(&mut bytes).await.map_err(|error| error.to_string())?;
        answered.check(&asked("chat"), KEY)
    }

    #[tokio::test]
    async fn only_a_whole_handshake_of_the_upstream_is_taken() {
        let good = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        let accepted = answered(&format!("{good}Sec-WebSocket-Protocol: chat\r\n\r\n\u{1}")).await.unwrap();
        assert_eq!((accepted.protocol.as_deref(), accepted.rest.as_slice()), (Some("chat"), &b"\x01"[..]));
        assert_eq!(answered(&format!("{good}\r\n")).await.unwrap().protocol, None);
        let bad = [
            format!("{good}Sec-WebSocket-Protocol: other\r\n\r\n"),
            format!("{good}Sec-WebSocket-Protocol: Chat\r\n\r\n"),
            format!("{good}Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
            format!("{good}no header\r\n\r\n"),
            good.to_owned(),
            format!("{}\r\n", good.replace("s3pPL", "S3pPL")),
            format!("{}\r\n", good.replace("101", "200")),
            format!("{}\r\n", good.replace("HTTP/1.1", "HTTP/1.0")),
            format!("{}\r\n", good.replace("WebSocket\r", "h2c\r")),
            format!("{}\r\n", good.replace(", upgrade", "")),
            format!("{good}X: {}\r\n\r\n", "x".repeat(ANSWER_BYTES_MAX)),
        ];
        for head in bad {
            assert!(answered(&head).await.is_err(), "{head}");
        }
    }
}
