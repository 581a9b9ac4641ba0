//! Master keys, and everything that is derived from them.
//!
//! A master key never encrypts or signs anything itself: HKDF-SHA-256 derives one key per purpose and key
//! id, so that what one purpose makes is worthless to every other. The first master is the active one; the
//! others stay for opening and verifying what they made before a rotation.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::Secret;

/// Bytes of a master key and of every key derived from one.
pub const KEY_BYTES: usize = 32;

/// Bytes of a key id: 64 bits tell the handful of masters that one installation ever has apart.
pub const KEY_ID_BYTES: usize = 8;

/// Bytes of a digest: the key id, then the HMAC-SHA-256.
pub const DIGEST_BYTES: usize = KEY_ID_BYTES + 32;

/// The masters of this installation. Cheap to clone.
#[derive(Clone)]
pub struct Keyring {
    masters: Arc<[Master]>,
}

/// What a derived key is for. Two purposes never share a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The value by which a store recognises its master.
    KeyCheck,
    /// Digests of session secrets.
    SessionDigest,
    /// Sealed session records.
    SessionRecord,
    /// The authenticated time of a session's last use.
    SessionTouch,
    /// Sealed accounts.
    AccountRecord,
    /// Digests of API keys.
    ApiKeyDigest,
    /// Sealed API key records.
    ApiKeyRecord,
    /// Names of login attempt counters.
    AttemptDigest,
    /// Cookies that prove an earlier sign-in from the same browser.
    DeviceCookie,
    /// Hidden tokens of the gateway's own forms.
    FormToken,
    /// The seed of the key that signs identities for upstreams.
    UpstreamIdentity,
    /// What a browser keeps while its person is at an identity provider.
    OidcFlow,
    /// Names of sessions at identity providers, and of what those have ended.
    ProviderSession,
    /// Sealed grants of identity providers.
    ProviderGrant,
    /// Sealed ID tokens that providers are shown at sign-out.
    SignOutHint,
}

/// Which master made something: the truncated digest of that master.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(crate) [u8; KEY_ID_BYTES]);

/// A keyed digest (HMAC-SHA-256) that carries the id of its key, so that rotation keeps old ones verifying.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest([u8; DIGEST_BYTES]);

/// Its last bytes alone: they are as good as random, and as good as all of them to find a place in a map.
impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0.last_chunk::<8>().map_or(&[], |last| last));
    }
}

struct Master {
    id: KeyId,
    root: Hkdf<Sha256>,
    /// For each purpose, in the order of [`Purpose::ALL`], its keyed digest before the first byte: every request is
    /// recognised by digests, and the key schedule costs more than they do.
    digests: Arc<[Hmac<Sha256>]>,
}

impl Keyring {
    /// A keyring whose active master is `master`.
    #[must_use]
    pub fn from_master(master: &[u8; KEY_BYTES]) -> Self {
        Self { masters: Arc::new([Master::new(master)]) }
    }

    /// The same keyring with an older master that opens and verifies, but makes nothing new.
    #[must_use]
    pub fn with_old(&self, master: &[u8; KEY_BYTES]) -> Self {
        let old = Master::new(master);
        if self.find(old.id).is_some() {
            return self.clone();
        }
        Self { masters: self.masters.iter().cloned().chain([old]).collect() }
    }

    /// The id of the active master.
    #[must_use]
    pub fn active_id(&self) -> KeyId {
        self.active().id
    }

    /// The ids of all masters, the active one first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.masters.iter().map(|master| master.id)
    }

    /// A key derived from the active master, for what this crate does not do itself
    /// (the seed of a signing key, for example).
    #[must_use]
    pub fn derive(&self, purpose: Purpose) -> Secret<[u8; KEY_BYTES]> {
        Secret::new(*self.active().key(purpose))
    }

    /// The digest of `secret` under the active master.
    #[must_use]
    pub fn digest(&self, purpose: Purpose, secret: &[u8]) -> Digest {
        self.active().digest(purpose, secret)
    }

    /// The digests of `secret` under every master, the active one first: what a look-up has to try.
    pub fn digests(&self, purpose: Purpose, secret: &[u8]) -> impl Iterator<Item = Digest> {
        self.masters.iter().map(move |master| master.digest(purpose, secret))
    }

    /// Whether `digest` is that of `secret`; compares in constant time.
    #[must_use]
    pub fn verify(&self, purpose: Purpose, secret: &[u8], digest: &Digest) -> bool {
        self.find(digest.key_id()).is_some_and(|master| {
            let expected = master.digest(purpose, secret);
            bool::from(expected.0.ct_eq(&digest.0))
        })
    }

    /// The purpose's key under the master `id`, where that master is known.
    pub(crate) fn key(&self, purpose: Purpose, id: KeyId) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
        self.find(id).map(|master| master.key(purpose))
    }

    fn find(&self, id: KeyId) -> Option<&Master> {
        self.masters.iter().find(|master| master.id == id)
    }

    #[expect(clippy::expect_used, reason = "every constructor puts at least one master in")]
    fn active(&self) -> &Master {
        self.masters.first().expect("a keyring has an active master")
    }
}

impl Purpose {
    /// Every purpose.
    const ALL: [Self; 15] = [
        Self::KeyCheck,
        Self::SessionDigest,
        Self::SessionRecord,
        Self::SessionTouch,
        Self::AccountRecord,
        Self::ApiKeyDigest,
        Self::ApiKeyRecord,
        Self::AttemptDigest,
        Self::DeviceCookie,
        Self::FormToken,
        Self::UpstreamIdentity,
        Self::OidcFlow,
        Self::ProviderSession,
        Self::ProviderGrant,
        Self::SignOutHint,
    ];

    /// The name that goes into derivations and associated data. Changing one orphans what was made with it.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::KeyCheck => "key-check",
            Self::SessionDigest => "session-digest",
            Self::SessionRecord => "session-record",
            Self::SessionTouch => "session-touch",
            Self::AccountRecord => "account-record",
            Self::ApiKeyDigest => "api-key-digest",
            Self::ApiKeyRecord => "api-key-record",
            Self::AttemptDigest => "attempt-digest",
            Self::DeviceCookie => "device-cookie",
            Self::FormToken => "form-token",
            Self::UpstreamIdentity => "upstream-identity",
            Self::OidcFlow => "oidc-flow",
            Self::ProviderSession => "provider-session",
            Self::ProviderGrant => "provider-grant",
            Self::SignOutHint => "sign-out-hint",
        }
    }
}

impl Digest {
    /// The digest as it is stored and compared.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; DIGEST_BYTES] {
        &self.0
    }

    /// Reads a stored digest.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The id of the master that made it.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        let mut id = [0; KEY_ID_BYTES];
        for (to, from) in id.iter_mut().zip(self.0) {
            *to = from;
        }
        KeyId(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeyId({self})")
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Digest(under {})", self.key_id())
    }
}

impl Clone for Master {
    fn clone(&self) -> Self {
        Self { id: self.id, root: self.root.clone(), digests: Arc::clone(&self.digests) }
    }
}

impl Master {
    fn new(master: &[u8; KEY_BYTES]) -> Self {
        let root = Hkdf::<Sha256>::new(Some(b"cedargate/1"), master);
        let mut id = [0; KEY_ID_BYTES];
        expand(&root, b"key-id", &mut id);
        let keyless = Self { id: KeyId(id), root, digests: Arc::new([]) };
        let digests = Purpose::ALL.iter().map(|purpose| keyed(&keyless.key(*purpose))).collect();
        Self { digests, ..keyless }
    }

    fn key(&self, purpose: Purpose) -> Zeroizing<[u8; KEY_BYTES]> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        let info = [b"key/".as_slice(), purpose.label().as_bytes(), b"/", &self.id.0].concat();
        expand(&self.root, &info, key.as_mut());
        key
    }

    fn digest(&self, purpose: Purpose, secret: &[u8]) -> Digest {
        let at = Purpose::ALL.iter().position(|known| *known == purpose);
        let begun = at.and_then(|at| self.digests.get(at)).cloned();
        let mut mac = begun.unwrap_or_else(|| keyed(&self.key(purpose)));
        mac.update(secret);
        let mut digest = [0; DIGEST_BYTES];
        let parts = self.id.0.into_iter().chain(mac.finalize().into_bytes());
        for (to, from) in digest.iter_mut().zip(parts) {
            *to = from;
        }
        Digest(digest)
    }
}

#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn keyed(key: &[u8; KEY_BYTES]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("a key of 32 bytes")
}

/// Fills `out`, at most 44 bytes, from `root`.
#[expect(clippy::expect_used, reason = "HKDF-SHA-256 fails past 8,160 bytes only")]
pub(crate) fn expand(root: &Hkdf<Sha256>, info: &[u8], out: &mut [u8]) {
    root.expand(info, out).expect("at most 44 bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_depend_on_secret_purpose_and_master_and_survive_rotation() {
        let (first, second) = (Keyring::from_master(&[1; 32]), Keyring::from_master(&[2; 32]));
        let rotated = second.with_old(&[1; 32]);
        let made = first.digest(Purpose::SessionDigest, b"secret");

        assert_eq!(made, first.digest(Purpose::SessionDigest, b"secret"));
        assert_eq!(made.key_id(), first.active_id());
        assert_eq!(Digest::from_bytes(made.as_bytes()), Some(made));
        let cases = [
            ("the same keyring", &first, Purpose::SessionDigest, b"secret", true),
            ("after rotation", &rotated, Purpose::SessionDigest, b"secret", true),
            ("another secret", &first, Purpose::SessionDigest, b"Secret", false),
            ("another purpose", &first, Purpose::ApiKeyDigest, b"secret", false),
            ("another master", &second, Purpose::SessionDigest, b"secret", false),
        ];
        for (name, keyring, purpose, secret, holds) in cases {
            assert_eq!(keyring.verify(purpose, secret, &made), holds, "{name}");
        }
        assert!(rotated.digests(Purpose::SessionDigest, b"secret").any(|digest| digest == made));
        assert_eq!(rotated.active_id(), second.active_id());
        assert_eq!(rotated.with_old(&[2; 32]).ids().count(), 2, "a master is held once");
    }

    /// Whoever changes these values orphans every store, cookie and key that is out there. They were computed
    /// with another implementation of HKDF and HMAC.
    #[test]
    fn derivations_never_change() {
        let ring = Keyring::from_master(&[1; 32]);
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(ring.active_id().to_string(), "de7ddc2a51b0056e");
        let digest = ring.digest(Purpose::SessionDigest, b"secret");
        assert_eq!(
            hex(digest.as_bytes()),
            "de7ddc2a51b0056e024172b1327bf3c195303d12a032081b885f7bd6ec011d026381f5e7ef3f9290"
        );
        assert_eq!(
            hex(ring.derive(Purpose::UpstreamIdentity).expose()),
            "6e45a92193da99404353ec7fd1c2c83b807c899c22dde553642a795d02b9f6b1"
        );
    }

    #[test]
    fn no_two_purposes_share_a_key() {
        let ring = Keyring::from_master(&[1; 32]);
        let keys: std::collections::BTreeSet<_> =
            Purpose::ALL.iter().map(|purpose| *ring.derive(*purpose).expose()).collect();
        assert_eq!(keys.len(), Purpose::ALL.len());
    }
}
