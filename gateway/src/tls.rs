//! TLS: the process's cryptography, installed first, and the listener.
//!
//! Pingora speaks 1.2 and 1.3 and has no setting for it, so what 1.2 needs is taken out of the provider: without its
//! suites no 1.2 handshake ends. The provider is the process's, so upstreams are then spoken to in 1.3 alone, too;
//! an upstream that cannot is a reason for `tls.min_version = "1.2"`.

use std::sync::Arc;

use pingora_core::listeners::tls::{Acceptor, TlsSettings};
use pingora_core::protocols::ALPN;
use rustls::crypto::{CryptoProvider, ring};
use rustls::sign::SingleCertAndKey;

use crate::config::settings::{Tls, TlsVersion};
use crate::config::tls_files;

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Something took another provider before us: 1.2 could be on although it was turned off.
    #[error("another TLS provider is installed already")]
    ProviderTaken,
    /// A certificate or key cannot be served.
    #[error("{0}")]
    Files(String),
    /// Pingora does not take the settings.
    #[error("the TLS listener cannot be set up")]
    Settings(#[source] pingora_core::BError),
}

/// Installs the process's provider. Before anything of pingora is built, because pingora installs its own and does
/// not look whether there is one.
///
/// # Errors
/// When a provider that offers something else is there already.
pub fn install_provider(min_version: TlsVersion) -> Result<(), TlsError> {
    let wanted = provider(min_version);
    if CryptoProvider::get_default().is_none() {
        // Lost to another thread: then what it installed is looked at below.
        wanted.clone().install_default().ok();
    }
    let suites = |provider: &CryptoProvider| {
        provider.cipher_suites.iter().map(rustls::SupportedCipherSuite::suite).collect::<Vec<_>>()
    };
    match CryptoProvider::get_default() {
        Some(installed) if suites(installed) == suites(&wanted) => Ok(()),
        Some(_) | None => Err(TlsError::ProviderTaken),
    }
}

/// The listener's side of handshakes. [`install_provider`] comes first.
///
/// # Errors
/// When the files cannot be served.
pub fn acceptor(tls: &Tls) -> Result<Acceptor, TlsError> {
    let served = tls_files::served(tls).map_err(|faults| {
        let messages: Vec<String> = faults.into_iter().map(|fault| fault.message).collect();
        TlsError::Files(messages.join("; "))
    })?;
    // The files are read here and handed over as a resolver: pingora's own reading of them panics.
    let mut settings = TlsSettings::intermediate("", "").map_err(TlsError::Settings)?;
    settings.set_cert_resolver(Arc::new(SingleCertAndKey::from(served)));
    // HTTP/2 is offered once hostile frames are tested (threat 6).
    settings.set_alpn(ALPN::H1);
    Ok(settings.build())
}

fn provider(min_version: TlsVersion) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if min_version == TlsVersion::V1_3 {
        provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    }
    provider
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustls::ProtocolVersion;

    use super::{TlsVersion, acceptor, install_provider, provider};
    use crate::config::settings::Tls;

    #[test]
    fn one_dot_three_alone_unless_one_dot_two_is_asked_for() {
        let versions = |min_version| -> Vec<ProtocolVersion> {
            let suites = provider(min_version).cipher_suites;
            suites.iter().map(|suite| suite.version().version).collect()
        };
        assert!(versions(TlsVersion::V1_3).iter().all(|version| *version == ProtocolVersion::TLSv1_3));
        assert_eq!(versions(TlsVersion::V1_3).len(), 3);
        assert!(versions(TlsVersion::V1_2).contains(&ProtocolVersion::TLSv1_2));
    }

    #[test]
    fn the_listener_offers_http_1_1_and_serves_only_a_pair_that_fits() {
        install_provider(TlsVersion::V1_3).unwrap();
        install_provider(TlsVersion::V1_3).unwrap();
        assert!(install_provider(TlsVersion::V1_2).is_err(), "what is installed cannot be widened");
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["one", "two"] {
            let made = rcgen::generate_simple_self_signed([format!("{name}.example")]).unwrap();
            fs::write(at(&format!("{name}.pem")), made.cert.pem()).unwrap();
            fs::write(at(&format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
        }
        fs::write(at("empty"), "").unwrap();
        let pair = |cert: &str, key: &str| {
            let tls = Tls { cert: at(cert), key: at(key), min_version: TlsVersion::V1_3 };
            acceptor(&tls).map_err(|error| error.to_string())
        };
        let good = pair("one.pem", "one.key").unwrap();
        assert_eq!(good.acceptor.config().alpn_protocols, [b"http/1.1"]);
        let check = |cert: &str, key: &str, part: &str| {
            let error = pair(cert, key).err().unwrap();
            assert!(error.contains(part), "{error}");
        };
        check("one.pem", "two.key", "do not serve together");
        check("empty", "one.key", "holds no certificate");
        check("one.pem", "empty", "no private key is read");
        check("absent", "one.key", "no certificate is read");
        check("one.key", "one.pem", "no private key is read");
    }
}
