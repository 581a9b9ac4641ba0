//! The upstreams: their addresses, which of them are well, and how each is reached.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use pingora_core::protocols::ALPN;
use pingora_core::protocols::TcpKeepalive;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::tls::{WrappedX509, parse_x509};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::exchange::pool::Pool;
use crate::config::settings::{Timeouts, Upstream as Settings, UpstreamIdentity};

/// All upstreams, by the name that route files use.
pub struct Upstreams {
    by_name: BTreeMap<Arc<str>, Arc<Upstream>>,
}

/// One upstream.
pub struct Upstream {
    /// Its name.
    pub name: Arc<str>,
    /// How it was configured.
    pub settings: Settings,
    backends: Vec<Backend>,
    next: AtomicUsize,
}

/// One address of an upstream.
pub struct Backend {
    /// The address.
    pub address: SocketAddr,
    /// The upstream's name and the address, as records have them.
    pub label: Arc<str>,
    /// Connections to it that wait for their next request.
    pub pool: Pool,
    peer: HttpPeer,
    timeouts: Timeouts,
    well: AtomicBool,
    /// Probes that were missed since one was answered.
    missed: AtomicU32,
}

/// Probes that an address misses, one after the other, before it is given no more requests. The first of all decides
/// alone.
const MISSES_MAX: u32 = 2;

/// An upstream cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Its authorities' file cannot be read.
    #[error("upstream `{upstream}`: the authorities in `{path}` cannot be read")]
    Authorities {
        /// The upstream.
        upstream: Arc<str>,
        /// The PEM file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its authorities' file holds no certificate.
    #[error("upstream `{upstream}`: `{path}` holds no PEM certificate")]
    NoAuthority {
        /// The upstream.
        upstream: Arc<str>,
        /// The PEM file.
        path: String,
    },
}

impl Upstreams {
    /// Sets the configured upstreams up; nothing is connected to yet.
    ///
    /// # Errors
    /// When the authorities of one cannot be read.
    pub fn new(configured: &BTreeMap<Arc<str>, Settings>) -> Result<Self, SetupError> {
        let by_name = configured
            .iter()
            .map(|(name, settings)| Ok((name.clone(), Arc::new(Upstream::new(name, settings)?))))
            .collect::<Result<_, SetupError>>()?;
        Ok(Self { by_name })
    }

    /// The upstream of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.by_name.get(name)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.by_name.values()
    }
}

impl Upstream {
    fn new(name: &Arc<str>, settings: &Settings) -> Result<Self, SetupError> {
        let authorities = authorities(name, settings)?;
        let backends = settings
            .addresses
            .iter()
            .map(|address| Backend {
                address: *address,
                label: format!("{name} {address}").into(),
                pool: Pool::default(),
                peer: peer(name, settings, *address, authorities.clone()),
                timeouts: settings.timeouts,
                well: AtomicBool::new(true),
                missed: AtomicU32::new(MISSES_MAX - 1),
            })
            .collect();
        Ok(Self { name: name.clone(), settings: settings.clone(), backends, next: AtomicUsize::new(0) })
    }

    /// The next well address, in turn; `None` when none is well.
    #[must_use]
    pub fn choose(&self) -> Option<&Backend> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.backends.len();
        (0..count)
            .filter_map(|offset| self.backends.get(first.wrapping_add(offset) % count))
            .find(|backend| backend.is_well())
    }

    /// Its addresses.
    #[must_use]
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// Whether it is told who asks, and how.
    #[must_use]
    pub fn identity(&self) -> &UpstreamIdentity {
        &self.settings.identity
    }
}

impl Backend {
    /// How it is reached.
    #[must_use]
    pub fn peer(&self) -> &HttpPeer {
        &self.peer
    }

    /// How long it may take.
    #[must_use]
    pub const fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Whether it answered when it was last tried.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.well.load(Ordering::Relaxed)
    }

    /// Notes what a probe has found; says whether that is news. One that is missed after others were answered may be the
    /// fault of a moment, and nobody is refused for it.
    pub fn probed(&self, answers: bool) -> bool {
        let missed = if answers { 0 } else { self.missed.load(Ordering::Relaxed).saturating_add(1) };
        self.missed.store(missed, Ordering::Relaxed);
        (answers || missed >= MISSES_MAX) && self.set_well(answers)
    }

    /// Notes whether it answers; says whether that is news.
    pub fn set_well(&self, well: bool) -> bool {
        self.well.swap(well, Ordering::Relaxed) != well
    }
}

type Authorities = Option<Arc<[WrappedX509]>>;

fn authorities(name: &Arc<str>, settings: &Settings) -> Result<Authorities, SetupError> {
    let Some(path) = settings.tls.as_ref().and_then(|tls| tls.ca.as_ref()) else { return Ok(None) };
    let shown = path.display().to_string();
    let pem = std::fs::read(path).map_err(|source| SetupError::Authorities {
        upstream: name.clone(),
        path: shown.clone(),
        source,
    })?;
    // Only what the verifier takes as an authority: the parser below panics on anything else.
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .filter_map(Result::ok)
        .filter(|der| RootCertStore::empty().add(der.clone()).is_ok())
        .map(|der| WrappedX509::new(der.to_vec(), parse_x509))
        .collect();
    if certificates.is_empty() {
        return Err(SetupError::NoAuthority { upstream: name.clone(), path: shown });
    }
    Ok(Some(certificates.into()))
}

fn peer(name: &str, settings: &Settings, address: SocketAddr, authorities: Authorities) -> HttpPeer {
    // An empty SNI makes the connector skip all verification, so a name is passed even where the
    // configuration says in so many words that nothing is verified.
    let sni = settings
        .tls
        .as_ref()
        .map_or_else(String::new, |tls| tls.name.clone().unwrap_or_else(|| address.ip().to_string()));
    let mut peer = HttpPeer::new(address, settings.tls.is_some(), sni);
    let verify = settings.tls.as_ref().is_none_or(|tls| tls.name.is_some());
    let options = &mut peer.options;
    options.verify_cert = verify;
    options.verify_hostname = verify;
    options.ca = authorities;
    options.alpn = ALPN::H1;
    let timeouts = settings.timeouts;
    options.connection_timeout = Some(timeouts.connect);
    options.total_connection_timeout = Some(timeouts.connect);
    options.tcp_keepalive = Some(TcpKeepalive {
        idle: Duration::from_secs(60),
        interval: Duration::from_secs(10),
        count: 3,
        #[cfg(target_os = "linux")]
        user_timeout: Duration::ZERO,
    });
    // The pool tells connections apart by address and name but not by authorities: two upstreams at one
    // address that trust different ones must not share a connection.
    let mut hasher = DefaultHasher::new();
    (name, settings.tls.as_ref().map(|tls| (&tls.name, &tls.ca))).hash(&mut hasher);
    peer.group_key = hasher.finish();
    peer
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::settings::UpstreamTls;

    fn settings(tls: Option<(Option<&str>, Option<&str>)>) -> Settings {
        let second = Duration::from_secs(1);
        Settings {
            addresses: vec![SocketAddr::from(([127, 0, 0, 1], 9))],
            tls: tls
                .map(|(name, ca)| UpstreamTls { name: name.map(str::to_owned), ca: ca.map(PathBuf::from) }),
            identity: UpstreamIdentity::None,
            timeouts: Timeouts { connect: second, read: second, write: second, idle: second },
            health_path: None,
            insecure: None,
        }
    }

    /// A connection of the pool is used again only where its trust is the same.
    #[test]
    fn an_address_is_given_up_at_the_first_probe_or_after_two_in_a_row() {
        // What each probe finds, and whether the address is well after it.
        for (probes, expected) in [
            (vec![false], vec![false]),
            (vec![true, false, true, false, true], vec![true; 5]),
            (vec![true, false, false, false, true, false], vec![true, true, false, false, true, true]),
        ] {
            let upstream = Upstream::new(&"crm".into(), &settings(None)).unwrap();
            let backend = upstream.backends().first().unwrap();
            let mut before = true;
            for (probe, expected) in probes.iter().zip(expected) {
                let is_news = backend.probed(*probe);
                assert_eq!((backend.is_well(), is_news), (expected, expected != before), "{probes:?}");
                before = expected;
            }
        }
    }

    #[test]
    fn connections_are_shared_only_within_one_trust() {
        let told = [
            ("a", settings(None)),
            ("b", settings(None)),
            ("a", settings(Some((None, None)))),
            ("a", settings(Some((Some("one.example"), None)))),
            ("a", settings(Some((Some("two.example"), None)))),
            ("a", settings(Some((Some("one.example"), Some("/ca/one.pem"))))),
            ("a", settings(Some((Some("one.example"), Some("/ca/two.pem"))))),
            ("b", settings(Some((Some("one.example"), Some("/ca/two.pem"))))),
        ];
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let keys: Vec<u64> =
            told.iter().map(|(name, settings)| peer(name, settings, address, None).group_key).collect();
        let distinct: std::collections::BTreeSet<&u64> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len(), "{keys:?}");
        assert_eq!(peer("a", &settings(None), address, None).group_key, keys[0], "and is the same each time");
    }

    #[test]
    fn only_a_name_is_verified_and_never_left_out() {
        let check = |tls, sni: &str, verified| {
            let peer = peer("a", &settings(tls), SocketAddr::from(([127, 0, 0, 1], 9)), None);
            assert_eq!((peer.sni.as_str(), peer.options.verify_cert), (sni, verified), "{tls:?}");
            assert_eq!(peer.options.verify_hostname, verified, "{tls:?}");
        };
        check(Some((Some("one.example"), None)), "one.example", true);
        check(Some((None, None)), "127.0.0.1", false);
    }
}
