//! What every adapter of marks must do, and what gateways that share them see of each other.

use std::sync::Arc;

use super::*;
use crate::redis::server::{PATIENCE, Server};
use crate::sessions::SessionRules;
use crate::sessions::redis::testing::{reaches, up};
use crate::{Mark as Purposes, StoreError};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const RULES: SessionRules = SessionRules { idle_ms: 60_000, absolute_ms: 60_000, per_account_max: 3 };

fn ring() -> Keyring {
    Keyring::from_master(&[1; 32])
}

fn session(issuer: &str, sid: &str) -> Ending {
    Ending { issuer: issuer.to_owned(), what: Ended::Session(sid.to_owned(), NOW) }
}

fn subject(issuer: &str, subject: &str, until: UnixMillis) -> Ending {
    Ending { issuer: issuer.to_owned(), what: Ended::Subject(subject.to_owned(), until) }
}

fn own() -> Endings {
    Endings::open(Store::in_memory(&ring()).unwrap()).unwrap()
}

/// Marks of one more gateway that shares them with others of a server; what it keeps of its own is nobody else's.
async fn shared(server: &Server, keyring: &Keyring) -> (Endings, Arc<Sessions>) {
    let sessions = up(server, keyring, RULES).await;
    let store = Store::in_memory(keyring).unwrap();
    (Endings::open(store).unwrap().beside(&sessions), sessions)
}

async fn ended(
    endings: &Endings,
    issuer: &str,
    subject: &str,
    sid: Option<&str>,
    issued: UnixMillis,
) -> bool {
    endings.has_ended(issuer, subject, sid, issued).await.unwrap()
}

#[tokio::test]
async fn a_mark_ends_what_it_names_and_nothing_else() {
    let server = Server::start();
    let (one, _sessions) = shared(&server, &ring()).await;
    for (name, endings) in [("own", own()), ("shared", one)] {
        assert!(!ended(&endings, "a", "ada", Some("s1"), NOW).await, "{name}");
        endings.mark(&session("a", "s1"), NOW).await.unwrap();
        assert!(ended(&endings, "a", "ada", Some("s1"), NOW).await, "{name}");
        assert!(ended(&endings, "a", "bob", Some("s1"), UnixMillis(0)).await, "{name}");
        assert!(
            !ended(&endings, "a", "ada", Some("s1"), NOW.plus(1)).await,
            "{name}: begun again under its old name"
        );
        for (issuer, sid) in [("a", Some("s2")), ("a", None), ("b", Some("s1")), ("as", Some("1"))] {
            assert!(!ended(&endings, issuer, "ada", sid, NOW).await, "{name}: {issuer} {sid:?}");
        }
        // A name of one kind is not one of another.
        assert!(!ended(&endings, "a", "s1", None, NOW).await, "{name}");
        assert!(!endings.is_taken("a", "s1", NOW).await.unwrap(), "{name}");

        endings.mark(&subject("a", "ada", NOW), NOW).await.unwrap();
        assert!(ended(&endings, "a", "ada", None, NOW).await, "{name}");
        assert!(ended(&endings, "a", "ada", Some("s9"), UnixMillis(0)).await, "{name}");
        assert!(!ended(&endings, "a", "ada", None, NOW.plus(1)).await, "{name}: issued afterwards");
        for (issuer, subject) in [("a", "bob"), ("b", "ada")] {
            assert!(!ended(&endings, issuer, subject, None, NOW).await, "{name}: {issuer} {subject}");
        }
        // An older word takes nothing back.
        endings.mark(&subject("a", "ada", UnixMillis(5)), NOW).await.unwrap();
        assert!(ended(&endings, "a", "ada", None, NOW).await, "{name}");

        let mut told = endings.changes().listen();
        let token = Uuid::from_u128(7);
        endings.keep(&session("a", "s1"), "m1", NOW.plus(60_000), &[token], NOW).await.unwrap();
        assert_eq!(told.try_recv(), Ok(Change::AccessToken(token)), "{name}");
        assert!(endings.is_taken("a", "m1", NOW).await.unwrap(), "{name}");
        for (issuer, message) in [("b", "m1"), ("a", "m2")] {
            assert!(!endings.is_taken(issuer, message, NOW).await.unwrap(), "{name}: {issuer} {message}");
        }
    }
}

#[tokio::test]
async fn what_was_taken_survives_a_restart_and_a_rotation_and_is_forgotten_in_time() {
    let home = tempfile::tempdir().unwrap();
    let open = |keyring: &Keyring| {
        Endings::open(Store::open(home.path(), keyring, Purposes::Production).unwrap()).unwrap()
    };
    let (old, until) = (ring(), NOW.plus(120_000));
    let endings = open(&old);
    endings.keep(&session("a", "s1"), "m1", until, &[], NOW).await.unwrap();
    endings.keep(&subject("a", "ada", NOW), "m2", until, &[], NOW).await.unwrap();
    drop(endings);

    let rotated = Keyring::from_master(&[2; 32]).with_old(&[1; 32]);
    let endings = open(&rotated);
    let taken =
        async |issuer: &str, message: &str, now| endings.is_taken(issuer, message, now).await.unwrap();
    assert!(taken("a", "m1", NOW).await && taken("a", "m2", NOW).await);
    assert!(!taken("a", "m1", until).await && !taken("b", "m1", NOW).await);
    assert!(ended(&endings, "a", "x", Some("s1"), NOW).await && ended(&endings, "a", "ada", None, NOW).await);
    // Also where the gateway shares them with others from now on, who know nothing of it.
    let server = Server::start();
    let sessions = up(&server, &rotated, RULES).await;
    assert!(ended(&endings.clone().beside(&sessions), "a", "ada", None, NOW).await);
    endings.sweep(until).await.unwrap();
    assert!(ended(&endings, "a", "x", Some("s1"), NOW).await, "a day has not gone by");
    endings.sweep(NOW.plus(KEPT_MS)).await.unwrap();
    assert!(!ended(&endings, "a", "x", Some("s1"), NOW).await);
    drop(endings);
    assert!(!ended(&open(&rotated), "a", "x", Some("s1"), NOW).await, "on disk as well");
}

#[tokio::test]
async fn what_is_marked_at_one_gateway_is_over_at_all_and_whoever_rests_on_a_token_is_told() {
    let server = Server::start();
    let (one, _one) = shared(&server, &ring()).await;
    let (other, _other) = shared(&server, &ring()).await;
    // Known there not to be marked, until it is said.
    assert!(!ended(&other, "a", "ada", Some("s1"), NOW).await);
    let mut told = other.changes().listen();
    one.mark(&session("a", "s1"), NOW).await.unwrap();
    let heard = tokio::time::timeout(PATIENCE, told.recv()).await.expect("it is told").unwrap();
    assert_eq!(heard, Change::Marked(session("a", "s1").place(&ring()).into()));
    assert!(ended(&other, "a", "ada", Some("s1"), NOW).await);
    one.keep(&session("a", "s1"), "m1", NOW.plus(60_000), &[], NOW).await.unwrap();
    assert!(other.is_taken("a", "m1", NOW).await.unwrap(), "taken at one is taken at all");
    // Whoever starts later, and under a newer master key.
    let (late, _late) = shared(&server, &Keyring::from_master(&[2; 32]).with_old(&[1; 32])).await;
    assert!(ended(&late, "a", "ada", Some("s1"), NOW).await && late.is_taken("a", "m1", NOW).await.unwrap());
    // Nobody is named there, and nothing stays for ever.
    let keys = format!("{:?}", server.say(&["KEYS", "*"]).await);
    assert!(keys.contains(":o:") && !keys.contains("s1") && !keys.contains("m1"), "{keys}");
    let place = crate::sessions::shared::hex(&session("a", "s1").place(&ring()));
    for key in [format!("cedargate:{{session}}:o:{place}"), "cedargate:{session}:os".to_owned()] {
        let redis::Value::Int(left) = server.say(&["PTTL", &key]).await else { panic!("{key}") };
        assert!((1..=KEPT_MS as i64).contains(&left), "{key}: {left}");
    }
}

#[tokio::test]
async fn shared_marks_are_bounded_and_the_first_to_be_forgotten_go() {
    let server = Server::start();
    let sessions = up(&server, &ring(), RULES).await;
    let (line, keyring) = sessions.line().unwrap();
    let marks = Shared::with_room(line, keyring, 20);
    for number in 0..30_u64 {
        let ending = session("a", &number.to_string());
        marks.mark(&ending, NOW.plus(number)).await.unwrap();
        assert!(marks.has_ended("a", "x", Some(&number.to_string()), NOW).await.unwrap(), "the newest stays");
    }
    assert_eq!(server.say(&["ZCARD", "cedargate:{session}:os"]).await, redis::Value::Int(20));
    // Asked by a gateway that has read nothing before.
    let (other, _other) = shared(&server, &ring()).await;
    for (number, is_there) in [(0, false), (9, false), (10, true), (29, true)] {
        assert_eq!(ended(&other, "a", "x", Some(&number.to_string()), NOW).await, is_there, "{number}");
    }
}

#[tokio::test]
async fn without_the_store_nobody_knows_what_has_ended() {
    let server = Server::start();
    let (endings, sessions) = shared(&server, &ring()).await;
    assert!(!ended(&endings, "a", "ada", Some("s1"), NOW).await);
    drop(server);
    reaches(&sessions, |standings| standings.now != crate::redis::Standing::Up).await;
    let asked = endings.has_ended("a", "ada", Some("s1"), NOW).await;
    assert!(matches!(asked, Err(StoreError::Shared(_))), "{asked:?}");
    assert!(endings.mark(&session("a", "s1"), NOW).await.is_err());
    assert!(ended(&endings, "a", "ada", Some("s1"), NOW).await, "it is over at the gateway that was told");
    assert!(endings.is_taken("a", "m1", NOW).await.is_err());
    assert!(endings.keep(&session("a", "s1"), "m1", NOW.plus(1), &[], NOW).await.is_err());
}

#[tokio::test]
async fn whose_end_was_told_is_known_by_the_place_of_its_mark_alone() {
    let server = Server::start();
    let (one, _one) = shared(&server, &ring()).await;
    // The other makes its marks under a newer master key, and knows the one of before.
    let (other, _other) = shared(&server, &Keyring::from_master(&[2; 32]).with_old(&[1; 32])).await;
    let mut told = other.changes().listen();
    for (ending, expected) in [
        (session("a", "s1"), [true, false, false, false, false]),
        (subject("a", "ada", NOW), [true, true, true, false, false]),
        (session("b", "s1"), [false, false, false, true, false]),
        (subject("b", "bob", NOW), [false; 5]),
    ] {
        one.mark(&ending, NOW).await.unwrap();
        let heard = tokio::time::timeout(PATIENCE, told.recv()).await.expect("it is told").unwrap();
        let Change::Marked(place) = heard else { panic!("{heard:?}") };
        let issued = [
            ("a", "ada", Some("s1")),
            ("a", "ada", Some("s2")),
            ("a", "ada", None),
            ("b", "ada", Some("s1")),
            ("a", "cyd", Some("s3")),
        ];
        let concerns =
            issued.map(|(issuer, subject, sid)| other.places(issuer, subject, sid).contains(&place));
        assert_eq!(concerns, expected, "{ending:?}");
    }
}
