//! What a session cookie carries.

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::Secret;
use crate::keyring::{Digest, Keyring, Purpose};
use crate::random::random;

/// Bytes of a session's secret: 256 random bits.
const SECRET_BYTES: usize = 32;

/// The secret of a session: 256 random bits, in a cookie as 43 characters of base64url.
pub struct SessionSecret {
    bytes: Secret<[u8; SECRET_BYTES]>,
    /// Its digest, once it was asked for: a browser sends its cookie with everything that it asks.
    digest: OnceLock<Digest>,
}

impl SessionSecret {
    /// A new one.
    pub(crate) fn generate() -> Self {
        Self::new(random())
    }

    /// Reads a cookie's value. There is one accepted spelling; anything else is no secret of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        // The length is checked first, so that a long value costs nothing.
        if text.len() != 43 || URL_SAFE_NO_PAD.decode_slice(text, bytes.as_mut()).ok()? != SECRET_BYTES {
            return None;
        }
        Some(Self::new(*bytes))
    }

    const fn new(bytes: [u8; SECRET_BYTES]) -> Self {
        Self { bytes: Secret::new(bytes), digest: OnceLock::new() }
    }

    /// The cookie's value.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.bytes()))
    }

    pub(crate) fn bytes(&self) -> &[u8; SECRET_BYTES] {
        self.bytes.expose()
    }

    /// Its digest under the active master.
    pub(crate) fn digest(&self, keyring: &Keyring) -> Digest {
        let make = || keyring.digest(Purpose::SessionDigest, self.bytes());
        let digest = *self.digest.get_or_init(make);
        // It may have been asked for under another keyring.
        if digest.key_id() == keyring.active_id() { digest } else { make() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_is_accepted() {
        let secret = SessionSecret::generate();
        let text = secret.reveal();
        assert_eq!(SessionSecret::parse(&text).unwrap().bytes(), secret.bytes());

        let zero = "A".repeat(43);
        assert!(SessionSecret::parse(&zero).is_some());
        let cases = [
            ("empty", String::new()),
            ("too short", "A".repeat(42)),
            ("too long", "A".repeat(44)),
            ("padded", format!("{}=", "A".repeat(43))),
            ("stray bits at the end", format!("{}B", "A".repeat(42))),
            ("the other alphabet", format!("+{}", "A".repeat(42))),
            ("a space", format!(" {}", "A".repeat(42))),
            ("not ASCII", format!("é{}", "A".repeat(41))),
        ];
        for (name, text) in cases {
            assert!(SessionSecret::parse(&text).is_none(), "{name}");
        }
    }
}
