//! API keys of services.
//!
//! A key is `cgk_`, its public id (22 characters) and 256 random bits (43 characters), all base64url. It is
//! shown once; what is stored is a keyed digest of it in a sealed record. When it was last used is not
//! stored: that would be a write for every request, and the audit log knows.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::identity::{LOCAL_ISSUER, PrincipalKind, principal_id};
use engine::time::UnixMillis;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::Login;
use super::records::{Becomes, Kind, Records};
use crate::keyring::{Digest, Purpose};
use crate::random::random;
use crate::sessions::Sessions;
use crate::{Secret, Store, StoreError};

/// What every API key begins with, so that secret scanners and people recognise one.
pub const API_KEY_PREFIX: &str = "cgk_";

const TEXT_BYTES: usize = API_KEY_PREFIX.len() + 22 + 43;
const PARTS_BYTES: usize = 16 + 32;

/// The API keys, in the embedded store or beside the sessions that gateways share. Cheap to clone.
#[derive(Clone)]
pub struct ApiKeys {
    records: Records,
}

/// An API key, without what proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Public id (UUID v4): what records and administrators name it by.
    pub id: Uuid,
    /// The service that holds it. Several keys of one service are one principal, so that keys can be changed.
    pub service: Login,
    /// The service's stable id as a principal.
    pub service_id: Uuid,
    /// Roles held directly.
    pub roles: BTreeSet<String>,
    /// Groups that the service is a member of.
    pub groups: BTreeSet<String>,
    /// What the key is restricted to: action names, or prefixes that end in `.*`, or `*`.
    pub scopes: BTreeSet<String>,
    /// When it was created.
    pub created_at: UnixMillis,
    /// When it ends; `None` for never.
    pub expires_at: Option<UnixMillis>,
    /// When it was revoked.
    pub revoked_at: Option<UnixMillis>,
}

/// What a new key is made of.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    /// The service that will hold it.
    pub service: Login,
    /// Roles held directly.
    pub roles: BTreeSet<String>,
    /// Groups that the service is a member of.
    pub groups: BTreeSet<String>,
    /// What the key is restricted to. An empty set permits nothing.
    pub scopes: BTreeSet<String>,
    /// When it ends; `None` for never.
    pub expires_at: Option<UnixMillis>,
}

/// A key that was just created.
pub struct CreatedApiKey {
    /// The key itself. It is not stored; this is the only time that it is there.
    pub text: Secret<String>,
    /// What is known about it.
    pub key: ApiKey,
}

#[derive(Clone, Serialize, Deserialize)]
struct Record {
    service: Login,
    roles: BTreeSet<String>,
    groups: BTreeSet<String>,
    scopes: BTreeSet<String>,
    created_at: UnixMillis,
    expires_at: Option<UnixMillis>,
    revoked_at: Option<UnixMillis>,
    digest: Vec<u8>,
}

impl ApiKeys {
    /// The keys of `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { records: Records::embedded(Kind::ApiKey, store) }
    }

    /// The keys beside the sessions that gateways share; nothing where those are not shared.
    #[must_use]
    pub fn shared(sessions: &Sessions) -> Option<Self> {
        Some(Self { records: Records::shared(Kind::ApiKey, sessions)? })
    }

    /// Creates a key; it is kept when this returns.
    ///
    /// # Errors
    /// When the store fails; then there is no key.
    pub async fn create(&self, new: NewApiKey, now: UnixMillis) -> Result<CreatedApiKey, StoreError> {
        let id = Uuid::new_v4();
        let parts = Zeroizing::new([id.as_bytes().as_slice(), &random::<32>()].concat());
        let digest = self.records.keyring().digest(Purpose::ApiKeyDigest, &parts);
        let key = self.records.update(id, move |known: Option<Record>| {
            if known.is_some() {
                // Nobody else draws the same 122 bits.
                return Err(StoreError::Malformed);
            }
            let record = Record {
                service: new.service.clone(),
                roles: new.roles.clone(),
                groups: new.groups.clone(),
                scopes: new.scopes.clone(),
                created_at: now,
                expires_at: new.expires_at,
                revoked_at: None,
                digest: digest.as_bytes().to_vec(),
            };
            let key = record.key(id);
            Ok(Becomes::Anew(record, key))
        });
        Ok(CreatedApiKey { key: key.await?, text: Secret::new(spell(&parts)) })
    }

    /// The live key of a presented text: known, neither expired nor revoked.
    ///
    /// # Errors
    /// When the store fails or the record was tampered with.
    pub async fn find(&self, presented: &str, now: UnixMillis) -> Result<Option<ApiKey>, StoreError> {
        let Some((id, parts)) = read(presented) else { return Ok(None) };
        let Some(record) = self.records.load::<Record>(id).await? else { return Ok(None) };
        let digest = Digest::from_bytes(&record.digest).ok_or(StoreError::Malformed)?;
        if !self.records.keyring().verify(Purpose::ApiKeyDigest, &*parts, &digest) {
            return Ok(None);
        }
        Ok(Some(record.key(id)).filter(|key| key.is_live(now)))
    }

    /// The live key of this public id: for who has proved to hold it and asks again, never to prove it.
    ///
    /// # Errors
    /// When the store fails or the record was tampered with.
    pub async fn live(&self, id: Uuid, now: UnixMillis) -> Result<Option<ApiKey>, StoreError> {
        let record = self.records.load::<Record>(id).await?;
        Ok(record.map(|record| record.key(id)).filter(|key| key.is_live(now)))
    }

    /// All keys, revoked and expired ones too, oldest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self) -> Result<Vec<ApiKey>, StoreError> {
        let mut keys = self.records.list(|id, record: &Record| record.key(id)).await?;
        keys.sort_by_key(|key| (key.created_at, key.id));
        Ok(keys)
    }

    /// Moves all of these to where gateways share theirs, and answers how many there were. A key that either has revoked is
    /// revoked. What was interrupted goes on when it is done again.
    ///
    /// # Errors
    /// When a store fails; then some may have been moved.
    pub async fn bring(&self, to: &Self) -> Result<usize, StoreError> {
        let takes_over = |own: &Record, known: &mut Record| {
            let revokes = own.revoked_at.is_some() && known.revoked_at.is_none();
            if revokes {
                known.revoked_at = own.revoked_at;
            }
            revokes
        };
        self.records.bring(&to.records, takes_over).await
    }

    /// Revokes a key by its public id; it is found by nobody from then on, at another gateway within a second. Answers the
    /// key as it is now.
    ///
    /// # Errors
    /// When the store fails; then it may still hold.
    pub async fn revoke(&self, id: Uuid, now: UnixMillis) -> Result<Option<ApiKey>, StoreError> {
        self.records
            .update(id, move |known: Option<Record>| {
                let Some(mut record) = known else { return Ok(Becomes::Kept(None)) };
                // The first revocation is the one that counts.
                record.revoked_at.get_or_insert(now);
                let key = record.key(id);
                Ok(Becomes::Otherwise(record, Some(key)))
            })
            .await
    }
}

impl ApiKey {
    /// Whether it is neither revoked nor expired.
    #[must_use]
    pub fn is_live(&self, now: UnixMillis) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

impl Record {
    fn key(&self, id: Uuid) -> ApiKey {
        ApiKey {
            id,
            service_id: principal_id(PrincipalKind::Service, LOCAL_ISSUER, self.service.as_str()),
            service: self.service.clone(),
            roles: self.roles.clone(),
            groups: self.groups.clone(),
            scopes: self.scopes.clone(),
            created_at: self.created_at,
            expires_at: self.expires_at,
            revoked_at: self.revoked_at,
        }
    }
}

fn spell(parts: &[u8]) -> String {
    let (id, secret) = parts.split_at_checked(16).unwrap_or_default();
    let mut text = String::with_capacity(TEXT_BYTES);
    text.push_str(API_KEY_PREFIX);
    URL_SAFE_NO_PAD.encode_string(id, &mut text);
    URL_SAFE_NO_PAD.encode_string(secret, &mut text);
    text
}

/// The one accepted spelling: id and the bytes that the digest is over.
fn read(text: &str) -> Option<(Uuid, Zeroizing<[u8; PARTS_BYTES]>)> {
    let (id, secret) = text.strip_prefix(API_KEY_PREFIX)?.split_at_checked(22)?;
    let mut parts = Zeroizing::new([0; PARTS_BYTES]);
    let (to_id, to_secret) = parts.split_at_mut_checked(16)?;
    let whole = text.len() == TEXT_BYTES
        && URL_SAFE_NO_PAD.decode_slice(id, to_id).ok()? == 16
        && URL_SAFE_NO_PAD.decode_slice(secret, to_secret).ok()? == 32;
    let id = Uuid::from_slice(parts.get(..16)?).ok()?;
    whole.then_some((id, parts))
}
