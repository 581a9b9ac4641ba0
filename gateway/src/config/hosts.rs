//! The names that the gateway answers to, and the neighbours that it believes.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use toml::de::DeValue;

use super::fault::Place;
use super::origin::{Origin, is_host, split_port};
use super::reader::{Reader, Section, Written, printable};
use super::settings::{Deployment, Host};

const HOSTS_EXAMPLE: &str = "for example: hosts = [{ public_url = \"https://app.example.com\" }]";

impl Reader<'_> {
    /// The hosts: their `public_url` decides what is secure, so `http` is for loopback alone (threat 12).
    pub(super) fn hosts(
        &mut self,
        root: &mut Section<'_>,
        deployment: Deployment,
        listen: SocketAddr,
        tls: bool,
    ) -> Vec<Host> {
        let Some((line, value)) = root.take("hosts", self) else {
            return self.default_hosts(deployment, listen, tls);
        };
        let DeValue::Array(array) = value else {
            self.wrong_type("`hosts`", self.in_file(Some(line)), value, "a list of tables");
            return Vec::new();
        };
        if array.is_empty() {
            self.fault(
                self.in_file(Some(line)),
                "`hosts` is empty, so nobody could be answered",
                HOSTS_EXAMPLE,
            );
        }
        let mut hosts: Vec<Host> = Vec::new();
        for (index, item) in array.iter().enumerate() {
            let line = self.line(&item.span());
            let mut section = self.table(format!("hosts[{index}]"), line, item.get_ref());
            let place = self.in_file(Some(line));
            let host = self.host(&mut section, &place, tls);
            self.finish(&section);
            if let Some(host) = host {
                if hosts.iter().any(|other| other.name == host.name) {
                    self.fault(place, format!("host `{}` is there twice", host.name), "remove one");
                }
                hosts.push(host);
            }
        }
        hosts
    }

    fn host(&mut self, section: &mut Section<'_>, place: &Place, tls: bool) -> Option<Host> {
        let present = section.is_present();
        let url = self.pick(section, "public_url", None);
        let name = self.pick(section, "name", None);
        if present && url.is_none() {
            self.fault(place.clone(), "a host without `public_url`", HOSTS_EXAMPLE);
        }
        let url_place = url.as_ref().map_or_else(|| place.clone(), |written| written.place.clone());
        let public_url = self.origin(url);
        let name = match name {
            Some(name) => Some(self.host_name(name)?),
            None => None,
        };
        let public_url = public_url?;
        if !public_url.is_https() && !public_url.is_loopback() {
            self.fault(
                url_place.clone(),
                format!("public_url `{public_url}` is http off loopback: cookies and passwords would cross the network in clear"),
                "serve it over TLS and write https",
            );
        }
        if tls && !public_url.is_https() {
            self.fault(
                url_place,
                format!("public_url `{public_url}` is http, and the listener speaks TLS"),
                "write https, or remove the certificate",
            );
        }
        Some(Host { name: name.unwrap_or_else(|| public_url.authority().to_owned()), public_url })
    }

    fn host_name(&mut self, written: Written<'_>) -> Option<String> {
        let text = self.text(Some(written))?;
        if split_port(text.text).is_ok_and(|(host, _)| is_host(host)) {
            return Some(text.text.to_owned());
        }
        let message = format!("{} is `{}`, which no Host header spells", text.name, printable(text.text));
        self.fault(
            text.place,
            message,
            "write a lower-case DNS name or an IP address, with a port if it is not the usual one",
        );
        None
    }

    fn default_hosts(&mut self, deployment: Deployment, listen: SocketAddr, tls: bool) -> Vec<Host> {
        if deployment == Deployment::Production || !listen.ip().is_loopback() || listen.port() == 0 {
            self.fault(self.in_file(None), "`hosts` is not set, so nobody could be answered", HOSTS_EXAMPLE);
            return Vec::new();
        }
        let scheme = if tls { "https" } else { "http" };
        ["localhost".to_owned(), listen.ip().to_string()]
            .iter()
            .map(|host| if host.contains(':') { format!("[{host}]") } else { host.clone() })
            .filter_map(|host| Origin::parse(&format!("{scheme}://{host}:{}", listen.port())).ok())
            .map(|public_url| Host { name: public_url.authority().to_owned(), public_url })
            .collect()
    }

    /// Origins besides our own, as browsers spell them.
    pub(super) fn allowed_origins(&mut self, root: &mut Section<'_>) -> Vec<Origin> {
        let written = self.pick(root, "allowed_origins", Some("BOTSERVER_ALLOWED_ORIGINS"));
        let mut origins = Vec::new();
        for item in self.list(written).unwrap_or_default() {
            let place = item.place.clone();
            let Some(origin) = self.origin(Some(item)) else { continue };
            if !origin.is_https() && !origin.is_loopback() {
                let message = format!(
                    "origin `{origin}` is http off loopback: whoever is on the way can write as its users"
                );
                self.fault(place, message, "write https");
            } else if !origins.contains(&origin) {
                origins.push(origin);
            }
        }
        if !origins.is_empty() {
            self.notices.push(
                "BOTSERVER_ALLOWED_ORIGINS: cookie-borne writes from these origins are taken; CORS answers are not given yet"
                    .into(),
            );
        }
        origins
    }

    fn origin(&mut self, written: Option<Written<'_>>) -> Option<Origin> {
        let text = self.text(written)?;
        match Origin::parse(text.text) {
            Ok(origin) => Some(origin),
            Err(error) => {
                let message = format!("`{}` is no origin: {error}", printable(text.text));
                self.fault(
                    text.place,
                    message,
                    "write it as browsers do, for example https://app.example.com",
                );
                None
            }
        }
    }

    /// Networks of proxies whose forwarding headers are believed.
    pub(super) fn trusted_proxies(&mut self, root: &mut Section<'_>) -> Vec<IpNet> {
        let written = self.pick(root, "trusted_proxies", None);
        let mut networks = Vec::new();
        for item in self.list(written).unwrap_or_default() {
            let Some(text) = self.text(Some(item)) else { continue };
            let parsed =
                text.text.parse::<IpNet>().ok().or_else(|| text.text.parse::<IpAddr>().ok().map(IpNet::from));
            match parsed {
                None => {
                    let message = format!("`{}` is neither an address nor a network", printable(text.text));
                    self.fault(text.place, message, "write 10.0.0.7 or 10.0.0.0/24");
                }
                Some(network) if network.prefix_len() == 0 => self.fault(
                    text.place,
                    format!("`{network}` is everybody: any client could choose its address"),
                    "name the proxies alone",
                ),
                Some(network) if network != network.trunc() => self.fault(
                    text.place,
                    format!("`{network}` has bits below its prefix"),
                    format!("write {} or {}/{}", network.trunc(), network.addr(), network.max_prefix_len()),
                ),
                Some(network) => networks.push(network),
            }
        }
        networks
    }
}
