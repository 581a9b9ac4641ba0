//! The hosts that we answer to, as browsers see them.
//!
//! The configured public address of a host decides cookie names, `Secure` and the origin that a write must
//! come from: never the listener, `Host` or a forwarding header, which a proxy in between may change (threat 12).

use std::collections::{BTreeSet, HashMap};

use http::Uri;

/// One host's public address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    origin: String,
    secure: bool,
}

/// A public address or origin that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an `http` or `https` origin (scheme, host, optional port, nothing behind)")]
pub struct NotAnOrigin(pub String);

impl Site {
    /// The site of a public address such as `https://app.example` or `http://127.0.0.1:8080/`.
    ///
    /// # Errors
    /// The text is not an `http` or `https` origin.
    pub fn parse(public_url: &str) -> Result<Self, NotAnOrigin> {
        let fault = || NotAnOrigin(public_url.to_owned());
        let uri: Uri = public_url.parse().map_err(|_invalid| fault())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(fault());
        };
        let default_port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return Err(fault()),
        };
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(fault());
        }
        if uri.path_and_query().is_some_and(|tail| tail.as_str() != "/") {
            return Err(fault());
        }
        // An origin is compared as browsers spell it: lower-case, without the port that the scheme implies.
        let host = authority.host().to_ascii_lowercase();
        let origin = match authority.port_u16() {
            Some(port) if port != default_port => format!("{scheme}://{host}:{port}"),
            Some(_) | None => format!("{scheme}://{host}"),
        };
        Ok(Self { origin, secure: scheme == "https" })
    }

    /// The origin, as a browser spells it in `Origin`.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether browsers reach this host by TLS.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.secure
    }
}

/// Every host that we answer to, and the other origins from which cookie-borne writes are accepted.
#[derive(Clone, Debug, Default)]
pub struct Sites {
    by_host: HashMap<String, Site>,
    allowed_origins: BTreeSet<String>,
}

impl Sites {
    /// Sites by host (lower-case; with or without port) and the origins beside our own.
    ///
    /// # Errors
    /// An allowed origin is none. `*` and `null` are none, on purpose.
    pub fn new(
        hosts: impl IntoIterator<Item = (String, Site)>,
        allowed_origins: impl IntoIterator<Item = String>,
    ) -> Result<Self, NotAnOrigin> {
        let by_host = hosts.into_iter().map(|(host, site)| (host.to_ascii_lowercase(), site)).collect();
        let allowed_origins = allowed_origins
            .into_iter()
            .map(|origin| Site::parse(&origin).map(|site| site.origin))
            .collect::<Result<_, _>>()?;
        Ok(Self { by_host, allowed_origins })
    }

    /// The site of a host as asked for: with its port if it is listed so, else without.
    #[must_use]
    pub fn find(&self, host: &str) -> Option<&Site> {
        self.by_host.get(host).or_else(|| self.by_host.get(without_port(host)))
    }

    /// Whether a write from this origin, other than our own, is accepted.
    #[must_use]
    pub fn allows_origin(&self, origin: &str) -> bool {
        self.allowed_origins.contains(origin)
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        Some(_) | None => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses() {
        let good = [
            ("https://App.Example", "https://app.example", true),
            ("https://app.example:443/", "https://app.example", true),
            ("https://app.example:8443", "https://app.example:8443", true),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080", false),
            ("http://[::1]:8080", "http://[::1]:8080", false),
        ];
        for (text, origin, secure) in good {
            let site = Site::parse(text).unwrap();
            assert_eq!((site.origin(), site.is_secure()), (origin, secure), "{text}");
        }
        for bad in [
            "",
            "*",
            "null",
            "app.example",
            "ftp://a",
            "https://a/b",
            "https://u@a",
            "https://a?x",
            "//a",
            "https://",
        ] {
            assert!(Site::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_with_and_without_port() {
        let site = |text| Site::parse(text).unwrap();
        let hosts = [
            ("app.example".to_owned(), site("https://app.example")),
            ("localhost:81".to_owned(), site("http://localhost:81")),
        ];
        let sites = Sites::new(hosts, ["https://Other.example".to_owned()]).unwrap();
        for (host, origin) in [
            ("app.example", Some("https://app.example")),
            ("app.example:8443", Some("https://app.example")),
            ("localhost:81", Some("http://localhost:81")),
            ("localhost", None),
            ("evil.example", None),
            ("", None),
        ] {
            assert_eq!(sites.find(host).map(Site::origin), origin, "{host}");
        }
        assert!(sites.allows_origin("https://other.example"));
        assert!(!sites.allows_origin("https://app.example.evil.example"));
        assert!(Sites::new([], ["*".to_owned()]).is_err());
    }
}
