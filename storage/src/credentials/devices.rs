//! Device cookies: a browser proves that somebody signed in with it before.
//!
//! Such a browser has a counter of its own for failed attempts, so that a stranger who locks an account
//! locks out strangers only (threat 11). The cookie names account and device, is signed, and signs nobody in.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::time::UnixMillis;
use uuid::Uuid;

use super::Account;
use crate::Keyring;
use crate::keyring::{DIGEST_BYTES, Digest, Purpose};

/// A device cookie is worth something for this long: 180 days, in milliseconds.
pub const DEVICE_COOKIE_AGE_MAX_MS: u64 = 180 * 24 * 3600 * 1000;

const CLAIM_BYTES: usize = 16 + 16 + 8;
const COOKIE_BYTES: usize = CLAIM_BYTES + DIGEST_BYTES;
/// 80 bytes in base64url.
const TEXT_BYTES: usize = 107;

/// Makes and verifies device cookies.
#[derive(Clone)]
pub struct DeviceCookies {
    keyring: Keyring,
}

impl DeviceCookies {
    /// With the keys of `keyring`.
    #[must_use]
    pub fn new(keyring: Keyring) -> Self {
        Self { keyring }
    }

    /// The cookie's value for a device from which `account` has just signed in.
    #[must_use]
    pub fn make(&self, account: Uuid, device: Uuid, now: UnixMillis) -> String {
        let claim = [account.as_bytes().as_slice(), device.as_bytes(), &now.0.to_be_bytes()].concat();
        let signature = self.keyring.digest(Purpose::DeviceCookie, &claim);
        URL_SAFE_NO_PAD.encode([claim.as_slice(), signature.as_bytes()].concat())
    }

    /// The device of a cookie that was made for `account`, is not too old, and not older than its password:
    /// whoever knew the last one is a stranger again.
    #[must_use]
    pub fn verify(&self, text: &str, account: &Account, now: UnixMillis) -> Option<Uuid> {
        let mut bytes = [0; COOKIE_BYTES];
        if text.len() != TEXT_BYTES || URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()? != COOKIE_BYTES {
            return None;
        }
        let (claim, signature) = bytes.split_at_checked(CLAIM_BYTES)?;
        if !self.keyring.verify(Purpose::DeviceCookie, claim, &Digest::from_bytes(signature)?) {
            return None;
        }
        let (owner, rest) = claim.split_first_chunk::<16>()?;
        let (device, rest) = rest.split_first_chunk::<16>()?;
        let made_at = UnixMillis(u64::from_be_bytes(*rest.first_chunk()?));
        let fresh = now.since(made_at) < DEVICE_COOKIE_AGE_MAX_MS && made_at >= account.password_changed_at;
        (fresh && Uuid::from_bytes(*owner) == account.id).then(|| Uuid::from_bytes(*device))
    }
}
