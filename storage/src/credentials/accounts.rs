//! Accounts: people who sign in with a password here, and people whom an identity provider vouches for.

mod federated;

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::time::UnixMillis;
use redb::{Durability, ReadableTable, Table, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Login, PasswordHash};
use crate::keyring::{Keyring, Purpose};
use crate::opened::Opened;
use crate::recent::Recent;
use crate::seal::{seal, unseal};
use crate::{Change, Store, StoreError};
pub use federated::{Origin, Person, PersonError, SUBJECT_BYTES_MAX};

/// Account id -> sealed record.
const ACCOUNTS: TableDefinition<u128, &[u8]> = TableDefinition::new("accounts");
/// No write says that it changes a single account.
const WHOLE: u8 = 0;

/// The accounts in the embedded store. Cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    store: Store,
    opened: Arc<Opened<Uuid, Arc<Account>>>,
    recent: Arc<Recent<Uuid, Arc<Account>>>,
}

/// An account, without its password hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its stable id, which follows from the login ([`Login::account_id`]) or from the origin
    /// ([`Origin::account_id`]).
    pub id: Uuid,
    /// What its person signs in with; where there is an origin, the name that it is shown by.
    pub login: Login,
    /// Who vouches for its person, where that is not a password: such an account has none.
    pub origin: Option<Origin>,
    /// Roles held directly.
    pub roles: BTreeSet<String>,
    /// Groups that it is a member of.
    pub groups: BTreeSet<String>,
    /// Whether it may do nothing at the moment.
    pub suspended: bool,
    /// When it was created.
    pub created_at: UnixMillis,
    /// When its password was last set. Device cookies from before are worthless.
    pub password_changed_at: UnixMillis,
    /// Rises with every change; part of the key of whatever is cached about the account.
    pub version: u64,
    /// When its provider vouched for it as it is; absent where that is not known.
    pub vouched_at: Option<UnixMillis>,
}

/// What a new account is made of.
pub struct NewAccount {
    /// What its person signs in with.
    pub login: Login,
    /// The hash of its password.
    pub password: PasswordHash,
    /// Roles held directly.
    pub roles: BTreeSet<String>,
    /// Groups that it is a member of.
    pub groups: BTreeSet<String>,
}

/// What to change; `None` leaves a thing as it is.
#[derive(Clone, Debug, Default)]
pub struct AccountChange {
    /// The new roles.
    pub roles: Option<BTreeSet<String>>,
    /// The new groups.
    pub groups: Option<BTreeSet<String>>,
    /// Whether it is suspended.
    pub suspended: Option<bool>,
}

/// Why an account could not be created.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// There is an account of this login.
    #[error("the login is taken")]
    LoginTaken,
    /// Its person signs in at an identity provider.
    #[error("the account has no password: its person signs in at an identity provider")]
    Federated,
    /// The store failed.
    #[error("the account could not be stored")]
    Store(#[source] StoreError),
}

#[derive(Serialize, Deserialize)]
struct Record {
    login: Login,
    #[serde(default)]
    origin: Option<Origin>,
    /// None where there is an origin.
    #[serde(default)]
    password: Option<String>,
    roles: BTreeSet<String>,
    groups: BTreeSet<String>,
    suspended: bool,
    created_at: UnixMillis,
    password_changed_at: UnixMillis,
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vouched_at: Option<UnixMillis>,
}

impl Accounts {
    /// The accounts of `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, opened: Arc::new(Opened::new()), recent: Arc::new(Recent::new()) }
    }

    /// Creates an account; it is on disk when this returns.
    ///
    /// # Errors
    /// When the login is taken or the store fails.
    pub async fn create(&self, new: NewAccount, now: UnixMillis) -> Result<Account, AccountError> {
        let id = new.login.account_id();
        let record = Record {
            login: new.login,
            origin: None,
            password: Some(new.password.as_str().to_owned()),
            roles: new.roles,
            groups: new.groups,
            suspended: false,
            created_at: now,
            password_changed_at: now,
            version: 1,
            vouched_at: None,
        };
        self.store
            .write(Durability::Immediate, move |transaction, keyring| {
                let mut table = transaction.open_table(ACCOUNTS).map_err(StoreError::from)?;
                if table.get(id.as_u128()).map_err(StoreError::from)?.is_some() {
                    return Err(AccountError::LoginTaken);
                }
                put(&mut table, keyring, id, &record)?;
                Ok(record.account(id))
            })
            .await
    }

    /// The account of an id, as it is at this moment; the same allocation while it has not changed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find(&self, id: Uuid) -> Result<Option<Arc<Account>>, StoreError> {
        let epoch = self.store.epoch(WHOLE);
        if let Some(account) = epoch.and_then(|epoch| self.recent.get(&id, epoch)) {
            return Ok(Some(account));
        }
        let keyring = self.store.keyring();
        let found = self.store.read(|transaction| {
            let table = transaction.open_table(ACCOUNTS)?;
            let Some(sealed) = table.get(id.as_u128())? else { return Ok(None) };
            let sealed = sealed.value();
            let opened = || Ok(Arc::new(open(keyring, id, sealed)?.account(id)));
            self.opened.get(id, sealed, opened).map(Some)
        })?;
        if let (Some(account), Some(epoch)) = (&found, epoch) {
            self.recent.put(id, epoch, Arc::clone(account));
        }
        Ok(found)
    }

    /// The account of a login, and the hash of its password.
    pub(super) fn find_with_password(
        &self,
        login: &Login,
    ) -> Result<Option<(Account, PasswordHash)>, StoreError> {
        let id = login.account_id();
        let Some(record) = self.load(id)? else { return Ok(None) };
        let Some(password) = &record.password else { return Ok(None) };
        let hash = PasswordHash::parse(password.clone()).map_err(|_| StoreError::Malformed)?;
        Ok(Some((record.account(id), hash)))
    }

    /// All accounts, by login.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self) -> Result<Vec<Account>, StoreError> {
        self.store
            .write(Durability::None, |transaction, keyring| {
                let table = transaction.open_table(ACCOUNTS)?;
                let mut accounts = Vec::new();
                for row in table.iter()? {
                    let (id, sealed) = row?;
                    let id = Uuid::from_u128(id.value());
                    accounts.push(open(keyring, id, sealed.value())?.account(id));
                }
                accounts.sort_by(|a, b| a.login.cmp(&b.login));
                Ok(accounts)
            })
            .await
    }

    /// Changes roles, groups or suspension, and answers the account as it is now.
    ///
    /// # Errors
    /// When the store fails; then nothing changed.
    pub async fn change(&self, id: Uuid, change: AccountChange) -> Result<Option<Account>, StoreError> {
        self.update(id, move |record| {
            let AccountChange { roles, groups, suspended } = change;
            record.roles = roles.unwrap_or_else(|| std::mem::take(&mut record.roles));
            record.groups = groups.unwrap_or_else(|| std::mem::take(&mut record.groups));
            record.suspended = suspended.unwrap_or(record.suspended);
        })
        .await
    }

    /// Sets another password. Ending the account's sessions is the caller's decision.
    ///
    /// # Errors
    /// When the account has none, or the store fails; then all is as it was.
    pub async fn set_password(
        &self,
        id: Uuid,
        password: PasswordHash,
        now: UnixMillis,
    ) -> Result<Option<Account>, AccountError> {
        if self.find(id).await?.is_some_and(|account| account.origin.is_some()) {
            return Err(AccountError::Federated);
        }
        let changed = self.update(id, move |record| {
            record.password = Some(password.as_str().to_owned());
            record.password_changed_at = now;
        });
        Ok(changed.await?)
    }

    /// Removes an account for good. Ending its sessions is the caller's duty.
    ///
    /// # Errors
    /// When the store fails; then it is still there.
    pub async fn remove(&self, id: Uuid) -> Result<Option<Account>, StoreError> {
        self.store
            .write(Durability::Immediate, move |transaction, keyring| {
                let mut table = transaction.open_table(ACCOUNTS)?;
                let Some(sealed) = table.remove(id.as_u128())? else { return Ok(None) };
                Ok(Some(open(keyring, id, sealed.value())?.account(id)))
            })
            .await
            .inspect(|_| self.store.changes().tell(Change::Account(id)))
    }

    fn load(&self, id: Uuid) -> Result<Option<Record>, StoreError> {
        let keyring = self.store.keyring();
        self.store.read(|transaction| {
            let table = transaction.open_table(ACCOUNTS)?;
            let sealed = table.get(id.as_u128())?;
            sealed.map(|sealed| open(keyring, id, sealed.value())).transpose()
        })
    }

    async fn update(
        &self,
        id: Uuid,
        change: impl FnOnce(&mut Record) + Send + 'static,
    ) -> Result<Option<Account>, StoreError> {
        self.store
            .write(Durability::Immediate, move |transaction, keyring| {
                let mut table = transaction.open_table(ACCOUNTS)?;
                let Some(mut record) =
                    table.get(id.as_u128())?.map(|sealed| open(keyring, id, sealed.value())).transpose()?
                else {
                    return Ok(None);
                };
                change(&mut record);
                record.version += 1;
                put(&mut table, keyring, id, &record)?;
                Ok(Some(record.account(id)))
            })
            .await
            .inspect(|_| self.store.changes().tell(Change::Account(id)))
    }
}

impl From<StoreError> for AccountError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Record {
    fn account(&self, id: Uuid) -> Account {
        Account {
            id,
            login: self.login.clone(),
            origin: self.origin.clone(),
            roles: self.roles.clone(),
            groups: self.groups.clone(),
            suspended: self.suspended,
            created_at: self.created_at,
            password_changed_at: self.password_changed_at,
            version: self.version,
            vouched_at: self.vouched_at,
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.password);
    }
}

/// Makes the table, so that readers find it.
pub(crate) fn prepare(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(ACCOUNTS)?;
    Ok(())
}

fn put(
    table: &mut Table<'_, u128, &'static [u8]>,
    keyring: &Keyring,
    id: Uuid,
    record: &Record,
) -> Result<(), StoreError> {
    let text = zeroize::Zeroizing::new(serde_json::to_vec(record).map_err(|_| StoreError::Malformed)?);
    let sealed = seal(keyring, Purpose::AccountRecord, id.as_bytes(), &text).map_err(StoreError::Seal)?;
    table.insert(id.as_u128(), sealed.as_slice())?;
    Ok(())
}

fn open(keyring: &Keyring, id: Uuid, sealed: &[u8]) -> Result<Record, StoreError> {
    let text = unseal(keyring, Purpose::AccountRecord, id.as_bytes(), sealed).map_err(StoreError::Unseal)?;
    serde_json::from_slice(&text).map_err(|_| StoreError::Malformed)
}
