//! The hosts that we answer to, as browsers see them.
//!
//! The configured public address of a host decides cookie names, `Secure` and the origin that a write must
//! come from: never the listener, `Host` or a forwarding header, which a proxy in between may change (threat 12).

use std::collections::HashSet;

use rustc_hash::FxHashMap;

use crate::config::origin::Origin;
use crate::config::settings::Host;

/// One host's public address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    origin: Origin,
}

impl Site {
    /// The site at a public address.
    #[must_use]
    pub const fn new(public_url: Origin) -> Self {
        Self { origin: public_url }
    }

    /// The origin, as a browser spells it in `Origin`.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.origin.as_str()
    }

    /// Whether browsers reach this host by TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.origin.is_https()
    }
}

/// Every host that we answer to, and the other origins from which cookie-borne writes are accepted.
#[derive(Clone, Debug, Default)]
pub struct Sites {
    /// By names that the operator has chosen, whatever is asked for.
    by_host: FxHashMap<String, Site>,
    allowed_origins: HashSet<String>,
}

impl Sites {
    /// The configured hosts, and the origins beside theirs.
    #[must_use]
    pub fn new(hosts: &[Host], allowed_origins: &[Origin]) -> Self {
        Self {
            by_host: hosts
                .iter()
                .map(|host| (host.name.clone(), Site::new(host.public_url.clone())))
                .collect(),
            allowed_origins: allowed_origins.iter().map(|origin| origin.as_str().to_owned()).collect(),
        }
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
pub(crate) mod tests {
    use super::*;

    /// A site at an address that tests know to be one.
    pub(crate) fn site(public_url: &str) -> Site {
        Site::new(Origin::parse(public_url).unwrap())
    }

    /// Sites of hosts and their addresses.
    pub(crate) fn sites(hosts: &[(&str, &str)], allowed: &[&str]) -> Sites {
        let origin = |text: &&str| Origin::parse(text).unwrap();
        let host = |(name, url): &(&str, &str)| Host { name: (*name).to_owned(), public_url: origin(url) };
        Sites::new(
            &hosts.iter().map(host).collect::<Vec<_>>(),
            &allowed.iter().map(origin).collect::<Vec<_>>(),
        )
    }

    #[test]
    fn hosts_with_and_without_port() {
        let sites = sites(
            &[("app.example", "https://app.example"), ("localhost:81", "http://localhost:81")],
            &["https://other.example"],
        );
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
        assert!(!sites.allows_origin("https://other.example.evil.example"));
    }
}
