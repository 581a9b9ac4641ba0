//! The services behind the gateway, and what keeps others from speaking in their place or ours (threat 5).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::DnsName;
use toml::de::DeValue;

use super::reader::{Given, Reader, Section, printable};
use super::settings::{Timeouts, Upstream, UpstreamIdentity, UpstreamTls};
use super::tls_files;

/// Addresses of one upstream: a bound, because each is asked for its health.
pub(super) const UPSTREAM_ADDRESSES_MAX: usize = 64;

impl Reader<'_> {
    /// Reads `[upstreams.<name>]`.
    pub(super) fn upstreams(
        &mut self,
        root: &mut Section<'_>,
        ours: &[SocketAddr],
    ) -> BTreeMap<Arc<str>, Upstream> {
        let section = self.section(root, "upstreams");
        let mut upstreams = BTreeMap::new();
        for (key, value) in section.entries() {
            let line = self.line(&key.span());
            let name = key.get_ref().as_ref();
            if !is_name(name) {
                let message = format!("`{}` names no upstream", printable(name));
                let remedy = "use 1 to 32 of a-z, 0-9, `-` and `_`";
                self.fault(self.in_file(Some(line)), message, remedy);
            }
            let mut table = self.table(section.dotted(name), line, value.get_ref());
            if let Some(upstream) = self.upstream(&mut table, line, ours) {
                upstreams.insert(Arc::from(name), upstream);
            }
            self.finish(&table);
        }
        upstreams
    }

    fn upstream(&mut self, table: &mut Section<'_>, line: usize, ours: &[SocketAddr]) -> Option<Upstream> {
        let path = table.path().to_owned();
        let addresses = self.addresses(table, line, ours);
        let tls = self.upstream_tls(table);
        let identity = self.identity(table, line);
        let timeouts = self.timeouts(table);
        let health_path = self.health_path(table);
        let insecure = self.pick(table, "insecure", None);
        let insecure = self.text(insecure).map(|text| text.text.to_owned());
        let weakness = weakness(&addresses, tls.as_ref());
        match (&weakness, &insecure) {
            (Some(weakness), None) => self.fault(
                self.in_file(Some(line)),
                format!("upstream `{path}` {weakness}"),
                "give it `tls = { name = \"its.dns.name\" }`, or say why this is safe here: insecure = \"reason\"",
            ),
            (Some(weakness), Some(reason)) => self.notices.push(format!("`{path}` {weakness}, because: {reason}")),
            (None, Some(_)) => self.notices.push(format!("`{path}.insecure` is not needed; remove it")),
            (None, None) => {}
        }
        Some(Upstream { addresses, tls: tls.ok()?, identity: identity?, timeouts, health_path, insecure })
    }

    fn addresses(&mut self, table: &mut Section<'_>, line: usize, ours: &[SocketAddr]) -> Vec<SocketAddr> {
        let written = self.pick(table, "addresses", None);
        if let Some(Given::Toml(DeValue::Array(array))) = written.as_ref().map(|written| written.value)
            && array.len() > UPSTREAM_ADDRESSES_MAX
        {
            let message = format!("more than {UPSTREAM_ADDRESSES_MAX} addresses");
            self.fault(
                self.in_file(Some(line)),
                message,
                "put a load balancer between, or split the upstream",
            );
        }
        let named = written.is_some();
        let items = self.list(written);
        let none = if named { items.as_ref().is_some_and(Vec::is_empty) } else { table.is_present() };
        if none {
            let message = format!("`{}` names none", table.dotted("addresses"));
            self.fault(self.in_file(Some(line)), message, "for example: addresses = [\"127.0.0.1:8080\"]");
        }
        let mut addresses = Vec::new();
        for item in items.unwrap_or_default() {
            let place = item.place.clone();
            let what = "an IP address with a port (names are not resolved)";
            let Some(address) = self.parsed::<SocketAddr>(Some(item), what, "127.0.0.1:8080") else {
                continue;
            };
            if address.port() == 0 || address.ip().is_unspecified() {
                self.fault(
                    place,
                    format!("nobody answers at {address}"),
                    "name the address that it listens on",
                );
            } else if ours.contains(&address) {
                self.fault(
                    place,
                    format!("{address} is the gateway itself"),
                    "name the upstream's own address",
                );
            } else if addresses.contains(&address) {
                self.fault(place, format!("{address} is there twice"), "remove one");
            } else {
                addresses.push(address);
            }
        }
        addresses
    }

    /// `Err` when it was written and is wrong: then no weakness is derived from it.
    fn upstream_tls(&mut self, table: &mut Section<'_>) -> Result<Option<UpstreamTls>, ()> {
        let Some((line, value)) = table.take("tls", self) else { return Ok(None) };
        let faults = self.faults.len();
        let mut section = self.table(table.dotted("tls"), line, value);
        let name = self.pick(&mut section, "name", None);
        let name = self.text(name).and_then(|text| {
            // An address would pass here and verify nothing: the name goes out as SNI, which addresses cannot.
            let is_address = text.text.parse::<std::net::IpAddr>().is_ok();
            if !is_address && DnsName::try_from(text.text).is_ok() {
                return Some(text.text.to_ascii_lowercase());
            }
            let message = format!(
                "{} is `{}`, which no certificate can be checked for",
                text.name,
                printable(text.text)
            );
            self.fault(text.place, message, "write the DNS name in the upstream's certificate");
            None
        });
        let ca = self.pick(&mut section, "ca", None);
        let ca_place = ca.as_ref().map(|written| written.place.clone());
        let ca = self.path(ca);
        if let (Some(path), Some(place)) = (&ca, ca_place)
            && let Err(message) = tls_files::certificates(path)
        {
            self.fault(place, message, "name a PEM file with the authority's certificate");
        }
        self.finish(&section);
        if self.faults.len() == faults { Ok(Some(UpstreamTls { name, ca })) } else { Err(()) }
    }

    fn identity(&mut self, table: &mut Section<'_>, line: usize) -> Option<UpstreamIdentity> {
        let Some((at, value)) = table.take("identity", self) else {
            if table.is_present() {
                let message = format!("`{}` is not set", table.dotted("identity"));
                self.fault(self.in_file(Some(line)), message, IDENTITIES);
            }
            return None;
        };
        let place = self.in_file(Some(at));
        let name = table.dotted("identity");
        match value.as_str() {
            Some("botserver") => return Some(UpstreamIdentity::BotServer),
            Some("none") => return Some(UpstreamIdentity::None),
            Some(_) | None => {}
        }
        if !value.is_table() {
            self.fault(place, format!("`{name}` is of no known form"), IDENTITIES);
            return None;
        }
        let mut section = self.table(name.clone(), at, value);
        let mut ed25519 = self.section(&mut section, "ed25519");
        let audience = self.pick(&mut ed25519, "audience", None);
        if audience.is_none() {
            self.fault(place, format!("`{name}` names no audience"), IDENTITIES);
        }
        let audience = self.text(audience).map(|text| text.text.to_owned());
        self.finish(&ed25519);
        self.finish(&section);
        audience.map(|audience| UpstreamIdentity::Ed25519 { audience })
    }

    fn timeouts(&mut self, table: &mut Section<'_>) -> Timeouts {
        let mut timeout = |key: &'static str, default: u64, longest: u64| {
            let written = self.pick(table, key, None);
            let bounds = Duration::from_millis(10)..=Duration::from_secs(longest);
            self.duration(written, bounds).unwrap_or(Duration::from_secs(default))
        };
        Timeouts {
            connect: timeout("connect_timeout", 3, 60),
            // A language model may think for long before its first byte.
            read: timeout("read_timeout", 120, 3_600),
            write: timeout("write_timeout", 30, 3_600),
            idle: timeout("idle_timeout", 60, 3_600),
        }
    }

    fn health_path(&mut self, table: &mut Section<'_>) -> Option<String> {
        let written = self.pick(table, "health_path", None);
        let text = self.text(written)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
        let dotted = text.text.split('/').skip(1).any(|segment| segment == "." || segment == "..");
        if text.text.starts_with('/') && text.text.bytes().all(plain) && !dotted && text.text.len() <= 256 {
            return Some(text.text.to_owned());
        }
        let message = format!("{} is `{}`, which is no plain path", text.name, printable(text.text));
        self.fault(text.place, message, "write a path without query or escapes, for example /api/health");
        None
    }
}

const IDENTITIES: &str = "write \"botserver\", \"none\" or { ed25519 = { audience = \"…\" } }: what the upstream is told about the caller";

/// What lets a neighbour of the network listen or answer in the upstream's place.
fn weakness(addresses: &[SocketAddr], tls: Result<&Option<UpstreamTls>, &()>) -> Option<&'static str> {
    match tls {
        Err(()) => None,
        Ok(Some(UpstreamTls { name: Some(_), .. })) => None,
        Ok(Some(UpstreamTls { name: None, .. })) => Some("is spoken to over TLS without a name to verify"),
        Ok(None) if addresses.iter().all(|address| address.ip().is_loopback()) => None,
        Ok(None) => Some("is spoken to in clear off loopback"),
    }
}

/// A name that files and records use.
pub(super) fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
}
