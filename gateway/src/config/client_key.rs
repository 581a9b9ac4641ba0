//! The private key by which we prove to a provider who we are (RFC 7523), where it has our public one instead of a secret.

use std::fmt;

use ring::rand::SystemRandom;
use ring::rsa::KeyPair as RsaKeyPair;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

/// A key that signs. Its algorithm is the key's: there is nothing to choose.
pub struct ClientKey {
    pair: Pair,
    /// Its name at the provider, where it has one.
    pub id: Option<String>,
}

enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// Why a text is no key that signs here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientKeyFault {
    /// It is no PEM of the one form.
    #[error("it holds no `PRIVATE KEY` (PKCS #8) in PEM")]
    Form,
    /// No algorithm of ours has it.
    #[error("its key is none of RSA with 2048 to 4096 bits, P-256 and Ed25519")]
    Kind,
}

impl ClientKey {
    /// Reads a PEM file's text.
    ///
    /// # Errors
    /// See [`ClientKeyFault`].
    pub fn parse(pem: &str, id: Option<String>) -> Result<Self, ClientKeyFault> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| ClientKeyFault::Form)?;
        let der = Zeroizing::new(der);
        let der = der.secret_pkcs8_der();
        let rsa = || RsaKeyPair::from_pkcs8(der).ok().map(Pair::Rsa);
        let p256 = || {
            let random = SystemRandom::new();
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random).ok().map(Pair::P256)
        };
        // OpenSSL writes no public key beside it.
        let ed25519 = || Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok().map(Pair::Ed25519);
        let pair = rsa().or_else(p256).or_else(ed25519).ok_or(ClientKeyFault::Kind)?;
        Ok(Self { pair, id })
    }

    /// The algorithm by its name in JOSE.
    #[must_use]
    pub const fn algorithm(&self) -> &'static str {
        match &self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
            Pair::Ed25519(_) => "EdDSA",
        }
    }

    /// A signature as JOSE has it; `None` where the system has no randomness.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            Pair::P256(pair) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
            Pair::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
        }
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientKey").field("algorithm", &self.algorithm()).finish_non_exhaustive()
    }
}
