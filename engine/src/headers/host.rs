//! The host that is asked for.

use http::{HeaderMap, header};

use crate::refusal::Malformed;

/// Reads `Host` and holds it against the hosts that are served; the rules stand at
/// [`super::HeaderRules::hosts`].
pub(super) fn host(headers: &HeaderMap, served: &[String]) -> Result<String, Malformed> {
    let mut values = headers.get_all(header::HOST).iter();
    let Some(value) = values.next() else {
        return Err(Malformed::HOST_MISSING);
    };
    if values.next().is_some() {
        return Err(Malformed::HOST_REPEATED);
    }
    // Asked for as it is written here, which is sound.
    if let Some(entry) = served.iter().find(|entry| entry.as_bytes() == value.as_bytes()) {
        return Ok(entry.clone());
    }
    let host = value.to_str().map_err(|_| Malformed::HOST_MALFORMED)?.to_ascii_lowercase();
    let (name, port) = split(&host).ok_or(Malformed::HOST_MALFORMED)?;
    if !is_name(name) || !port.is_none_or(is_port) {
        return Err(Malformed::HOST_MALFORMED);
    }
    if served.iter().any(|entry| *entry == host || entry == name) {
        Ok(host)
    } else {
        Err(Malformed::HOST_UNKNOWN)
    }
}

/// Name or address, and the port where there is one. A bracketed address keeps its brackets.
fn split(host: &str) -> Option<(&str, Option<&str>)> {
    if host.starts_with('[') {
        let (name, rest) = host.split_at_checked(host.find(']')? + 1)?;
        return match rest {
            "" => Some((name, None)),
            port => Some((name, Some(port.strip_prefix(':')?))),
        };
    }
    match host.split_once(':') {
        Some((name, port)) => Some((name, Some(port))),
        None => Some((host, None)),
    }
}

/// Labels of letters, digits, `-` and `_`, or a bracketed IPv6 address. User information, paths and escapes
/// have no place here.
fn is_name(name: &str) -> bool {
    if let Some(address) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let in_label = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let name = name.strip_suffix('.').unwrap_or(name);
    // A DNS name has at most 253 characters.
    name.len() <= 253 && name.split('.').all(|label| !label.is_empty() && label.bytes().all(in_label))
}

fn is_port(port: &str) -> bool {
    !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}
