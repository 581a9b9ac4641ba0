//! What an identity provider is shown when its person signs out there as well.
//!
//! It is no credential of ours and opens nothing here. It is kept apart from the session's record, which every request reads,
//! goes where the session goes, and is read once, at the end.

use std::fmt;

use crate::keyring::{Keyring, Purpose};
use crate::seal::{seal, unseal};
use crate::{Secret, StoreError};

/// Bytes of a hint. It travels in an address, and servers take one of 8,000 (RFC 9110, section 4.1): the rest of it has 1,856.
pub const HINT_BYTES_MAX: usize = 6 * 1024;

/// The ID token that a provider has given for a session.
#[derive(Clone)]
pub struct SignOutHint(Secret<String>);

impl SignOutHint {
    /// A token of 1 to [`HINT_BYTES_MAX`] bytes; another is no hint, and its provider asks the person instead.
    #[must_use]
    pub fn new(token: &str) -> Option<Self> {
        (1..=HINT_BYTES_MAX).contains(&token.len()).then(|| Self(Secret::new(token.to_owned())))
    }

    /// The token, for the one address that it goes into.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.expose()
    }

    pub(super) fn sealed(&self, keyring: &Keyring, place: &[u8]) -> Result<Vec<u8>, StoreError> {
        seal(keyring, Purpose::SignOutHint, place, self.reveal().as_bytes()).map_err(StoreError::Seal)
    }

    pub(super) fn open(keyring: &Keyring, place: &[u8], sealed: &[u8]) -> Result<Self, StoreError> {
        let text = unseal(keyring, Purpose::SignOutHint, place, sealed).map_err(StoreError::Unseal)?;
        std::str::from_utf8(&text).ok().and_then(Self::new).ok_or(StoreError::Malformed)
    }
}

impl fmt::Debug for SignOutHint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SignOutHint")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_has_bounds_opens_in_its_own_place_and_is_not_shown() {
        for (bytes, is_hint) in [(0, false), (1, true), (HINT_BYTES_MAX, true), (HINT_BYTES_MAX + 1, false)] {
            assert_eq!(SignOutHint::new(&"t".repeat(bytes)).is_some(), is_hint, "{bytes}");
        }
        let (keyring, hint) = (Keyring::from_master(&[1; 32]), SignOutHint::new("a-token").unwrap());
        let sealed = hint.sealed(&keyring, b"here").unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"a-token"));
        let rotated = Keyring::from_master(&[2; 32]).with_old(&[1; 32]);
        assert_eq!(SignOutHint::open(&rotated, b"here", &sealed).unwrap().reveal(), "a-token");
        assert!(SignOutHint::open(&rotated, b"there", &sealed).is_err());
        assert!(!format!("{hint:?}").contains("token"));
    }
}
