//! Where a request comes from.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

/// Hops of `X-Forwarded-For` that are looked at, at most. Past it the last one counts as the client.
pub const FORWARDED_HOPS_MAX: usize = 32;

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// The client: the peer, or what a chain of trusted proxies says. An IPv4 address is never written as IPv6.
    pub client: IpAddr,
    /// Whether the peer is a trusted proxy.
    pub via_proxy: bool,
    /// Whether a trusted proxy says that its client's connection was encrypted; `None` when none says.
    pub tls_claimed: Option<bool>,
}

/// Finds the client behind trusted proxies.
///
/// Only `X-Forwarded-For` and `X-Forwarded-Proto` are read, and only from a trusted peer. `Forwarded` is never
/// read: a proxy that writes one of the two passes the other through from its client, so reading both would
/// mean believing the client. Addresses are counted from the right, because each proxy appends what it saw and
/// everything left of the first untrusted address is that address's own claim. An entry that is no address
/// ends the search at the hop that wrote it.
#[must_use]
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> ClientAddress {
    let peer = peer.to_canonical();
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
    if !is_trusted(peer) {
        return ClientAddress { client: peer, via_proxy: false, tls_claimed: None };
    }
    let lines: Vec<&[u8]> = headers.get_all("x-forwarded-for").iter().map(HeaderValue::as_bytes).collect();
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
    let mut client = peer;
    for hop in hops.take(FORWARDED_HOPS_MAX) {
        let Some(address) = read_address(hop) else { break };
        client = address;
        if !is_trusted(address) {
            break;
        }
    }
    ClientAddress { client, via_proxy: true, tls_claimed: tls_claimed(headers) }
}

/// The right-most word of `X-Forwarded-Proto`, which is the one that our own proxy wrote.
fn tls_claimed(headers: &HeaderMap) -> Option<bool> {
    let value = headers.get_all("x-forwarded-proto").iter().next_back()?;
    let word = value.as_bytes().rsplit(|byte| *byte == b',').next()?.trim_ascii();
    if word.eq_ignore_ascii_case(b"https") || word.eq_ignore_ascii_case(b"wss") {
        Some(true)
    } else if word.eq_ignore_ascii_case(b"http") || word.eq_ignore_ascii_case(b"ws") {
        Some(false)
    } else {
        None
    }
}

/// An address, bare or with a port, IPv6 bare or in brackets.
fn read_address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = match (text.parse::<IpAddr>(), text.parse::<SocketAddr>()) {
        (Ok(address), _) => address,
        (Err(_), Ok(socket)) => socket.ip(),
        (Err(_), Err(_)) => IpAddr::V6(bracketed?.parse().ok()?),
    };
    Some(address.to_canonical())
}
