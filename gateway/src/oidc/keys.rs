//! A provider's public keys (RFC 7517), and signatures by them. Verified by `ring`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

use super::jose::{Algorithm, Jws};

/// Keys of one set: providers have a handful, old ones among them.
pub const KEYS_MAX: usize = 64;

/// Why a set of keys is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysFault {
    /// It is no set of keys, or has more than [`KEYS_MAX`].
    #[error("the keys are not a JWK set of at most {KEYS_MAX} keys")]
    Form,
    /// None of them verifies anything that we accept.
    #[error("none of the keys is an RSA, P-256 or Ed25519 key for signatures")]
    NoneUsable,
}

/// Why a token's signature is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// No key of this name; the provider may have changed its keys.
    #[error("the provider has no such key")]
    UnknownKey,
    /// The token names no key, and several could be meant.
    #[error("the token names no key, and the provider has several")]
    Ambiguous,
    /// The key is there and did not make the signature, or is of another algorithm.
    #[error("the signature does not hold")]
    Wrong,
}

/// The keys of a provider that verify what we accept. The others are left out: symmetric ones among them.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Arc<Key>>,
}

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    kid: Option<String>,
    /// What it may be used with, where the set says so.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Debug, PartialEq, Eq)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// Uncompressed.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a set of keys.
    ///
    /// # Errors
    /// See [`KeysFault`].
    pub fn parse(bytes: &[u8]) -> Result<Self, KeysFault> {
        let set: Jwks = serde_json::from_slice(bytes).map_err(|_| KeysFault::Form)?;
        if set.keys.len() > KEYS_MAX {
            return Err(KeysFault::Form);
        }
        // A key of a kind that we do not know is no reason to refuse the others.
        let keys: Vec<Arc<Key>> = set
            .keys
            .into_iter()
            .filter_map(|key| serde_json::from_value::<Jwk>(key).ok())
            .filter_map(Key::of)
            .map(Arc::new)
            .collect();
        if keys.is_empty() { Err(KeysFault::NoneUsable) } else { Ok(Self { keys }) }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none, which never is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a key is one of these, by all that is known of it.
    #[must_use]
    pub fn has(&self, key: &Key) -> bool {
        self.keys.iter().any(|known| **known == *key)
    }

    /// The key that made a token's signature, with an algorithm that is that key's own.
    ///
    /// # Errors
    /// See [`SignatureFault`].
    pub fn verify(&self, token: &Jws<'_>) -> Result<Arc<Key>, SignatureFault> {
        let mut named = self.keys.iter().filter(|key| match &token.kid {
            Some(kid) => key.kid.as_ref() == Some(kid),
            None => key.takes(token.algorithm),
        });
        let Some(first) = named.next() else { return Err(SignatureFault::UnknownKey) };
        let rest: Vec<&Arc<Key>> = named.collect();
        if token.kid.is_none() && !rest.is_empty() {
            return Err(SignatureFault::Ambiguous);
        }
        let mut all = std::iter::once(first).chain(rest);
        let made = all.find(|key| key.made(token.algorithm, token.signed, &token.signature));
        made.map(Arc::clone).ok_or(SignatureFault::Wrong)
    }
}

impl Key {
    fn of(jwk: Jwk) -> Option<Self> {
        let decode = |part: Option<String>| URL_SAFE_NO_PAD.decode(part?).ok();
        let signs = jwk.usage.as_ref().is_none_or(|usage| usage == "sig");
        let verifies = jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !signs || !verifies {
            return None;
        }
        let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => {
                Material::Rsa { modulus: unpadded(decode(jwk.n)?), exponent: unpadded(decode(jwk.e)?) }
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (decode(jwk.x)?, decode(jwk.y)?);
                if x.len() != 32 || y.len() != 32 {
                    return None;
                }
                Material::P256([&[4], x.as_slice(), y.as_slice()].concat())
            }
            ("OKP", Some("Ed25519")) => Material::Ed25519(decode(jwk.x)?),
            _ => return None,
        };
        let algorithm = match jwk.alg {
            None => None,
            // For another algorithm, or for encryption.
            Some(name) => Some(Algorithm::named(&name)?),
        };
        Some(Self { kid: jwk.kid, algorithm, material })
    }

    /// The key decides: its kind, and what the set says of it (never the token's header alone).
    fn takes(&self, algorithm: Algorithm) -> bool {
        let of_kind = match (&self.material, algorithm) {
            (Material::Rsa { .. }, Algorithm::Rs256 | Algorithm::Ps256)
            | (Material::P256(_), Algorithm::Es256)
            | (Material::Ed25519(_), Algorithm::EdDsa) => true,
            (Material::Rsa { .. } | Material::P256(_) | Material::Ed25519(_), _) => false,
        };
        of_kind && self.algorithm.is_none_or(|own| own == algorithm)
    }

    fn made(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        if !self.takes(algorithm) {
            return false;
        }
        let made = match &self.material {
            Material::Rsa { modulus, exponent } => {
                let key = RsaPublicKeyComponents { n: modulus, e: exponent };
                let with = if algorithm == Algorithm::Ps256 {
                    &RSA_PSS_2048_8192_SHA256
                } else {
                    &RSA_PKCS1_2048_8192_SHA256
                };
                key.verify(with, signed, signature)
            }
            Material::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature)
            }
            Material::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(signed, signature),
        };
        made.is_ok()
    }
}

/// Without the leading zeros that some providers write and `ring` does not take.
fn unpadded(number: Vec<u8>) -> Vec<u8> {
    number.into_iter().skip_while(|byte| *byte == 0).collect()
}
