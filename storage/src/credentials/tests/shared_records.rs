//! Accounts and keys that gateways share, beside what all of them keep.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::sync::broadcast::Receiver;

use super::records::key;
use super::*;
use crate::redis::server::PATIENCE;
use crate::redis::{Answered, Fault, Standing, Waited};
use crate::sessions::redis::testing::{reaches, tended};
use crate::{Change, StoreError};

/// One more gateway.
struct Gateway {
    accounts: Accounts,
    keys: ApiKeys,
    sessions: Arc<Sessions>,
}

impl Gateway {
    async fn of(server: &Server, keyring: &Keyring) -> Self {
        let sessions = up(server, keyring, SESSIONS).await;
        let (accounts, keys) = (Accounts::shared(&sessions).unwrap(), ApiKeys::shared(&sessions).unwrap());
        Self { accounts, keys, sessions }
    }
}

pub(super) fn suspend() -> AccountChange {
    AccountChange { suspended: Some(true), ..AccountChange::default() }
}

async fn heard(told: &mut Receiver<Change>) -> Change {
    tokio::time::timeout(PATIENCE, told.recv()).await.expect("it is told").expect("it listens")
}

#[tokio::test]
async fn threat_14_what_is_taken_away_at_one_gateway_is_gone_at_the_others_and_they_tell_who_rests_on_it() {
    let server = Server::start();
    let rotated = Keyring::from_master(&[2; 32]).with_old(&[1; 32]);
    let one = Gateway::of(&server, &keyring()).await;
    let ada = one.accounts.create(account("ada"), NOW).await.unwrap();
    let made = one.keys.create(key("importer", None), NOW).await.unwrap();
    let text = made.text.expose();
    let other = Gateway::of(&server, &rotated).await;
    // Known at the other, so that it has something that it must not believe.
    assert_eq!(other.accounts.find(ada.id).await.unwrap().as_deref(), Some(&ada));
    assert_eq!(other.keys.find(text, NOW).await.unwrap().as_ref(), Some(&made.key));
    let mut told = other.sessions.changes().listen();

    one.accounts.change(ada.id, suspend()).await.unwrap().unwrap();
    assert_eq!(heard(&mut told).await, Change::Account(ada.id));
    assert!(other.accounts.find(ada.id).await.unwrap().unwrap().suspended, "heard is known");
    one.keys.revoke(made.key.id, NOW).await.unwrap().unwrap();
    assert_eq!(heard(&mut told).await, Change::ApiKey(made.key.id));
    assert_eq!(other.keys.find(text, NOW).await.unwrap(), None);
    assert_eq!(other.keys.live(made.key.id, NOW).await.unwrap(), None);

    one.accounts.remove(ada.id).await.unwrap().unwrap();
    assert_eq!(heard(&mut told).await, Change::Account(ada.id));
    assert_eq!(other.accounts.find(ada.id).await.unwrap(), None);
    // Sealed anew under the newer master key; the other way round nobody could open it.
    let bob = other.accounts.create(account("bob"), NOW).await.unwrap();
    assert!(matches!(one.accounts.find(bob.id).await, Err(StoreError::Unseal(_))), "which signs nobody in");
}

#[tokio::test]
async fn threat_14_a_gateway_that_hears_nothing_believes_nothing_for_long() {
    let server = Server::start();
    let (deaf, other) = (Gateway::of(&server, &keyring()).await, Gateway::of(&server, &keyring()).await);
    let ada = other.accounts.create(account("ada"), NOW).await.unwrap().id;
    assert!(deaf.accounts.find(ada).await.unwrap().is_some());
    server.say(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    reaches(&deaf.sessions, |standings| standings.outages > 0).await;
    reaches(&other.sessions, |standings| standings.outages > 0 && standings.now == Standing::Up).await;
    other.accounts.change(ada, suspend()).await.unwrap().unwrap();
    reaches(&deaf.sessions, |standings| standings.now == Standing::Up).await;
    assert!(deaf.accounts.find(ada).await.unwrap().unwrap().suspended);
}

#[tokio::test]
async fn without_the_store_nobody_is_known_and_what_was_done_stays_done() {
    let server = Server::start();
    let gateway = Gateway::of(&server, &keyring()).await;
    let ada = gateway.accounts.create(account("ada"), NOW).await.unwrap();
    let made = gateway.keys.create(key("importer", None), NOW).await.unwrap();
    server.say(&["ACL", "SETUSER", "cedargate", "off"]).await;
    server.say(&["CLIENT", "KILL", "USER", "cedargate"]).await;
    reaches(&gateway.sessions, |standings| matches!(standings.now, Standing::Away(_))).await;
    let Gateway { accounts, keys, sessions } = &gateway;
    assert!(matches!(accounts.find(ada.id).await, Err(StoreError::Shared(_))));
    assert!(matches!(keys.find(made.text.expose(), NOW).await, Err(StoreError::Shared(_))));
    assert!(keys.live(made.key.id, NOW).await.is_err());
    assert!(accounts.create(account("bob"), NOW).await.is_err());
    assert!(accounts.change(ada.id, suspend()).await.is_err());
    assert!(accounts.remove(ada.id).await.is_err());
    assert!(accounts.list().await.is_err());
    assert!(keys.revoke(made.key.id, NOW).await.is_err());
    server.say(&["ACL", "SETUSER", "cedargate", "on"]).await;
    reaches(sessions, |standings| standings.now == Standing::Up).await;
    assert_eq!(accounts.find(ada.id).await.unwrap().as_deref(), Some(&ada));

    // A memory that is full takes nobody more, and still suspends and revokes.
    server.say(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let more = accounts.create(account("bob"), NOW).await;
    assert!(matches!(more, Err(AccountError::Store(StoreError::Shared(Fault::Refused("OOM"))))), "{more:?}");
    assert!(accounts.change(ada.id, suspend()).await.unwrap().unwrap().suspended);
    assert!(keys.revoke(made.key.id, NOW).await.unwrap().unwrap().revoked_at.is_some());
    server.say(&["CONFIG", "SET", "maxmemory", "0"]).await;

    // What may not be done is not done by half.
    let roles = AccountChange { roles: Some(set(&["analyst"])), ..AccountChange::default() };
    let before = accounts.find(ada.id).await.unwrap().unwrap();
    server.say(&["ACL", "SETUSER", "cedargate", "-set"]).await;
    assert!(accounts.change(ada.id, roles.clone()).await.is_err());
    server.say(&["ACL", "SETUSER", "cedargate", "+set", "-publish"]).await;
    assert!(accounts.change(ada.id, roles).await.is_err());
    assert!(accounts.remove(ada.id).await.is_err());
    assert_eq!(accounts.find(ada.id).await.unwrap(), Some(before), "neither lost nor changed unheard");
}

/// Threat 14: the store is not believed.
#[tokio::test]
async fn whoever_edits_the_store_makes_no_account_and_no_key() {
    let server = Server::start();
    let gateway = Gateway::of(&server, &keyring()).await;
    let ada = gateway.accounts.create(account("ada"), NOW).await.unwrap();
    let bob = gateway.accounts.create(account("bob"), NOW).await.unwrap();
    let made = gateway.keys.create(key("importer", None), NOW).await.unwrap();
    let at = |kind: &str, id: uuid::Uuid| format!("cedargate:{{session}}:{kind}:{id}");
    let get = async |key: String| {
        let found = server.say(&["GET", &key]).await;
        let redis::Value::BulkString(bytes) = found else { panic!("{key}: {found:?}") };
        bytes
    };
    let (of_ada, of_key) = (get(at("account", ada.id)).await, get(at("apikey", made.key.id)).await);
    // Asked by a gateway that has read nothing before.
    let fresh = async || Gateway::of(&server, &keyring()).await;
    let mut broken = of_ada.clone();
    *broken.last_mut().unwrap() ^= 1;
    for (what, bytes) in [("another's", of_ada.clone()), ("a key's", of_key.clone()), ("garbage", broken)] {
        server.say_bytes(&[b"SET", at("account", bob.id).as_bytes(), &bytes]).await;
        let found = fresh().await.accounts.find(bob.id).await;
        assert!(matches!(found, Err(StoreError::Unseal(_))), "{what}: {found:?}");
        assert!(fresh().await.accounts.list().await.is_err(), "{what}");
    }
    server.say_bytes(&[b"SET", at("apikey", made.key.id).as_bytes(), &of_ada]).await;
    assert!(fresh().await.keys.find(made.text.expose(), NOW).await.is_err());
    // Nothing that is secret, or a name, stands there in the open.
    let tail = made.text.expose().split_at(26).1;
    for bytes in [&of_ada, &of_key] {
        for hidden in ["ada", "importer", "argon2", "viewer", tail] {
            assert!(!bytes.windows(hidden.len()).any(|window| window == hidden.as_bytes()), "{hidden}");
        }
    }
}

#[tokio::test]
async fn what_one_gateway_had_is_brought_and_what_is_there_stands() {
    let server = Server::start();
    let shared = Gateway::of(&server, &keyring()).await;
    let store = Store::in_memory(&keyring()).unwrap();
    let (accounts, keys) = (Accounts::new(store.clone()), ApiKeys::new(store.clone()));
    assert!(Own::of(&store, NOW).await.unwrap().is_empty());
    let person = Person {
        origin: Origin::new("https://id.example", "eve").unwrap(),
        login: login("corp:eve"),
        roles: set(&[]),
        groups: set(&[]),
    };
    let eve = accounts.vouched(person, NOW).await.unwrap();
    assert!(Own::of(&store, NOW).await.unwrap().is_empty(), "who is known again where they come");
    accounts.change(eve.id, suspend()).await.unwrap();
    let (ada, bob) = (
        accounts.create(account("ada"), NOW).await.unwrap(),
        accounts.create(account("bob"), NOW).await.unwrap(),
    );
    accounts.change(bob.id, suspend()).await.unwrap();
    let (live, ended) =
        (keys.create(key("a", None), NOW).await.unwrap(), keys.create(key("b", None), NOW).await.unwrap());
    keys.revoke(ended.key.id, NOW).await.unwrap();
    assert_eq!(Own::of(&store, NOW).await.unwrap(), Own { accounts: 3, keys: 1 });
    // Bob is there already, with a role more.
    shared.accounts.create(account("bob"), NOW.plus(1)).await.unwrap();
    let roles = AccountChange { roles: Some(set(&["analyst"])), ..AccountChange::default() };
    let there = shared.accounts.change(bob.id, roles).await.unwrap().unwrap();

    for (times, brought) in [(1, 3), (2, 0)] {
        assert_eq!(accounts.bring(&shared.accounts).await.unwrap(), brought, "{times}");
        assert_eq!(keys.bring(&shared.keys).await.unwrap(), if brought > 0 { 2 } else { 0 }, "{times}");
    }
    assert!(Own::of(&store, NOW).await.unwrap().is_empty());
    assert_eq!(shared.accounts.find(ada.id).await.unwrap().as_deref(), Some(&ada));
    assert!(shared.accounts.find(eve.id).await.unwrap().unwrap().suspended);
    let bob = shared.accounts.find(bob.id).await.unwrap().unwrap();
    let expected = Account { suspended: true, version: there.version + 1, ..there };
    assert_eq!(*bob, expected, "the one that is there, and suspended as either was");
    assert_eq!(shared.keys.find(live.text.expose(), NOW).await.unwrap().as_ref(), Some(&live.key));
    assert_eq!(shared.keys.find(ended.text.expose(), NOW).await.unwrap(), None);
}

/// A gateway that counts what it asks, and how often that was.
async fn counted(server: &Server) -> (Gateway, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&asked);
    let observer = Box::new(move |_: Answered, _: Option<Waited>| {
        counting.fetch_add(1, Ordering::Relaxed);
    });
    let sessions = tended(server, &keyring(), SESSIONS, observer);
    reaches(&sessions, |standings| standings.now == Standing::Up).await;
    let (accounts, keys) = (Accounts::shared(&sessions).unwrap(), ApiKeys::shared(&sessions).unwrap());
    (Gateway { accounts, keys, sessions }, asked)
}

/// Who signs in may not find out by the time that it takes which logins there are.
#[tokio::test]
async fn a_login_that_was_read_before_is_asked_for_as_one_that_nobody_has() {
    let server = Server::start();
    let (gateway, asked) = counted(&server).await;
    let ada = gateway.accounts.create(account("ada"), NOW).await.unwrap();
    assert!(gateway.accounts.find(ada.id).await.unwrap().is_some());
    for (name, there) in [("ada", true), ("bob", false), ("ada", true), ("bob", false)] {
        let before = asked.load(Ordering::Relaxed);
        let found = gateway.accounts.find_with_password(&login(name)).await.unwrap();
        assert_eq!((found.is_some(), asked.load(Ordering::Relaxed)), (there, before + 1), "{name}");
    }
}

#[tokio::test]
async fn a_key_that_nobody_made_is_not_asked_for_again_and_again() {
    let server = Server::start();
    let (gateway, asked) = counted(&server).await;
    let other = Gateway::of(&server, &keyring()).await;
    let made_up = format!("cgk_{}{}", "A".repeat(22), "A".repeat(43));
    // The first beat may not be answered yet, and a busy machine may miss some: then it is asked.
    let remembered = async {
        for asks in 0_usize.. {
            let before = asked.load(Ordering::Relaxed);
            assert_eq!(gateway.keys.find(&made_up, NOW).await.unwrap(), None);
            if asked.load(Ordering::Relaxed) == before {
                assert!(asks > 0, "only who has asked can know");
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, remembered).await.expect("it is remembered");
    // Nobody can have asked for a key before it was made, so a new one works at once, everywhere.
    let made = other.keys.create(key("importer", None), NOW).await.unwrap();
    assert_eq!(gateway.keys.find(made.text.expose(), NOW).await.unwrap().as_ref(), Some(&made.key));
    // Which is not so of people: their ids follow from their logins.
    let bob = login("bob").account_id();
    assert_eq!(gateway.accounts.find(bob).await.unwrap(), None);
    other.accounts.create(account("bob"), NOW).await.unwrap();
    assert!(gateway.accounts.find(bob).await.unwrap().is_some());
}

/// What is done to one of two people, one of whom a provider vouches for.
#[derive(Clone, Copy, Debug)]
enum Act {
    Create,
    Change(Option<u8>, Option<bool>),
    Password,
    Remove,
    Vouched(u8),
    Met(u8),
    Learnt(u8, u64),
}

fn act() -> impl Strategy<Value = (bool, Act)> {
    let role = 0..3_u8;
    let act = prop_oneof![
        Just(Act::Create),
        (proptest::option::of(role.clone()), proptest::option::of(any::<bool>()))
            .prop_map(|(role, suspended)| Act::Change(role, suspended)),
        Just(Act::Password),
        Just(Act::Remove),
        role.clone().prop_map(Act::Vouched),
        role.clone().prop_map(Act::Met),
        (role, 0..40_u64).prop_map(|(role, at)| Act::Learnt(role, at)),
    ];
    (any::<bool>(), act)
}

/// What came of it: everything that can be seen.
async fn told(
    accounts: &Accounts,
    name: &str,
    (federated, act): (bool, Act),
    hash: &PasswordHash,
    now: UnixMillis,
) -> String {
    let roles = |role: u8| set(&[&format!("role-{role}")]);
    let origin = Origin::new("https://id.example", name).unwrap();
    let person = |role| Person {
        origin: origin.clone(),
        login: login(&format!("corp:{name}")),
        roles: roles(role),
        groups: set(&[]),
    };
    let id = if federated { origin.account_id() } else { login(name).account_id() };
    let came = match act {
        Act::Create => {
            let new =
                NewAccount { login: login(name), password: hash.clone(), roles: set(&[]), groups: set(&[]) };
            format!("{:?}", accounts.create(new, now).await)
        }
        Act::Change(role, suspended) => {
            let change = AccountChange { roles: role.map(roles), groups: None, suspended };
            format!("{:?}", accounts.change(id, change).await)
        }
        Act::Password => format!("{:?}", accounts.set_password(id, hash.clone(), now).await),
        Act::Remove => format!("{:?}", accounts.remove(id).await),
        Act::Vouched(role) => format!("{:?}", accounts.vouched(person(role), now).await),
        Act::Met(role) => format!("{:?}", accounts.met(&person(role), now).await),
        Act::Learnt(role, at) => format!("{:?}", accounts.learnt(&person(role), NOW.plus(at)).await),
    };
    format!("{came} and then {:?}", accounts.find(id).await)
}

/// Whatever is done in whichever order, both keep the same.
#[test]
fn shared_accounts_become_what_those_of_one_gateway_alone_would() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = Server::start();
    let sessions = runtime.block_on(up(&server, &keyring(), SESSIONS));
    let shared = Accounts::shared(&sessions).unwrap();
    let hash = PasswordHash::new(&secret(PASSWORD)).unwrap();
    let case = std::cell::Cell::new(0_u32);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(96) });
    let outcome = runner.run(&proptest::collection::vec(act(), 1..40), |acts| {
        case.set(case.get() + 1);
        let name = format!("person-{}", case.get());
        let alone = Accounts::new(Store::in_memory(&keyring()).unwrap());
        for (number, act) in acts.into_iter().enumerate() {
            let now = NOW.plus(number as u64);
            let (alone, shared) = runtime.block_on(async {
                (told(&alone, &name, act, &hash, now).await, told(&shared, &name, act, &hash, now).await)
            });
            prop_assert_eq!(alone, shared, "step {}: {:?}", number, act);
        }
        Ok(())
    });
    outcome.unwrap();
}
