//! Where the gateway listens.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::fault::Place;
use super::reader::{Reader, Section, Written};
use super::settings::{Tls, TlsVersion};
use super::tls_files;

impl Reader<'_> {
    /// `listen`, and `admin_listen` which stays on loopback unless somebody says why not (threat 19).
    pub(super) fn listeners(&mut self, root: &mut Section<'_>) -> (SocketAddr, SocketAddr) {
        let listen = self.pick(root, "listen", None);
        let listen = self.socket_address(listen).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080)));
        let written = self.pick(root, "admin_listen", None);
        let place = written.as_ref().map(|written| written.place.clone());
        let admin = self.socket_address(written).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9090)));
        let reason = self.pick(root, "admin_off_loopback", None);
        let reason = self.text(reason).map(|text| text.text.to_owned());
        let place = place.unwrap_or_else(|| self.in_file(None));
        match reason {
            Some(reason) if !admin.ip().is_loopback() => {
                self.notices.push(format!("health and metrics answer off loopback on {admin}: {reason}"));
            }
            None if !admin.ip().is_loopback() => self.fault(
                place.clone(),
                format!("`admin_listen` is {admin}, off loopback, where anybody near can read it"),
                "listen on 127.0.0.1, or say why not: admin_off_loopback = \"reason\"",
            ),
            Some(_) | None => {}
        }
        if listen == admin && listen.port() != 0 {
            self.fault(
                place,
                "`listen` and `admin_listen` are the same",
                "give `admin_listen` a port of its own",
            );
        }
        (listen, admin)
    }

    /// The TLS listener, both files or neither, and the oldest version, which concerns upstreams too.
    pub(super) fn tls(&mut self, root: &mut Section<'_>) -> (Option<Tls>, TlsVersion) {
        let mut section = self.section(root, "tls");
        let cert = self.pick(&mut section, "cert", Some("BOTSERVER_TLS_CERT"));
        let key = self.pick(&mut section, "key", Some("BOTSERVER_TLS_KEY"));
        let version = self.pick(&mut section, "min_version", Some("BOTSERVER_TLS_MIN_VERSION"));
        let version = self.choice(version, &[("1.3", TlsVersion::V1_3), ("1.2", TlsVersion::V1_2)]);
        self.finish(&section);
        let min_version = version.unwrap_or(TlsVersion::V1_3);
        let (cert_place, cert) = self.placed_path(cert);
        let (key_place, key) = self.placed_path(key);
        if let (Some(place), None) = (&cert_place, &key_place) {
            let remedy = "set BOTSERVER_TLS_KEY or `tls.key` too";
            self.fault(place.clone(), "a certificate without its key", remedy);
        }
        if let (None, Some(place)) = (&cert_place, &key_place) {
            let remedy = "set BOTSERVER_TLS_CERT or `tls.cert` too";
            self.fault(place.clone(), "a key without its certificate", remedy);
        }
        let (Some(cert), Some(key)) = (cert, key) else { return (None, min_version) };
        let tls = Tls { cert, key, min_version };
        let checked = tls_files::check(&tls);
        self.notices.extend(checked.notice);
        for fault in checked.faults {
            let place = if fault.of_key { &key_place } else { &cert_place };
            let place = place.clone().unwrap_or_else(|| self.in_file(None));
            self.fault(place, fault.message, fault.remedy);
        }
        (Some(tls), min_version)
    }

    fn placed_path(&mut self, written: Option<Written<'_>>) -> (Option<Place>, Option<PathBuf>) {
        (written.as_ref().map(|written| written.place.clone()), self.path(written))
    }
}
