//! Stage 1, receive: bytes become the one spelling of a request that is routed, decided and forwarded.

use std::net::IpAddr;

use engine::audit::AskedFacts;
use engine::facts::RequestFacts;
use engine::headers::{self, ClientAddress, HeaderRules};
use engine::path::{CanonicalPath, split_target};
use engine::query::CanonicalQuery;
use engine::refusal::Malformed;
use engine::time::UnixMillis;
use http::{HeaderMap, HeaderName, Method, Version};
use ipnet::IpNet;
use uuid::Uuid;

use crate::authn::cookies::Cookie;
use crate::authn::site::Sites;
use crate::config::Config;
use crate::edge::framing::HEAD_END;

/// What a request must obey to be looked at.
#[derive(Clone, Debug)]
pub struct ReceiveRules {
    /// Bounds and the allow-list of hosts.
    pub headers: HeaderRules,
    /// Proxies whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl ReceiveRules {
    /// Those of this configuration.
    #[must_use]
    pub fn of(config: &Config, sites: &Sites) -> Self {
        Self {
            headers: HeaderRules {
                hosts: config.hosts.iter().map(|host| host.name.clone()).collect(),
                cookies: cookie_names(config, sites),
            },
            trusted_proxies: config.trusted_proxies.clone(),
        }
    }
}

/// The cookies that are credentials of ours, at any of our hosts.
fn cookie_names(config: &Config, sites: &Sites) -> Vec<String> {
    let sites = config.hosts.iter().filter_map(|host| sites.find(&host.name));
    let mut names: Vec<String> = sites
        .flat_map(|site| {
            [Cookie::Session, Cookie::Form, Cookie::Device].map(|cookie| cookie.name(site).to_owned())
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// A request's head as it came.
#[derive(Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The version.
    pub version: Version,
    /// The parsed headers.
    pub headers: &'a HeaderMap,
    /// The head's bytes from the wire: the HTTP parser repairs some request lines, and what it repaired is
    /// not what the client sent.
    pub wire: &'a [u8],
    /// Where it comes from.
    pub client: ClientAddress,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

/// A head that was taken in.
#[derive(Clone, Debug)]
pub struct Received {
    /// The method.
    pub method: Method,
    /// The host asked for, on the allow-list.
    pub host: String,
    /// The canonical path.
    pub path: CanonicalPath,
    /// The canonical query.
    pub query: CanonicalQuery,
    /// The client's address.
    pub client: IpAddr,
    /// Whether the client's connection is encrypted.
    pub tls: bool,
    /// The announced length of the body.
    pub content_length: Option<u64>,
    /// Whether a body of unknown length follows.
    pub chunked: bool,
    /// Whether the client asks for another protocol.
    pub upgrade: bool,
    /// Whether that is a whole handshake of a WebSocket.
    pub websocket: bool,
    /// Whether a browser fetches a service worker's script.
    pub service_worker: bool,
    /// Whether the client waits for `100 Continue`.
    pub expects_continue: bool,
    /// Credentials that were sent more than once.
    pub repeated_credentials: Vec<String>,
    /// Names that no upstream sees unless a route allows one by name.
    pub dropped: Vec<HeaderName>,
}

impl Received {
    /// What the later stages may know.
    #[must_use]
    pub fn facts<'a>(
        &'a self,
        headers: &'a HeaderMap,
        received_at: UnixMillis,
        request_id: Uuid,
    ) -> RequestFacts<'a> {
        RequestFacts {
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: &self.query,
            headers,
            client: self.client,
            tls: self.tls,
            received_at,
            request_id,
            content_length: self.content_length,
            upgrade: self.upgrade,
        }
    }

    /// Whether the request has a body, as its head says.
    #[must_use]
    pub const fn has_body(&self) -> bool {
        self.chunked || matches!(self.content_length, Some(1..))
    }
}

/// Takes a head in.
///
/// # Errors
/// The named reason for which it is refused.
pub fn receive(head: &Head<'_>, rules: &ReceiveRules) -> Result<Received, Malformed> {
    let findings = headers::inspect(head.method, head.version, head.headers, &rules.headers)?;
    let (path, query) = split_target(wire_target(head.wire)?);
    let (path, query) = (CanonicalPath::parse(path)?, CanonicalQuery::parse(query)?);
    Ok(Received {
        method: head.method.clone(),
        host: findings.host,
        path,
        query,
        client: head.client.client,
        tls: head.client.tls_claimed.unwrap_or(head.tls),
        content_length: findings.content_length,
        chunked: findings.chunked,
        upgrade: findings.upgrade,
        websocket: findings.websocket,
        service_worker: findings.service_worker,
        expects_continue: head.headers.contains_key(http::header::EXPECT),
        repeated_credentials: findings.repeated_credentials,
        dropped: findings.dropped,
    })
}

/// The request target as the client wrote it, once the block that it stands in has been judged.
fn wire_target(wire: &[u8]) -> Result<&[u8], Malformed> {
    let end = HEAD_END.find(wire).map(|at| at.saturating_add(4));
    // A parser that takes a bare LF for a line end has found the end of a head that has no CR LF CR LF.
    let block = end.and_then(|end| wire.get(..end)).ok_or(Malformed::FRAMING_LINES)?;
    headers::inspect_block(block)?;
    let line = block.split(|byte| *byte == b'\r').find(|line| *line != b"\n" && !line.is_empty());
    let mut parts = line.unwrap_or_default().trim_ascii_start().split(|byte| *byte == b' ');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(target), Some(b"HTTP/1.1"), None) => Ok(target),
        (Some(_), Some(_), Some(version), None) if version.starts_with(b"HTTP/") => {
            Err(Malformed::FRAMING_VERSION)
        }
        _ => Err(Malformed::FRAMING_LINES),
    }
}

/// What may be recorded of a request line that was refused: a method that looks like one, and a path without its
/// query. What came in the place of a request line may be the rest of a body or a header, and so a password, a
/// cookie or a key: of such a line only its length is told.
#[must_use]
pub fn asked_by_wire(wire: &[u8]) -> Option<AskedFacts> {
    let line = wire.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    if line.is_empty() {
        return None;
    }
    let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').take(4).collect();
    let told = match parts.as_slice() {
        // A line that was cut has no version.
        [method, target] | [method, target, _] if is_method(method) && target.starts_with(b"/") => {
            let path =
                target.split(|byte| matches!(byte, b'?' | b'#' | b';' | b'=')).next().unwrap_or_default();
            (escaped(method, 32), escaped(path, 2048))
        }
        [method, _, ..] if is_method(method) => (escaped(method, 32), String::new()),
        _ => (String::new(), format!("(a line of {} bytes)", line.len())),
    };
    Some(AskedFacts { method: told.0, host: String::new(), path: told.1, query_names: Vec::new() })
}

fn is_method(bytes: &[u8]) -> bool {
    (1..=16).contains(&bytes.len()) && bytes.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-')
}

fn escaped(bytes: &[u8], bytes_max: usize) -> String {
    bytes.iter().take(bytes_max).flat_map(|byte| std::ascii::escape_default(*byte)).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wire: &[u8], expected: Result<&str, &str>) {
        let found = wire_target(wire);
        let found =
            found.as_ref().map(|target| std::str::from_utf8(target).unwrap()).map_err(|fault| fault.reason);
        assert_eq!(found, expected, "{}", wire.escape_ascii());
    }

    #[test]
    fn the_target_is_taken_from_the_wire_and_strictly() {
        let lines = Err("framing.lines");
        check(b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\nbody\nwith lf", Ok("/a?b"));
        check(b"\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n", Ok("/a"));
        check(b"GET /a HTTP/1.1\nHost: x\n\n", lines);
        check(b"GET /a HTTP/1.1\r\nHost: x\n\r\n", lines);
        check(b"GET /a HTTP/1.1\nHost: x\r\n\r\n", lines);
        check(b"GET /a HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", lines);
        check(b"GET /a b HTTP/1.1\r\n\r\n", lines);
        check(b"GET  /a HTTP/1.1\r\n\r\n", lines);
        check(b"GET\t/a\tHTTP/1.1\r\n\r\n", lines);
        check(b" GET /a HTTP/1.1\r\n\r\n", lines);
        check(b"GET /a\r\n\r\n", lines);
        check(b"GET /a HTTP/1.1\r\n", lines);
        check(b"GET /a HTTP/1.0\r\nHost: x\r\n\r\n", Err("framing.version"));
    }

    #[test]
    fn what_is_recorded_of_a_refused_line_has_no_query_and_no_raw_bytes() {
        let asked = asked_by_wire(b"GET /a\x01\xff?token=secret HTTP/1.1\r\n").unwrap();
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", "/a\\x01\\xff"));
        assert_eq!(asked_by_wire(b"\r\n"), None);
    }

    #[test]
    fn what_is_no_request_line_is_told_by_its_length_alone() {
        for secret in [
            "&password=hunter2secret&token=x",
            "Cookie: cedargate_session=SESSIONVALUE",
            "X-API-Key: cgk_0123456789abcdef",
            "GET\t/api/tickets?token=SECRETQ3 HTTP/1.1",
            "GET http://u:SECRETPW@x/ HTTP/1.1",
            "GET /reset;token=SECRETPW HTTP/1.1",
            "GET /reset=SECRETPW HTTP/1.1",
            "secret",
        ] {
            let asked = asked_by_wire(format!("{secret}\r\n\r\n").as_bytes()).unwrap();
            let told = format!("{} {}", asked.method, asked.path);
            for part in ["hunter2", "SESSIONVALUE", "cgk_", "SECRETQ3", "SECRETPW", "secret"] {
                assert!(!told.contains(part), "{secret}: {told}");
            }
        }
        assert_eq!(asked_by_wire(b"secret\r\n").unwrap().path, "(a line of 6 bytes)");
    }
}
