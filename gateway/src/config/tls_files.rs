//! Whether a certificate and a key can be served, before anybody connects.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::settings::Tls;

/// What a look at the files has found.
#[derive(Debug, Default)]
pub(super) struct TlsCheck {
    pub(super) faults: Vec<TlsFileFault>,
    pub(super) notice: Option<String>,
}

/// What is wrong with one of the files.
#[derive(Debug)]
pub struct TlsFileFault {
    /// Of the key's file; otherwise of the certificate's.
    pub of_key: bool,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// Whether both files can be served, and who else can read the key.
pub(super) fn check(tls: &Tls) -> TlsCheck {
    let exposed = std::fs::metadata(&tls.key).is_ok_and(|metadata| metadata.mode() & 0o077 != 0);
    let notice = format!("{} can be opened by others than its owner; chmod 600 it", tls.key.display());
    TlsCheck { faults: served(tls).err().unwrap_or_default(), notice: exposed.then_some(notice) }
}

/// The chain and its key, as the listener serves them.
///
/// # Errors
/// What is wrong with either file, or with both together.
pub fn served(tls: &Tls) -> Result<CertifiedKey, Vec<TlsFileFault>> {
    let mut faults = Vec::new();
    let chain = match certificates(&tls.cert) {
        Ok(chain) => Some(chain),
        Err(message) => {
            let remedy = "name a PEM file with the certificate first and the intermediate ones after it";
            faults.push(TlsFileFault { of_key: false, message, remedy });
            None
        }
    };
    let key = match PrivateKeyDer::from_pem_file(&tls.key) {
        Ok(key) => Some(key),
        Err(error) => {
            // The error names the position or the kind, never the content.
            let message = format!("no private key is read from `{}`: {error}", tls.key.display());
            let remedy = "name a PEM file with a private key (PKCS#8, PKCS#1 or SEC1)";
            faults.push(TlsFileFault { of_key: true, message, remedy });
            None
        }
    };
    let (Some(chain), Some(key)) = (chain, key) else { return Err(faults) };
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| {
        let message = format!("the key and the certificate do not serve together: {error}");
        let remedy =
            "name the key that this certificate was made for (RSA of 2048 bits or more, P-256, P-384 or Ed25519)";
        vec![TlsFileFault { of_key: true, message, remedy }]
    })
}

/// The certificates of a PEM file; at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(chain) if chain.is_empty() => Err(format!("`{}` holds no certificate", path.display())),
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("no certificate is read from `{}`: {error}", path.display())),
    }
}
