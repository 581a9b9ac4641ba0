//! What shared sessions do beside the contract: between gateways, against whoever edits the store, and without it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::broadcast::Receiver;

use super::super::Sessions;
use super::testing::{reaches, tended, tending, up};
use super::*;
use crate::redis::server::{PATIENCE, Server};
use crate::redis::{Answered, Fault, Standing, Waited};
use crate::{Change, Secret};

mod lasting;
mod taken_back;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const RULES: SessionRules =
    SessionRules { idle_ms: 30 * 60_000, absolute_ms: 8 * 3_600_000, per_account_max: 3 };

fn ring(master: u8) -> Keyring {
    Keyring::from_master(&[master; 32])
}

fn new(account: u128) -> NewSession {
    NewSession {
        user_agent: Some("a browser that is known".to_owned()),
        ..NewSession::of(Uuid::from_u128(account), NOW)
    }
}

async fn heard(told: &mut Receiver<Change>) -> Change {
    tokio::time::timeout(PATIENCE, told.recv()).await.expect("it is told").expect("it listens")
}

fn is_up(standings: &Standings) -> bool {
    standings.now == Standing::Up
}

fn is_away(standings: &Standings) -> bool {
    matches!(standings.now, Standing::Away(_))
}

/// What is under a session's key.
async fn hash(server: &Server, session: &SessionView) -> (String, Vec<redis::Value>) {
    let key = String::from_utf8(record_key("cedargate", &session.place)).unwrap();
    let all = server.say(&["HGETALL", &key]).await;
    let redis::Value::Array(items) = all else { panic!("{all:?}") };
    (key, items)
}

#[tokio::test]
async fn what_ends_at_one_gateway_ends_at_the_others_and_they_tell_who_rests_on_it() {
    let server = Server::start();
    let (one, other) = (up(&server, &ring(1), RULES).await, up(&server, &ring(1), RULES).await);
    let made = one.create(new(1), NOW).await.unwrap();
    assert_eq!(other.find(&made.secret, NOW).await.unwrap().as_ref(), Some(&made.session));
    let mut told = other.changes().listen();
    one.end(made.session.id, NOW).await.unwrap().unwrap();
    assert_eq!(heard(&mut told).await, Change::Session(made.session.id));
    assert_eq!(other.find(&made.secret, NOW).await.unwrap(), None);
    assert_eq!(one.find(&made.secret, NOW).await.unwrap(), None);

    // All of a person, and the oldest of too many.
    let mut all = Vec::new();
    for at in 0..4 {
        all.push(one.create(new(2), NOW.plus(at)).await.unwrap());
    }
    assert_eq!(heard(&mut told).await, Change::Session(all[0].session.id));
    let gone = other.end_all(Uuid::from_u128(2), NOW.plus(4)).await.unwrap();
    assert_eq!(gone, [&all[1], &all[2], &all[3]].map(|made| made.session.id));
    for made in &all {
        assert_eq!(one.find(&made.secret, NOW.plus(4)).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_use_that_one_gateway_notes_holds_at_the_others() {
    let server = Server::start();
    let (one, other) = (up(&server, &ring(1), RULES).await, up(&server, &ring(1), RULES).await);
    let made = one.create(new(1), NOW).await.unwrap();
    let seen = other.find(&made.secret, NOW).await.unwrap().unwrap();
    let later = NOW.plus(RULES.idle_ms - 1);
    assert!(one.touch(&made.session, later).await.unwrap());
    // What this gateway has read says that it is idle by now; the store knows better.
    let idle = NOW.plus(RULES.idle_ms);
    let found = other.find(&made.secret, idle).await.unwrap().expect("it was used elsewhere");
    assert_eq!(found.touched_at, later);
    assert!(!other.touch(&seen, later.plus(1)).await.unwrap(), "what was read before is behind");
    assert_eq!(other.sweep(idle).await.unwrap(), 0);
}

#[tokio::test]
async fn a_hit_asks_nobody() {
    let server = Server::start();
    let asked = Arc::new(Mutex::new(0_usize));
    let counting = Arc::clone(&asked);
    let counted = Box::new(move |_: Answered, _: Option<Waited>| *counting.lock().unwrap() += 1);
    let sessions = tended(&server, &ring(1), RULES, counted);
    reaches(&sessions, is_up).await;
    let made = sessions.create(new(1), NOW).await.unwrap();
    // The first beat may not be answered yet, and a busy machine may miss some: then it is asked.
    let hits = async {
        loop {
            let before = *asked.lock().unwrap();
            assert!(sessions.find(&made.secret, NOW).await.unwrap().is_some());
            if *asked.lock().unwrap() == before {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, hits).await.expect("a hit");
}

#[tokio::test]
async fn without_the_store_nobody_is_known_and_nobody_is_told_that_they_are_not() {
    let server = Server::start();
    let sessions = up(&server, &ring(1), RULES).await;
    let made = sessions.create(new(1), NOW).await.unwrap();
    assert!(sessions.find(&made.secret, NOW).await.unwrap().is_some());
    let mut told = sessions.changes().listen();
    // It closes what it is connected by and accepts no more of them.
    server.say(&["ACL", "SETUSER", "cedargate", "off"]).await;
    server.say(&["CLIENT", "KILL", "USER", "cedargate"]).await;
    reaches(&sessions, is_away).await;
    let stranger = SessionSecret::generate();
    for secret in [&made.secret, &stranger] {
        let found = sessions.find(secret, NOW).await;
        assert!(matches!(found, Err(StoreError::Shared(_))), "{found:?}");
    }
    assert!(sessions.live(made.session.id, NOW).await.is_err());
    assert!(sessions.create(new(2), NOW).await.is_err());
    assert!(sessions.end(made.session.id, NOW).await.is_err());
    assert!(sessions.end_all(Uuid::from_u128(1), NOW).await.is_err());
    let due = NOW.plus(RULES.touch_every_ms());
    assert!(sessions.touch(&made.session, due).await.is_err());
    assert_eq!(heard(&mut told).await, Change::Any, "what is open asks, and is refused");
    server.say(&["ACL", "SETUSER", "cedargate", "on"]).await;
    reaches(&sessions, is_up).await;
    assert_eq!(heard(&mut told).await, Change::Any, "what is open asks what it has missed");
    assert_eq!(sessions.find(&made.secret, NOW).await.unwrap().as_ref(), Some(&made.session));
    assert_eq!(sessions.find(&stranger, NOW).await.unwrap(), None);
}

#[tokio::test]
async fn threat_14_what_ends_while_a_gateway_hears_nothing_is_not_found_by_it() {
    let server = Server::start();
    let (deaf, other) = (up(&server, &ring(1), RULES).await, up(&server, &ring(1), RULES).await);
    let made = other.create(new(1), NOW).await.unwrap();
    assert!(deaf.find(&made.secret, NOW).await.unwrap().is_some());
    // Its connection is cut, and before it is there again the session ends.
    server.say(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    reaches(&deaf, |standings| standings.outages > 0).await;
    reaches(&other, |standings| standings.outages > 0 && is_up(standings)).await;
    let ended = other.end(made.session.id, NOW).await;
    reaches(&deaf, is_up).await;
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(deaf.find(&made.secret, NOW).await.unwrap(), None);
}

#[tokio::test]
async fn a_server_that_hangs_is_away_and_nothing_that_was_read_is_believed_for_long() {
    let server = Server::start();
    let shared = SharedSessions { place: server.place(), budget: Duration::from_millis(400), replicas: 0 };
    let sessions = tending(shared, &ring(1), RULES, Box::new(|_, _| {}));
    reaches(&sessions, is_up).await;
    let made = sessions.create(new(1), NOW).await.unwrap();
    assert!(sessions.find(&made.secret, NOW).await.unwrap().is_some());
    server.signal(Signal::STOP);
    reaches(&sessions, is_away).await;
    assert!(sessions.find(&made.secret, NOW).await.is_err());
    server.signal(Signal::CONT);
    reaches(&sessions, is_up).await;
    assert!(sessions.find(&made.secret, NOW).await.unwrap().is_some(), "nobody was signed out");
}

#[tokio::test]
async fn a_sign_in_whose_answer_is_late_leaves_no_session_that_nobody_holds() {
    let none = redis::Value::Array(Vec::new());
    for comes_back in ["at once", "when it was given up"] {
        let server = Server::start();
        let shared =
            SharedSessions { place: server.place(), budget: Duration::from_millis(400), replicas: 0 };
        let sessions = tending(shared, &ring(1), RULES, Box::new(|_, _| {}));
        reaches(&sessions, is_up).await;
        server.signal(Signal::STOP);
        let vain = sessions.create(new(1), NOW).await.map(|created| created.session);
        assert!(matches!(vain, Err(StoreError::Shared(_))), "{vain:?}");
        if comes_back != "at once" {
            reaches(&sessions, is_away).await;
        }
        server.signal(Signal::CONT);
        let ended = async {
            while server.say(&["KEYS", "*:x:*"]).await == none {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.expect(comes_back);
        assert_eq!(server.say(&["KEYS", "*:s:*"]).await, none, "{comes_back}");
    }
}

#[tokio::test]
async fn a_request_waits_for_all_that_it_asks_no_longer_than_for_one_question() {
    let server = Server::start();
    let waited = Arc::new(Mutex::new(Vec::new()));
    let noting = Arc::clone(&waited);
    let observer = Box::new(move |_: Answered, waited: Option<Waited>| noting.lock().unwrap().extend(waited));
    let sessions = tended(&server, &ring(1), RULES, observer);
    reaches(&sessions, is_up).await;
    let secret = SessionSecret::generate();
    assert_eq!(sessions.find(&secret, NOW).await.unwrap(), None);
    // Long enough for one question, and for no other after it.
    server.say(&["CLIENT", "PAUSE", "100000", "ALL"]).await;
    // From here on it is later only when nothing is left to do: what a busy machine adds is not ours.
    tokio::time::pause();
    let asked = crate::redis::as_one_request(async {
        (sessions.find(&secret, NOW).await.is_err(), sessions.find(&secret, NOW).await.is_err())
    });
    assert_eq!(asked.await, (true, true));
    let waited = waited.lock().unwrap().clone();
    let [answered, late, unasked] = waited[..] else { panic!("{waited:?}") };
    assert_eq!((answered.overrun, unasked), (None, Waited::default()));
    assert!(late.overrun.is_none() && late.time >= Duration::from_millis(300), "{late:?}");
}

#[tokio::test]
async fn who_asks_once_others_have_waited_in_vain_does_not_wait() {
    let server = Server::start();
    let sessions = up(&server, &ring(1), RULES).await;
    server.say(&["CLIENT", "PAUSE", "100000", "ALL"]).await;
    // From here on it is later only when nothing is left to do.
    tokio::time::pause();
    let secret = SessionSecret::generate();
    let find = || sessions.find(&secret, NOW);
    let (one, other, third) = tokio::join!(find(), find(), find());
    assert!(one.is_err() && other.is_err() && third.is_err());
    let begun = Instant::now();
    assert!(find().await.is_err());
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_full_store_takes_no_session_more_and_still_ends_them() {
    let server = Server::start();
    let sessions = up(&server, &ring(1), RULES).await;
    let made = sessions.create(new(1), NOW).await.unwrap();
    server.say(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let more = sessions.create(new(2), NOW).await.map(|_| ());
    assert!(matches!(more, Err(StoreError::Shared(Fault::Refused("OOM")))), "{more:?}");
    let found = sessions.find(&made.secret, NOW).await.unwrap().unwrap();
    let used = NOW.plus(RULES.touch_every_ms());
    assert!(sessions.touch(&found, used).await.unwrap(), "who uses it is not signed out as idle");
    assert!(sessions.end(made.session.id, NOW).await.unwrap().is_some());
    assert_eq!(sessions.find(&made.secret, NOW).await.unwrap(), None);
}

#[tokio::test]
async fn a_replica_is_no_store() {
    let server = Server::start();
    let sessions = up(&server, &ring(1), RULES).await;
    server.say(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let standings = reaches(&sessions, is_away).await;
    assert_eq!(standings.last, Some(Fault::Refused("READONLY")));
    server.say(&["REPLICAOF", "NO", "ONE"]).await;
    reaches(&sessions, is_up).await;
}

#[tokio::test]
async fn who_holds_other_master_keys_is_no_gateway_of_these() {
    let server = Server::start();
    let old = up(&server, &ring(1), RULES).await;
    let made = old.create(new(1), NOW).await.unwrap();
    let stranger = tended(&server, &ring(3), RULES, Box::new(|_, _| {}));
    reaches(&stranger, |standings| standings.last == Some(Fault::OtherKey)).await;
    assert!(stranger.find(&made.secret, NOW).await.is_err(), "which is not a word about the session");

    let rotated = up(&server, &ring(2).with_old(&[1; 32]), RULES).await;
    assert_eq!(rotated.find(&made.secret, NOW).await.unwrap().as_ref(), Some(&made.session));
    let seen = rotated.find(&made.secret, NOW).await.unwrap().unwrap();
    assert!(rotated.touch(&seen, NOW.plus(RULES.touch_every_ms())).await.unwrap());
    assert!(rotated.find(&made.secret, NOW).await.unwrap().is_some(), "its last use opens as well");
    // Who comes now and has the older one alone could not open what is sealed from now on.
    let late = tended(&server, &ring(1), RULES, Box::new(|_, _| {}));
    reaches(&late, |standings| standings.last == Some(Fault::OtherKey)).await;
    assert!(rotated.end(made.session.id, NOW).await.unwrap().is_some());
}

#[tokio::test]
async fn whoever_edits_the_store_makes_no_session() {
    let server = Server::start();
    let sessions = up(&server, &ring(1), RULES).await;
    let (ada, bob) =
        (sessions.create(new(1), NOW).await.unwrap(), sessions.create(new(2), NOW).await.unwrap());
    let ((ada_key, ada_hash), (bob_key, _)) =
        (hash(&server, &ada.session).await, hash(&server, &bob.session).await);
    let bytes = |value: &redis::Value| {
        let redis::Value::BulkString(bytes) = value else { panic!("{value:?}") };
        bytes.clone()
    };
    // Asked by a gateway that has read nothing before.
    let find = async |secret: &SessionSecret| up(&server, &ring(1), RULES).await.find(secret, NOW).await;
    // Another's record, another's last use, and none.
    for field in ["record", "touch"] {
        let at = ada_hash.iter().position(|item| bytes(item) == field.as_bytes()).unwrap();
        let before = server.say_bytes(&[b"HGET", bob_key.as_bytes(), field.as_bytes()]).await;
        server.say_bytes(&[b"HSET", bob_key.as_bytes(), field.as_bytes(), &bytes(&ada_hash[at + 1])]).await;
        assert!(find(&bob.secret).await.is_err(), "{field}");
        server.say(&["HDEL", &bob_key, field]).await;
        let found = find(&bob.secret).await;
        assert!(!matches!(found, Ok(Some(_))), "{field}: {found:?}");
        server.say_bytes(&[b"HSET", bob_key.as_bytes(), field.as_bytes(), &bytes(&before)]).await;
        assert!(find(&bob.secret).await.unwrap().is_some(), "{field}");
    }
    // Another's public id.
    let id_key = format!("cedargate:{{session}}:i:{}", bob.session.id);
    server.say(&["SET", &id_key, &hex(&ada.session.place)]).await;
    assert_eq!(sessions.live(bob.session.id, NOW).await.unwrap(), None);
    server.say(&["SET", &id_key, &hex(&bob.session.place)]).await;

    // Another's hint; and one lasts no longer than its session may.
    let hinted = async |account: u128| {
        let hint = super::super::SignOutHint::new("a-token-that-nobody-shall-read");
        sessions.create(NewSession { hint, ..new(account) }, NOW).await.unwrap().session.id
    };
    let (one, other) = (hinted(3).await, hinted(4).await);
    let [one_key, other_key] = [one, other].map(|id| format!("cedargate:{{session}}:h:{id}"));
    let sealed = bytes(&server.say(&["GET", &one_key]).await);
    assert!(!sealed.windows(7).any(|window| window == b"a-token"));
    let redis::Value::Int(ms) = server.say(&["PTTL", &one_key]).await else { panic!("it never ends") };
    assert!((1..=RULES.absolute_ms as i64 + 600_000).contains(&ms), "{ms}");
    server.say_bytes(&[b"SET", other_key.as_bytes(), &sealed]).await;
    assert!(sessions.hint(one, NOW).await.unwrap().is_some() && sessions.hint(other, NOW).await.is_err());

    // What has ended and is written back.
    sessions.end(ada.session.id, NOW).await.unwrap().unwrap();
    let mut put: Vec<Vec<u8>> = vec![b"HSET".to_vec(), ada_key.into_bytes()];
    put.extend(ada_hash.iter().map(bytes));
    server.say_bytes(&put.iter().map(Vec::as_slice).collect::<Vec<_>>()).await;
    assert_eq!(sessions.find(&ada.secret, NOW).await.unwrap(), None);
    assert!(!sessions.touch(&ada.session, NOW.plus(RULES.touch_every_ms())).await.unwrap());
}

#[tokio::test]
async fn the_store_forgets_by_itself_and_holds_no_secret() {
    let server = Server::start();
    let sessions = up(&server, &ring(1), RULES).await;
    let provider = super::super::ProviderSession::new("https://login.example", "the-sid-there");
    let made = sessions.create(NewSession { provider, ..new(1) }, NOW).await.unwrap();
    let ended = sessions.create(new(1), NOW).await.unwrap();
    assert!(sessions.touch(&made.session, NOW.plus(RULES.touch_every_ms())).await.unwrap());
    sessions.end(ended.session.id, NOW).await.unwrap().unwrap();
    let redis::Value::Array(keys) = server.say(&["KEYS", "*"]).await else { panic!("keys") };
    assert_eq!(keys.len(), 7, "{keys:?}");
    for key in &keys {
        let redis::Value::BulkString(key) = key else { panic!("{key:?}") };
        let key = String::from_utf8(key.clone()).unwrap();
        let redis::Value::Int(left) = server.say(&["PTTL", &key]).await else { panic!("a number") };
        if key.ends_with(":key") {
            assert_eq!(left, -1, "{key}");
        } else {
            let most = RULES.absolute_ms + 600_000;
            assert!(u64::try_from(left).is_ok_and(|left| left > 0 && left <= most), "{key}: {left}");
        }
        let redis::Value::BulkString(dump) = server.say(&["DUMP", &key]).await else { panic!("bytes") };
        let secret = Secret::new(made.secret.bytes().to_vec());
        for hidden in [secret.expose().as_slice(), b"a browser", b"login.example", b"the-sid-there"] {
            assert!(!dump.windows(hidden.len()).any(|window| window == hidden), "{key}");
        }
    }
}

#[tokio::test]
async fn a_person_of_a_provider_comes_along_with_their_session() {
    use crate::credentials::{Login, Origin, Person};
    let server = Server::start();
    let (one, other) = (up(&server, &ring(1), RULES).await, up(&server, &ring(1), RULES).await);
    let person = Person {
        origin: Origin::new("https://id.example", "ada").unwrap(),
        login: Login::parse("corp:ada").unwrap(),
        roles: ["viewer".to_owned()].into(),
        groups: [].into(),
    };
    let made = one.create(NewSession { person: Some(person.clone()), ..new(1) }, NOW).await.unwrap();
    let found = other.find(&made.secret, NOW).await.unwrap().unwrap();
    assert_eq!(found.person.as_deref(), Some(&person));
    assert_eq!(found, made.session);
}
