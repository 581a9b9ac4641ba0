//! What identity providers have given us for sessions: the refresh token with which they are asked whether a session still
//! stands, and until when their last word counts.
//!
//! A grant is found by the session's public id and sealed with that as its place; the token is in no other table, and nobody
//! but the gateway is shown it. `put` is on disk before it returns: a provider that hands out a new token with each answer
//! forgets the old one, so the new one is kept before anything else is done with the answer. A crash between the provider's
//! answer and that costs its person one sign-in, and never brings a session back.
//!
//! Whoever ends a session removes its grant; one that is left is swept by the gateway within a minute.
//!
//! Grants are kept where one process sees them. Where sessions are shared by gateways, so must be grants, and whoever asks a
//! provider has to own a lease on the session's grant in the shared store until the answer is there: two gateways that
//! present one token at once look like a thief to a provider that detects reuse.

use engine::time::UnixMillis;
use redb::{Durability, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::keyring::Purpose;
use crate::recent::Reach;
use crate::seal::{seal, unseal};
use crate::{Keyring, Store, StoreError};

/// Bytes of a refresh token: Entra ID's have some 2 KB.
pub const REFRESH_TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Public id of the session -> sealed grant.
const GRANTS: TableDefinition<u128, &[u8]> = TableDefinition::new("provider_grants");

/// What a provider has given us for a session.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Grant {
    /// The provider's issuer.
    pub issuer: String,
    /// Whom it vouches for.
    pub subject: String,
    /// What it is asked with.
    pub refresh_token: String,
    /// Until when its last word counts.
    #[zeroize(skip)]
    pub counts_until: UnixMillis,
    /// When the session ends whatever the provider says.
    #[zeroize(skip)]
    pub absolute_end: UnixMillis,
}

/// The grants. Cheap to clone.
#[derive(Clone)]
pub struct Grants {
    store: Store,
}

impl Grants {
    /// The grants of `store`.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Keeps a session's grant, in the place of an earlier one.
    ///
    /// # Errors
    /// When the store fails; then the earlier one is there.
    pub async fn put(&self, session: Uuid, grant: Grant) -> Result<(), StoreError> {
        self.write(session, move |transaction, keyring| {
            let text = Zeroizing::new(serde_json::to_vec(&grant).map_err(|_| StoreError::Malformed)?);
            let sealed = seal(keyring, Purpose::ProviderGrant, session.as_bytes(), &text);
            let sealed = sealed.map_err(StoreError::Seal)?;
            transaction.open_table(GRANTS)?.insert(session.as_u128(), sealed.as_slice())?;
            Ok(())
        })
        .await
    }

    /// A session's grant.
    ///
    /// # Errors
    /// When the store fails, or the grant was tampered with.
    pub fn find(&self, session: Uuid) -> Result<Option<Grant>, StoreError> {
        let keyring = self.store.keyring();
        self.store.read(|transaction| {
            let table = transaction.open_table(GRANTS)?;
            let Some(sealed) = table.get(session.as_u128())? else { return Ok(None) };
            let text = unseal(keyring, Purpose::ProviderGrant, session.as_bytes(), sealed.value());
            let text = text.map_err(StoreError::Unseal)?;
            serde_json::from_slice(&text).map(Some).map_err(|_| StoreError::Malformed)
        })
    }

    /// The sessions that have one.
    ///
    /// # Errors
    /// When the store fails.
    pub fn sessions(&self) -> Result<Vec<Uuid>, StoreError> {
        self.store.read(|transaction| {
            let table = transaction.open_table(GRANTS)?;
            table.iter()?.map(|row| Ok(Uuid::from_u128(row?.0.value()))).collect()
        })
    }

    /// Forgets a session's grant.
    ///
    /// # Errors
    /// When the store fails; then a sweep forgets it.
    pub async fn remove(&self, session: Uuid) -> Result<(), StoreError> {
        self.write(session, move |transaction, _| {
            transaction.open_table(GRANTS)?.remove(session.as_u128())?;
            Ok(())
        })
        .await
    }

    async fn write(
        &self,
        session: Uuid,
        work: impl FnOnce(&WriteTransaction, &Keyring) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        // Nothing that is remembered of the store rests on a grant.
        let part = session.as_bytes().last().copied().unwrap_or_default();
        self.store.write_within(Reach::Part(part), Durability::Immediate, work).await
    }
}

/// Makes the table, so that readers find it.
pub(crate) fn prepare(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(GRANTS)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mark;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
    const TOKEN: &str = "a-refresh-token-that-nobody-shall-read";

    fn grant(token: &str) -> Grant {
        Grant {
            issuer: "https://id.example".to_owned(),
            subject: "ada".to_owned(),
            refresh_token: token.to_owned(),
            counts_until: NOW,
            absolute_end: NOW.plus(1),
        }
    }

    #[tokio::test]
    async fn a_grant_is_there_after_a_restart_and_a_rotation_and_reads_like_nothing_on_disk() {
        let home = tempfile::tempdir().unwrap();
        let open =
            |keyring: &Keyring| Grants::new(Store::open(home.path(), keyring, Mark::Production).unwrap());
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let grants = open(&Keyring::from_master(&[1; 32]));
        assert!(grants.find(one).unwrap().is_none() && grants.sessions().unwrap().is_empty());
        grants.put(one, grant("the-first")).await.unwrap();
        grants.put(one, grant(TOKEN)).await.unwrap();
        drop(grants);
        let inside = |folder: &std::path::Path| {
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
        };
        let files = inside(home.path())
            .into_iter()
            .flat_map(|path| if path.is_dir() { inside(&path) } else { vec![path] });
        let files: Vec<_> = files.collect();
        assert!(!files.is_empty());
        for file in files {
            let bytes = std::fs::read(file).unwrap();
            assert!(!bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes()));
        }
        let grants = open(&Keyring::from_master(&[2; 32]).with_old(&[1; 32]));
        let found = grants.find(one).unwrap().unwrap();
        assert_eq!((found.refresh_token.as_str(), found.subject.as_str()), (TOKEN, "ada"));
        assert_eq!((found.counts_until, found.absolute_end), (NOW, NOW.plus(1)));
        assert_eq!(grants.sessions().unwrap(), [one]);
        assert!(grants.find(other).unwrap().is_none());
        grants.remove(one).await.unwrap();
        grants.remove(other).await.unwrap();
        assert!(grants.find(one).unwrap().is_none() && grants.sessions().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_grant_does_not_open_in_the_place_of_another() {
        let grants = Grants::new(Store::in_memory(&Keyring::from_master(&[1; 32])).unwrap());
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        grants.put(one, grant(TOKEN)).await.unwrap();
        let moved = grants.write(other, move |transaction, _| {
            let mut table = transaction.open_table(GRANTS)?;
            let sealed = table.get(one.as_u128())?.unwrap().value().to_vec();
            table.insert(other.as_u128(), sealed.as_slice())?;
            Ok(())
        });
        moved.await.unwrap();
        assert!(grants.find(one).unwrap().is_some() && grants.find(other).is_err());
    }
}
