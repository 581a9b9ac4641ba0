//! A web origin, exactly as a browser spells it.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Scheme, host and port in the one spelling that `Origin` headers use: lower-case, no default port, no path.
/// So that comparing origins is comparing texts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    text: String,
    host_at: usize,
}

/// Why a text is no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Neither scheme.
    #[error("it begins neither with `https://` nor with `http://`")]
    Scheme,
    /// Something follows the authority.
    #[error("it has a path, query, fragment or user name")]
    NotBare,
    /// Not a host name.
    #[error("its host is neither a lower-case DNS name nor an IP address in its one usual spelling")]
    Host,
    /// Not a port.
    #[error("its port is no number from 1 to 65535")]
    Port,
    /// A port that browsers leave out.
    #[error("it names the scheme's own port, which browsers leave out")]
    DefaultPort,
}

impl Origin {
    /// Reads an origin; any other spelling than the browser's is an error, so that none silently never matches.
    ///
    /// # Errors
    /// Says which part is not as a browser would send it.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        let (authority, host_at, own_port) = if let Some(rest) = text.strip_prefix("https://") {
            (rest, "https://".len(), 443)
        } else if let Some(rest) = text.strip_prefix("http://") {
            (rest, "http://".len(), 80)
        } else {
            return Err(OriginError::Scheme);
        };
        if authority.contains(['/', '?', '#', '@', '\\']) {
            return Err(OriginError::NotBare);
        }
        let (host, port) = split_port(authority)?;
        if !is_host(host) {
            return Err(OriginError::Host);
        }
        if port == Some(own_port) {
            return Err(OriginError::DefaultPort);
        }
        Ok(Self { text: text.to_owned(), host_at })
    }

    /// The whole text: `https://app.example.com:8443`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Host and port as a `Host` header names them: `app.example.com:8443`.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.text.get(self.host_at..).unwrap_or_default()
    }

    /// Whether it is `https`.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.text.starts_with("https://")
    }

    /// Whether only this machine can mean itself by it: `localhost` and names below it, 127.0.0.0/8, `[::1]`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = split_port(self.authority()).map_or("", |(host, _)| host);
        host == "localhost"
            || host.ends_with(".localhost")
            || host == "[::1]"
            || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Splits the port off an authority; the brackets of an IPv6 address stay.
pub(super) fn split_port(authority: &str) -> Result<(&str, Option<u16>), OriginError> {
    let after_brackets = authority.rfind(']').map_or(0, |at| at.saturating_add(1));
    let tail = authority.get(after_brackets..).unwrap_or_default();
    let Some(colon) = tail.rfind(':') else { return Ok((authority, None)) };
    let at = after_brackets.saturating_add(colon);
    let host = authority.get(..at).unwrap_or_default();
    let port = authority.get(at.saturating_add(1)..).unwrap_or_default();
    // A leading zero or sign parses as a number, yet no browser writes it.
    if port.is_empty() || port.starts_with('0') || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(OriginError::Port);
    }
    port.parse().map(|port| (host, Some(port))).map_err(|_| OriginError::Port)
}

/// Whether a host is spelt as a browser would: a lower-case DNS name or an address in its canonical form.
pub(super) fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().is_ok_and(|address| address.to_string() == inner);
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    if !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) {
        // `127.1` and `0177.0.0.1` are addresses to a browser and other names to us.
        return host.parse::<Ipv4Addr>().is_ok();
    }
    host.len() <= 253 && host.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::{Origin, OriginError};

    #[test]
    fn only_the_browsers_spelling_is_an_origin() {
        use OriginError::{DefaultPort, Host, NotBare, Port, Scheme};
        let check = |text: &str, expected: Result<bool, OriginError>| {
            assert_eq!(Origin::parse(text).map(|origin| origin.is_loopback()), expected, "{text}");
        };
        check("https://app.example.com", Ok(false));
        check("https://app.example.com:8443", Ok(false));
        check("http://localhost:8080", Ok(true));
        check("http://app.localhost", Ok(true));
        check("http://127.0.0.1:8080", Ok(true));
        check("http://127.9.9.9", Ok(true));
        check("http://[::1]:8080", Ok(true));
        check("https://[2001:db8::1]", Ok(false));
        check("http://notlocalhost", Ok(false));
        check("http://localhost.example.com", Ok(false));
        check("", Err(Scheme));
        check("*", Err(Scheme));
        check("null", Err(Scheme));
        check("HTTPS://app.example.com", Err(Scheme));
        check("ws://app.example.com", Err(Scheme));
        check("https://app.example.com/", Err(NotBare));
        check("https://app.example.com?", Err(NotBare));
        check("https://user@app.example.com", Err(NotBare));
        check("https://App.example.com", Err(Host));
        check("https://app.example.com.", Err(Host));
        check("https://*.example.com", Err(Host));
        check("https:// app.example.com", Err(Host));
        check("https://", Err(Host));
        check("https://127.1", Err(Host));
        check("https://0177.0.0.1", Err(Host));
        check("https://[::0001]", Err(Host));
        check("https://[::1", Err(Host));
        check("https://app.example.com:", Err(Port));
        check("https://app.example.com:0443", Err(Port));
        check("https://app.example.com:65536", Err(Port));
        check("https://app.example.com:+1", Err(Port));
        check("https://app.example.com:443", Err(DefaultPort));
        check("http://app.example.com:80", Err(DefaultPort));
    }
}
