//! Accounts of people whom an identity provider vouches for.
//!
//! Their id follows from issuer and subject alone (threat 9), so no provider can speak for a person of another, and no
//! person of a provider for a local one. They have no password, and roles and groups are what the provider said last.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::identity::{PrincipalKind, principal_id};
use engine::time::UnixMillis;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Account, Accounts, Record};
use crate::StoreError;
use crate::credentials::Login;
use crate::credentials::records::Becomes;

/// Bytes of a subject: OpenID Connect Core 1.0, section 2, allows 255 ASCII characters.
pub const SUBJECT_BYTES_MAX: usize = 255;

/// Bytes of an issuer; URLs that people configure are shorter by far.
const ISSUER_BYTES_MAX: usize = 1024;

/// Who vouches for a person, and as whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Named", into = "Named")]
pub struct Origin {
    named: Named,
    /// Follows from the names by a hash that costs more than finding the account does, and every request by a token needs it.
    account_id: Uuid,
}

/// An origin as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Named {
    issuer: String,
    subject: String,
}

impl From<Named> for Origin {
    fn from(named: Named) -> Self {
        let account_id = principal_id(PrincipalKind::User, &named.issuer, &named.subject);
        Self { named, account_id }
    }
}

impl From<Origin> for Named {
    fn from(origin: Origin) -> Self {
        origin.named
    }
}

/// Why nobody can be vouched for so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PersonError {
    /// The subject is empty, too long, or not of printable ASCII.
    #[error("a subject is 1 to {SUBJECT_BYTES_MAX} printable ASCII characters")]
    Subject,
    /// The issuer is empty or too long.
    #[error("an issuer has 1 to {ISSUER_BYTES_MAX} bytes")]
    Issuer,
}

/// What a provider says of a person who signs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Who says so, and of whom.
    pub origin: Origin,
    /// The name to show the account by.
    pub login: Login,
    /// Roles that the provider may assert and does.
    pub roles: BTreeSet<String>,
    /// Groups, likewise.
    pub groups: BTreeSet<String>,
}

impl Origin {
    /// An origin within its bounds.
    ///
    /// # Errors
    /// See [`PersonError`].
    pub fn new(issuer: &str, subject: &str) -> Result<Self, PersonError> {
        if issuer.is_empty() || issuer.len() > ISSUER_BYTES_MAX {
            return Err(PersonError::Issuer);
        }
        let printable = subject.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX || !printable {
            return Err(PersonError::Subject);
        }
        Ok(Named { issuer: issuer.to_owned(), subject: subject.to_owned() }.into())
    }

    /// Who vouches.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.named.issuer
    }

    /// The person's name at the issuer: stable, and nobody else's there.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.named.subject
    }

    /// The id of the account of this origin, whether there is one or not.
    #[must_use]
    pub const fn account_id(&self) -> Uuid {
        self.account_id
    }
}

impl Accounts {
    /// The account of a person who has signed in at a provider, as it is from now on: made where there is none, with the
    /// name, roles and groups that the provider says today. A suspended one stays suspended.
    ///
    /// # Errors
    /// When the store fails; then nothing changed.
    pub async fn vouched(&self, person: Person, now: UnixMillis) -> Result<Account, StoreError> {
        let id = person.origin.account_id();
        // Most sign-ins change nothing, and a write waits for the disk.
        if let Some(account) = self.find(id).await?.filter(|account| is_as_said(account, &person)) {
            return Ok(Account::clone(&account));
        }
        self.say(id, move |known| match known {
            None => Said::Anew(new(person.clone(), now)),
            Some(record) => Said::Otherwise(changed(record, person.clone(), now)),
        })
        .await
    }

    /// Makes of what is known of an account what is said of it now. Whoever looks at it is told where that is something else.
    async fn say(
        &self,
        id: Uuid,
        says: impl Fn(Option<Record>) -> Said + Send + 'static,
    ) -> Result<Account, StoreError> {
        self.records
            .update(id, move |known: Option<Record>| {
                Ok(match says(known) {
                    Said::AsKnown(record) => Becomes::Kept(record.account(id)),
                    Said::Anew(record) => {
                        let account = record.account(id);
                        Becomes::Anew(record, account)
                    }
                    Said::Otherwise(record) => {
                        let account = record.account(id);
                        Becomes::Otherwise(record, account)
                    }
                })
            })
            .await
    }
}

impl Accounts {
    /// The account of a person whom a provider names without their signing in here, by an access token for example: as it
    /// is, or made of what the provider says where there is none, so that it can be suspended.
    ///
    /// # Errors
    /// When the store fails; then nothing changed.
    pub async fn met(&self, person: &Person, now: UnixMillis) -> Result<Arc<Account>, StoreError> {
        let id = person.origin.account_id();
        if let Some(account) = self.find(id).await? {
            return Ok(account);
        }
        let person = person.clone();
        let account = self
            .say(id, move |known| match known {
                // Somebody has met them while we waited.
                Some(record) => Said::AsKnown(record),
                None => Said::Anew(new(person.clone(), now)),
            })
            .await?;
        // As every later look-up finds it: the same allocation while it has not changed.
        Ok(self.find(id).await?.unwrap_or_else(|| Arc::new(account)))
    }
}

impl Accounts {
    /// The account of a person who has signed in at another gateway at that moment: made where there is none, and as the
    /// provider said then, unless something later is known. A suspended one stays suspended.
    ///
    /// # Errors
    /// When the store fails; then nothing changed.
    pub async fn learnt(&self, person: &Person, at: UnixMillis) -> Result<Arc<Account>, StoreError> {
        let id = person.origin.account_id();
        if let Some(account) = self.find(id).await?.filter(|account| account.vouched_at >= Some(at)) {
            return Ok(account);
        }
        let person = person.clone();
        let account = self
            .say(id, move |known| match known {
                None => Said::Anew(new(person.clone(), at)),
                // Somebody was here while we waited.
                Some(record) if record.vouched_at >= Some(at) => Said::AsKnown(record),
                Some(mut record) if is_as_said(&record.account(id), &person) => {
                    record.vouched_at = Some(at);
                    Said::Anew(record)
                }
                Some(record) => Said::Otherwise(changed(record, person.clone(), at)),
            })
            .await?;
        // As every later look-up finds it: the same allocation while it has not changed.
        Ok(self.find(id).await?.unwrap_or_else(|| Arc::new(account)))
    }
}

/// What becomes of the record of an account.
enum Said {
    /// It stays.
    AsKnown(Record),
    /// It is written, and nobody rests on what it was.
    Anew(Record),
    /// It is written, and is something else to whoever rests on it.
    Otherwise(Record),
}

fn new(person: Person, now: UnixMillis) -> Record {
    Record {
        login: person.login,
        origin: Some(person.origin),
        password: None,
        roles: person.roles,
        groups: person.groups,
        suspended: false,
        created_at: now,
        password_changed_at: now,
        version: 1,
        vouched_at: Some(now),
    }
}

fn is_as_said(account: &Account, person: &Person) -> bool {
    account.login == person.login && account.roles == person.roles && account.groups == person.groups
}

fn changed(mut record: Record, person: Person, at: UnixMillis) -> Record {
    record.login = person.login;
    record.roles = person.roles;
    record.groups = person.groups;
    record.version += 1;
    record.vouched_at = Some(at);
    record
}
