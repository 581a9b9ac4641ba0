//! What the demo stands before: the stand-in, or what `--upstream` names.

use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long an address may take to accept the connection by which it is chosen.
const CONNECT_MAX: Duration = Duration::from_millis(500);

/// An upstream, as the configuration spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its addresses.
    pub addresses: Vec<SocketAddr>,
    /// The name that its certificate must hold.
    pub tls_name: Option<String>,
    /// Why it may be spoken to in clear off loopback.
    pub insecure: Option<&'static str>,
    /// Whether it is our own stand-in, which shares no secret with anybody else.
    pub standin: bool,
}

/// Why `--upstream` is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// Not of the form.
    #[error("--upstream takes http://HOST:PORT or https://HOST:PORT, without a path")]
    Form,
    /// The name leads nowhere.
    #[error("--upstream: `{0}` has no address")]
    Unknown(String),
    /// It is somewhere else.
    #[error(
        "--upstream is off loopback: the demo's accounts would open it to whoever reads demo.json; \
         add --expose-demo if that is meant"
    )]
    OffLoopback,
}

impl Target {
    /// The stand-in.
    #[must_use]
    pub fn standin(address: SocketAddr) -> Self {
        Self { addresses: vec![address], tls_name: None, insecure: None, standin: true }
    }

    /// What a URL names; off loopback only when the demo is exposed knowingly.
    ///
    /// # Errors
    /// It is not of the form, has no address, or is off loopback unasked.
    pub fn named(url: &str, expose: bool) -> Result<Self, UpstreamError> {
        let (host, port, tls) = parse(url).ok_or(UpstreamError::Form)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let resolved: Vec<SocketAddr> = (bare, port)
            .to_socket_addrs()
            .map(Iterator::collect)
            .map_err(|_| UpstreamError::Unknown(host.to_owned()))?;
        let addresses = answering(resolved);
        if addresses.is_empty() {
            return Err(UpstreamError::Unknown(host.to_owned()));
        }
        let near = addresses.iter().all(|address| address.ip().is_loopback());
        if !near && !expose {
            return Err(UpstreamError::OffLoopback);
        }
        let tls_name = (tls && bare.parse::<IpAddr>().is_err()).then(|| host.to_owned());
        let weak = !near && tls_name.is_none();
        let insecure = weak.then_some("the demo was started with --expose-demo");
        Ok(Self { addresses, tls_name, insecure, standin: false })
    }
}

/// Splits a URL into host, port and whether it is https; anything behind the authority is refused, because
/// nothing here would add it to a request.
fn parse(url: &str) -> Option<(&str, u16, bool)> {
    let (rest, tls) = match url.split_once("://")? {
        ("http", rest) => (rest, false),
        ("https", rest) => (rest, true),
        _ => return None,
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.is_empty() || authority.contains(['/', '?', '#', '@', '\\']) {
        return None;
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, if tls { 443 } else { 80 }),
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    (port != 0 && !host.is_empty() && (bracketed || !host.contains(':'))).then_some((host, port, tls))
}

/// `localhost` has an address of each family and its server mostly one. Without one that answers now, all stay:
/// the upstream may come later.
fn answering(mut resolved: Vec<SocketAddr>) -> Vec<SocketAddr> {
    resolved.sort();
    resolved.dedup();
    let open: Vec<SocketAddr> = resolved
        .iter()
        .copied()
        .filter(|address| TcpStream::connect_timeout(address, CONNECT_MAX).is_ok())
        .collect();
    if open.is_empty() { resolved } else { open }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_host_and_nothing_more() {
        let cases = [
            ("http://127.0.0.1:9000", Some(("127.0.0.1", 9000, false))),
            ("http://127.0.0.1:9000/", Some(("127.0.0.1", 9000, false))),
            ("https://botserver.example", Some(("botserver.example", 443, true))),
            ("http://[::1]", Some(("[::1]", 80, false))),
            ("http://[::1]:81", Some(("[::1]", 81, false))),
            ("http://::1:81", None),
            ("http://h/base", None),
            ("http://h?x", None),
            ("http://u@h", None),
            ("http://h:0", None),
            ("http://h:x", None),
            ("http://", None),
            ("ftp://h", None),
            ("127.0.0.1:9000", None),
        ];
        for (url, expected) in cases {
            assert_eq!(parse(url), expected, "{url}");
        }
    }

    #[test]
    fn threat_16_an_upstream_off_loopback_is_asked_for_by_name() {
        assert_eq!(Target::named("http://192.0.2.1:9", false), Err(UpstreamError::OffLoopback));
        let exposed = Target::named("http://192.0.2.1:9", true).unwrap();
        assert!(exposed.insecure.is_some() && !exposed.standin);
        let near = Target::named("http://127.0.0.1:9", false).unwrap();
        assert_eq!((near.insecure, near.tls_name), (None, None));
    }

    #[test]
    fn of_several_addresses_those_that_answer_are_taken() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap();
        let shut: SocketAddr = "127.0.0.1:1".parse().unwrap();
        assert_eq!(answering(vec![shut, open, open]), [open]);
        assert_eq!(answering(vec![shut]), [shut]);
    }
}
