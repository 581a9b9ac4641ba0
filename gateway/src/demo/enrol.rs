//! Who the demo knows: an account for each role and one service, made at the first start and kept.

use std::collections::BTreeSet;

use engine::time::UnixMillis;
use storage::credentials::{
    AccountError, Accounts, ApiKeys, Login, LoginError, NewAccount, NewApiKey, PasswordError, PasswordHash,
};
use storage::{Secret, Store, StoreError};

use super::credentials::{ACCOUNTS, Account, Credentials, SERVICE, SERVICE_ROLE, Service};
use super::directory::{DirectoryError, random_password};

/// Why an account or the service could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The system gives no random bytes.
    #[error(transparent)]
    Random(#[from] DirectoryError),
    /// A login of the table is none.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// A password could not be hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The account could not be stored.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The store failed.
    #[error("the demo's accounts cannot be read or written")]
    Store(#[from] StoreError),
}

/// Everybody who can get in.
pub struct Enrolled {
    /// People.
    pub accounts: Vec<Account>,
    /// Programs.
    pub services: Vec<Service>,
}

/// Makes what is missing and keeps what `earlier` tells the secret of. What is there without anybody knowing its
/// secret (a start that was cut short, a lost `demo.json`) gets a new one.
///
/// `progress` hears before each new account how many of how many stand; a new one costs a password hash, some 20 ms.
///
/// # Errors
/// The store fails, or there is neither memory nor randomness for a password.
pub async fn enrol(
    store: &Store,
    earlier: Option<&Credentials>,
    now: UnixMillis,
    mut progress: impl FnMut(usize, usize),
) -> Result<Enrolled, EnrolError> {
    let accounts = Accounts::new(store.clone());
    let mut enrolled = Vec::with_capacity(ACCOUNTS.len());
    for (done, (role, _)) in ACCOUNTS.iter().enumerate() {
        let known =
            earlier.and_then(|earlier| earlier.accounts.iter().find(|account| account.login == *role));
        let making = || progress(done, ACCOUNTS.len());
        enrolled.push(account(&accounts, role, known, now, making).await?);
    }
    let known = earlier.and_then(|earlier| earlier.services.iter().find(|service| service.name == SERVICE));
    let service = service(&ApiKeys::new(store.clone()), known, now).await?;
    Ok(Enrolled { accounts: enrolled, services: vec![service] })
}

async fn account(
    accounts: &Accounts,
    role: &str,
    known: Option<&Account>,
    now: UnixMillis,
    making: impl FnOnce(),
) -> Result<Account, EnrolError> {
    let login = Login::parse(role)?;
    let found = accounts.find(login.account_id()).await?;
    if let (Some(_), Some(known)) = (&found, known) {
        return Ok(known.clone());
    }
    making();
    let password = random_password()?;
    let hash = PasswordHash::new(&Secret::new(password.to_string()))?;
    match found {
        Some(found) => drop(accounts.set_password(found.id, hash, now).await?),
        None => {
            let roles = BTreeSet::from([role.to_owned()]);
            drop(
                accounts
                    .create(NewAccount { login, password: hash, roles, groups: BTreeSet::new() }, now)
                    .await?,
            );
        }
    }
    Ok(Account { login: role.to_owned(), password: password.to_string(), roles: vec![role.to_owned()] })
}

async fn service(keys: &ApiKeys, known: Option<&Service>, now: UnixMillis) -> Result<Service, EnrolError> {
    if let Some(known) = known
        && keys.find(&known.api_key, now).await?.is_some()
    {
        return Ok(known.clone());
    }
    let name = Login::parse(SERVICE)?;
    // A key that nobody knows any more must not go on to hold.
    for key in keys.list().await?.into_iter().filter(|key| key.service == name && key.is_live(now)) {
        keys.revoke(key.id, now).await?;
    }
    let new = NewApiKey {
        service: name,
        roles: BTreeSet::from([SERVICE_ROLE.to_owned()]),
        groups: BTreeSet::new(),
        scopes: BTreeSet::from(["*".to_owned()]),
        expires_at: None,
    };
    let created = keys.create(new, now).await?;
    Ok(Service { name: SERVICE.to_owned(), api_key: created.text.expose().clone() })
}

#[cfg(test)]
mod tests {
    use storage::Keyring;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn credentials(enrolled: &Enrolled) -> Credentials {
        Credentials {
            gateway: String::new(),
            admin: String::new(),
            audit_log: String::new(),
            accounts: enrolled.accounts.clone(),
            services: enrolled.services.clone(),
        }
    }

    #[tokio::test]
    async fn a_second_start_knows_whom_the_first_one_made() {
        let store = Store::in_memory(&Keyring::from_master(&[7; 32])).unwrap();
        let mut told = Vec::new();
        let first = enrol(&store, None, NOW, |done, all| told.push((done, all))).await.unwrap();
        assert_eq!((told.first(), told.last()), (Some(&(0, 17)), Some(&(16, 17))));
        let passwords: BTreeSet<_> = first.accounts.iter().map(|account| &account.password).collect();
        assert_eq!(passwords.len(), ACCOUNTS.len());

        let mut made = 0;
        let second = enrol(&store, Some(&credentials(&first)), NOW, |_, _| made += 1).await.unwrap();
        assert_eq!(made, 0);
        assert_eq!(second.accounts[0].password, first.accounts[0].password);
        assert_eq!(second.services[0].api_key, first.services[0].api_key);

        // Without `demo.json` nobody knows them any more, so all are new and the old key is dead.
        let third = enrol(&store, None, NOW, |_, _| {}).await.unwrap();
        assert_ne!(third.accounts[0].password, first.accounts[0].password);
        let keys = ApiKeys::new(store.clone());
        assert!(keys.find(&first.services[0].api_key, NOW).await.unwrap().is_none());
        let live = keys.find(&third.services[0].api_key, NOW).await.unwrap().unwrap();
        assert_eq!(live.roles, BTreeSet::from([SERVICE_ROLE.to_owned()]));
        assert_eq!(Accounts::new(store).list().await.unwrap().len(), ACCOUNTS.len());
    }
}
