//! Accounts and API keys on disk.

use engine::identity::{LOCAL_ISSUER, PrincipalKind, principal_id};
use uuid::Uuid;

use super::*;

#[tokio::test]
async fn accounts_are_kept_changed_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let accounts = Accounts::new(store(home.path()));
    let ada = accounts.create(account("Ada"), NOW).await.unwrap();
    assert_eq!(ada.id, principal_id(PrincipalKind::User, LOCAL_ISSUER, "ada"));
    let again = accounts.create(account("aDA"), NOW).await;
    assert!(matches!(again, Err(AccountError::LoginTaken)));
    let bob = accounts.create(account("bob"), NOW).await.unwrap();
    drop(accounts);

    let accounts = Accounts::new(store(home.path()));
    assert_eq!(accounts.list().await.unwrap(), [ada.clone(), bob.clone()]);
    let roles = AccountChange { roles: Some(set(&["analyst"])), ..AccountChange::default() };
    let changed = accounts.change(ada.id, roles).await.unwrap().unwrap();
    let expected = Account { roles: set(&["analyst"]), version: ada.version + 1, ..ada.clone() };
    assert_eq!(changed, expected, "nothing else changed, and the version rose");
    assert_eq!(accounts.find(ada.id).await.unwrap().as_deref(), Some(&expected));
    let later = NOW.plus(5);
    let hash = PasswordHash::new(&secret("another good password")).unwrap();
    let changed = accounts.set_password(bob.id, hash, later).await.unwrap().unwrap();
    assert_eq!((changed.password_changed_at, changed.version), (later, 2));

    assert_eq!(accounts.remove(ada.id).await.unwrap().map(|account| account.id), Some(ada.id));
    assert_eq!(accounts.find(login("ada").account_id()).await.unwrap(), None);
    let unknown = [
        accounts.remove(ada.id).await.unwrap(),
        accounts.change(ada.id, AccountChange::default()).await.unwrap(),
    ];
    assert_eq!(unknown, [None, None]);
}

#[tokio::test]
async fn an_api_key_is_shown_once_and_holds_until_it_ends() {
    let home = tempfile::tempdir().unwrap();
    let keys = ApiKeys::new(store(home.path()));
    let new = |service: &str, expires_at| NewApiKey {
        service: login(service),
        roles: set(&["standard_user"]),
        groups: set(&[]),
        scopes: set(&["docs.*"]),
        expires_at,
    };
    let forever = keys.create(new("Importer", None), NOW).await.unwrap();
    let brief = keys.create(new("importer", Some(NOW.plus(1_000))), NOW.plus(1)).await.unwrap();
    let text = forever.text.expose().clone();
    assert!(text.starts_with(API_KEY_PREFIX) && text.len() == 69);
    assert_eq!(forever.key.service_id, brief.key.service_id, "keys of one service are one principal");
    assert_eq!(keys.find(&text, NOW).await.unwrap(), Some(forever.key.clone()));
    assert_eq!(keys.find(brief.text.expose(), NOW.plus(999)).await.unwrap(), Some(brief.key.clone()));
    assert_eq!(keys.find(brief.text.expose(), NOW.plus(1_000)).await.unwrap(), None, "expired");

    let (head, tail) = text.split_at(26);
    let other_tail = brief.text.expose().split_at(26).1;
    let wrong = [
        ("another key's secret", format!("{head}{other_tail}")),
        ("an unknown id", format!("cgk_{}{tail}", "A".repeat(22))),
        ("another case", text.to_uppercase()),
        ("one character more", format!("{text}A")),
        ("one less", text.split_at(68).0.to_owned()),
        ("stray bits", format!("{}B", text.split_at(68).0)),
        ("no prefix", text.split_at(4).1.to_owned()),
        ("nothing", String::new()),
        ("not ASCII at the seams", format!("cgk_{}é{}", "A".repeat(21), "A".repeat(42))),
    ];
    for (name, text) in wrong {
        assert_eq!(keys.find(&text, NOW).await.unwrap(), None, "{name}");
    }

    let revoked = keys.revoke(forever.key.id, NOW.plus(5)).await.unwrap().unwrap();
    assert_eq!(revoked.revoked_at, Some(NOW.plus(5)));
    let again = keys.revoke(forever.key.id, NOW.plus(9)).await.unwrap().unwrap();
    assert_eq!(again.revoked_at, Some(NOW.plus(5)), "the first revocation counts");
    assert_eq!(keys.find(&text, NOW.plus(6)).await.unwrap(), None);
    assert_eq!(keys.revoke(Uuid::nil(), NOW).await.unwrap(), None);
    let ids: Vec<_> = keys.list().await.unwrap().iter().map(|key| key.id).collect();
    assert_eq!(ids, [forever.key.id, brief.key.id]);
    drop(keys);

    let rotated = Keyring::from_master(&[2; 32]).with_old(&[1; 32]);
    let keys = ApiKeys::new(Store::open(home.path(), &rotated, Mark::Production).unwrap());
    assert!(keys.find(brief.text.expose(), NOW).await.unwrap().is_some(), "a key outlives a rotation");
    drop(keys);
    let file = std::fs::read(home.path().join("store/store.redb")).unwrap();
    for needle in [&text, tail, "importer", "argon2"] {
        assert!(!file.windows(needle.len()).any(|window| window == needle.as_bytes()), "{needle}");
    }
}

fn person(issuer: &str, subject: &str, roles: &[&str]) -> Person {
    let origin = Origin::new(issuer, subject).unwrap();
    Person { origin, login: login(&format!("corp:{subject}")), roles: set(roles), groups: set(&[]) }
}

#[tokio::test]
async fn threat_09_people_of_a_provider_are_accounts_without_a_password_of_their_own() {
    let home = tempfile::tempdir().unwrap();
    let store_of_all = store(home.path());
    let mut told = store_of_all.changes().listen();
    let accounts = Accounts::new(store_of_all);
    let issuer = "https://id.example";
    let ada = accounts.vouched(person(issuer, "ada", &["viewer"]), NOW).await.unwrap();
    assert_eq!(ada.id, principal_id(PrincipalKind::User, issuer, "ada"));
    assert_eq!((ada.roles.clone(), ada.version, ada.created_at), (set(&["viewer"]), 1, NOW));
    // The same subject of another issuer, and a local login of that name, are others.
    let other = accounts.vouched(person("https://id.example/", "ada", &[]), NOW).await.unwrap();
    let local = accounts.create(account("ada"), NOW).await.unwrap();
    let shown = accounts.create(account("corp:ada"), NOW).await.unwrap();
    let ids: BTreeSet<_> = [ada.id, other.id, local.id, shown.id].into();
    assert_eq!(ids.len(), 4);

    // Nothing new is no change; what the provider says today replaces what it said before.
    let again = accounts.vouched(person(issuer, "ada", &["viewer"]), NOW.plus(9)).await.unwrap();
    assert_eq!(again, ada);
    assert!(told.try_recv().is_err(), "nothing changed");
    let suspended = AccountChange { suspended: Some(true), ..AccountChange::default() };
    accounts.change(ada.id, suspended).await.unwrap();
    let changed = accounts.vouched(person(issuer, "ada", &["analyst"]), NOW.plus(9)).await.unwrap();
    assert_eq!((changed.roles.clone(), changed.suspended, changed.version), (set(&["analyst"]), true, 3));
    let heard: Vec<_> = std::iter::from_fn(|| told.try_recv().ok()).collect();
    assert_eq!(heard, [crate::Change::Account(ada.id); 2]);

    // No password, and none can be given.
    let hash = || PasswordHash::new(&secret(PASSWORD)).unwrap();
    let refused = accounts.set_password(ada.id, hash(), NOW).await;
    assert!(matches!(refused, Err(AccountError::Federated)), "{refused:?}");
    drop(accounts);
    let accounts = Accounts::new(store(home.path()));
    assert_eq!(accounts.find(ada.id).await.unwrap().as_deref(), Some(&changed));
    assert_eq!(accounts.remove(ada.id).await.unwrap(), Some(changed));
}

#[test]
fn subjects_have_bounds() {
    let check = |issuer: &str, subject: &str, expected: Result<(), PersonError>| {
        assert_eq!(Origin::new(issuer, subject).map(|_| ()), expected, "{issuer} {subject}");
    };
    check("https://id.example", "a", Ok(()));
    check("https://id.example", &"~ ".repeat(127), Ok(()));
    check("https://id.example", "", Err(PersonError::Subject));
    check("https://id.example", &"a".repeat(SUBJECT_BYTES_MAX + 1), Err(PersonError::Subject));
    check("https://id.example", "a\u{7f}", Err(PersonError::Subject));
    check("https://id.example", "ada\n", Err(PersonError::Subject));
    check("https://id.example", "äda", Err(PersonError::Subject));
    check("", "a", Err(PersonError::Issuer));
    check(&"i".repeat(1025), "a", Err(PersonError::Issuer));
}

#[tokio::test]
async fn threat_09_who_has_signed_in_at_another_gateway_is_who_the_latest_sign_in_says() {
    let home = tempfile::tempdir().unwrap();
    let store_of_all = store(home.path());
    let mut told = store_of_all.changes().listen();
    let accounts = Accounts::new(store_of_all);
    let said = |roles: &[&str]| person("https://id.example", "ada", roles);
    let met = accounts.learnt(&said(&["viewer"]), NOW.plus(5)).await.unwrap();
    assert_eq!((met.id, &met.roles), (said(&[]).origin.account_id(), &set(&["viewer"])));
    assert_eq!((met.created_at, met.vouched_at), (NOW.plus(5), Some(NOW.plus(5))));
    // A session of before, with what the provider said then, takes nothing back.
    let older = accounts.learnt(&said(&["global_admin"]), NOW).await.unwrap();
    assert_eq!(met, older);
    assert!(told.try_recv().is_err(), "nobody is what they were not");
    // One of later says the same, and is remembered to be later.
    let same = accounts.learnt(&said(&["viewer"]), NOW.plus(9)).await.unwrap();
    assert_eq!((same.version, same.vouched_at), (met.version, Some(NOW.plus(9))));
    assert_eq!(accounts.learnt(&said(&["analyst"]), NOW.plus(7)).await.unwrap().roles, set(&["viewer"]));
    assert!(told.try_recv().is_err());
    let suspended = AccountChange { suspended: Some(true), ..AccountChange::default() };
    accounts.change(met.id, suspended).await.unwrap();
    let later = accounts.learnt(&said(&["analyst"]), NOW.plus(10)).await.unwrap();
    assert_eq!((&later.roles, later.suspended), (&set(&["analyst"]), true), "suspended it stays");
    let heard: Vec<_> = std::iter::from_fn(|| told.try_recv().ok()).collect();
    assert_eq!(heard, [crate::Change::Account(met.id); 2]);
    // Signing in here is a sign-in like any other.
    let here = accounts.vouched(said(&["viewer"]), NOW.plus(20)).await.unwrap();
    assert_eq!(here.vouched_at, Some(NOW.plus(20)));
    let before = accounts.learnt(&said(&["analyst"]), NOW.plus(10)).await.unwrap();
    assert_eq!(before.roles, set(&["viewer"]));
}
