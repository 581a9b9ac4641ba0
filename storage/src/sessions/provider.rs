//! What a session goes back to at an identity provider.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::SessionView;
use crate::keyring::{Digest, Keyring, Purpose};

/// Bytes of a session's name at its provider: theirs are UUIDs or 256 random bits in text.
pub const SID_BYTES_MAX: usize = 256;

/// A session at an identity provider (`sid` of OpenID Connect Back-Channel Logout 1.0, section 2.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderSession {
    issuer: String,
    sid: String,
}

/// What an identity provider says has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndedElsewhere {
    /// Whatever goes back to this session of it, whoever's that is.
    Session(ProviderSession),
    /// Whatever an account has of this session of it, or of one without a name.
    SessionOf(ProviderSession, Uuid),
    /// All of an account.
    Account(Uuid),
}

impl ProviderSession {
    /// A session of 1 to [`SID_BYTES_MAX`] bytes at its provider; another name is none.
    #[must_use]
    pub fn new(issuer: &str, sid: &str) -> Option<Self> {
        let named = (1..=SID_BYTES_MAX).contains(&sid.len());
        named.then(|| Self { issuer: issuer.to_owned(), sid: sid.to_owned() })
    }

    /// Whose session it is.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Its name there.
    #[must_use]
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// Where it is found in an index, under every master, the active one first.
    pub(super) fn digests(&self, keyring: &Keyring) -> impl Iterator<Item = Digest> {
        let text = self.text();
        keyring.digests(Purpose::ProviderSession, &text).collect::<Vec<_>>().into_iter()
    }

    /// Where it is put into an index.
    pub(super) fn digest(&self, keyring: &Keyring) -> Digest {
        keyring.digest(Purpose::ProviderSession, &self.text())
    }

    /// Length-prefixed, so that no issuer and name can spell another pair.
    fn text(&self) -> Vec<u8> {
        let length = (self.issuer.len() as u64).to_be_bytes();
        [length.as_slice(), self.issuer.as_bytes(), self.sid.as_bytes()].concat()
    }
}

impl EndedElsewhere {
    /// Whether it ends a session.
    pub(super) fn ends(&self, session: &SessionView) -> bool {
        let provider = session.provider.as_deref();
        match self {
            Self::Session(ended) => provider == Some(ended),
            Self::SessionOf(ended, account) => {
                session.account == *account && provider.is_none_or(|provider| provider == ended)
            }
            Self::Account(account) => session.account == *account,
        }
    }
}
