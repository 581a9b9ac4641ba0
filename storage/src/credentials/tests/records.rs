//! What accounts and API keys keep wherever they lie: in a gateway's own store, and where gateways share them.

use engine::identity::{LOCAL_ISSUER, PrincipalKind, principal_id};
use tokio::sync::broadcast::Receiver;
use uuid::Uuid;

use super::*;
use crate::Change;

/// Accounts and keys, and where changes of them are told.
pub(super) struct Kept {
    pub(super) kept: &'static str,
    pub(super) accounts: Accounts,
    pub(super) keys: ApiKeys,
    pub(super) told: Receiver<Change>,
    _shared: Option<(Server, Arc<Sessions>)>,
}

/// For each place that they are kept in.
async fn places() -> [Kept; 2] {
    let server = Server::start();
    let sessions = up(&server, &keyring(), SESSIONS).await;
    let store = Store::in_memory(&keyring()).unwrap();
    let alone = Kept {
        kept: "alone",
        accounts: Accounts::new(store.clone()),
        keys: ApiKeys::new(store.clone()),
        told: store.changes().listen(),
        _shared: None,
    };
    let shared = Kept {
        kept: "shared",
        accounts: Accounts::shared(&sessions).unwrap(),
        keys: ApiKeys::shared(&sessions).unwrap(),
        told: sessions.changes().listen(),
        _shared: Some((server, sessions)),
    };
    [alone, shared]
}

impl Kept {
    /// What was told so far, each once: a shared change is told where it is made and heard, too.
    fn told(&mut self) -> Vec<Change> {
        let mut all: Vec<Change> = std::iter::from_fn(|| self.told.try_recv().ok()).collect();
        all.dedup();
        all
    }
}

#[tokio::test]
async fn accounts_are_found_changed_and_removed() {
    for mut place in places().await {
        let (kept, accounts) = (place.kept, place.accounts.clone());
        let ada = accounts.create(account("Ada"), NOW).await.unwrap();
        assert_eq!(ada.id, principal_id(PrincipalKind::User, LOCAL_ISSUER, "ada"), "{kept}");
        let again = accounts.create(account("aDA"), NOW).await;
        assert!(matches!(again, Err(AccountError::LoginTaken)), "{kept}: {again:?}");
        let bob = accounts.create(account("bob"), NOW).await.unwrap();
        assert_eq!(accounts.list().await.unwrap(), [ada.clone(), bob.clone()], "{kept}");
        assert_eq!(place.told(), [], "{kept}: nobody rests on what is new");

        let found = accounts.find(ada.id).await.unwrap().unwrap();
        let again = accounts.find(ada.id).await.unwrap().unwrap();
        assert!(Arc::ptr_eq(&found, &again), "{kept}: the same while it has not changed");
        let change = AccountChange { suspended: Some(true), ..AccountChange::default() };
        let changed = accounts.change(ada.id, change).await.unwrap().unwrap();
        let expected = Account { suspended: true, version: ada.version + 1, ..ada.clone() };
        assert_eq!(changed, expected, "{kept}: nothing else changed, and the version rose");
        assert_eq!(accounts.find(ada.id).await.unwrap().as_deref(), Some(&expected), "{kept}");
        let hash = PasswordHash::new(&secret("another good password")).unwrap();
        let changed = accounts.set_password(bob.id, hash, NOW.plus(5)).await.unwrap().unwrap();
        assert_eq!((changed.password_changed_at, changed.version), (NOW.plus(5), 2), "{kept}");
        assert_eq!(place.told(), [Change::Account(ada.id), Change::Account(bob.id)], "{kept}");

        assert_eq!(accounts.remove(ada.id).await.unwrap(), Some(expected), "{kept}");
        assert_eq!(place.told(), [Change::Account(ada.id)], "{kept}");
        assert_eq!(accounts.find(ada.id).await.unwrap(), None, "{kept}");
        let unknown = [
            accounts.remove(ada.id).await.unwrap(),
            accounts.change(ada.id, AccountChange::default()).await.unwrap(),
        ];
        assert_eq!(unknown, [None, None], "{kept}");
        assert_eq!(accounts.list().await.unwrap().len(), 1, "{kept}");
        accounts.create(account("ada"), NOW).await.unwrap();
    }
}

#[tokio::test]
async fn keys_hold_until_they_are_revoked_or_over() {
    for mut place in places().await {
        let (kept, keys) = (place.kept, place.keys.clone());
        let forever = keys.create(key("importer", None), NOW).await.unwrap();
        let brief = keys.create(key("importer", Some(NOW.plus(1_000))), NOW.plus(1)).await.unwrap();
        let text = forever.text.expose().clone();
        assert_eq!(keys.find(&text, NOW).await.unwrap(), Some(forever.key.clone()), "{kept}");
        assert_eq!(keys.find(brief.text.expose(), NOW.plus(1_000)).await.unwrap(), None, "{kept}: over");
        let (head, tail) = text.split_at(26);
        let other = brief.text.expose().split_at(26).1;
        for wrong in [format!("{head}{other}"), format!("cgk_{}{tail}", "A".repeat(22)), String::new()] {
            assert_eq!(keys.find(&wrong, NOW).await.unwrap(), None, "{kept}: {wrong}");
        }
        assert_eq!(keys.live(forever.key.id, NOW).await.unwrap(), Some(forever.key.clone()), "{kept}");
        assert_eq!(place.told(), [], "{kept}");

        let revoked = keys.revoke(forever.key.id, NOW.plus(5)).await.unwrap().unwrap();
        let again = keys.revoke(forever.key.id, NOW.plus(9)).await.unwrap().unwrap();
        let first = (revoked.revoked_at, again.revoked_at);
        assert_eq!(first, (Some(NOW.plus(5)), Some(NOW.plus(5))), "{kept}: the first revocation counts");
        assert_eq!(place.told(), [Change::ApiKey(forever.key.id)], "{kept}");
        assert_eq!(keys.find(&text, NOW.plus(6)).await.unwrap(), None, "{kept}");
        assert_eq!(keys.live(forever.key.id, NOW).await.unwrap(), None, "{kept}");
        assert_eq!(keys.revoke(Uuid::nil(), NOW).await.unwrap(), None, "{kept}");
        let ids: Vec<_> = keys.list().await.unwrap().iter().map(|key| key.id).collect();
        assert_eq!(ids, [forever.key.id, brief.key.id], "{kept}");
    }
}

#[tokio::test]
async fn threat_09_a_person_of_a_provider_is_who_the_latest_word_says_and_stays_suspended() {
    for mut place in places().await {
        let (kept, accounts) = (place.kept, place.accounts.clone());
        let said = |roles: &[&str]| Person {
            origin: Origin::new("https://id.example", "ada").unwrap(),
            login: login("corp:ada"),
            roles: set(roles),
            groups: set(&[]),
        };
        let met = accounts.met(&said(&["viewer"]), NOW).await.unwrap();
        assert_eq!(accounts.vouched(said(&["viewer"]), NOW.plus(9)).await.unwrap(), *met, "{kept}");
        let later = accounts.learnt(&said(&["viewer"]), NOW.plus(9)).await.unwrap();
        assert_eq!((later.version, later.vouched_at), (1, Some(NOW.plus(9))), "{kept}");
        let older = accounts.learnt(&said(&["global_admin"]), NOW.plus(5)).await.unwrap();
        assert_eq!(older.roles, set(&["viewer"]), "{kept}: a session of before takes nothing back");
        assert_eq!(place.told(), [], "{kept}: nobody is what they were not");
        let change = AccountChange { suspended: Some(true), ..AccountChange::default() };
        accounts.change(met.id, change).await.unwrap();
        let changed = accounts.vouched(said(&["analyst"]), NOW.plus(10)).await.unwrap();
        assert_eq!((&changed.roles, changed.suspended), (&set(&["analyst"]), true), "{kept}");
        assert_eq!(place.told(), [Change::Account(met.id)], "{kept}");
    }
}

/// Two changes at once both hold: neither is made of what was read before the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_at_once_all_hold() {
    const TIMES: u64 = 24;
    for place in places().await {
        let ada = place.accounts.create(account("ada"), NOW).await.unwrap().id;
        let changes: Vec<_> = (0..TIMES)
            .map(|number| {
                let accounts = place.accounts.clone();
                tokio::spawn(async move {
                    let roles = (number % 3 == 0).then(|| set(&["analyst"]));
                    let groups = (number % 3 == 1).then(|| set(&["guests"]));
                    let suspended = (number % 3 == 2).then_some(true);
                    loop {
                        let change =
                            AccountChange { roles: roles.clone(), groups: groups.clone(), suspended };
                        match accounts.change(ada, change).await {
                            Err(crate::StoreError::Contested) => {}
                            changed => return changed.unwrap().unwrap(),
                        }
                    }
                })
            })
            .collect();
        for change in changes {
            change.await.unwrap();
        }
        let now = place.accounts.find(ada).await.unwrap().unwrap();
        assert_eq!((&now.roles, &now.groups, now.suspended), (&set(&["analyst"]), &set(&["guests"]), true));
        assert_eq!(now.version, 1 + TIMES, "{}: none was lost", place.kept);
    }
}

pub(super) fn key(service: &str, expires_at: Option<UnixMillis>) -> NewApiKey {
    NewApiKey {
        service: login(service),
        roles: set(&["standard_user"]),
        groups: set(&[]),
        scopes: set(&["docs.*"]),
        expires_at,
    }
}
