//! Sealed records by id, of accounts or of API keys: in the embedded store, or in the Redis that gateways share.
//!
//! The contract of both: a change is there for good when it is acknowledged, and whoever rests on what was changed is told
//! then, at every gateway. A change is made of what is there at that moment, never of what was read before: two at once both
//! hold. What is read was there within the last second.

mod shared;

use std::sync::Arc;

use redb::{Durability, ReadableTable, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use self::shared::Shared;
use crate::keyring::{Keyring, Purpose};
use crate::recent::Epoch;
use crate::seal::{seal, unseal};
use crate::sessions::Sessions;
use crate::{Change, Store, StoreError};

/// Account id -> sealed record.
const ACCOUNTS: TableDefinition<u128, &[u8]> = TableDefinition::new("accounts");
/// Key id -> sealed record.
const API_KEYS: TableDefinition<u128, &[u8]> = TableDefinition::new("api_keys");
/// No write says that it changes a single record.
const WHOLE: u8 = 0;

/// The records of one kind. Cheap to clone.
#[derive(Clone)]
pub(super) struct Records {
    kind: Kind,
    place: Place,
}

#[derive(Clone)]
enum Place {
    Embedded(Store),
    Shared(Arc<Shared>),
}

/// What is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Account,
    ApiKey,
}

/// What becomes of a record, and what is answered then.
pub(super) enum Becomes<R, T> {
    /// It stays as it is.
    Kept(T),
    /// It is written, and nobody rests on what it was.
    Anew(R, T),
    /// It is written, and is something else to whoever rests on it.
    Otherwise(R, T),
}

impl Kind {
    const fn purpose(self) -> Purpose {
        match self {
            Self::Account => Purpose::AccountRecord,
            Self::ApiKey => Purpose::ApiKeyRecord,
        }
    }

    const fn table(self) -> TableDefinition<'static, u128, &'static [u8]> {
        match self {
            Self::Account => ACCOUNTS,
            Self::ApiKey => API_KEYS,
        }
    }

    const fn change(self, id: Uuid) -> Change {
        match self {
            Self::Account => Change::Account(id),
            Self::ApiKey => Change::ApiKey(id),
        }
    }
}

impl Records {
    /// Those of the embedded store.
    pub(super) fn embedded(kind: Kind, store: Store) -> Self {
        Self { kind, place: Place::Embedded(store) }
    }

    /// Those beside the sessions that gateways share; nothing where those are not shared.
    pub(super) fn shared(kind: Kind, sessions: &Sessions) -> Option<Self> {
        let (line, keyring) = sessions.line()?;
        Some(Self { kind, place: Place::Shared(Arc::new(Shared::new(kind, line, keyring))) })
    }

    pub(super) fn keyring(&self) -> &Keyring {
        match &self.place {
            Place::Embedded(store) => store.keyring(),
            Place::Shared(shared) => shared.keyring(),
        }
    }

    /// What was read of the embedded store in this epoch stands until the next. Shared records keep by themselves what they
    /// have read.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        match &self.place {
            Place::Embedded(store) => store.epoch(WHOLE),
            Place::Shared(_) => None,
        }
    }

    /// What `look` makes of the sealed record of an id, where there is one. It opens with [`Records::open`].
    pub(super) async fn look<T>(
        &self,
        id: Uuid,
        look: impl FnOnce(&[u8]) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match &self.place {
            Place::Embedded(store) => store.read(|transaction| {
                let table = transaction.open_table(self.kind.table())?;
                let sealed = table.get(id.as_u128())?;
                sealed.map(|sealed| look(sealed.value())).transpose()
            }),
            // Boxed, so that whoever looks here does not carry what waits for a server.
            Place::Shared(shared) => {
                let sealed = Box::pin(shared.sealed(id)).await?;
                sealed.map(|sealed| look(&sealed)).transpose()
            }
        }
    }

    /// Opens a sealed record of this id.
    pub(super) fn open<R: DeserializeOwned>(&self, id: Uuid, sealed: &[u8]) -> Result<R, StoreError> {
        match &self.place {
            Place::Embedded(store) => open(store.keyring(), self.kind, id.as_bytes(), sealed),
            Place::Shared(shared) => shared.open(id, sealed),
        }
    }

    /// The record of an id.
    pub(super) async fn load<R: DeserializeOwned>(&self, id: Uuid) -> Result<Option<R>, StoreError> {
        self.look(id, |sealed| self.open(id, sealed)).await
    }

    /// The same, of the store itself whatever was read before: how long it takes says nothing about who is known.
    pub(super) async fn load_anew<R: DeserializeOwned>(&self, id: Uuid) -> Result<Option<R>, StoreError> {
        match &self.place {
            Place::Embedded(_) => self.load(id).await,
            Place::Shared(shared) => {
                let sealed = Box::pin(shared.fetch(id)).await?;
                sealed.map(|sealed| shared.open(id, &sealed)).transpose()
            }
        }
    }

    /// What `told` makes of each record.
    pub(super) async fn list<R: DeserializeOwned, T: Send + 'static>(
        &self,
        told: impl Fn(Uuid, &R) -> T + Send + 'static,
    ) -> Result<Vec<T>, StoreError> {
        let kind = self.kind;
        match &self.place {
            Place::Embedded(store) => {
                store
                    .write(Durability::None, move |transaction, keyring| {
                        let table = transaction.open_table(kind.table())?;
                        let mut all = Vec::new();
                        for row in table.iter()? {
                            let (id, sealed) = row?;
                            let id = Uuid::from_u128(id.value());
                            all.push(told(id, &open(keyring, kind, id.as_bytes(), sealed.value())?));
                        }
                        Ok(all)
                    })
                    .await
            }
            Place::Shared(shared) => Box::pin(shared.list(told)).await,
        }
    }

    /// Makes of what is known of an id what `change` says; where others change the same, of what they have made of it.
    ///
    /// # Errors
    /// When `change` says so or the store fails; then nothing is changed, unless a shared store was late.
    pub(super) async fn update<R, T, E>(
        &self,
        id: Uuid,
        change: impl Fn(Option<R>) -> Result<Becomes<R, T>, E> + Send + 'static,
    ) -> Result<T, E>
    where
        R: Serialize + DeserializeOwned,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let store = match &self.place {
            Place::Embedded(store) => store,
            Place::Shared(shared) => return Box::pin(shared.update(id, change)).await,
        };
        let kind = self.kind;
        let (answer, told) = store
            .write(Durability::Immediate, move |transaction, keyring| {
                let mut table = transaction.open_table(kind.table()).map_err(StoreError::from)?;
                let known = table.get(id.as_u128()).map_err(StoreError::from)?;
                let known = known.map(|sealed| open(keyring, kind, id.as_bytes(), sealed.value()));
                let (record, answer, told) = match change(known.transpose()?)? {
                    Becomes::Kept(answer) => return Ok((answer, false)),
                    Becomes::Anew(record, answer) => (record, answer, false),
                    Becomes::Otherwise(record, answer) => (record, answer, true),
                };
                let sealed = sealed(keyring, kind, id.as_bytes(), &record)?;
                table.insert(id.as_u128(), sealed.as_slice()).map_err(StoreError::from)?;
                Ok::<_, E>((answer, told))
            })
            .await?;
        if told {
            store.changes().tell(kind.change(id));
        }
        Ok(answer)
    }

    /// Removes a record for good; answers what `told` makes of it.
    ///
    /// # Errors
    /// When the store fails; then it is still there, unless a shared store was late.
    pub(super) async fn remove<R: DeserializeOwned, T: Send + 'static>(
        &self,
        id: Uuid,
        told: impl Fn(&R) -> T + Send + 'static,
    ) -> Result<Option<T>, StoreError> {
        let store = match &self.place {
            Place::Embedded(store) => store,
            Place::Shared(shared) => return Box::pin(shared.remove(id, told)).await,
        };
        let kind = self.kind;
        let removed = store
            .write(Durability::Immediate, move |transaction, keyring| {
                let mut table = transaction.open_table(kind.table())?;
                let Some(sealed) = table.remove(id.as_u128())? else { return Ok(None) };
                Ok::<_, StoreError>(Some(told(&open(keyring, kind, id.as_bytes(), sealed.value())?)))
            })
            .await?;
        store.changes().tell(kind.change(id));
        Ok(removed)
    }

    /// Moves all of these to others, one after the other, and answers how many there were. One that is there already stays
    /// there, with what `takes_over` makes of it: whether that is something else to whoever rests on it.
    ///
    /// # Errors
    /// When either store fails; then some may have been moved. None is lost: what was not moved for good stays here.
    pub(super) async fn bring<R>(
        &self,
        to: &Self,
        takes_over: impl Fn(&R, &mut R) -> bool + Copy + Send + 'static,
    ) -> Result<usize, StoreError>
    where
        R: Clone + Serialize + DeserializeOwned + Send + 'static,
    {
        let all = self.list(|id, record: &R| (id, record.clone())).await?;
        let count = all.len();
        for (id, own) in all {
            let becomes = move |known: Option<R>| {
                let Some(mut known) = known else { return Ok(Becomes::Anew(own.clone(), ())) };
                let otherwise = takes_over(&own, &mut known);
                Ok::<_, StoreError>(if otherwise { Becomes::Otherwise(known, ()) } else { Becomes::Kept(()) })
            };
            to.update(id, becomes).await?;
            to.kept(id).await?;
            self.remove(id, |_: &R| ()).await?;
        }
        Ok(count)
    }

    /// Makes sure that what was done until now is done for good. Whether replicas had to be waited for.
    pub(super) async fn settled(&self) -> Result<bool, StoreError> {
        match &self.place {
            // It was when it was done.
            Place::Embedded(_) => Ok(false),
            Place::Shared(shared) => Box::pin(shared.settled()).await,
        }
    }

    /// Makes sure that the record of an id is there for good.
    async fn kept(&self, id: Uuid) -> Result<(), StoreError> {
        match &self.place {
            // It was when it was written.
            Place::Embedded(_) => Ok(()),
            Place::Shared(shared) => Box::pin(shared.kept(id)).await,
        }
    }
}

/// Makes the tables, so that readers find them.
pub(crate) fn prepare(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(ACCOUNTS)?;
    transaction.open_table(API_KEYS)?;
    Ok(())
}

fn sealed<R: Serialize>(
    keyring: &Keyring,
    kind: Kind,
    place: &[u8],
    record: &R,
) -> Result<Vec<u8>, StoreError> {
    let text = zeroize::Zeroizing::new(serde_json::to_vec(record).map_err(|_| StoreError::Malformed)?);
    seal(keyring, kind.purpose(), place, &text).map_err(StoreError::Seal)
}

fn open<R: DeserializeOwned>(
    keyring: &Keyring,
    kind: Kind,
    place: &[u8],
    sealed: &[u8],
) -> Result<R, StoreError> {
    let text = unseal(keyring, kind.purpose(), place, sealed).map_err(StoreError::Unseal)?;
    serde_json::from_slice(&text).map_err(|_| StoreError::Malformed)
}
