//! Accounts: people who sign in with a password here, and people whom an identity provider vouches for.

mod federated;

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::time::UnixMillis;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::records::{Becomes, Kind, Records};
use super::{Login, PasswordHash};
use crate::opened::Opened;
use crate::recent::Recent;
use crate::sessions::Sessions;
use crate::{Store, StoreError};
pub use federated::{Origin, Person, PersonError, SUBJECT_BYTES_MAX};

/// The accounts, in the embedded store or beside the sessions that gateways share. Cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    records: Records,
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

#[derive(Clone, Serialize, Deserialize)]
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
        Self::of(Records::embedded(Kind::Account, store))
    }

    /// The accounts beside the sessions that gateways share; nothing where those are not shared.
    #[must_use]
    pub fn shared(sessions: &Sessions) -> Option<Self> {
        Records::shared(Kind::Account, sessions).map(Self::of)
    }

    fn of(records: Records) -> Self {
        Self { records, opened: Arc::new(Opened::new()), recent: Arc::new(Recent::new()) }
    }

    /// Creates an account; it is kept when this returns.
    ///
    /// # Errors
    /// When the login is taken or the store fails.
    pub async fn create(&self, new: NewAccount, now: UnixMillis) -> Result<Account, AccountError> {
        let id = new.login.account_id();
        self.records
            .update(id, move |known: Option<Record>| {
                if known.is_some() {
                    return Err(AccountError::LoginTaken);
                }
                let record = Record {
                    login: new.login.clone(),
                    origin: None,
                    password: Some(new.password.as_str().to_owned()),
                    roles: new.roles.clone(),
                    groups: new.groups.clone(),
                    suspended: false,
                    created_at: now,
                    password_changed_at: now,
                    version: 1,
                    vouched_at: None,
                };
                let account = record.account(id);
                Ok(Becomes::Anew(record, account))
            })
            .await
    }

    /// The account of an id, as it is at this moment, or was within the last second where another gateway changes it; the
    /// same allocation while it has not changed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find(&self, id: Uuid) -> Result<Option<Arc<Account>>, StoreError> {
        let epoch = self.records.epoch();
        if let Some(account) = epoch.and_then(|epoch| self.recent.get(&id, epoch)) {
            return Ok(Some(account));
        }
        let found = self.records.look(id, |sealed| {
            let open = || Ok::<_, StoreError>(Arc::new(self.records.open::<Record>(id, sealed)?.account(id)));
            self.opened.get(id, sealed, open)
        });
        let found = found.await?;
        if let (Some(account), Some(epoch)) = (&found, epoch) {
            self.recent.put(id, epoch, Arc::clone(account));
        }
        Ok(found)
    }

    /// The account of a login, and the hash of its password. One that is not there costs what one that is does.
    pub(super) async fn find_with_password(
        &self,
        login: &Login,
    ) -> Result<Option<(Account, PasswordHash)>, StoreError> {
        let id = login.account_id();
        let Some(record) = self.records.load_anew::<Record>(id).await? else { return Ok(None) };
        let Some(password) = &record.password else { return Ok(None) };
        let hash = PasswordHash::parse(password.clone()).map_err(|_| StoreError::Malformed)?;
        Ok(Some((record.account(id), hash)))
    }

    /// All accounts, by login.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self) -> Result<Vec<Account>, StoreError> {
        let mut accounts = self.records.list(|id, record: &Record| record.account(id)).await?;
        accounts.sort_by(|a, b| a.login.cmp(&b.login));
        Ok(accounts)
    }

    /// Changes roles, groups or suspension, and answers the account as it is now.
    ///
    /// # Errors
    /// When the store fails; then nothing changed.
    pub async fn change(&self, id: Uuid, change: AccountChange) -> Result<Option<Account>, StoreError> {
        self.update(id, move |record| {
            let AccountChange { roles, groups, suspended } = &change;
            record.roles = roles.clone().unwrap_or_else(|| std::mem::take(&mut record.roles));
            record.groups = groups.clone().unwrap_or_else(|| std::mem::take(&mut record.groups));
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
        self.records.remove(id, move |record: &Record| record.account(id)).await
    }

    /// Waits until whatever was done to accounts until now would survive the loss of one server, where that is wanted; whether
    /// it is. For who says a removal again that was not known to last, when there is no account any more.
    ///
    /// # Errors
    /// When the store fails, or too few of its replicas have it.
    pub async fn settled(&self) -> Result<bool, StoreError> {
        self.records.settled().await
    }

    /// Moves all of these to where gateways share theirs, and answers how many there were. An account that is there already
    /// stays as it is; whom either has suspended is suspended. What was interrupted goes on when it is done again.
    ///
    /// # Errors
    /// When a store fails; then some may have been moved.
    pub async fn bring(&self, to: &Self) -> Result<usize, StoreError> {
        let takes_over = |own: &Record, known: &mut Record| {
            let suspends = own.suspended && !known.suspended;
            if suspends {
                known.suspended = true;
                known.version += 1;
            }
            suspends
        };
        self.records.bring(&to.records, takes_over).await
    }

    async fn update(
        &self,
        id: Uuid,
        change: impl Fn(&mut Record) + Send + 'static,
    ) -> Result<Option<Account>, StoreError> {
        self.records
            .update(id, move |known: Option<Record>| {
                let Some(mut record) = known else { return Ok(Becomes::Kept(None)) };
                change(&mut record);
                record.version += 1;
                let account = record.account(id);
                Ok(Becomes::Otherwise(record, Some(account)))
            })
            .await
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
