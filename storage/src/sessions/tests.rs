//! What the embedded sessions keep on disk, and what becomes of it when somebody edits it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::*;
use crate::credentials::{AccountChange, Accounts, Login, NewAccount, PasswordHash};
use crate::{Mark, Secret, StoreError};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const RULES: SessionRules =
    SessionRules { idle_ms: 30 * 60_000, absolute_ms: 8 * 3_600_000, per_account_max: 3 };
const RECORDS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("session_records");
const TOUCHES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("session_touches");

fn ring(master: u8) -> Keyring {
    Keyring::from_master(&[master; 32])
}

fn open(home: &Path, keyring: &Keyring) -> Sessions {
    Sessions::embedded(Store::open(home, keyring, Mark::Production).unwrap(), RULES)
}

fn new(account: u128) -> NewSession {
    NewSession::of(Uuid::from_u128(account), NOW)
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let home = tempfile::tempdir().unwrap();
    let sessions = open(home.path(), &ring(1));
    let (kept, ended) =
        (sessions.create(new(1), NOW).await.unwrap(), sessions.create(new(2), NOW).await.unwrap());
    sessions.end(ended.session.id, NOW).await.unwrap();
    assert!(sessions.touch(&kept.session, NOW.plus(60_000)).await.unwrap());

    // What a process leaves that is killed at this moment: the bytes of the file, and no orderly close.
    let grave = tempfile::tempdir().unwrap();
    drop(open(grave.path(), &ring(1)));
    fs::copy(home.path().join("store/store.redb"), grave.path().join("store/store.redb")).unwrap();
    let after = open(grave.path(), &ring(1));
    let found = after.find(&kept.secret, NOW.plus(60_000)).await.unwrap().expect("the session");
    assert_eq!(found.id, kept.session.id);
    assert!(found.touched_at <= NOW.plus(60_000), "a touch may be lost, which ends it sooner");
    assert!(after.find(&ended.secret, NOW).await.unwrap().is_none(), "what was ended stays ended");
}

/// Readers read a session and its account all the time, so that what is told again is as old as it can be at the moment
/// at which a write is acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_acknowledged_holds_for_every_reading_after_it() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path(), &ring(1), Mark::Production).unwrap();
    let sessions = Arc::new(Sessions::embedded(store.clone(), RULES));
    let accounts = Accounts::new(store);
    let password = PasswordHash::new(&Secret::new("correct horse battery".to_owned())).unwrap();
    let (roles, groups) = (BTreeSet::new(), BTreeSet::new());
    let ada = NewAccount { login: Login::parse("ada").unwrap(), password, roles, groups };
    let ada = accounts.create(ada, NOW).await.unwrap().id;
    for round in 0..100_u64 {
        let created = sessions.create(new(ada.as_u128()), NOW).await.unwrap();
        let (secret, stop) = (Arc::new(created.secret), Arc::new(AtomicBool::new(false)));
        let read = || {
            let (sessions, accounts) = (Arc::clone(&sessions), accounts.clone());
            let (secret, stop) = (Arc::clone(&secret), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    sessions.find(&secret, NOW).await.unwrap();
                    accounts.find(ada).await.unwrap().expect("the account");
                    tokio::task::yield_now().await;
                }
            })
        };
        let readers = [read(), read(), read()];
        let used = NOW.plus(60_000 + round);
        assert!(sessions.touch(&created.session, used).await.unwrap());
        let found = sessions.find(&secret, NOW).await.unwrap().expect("it lives");
        assert_eq!(found.touched_at, used, "round {round}");
        let suspended = round % 2 == 0;
        let change = AccountChange { suspended: Some(suspended), ..AccountChange::default() };
        accounts.change(ada, change).await.unwrap();
        assert_eq!(
            accounts.find(ada).await.unwrap().expect("it is there").suspended,
            suspended,
            "round {round}"
        );
        sessions.end(created.session.id, NOW).await.unwrap();
        assert!(sessions.find(&secret, NOW).await.unwrap().is_none(), "round {round}");
        stop.store(true, Ordering::SeqCst);
        for reader in readers {
            reader.await.unwrap();
        }
    }
}

#[tokio::test]
async fn sessions_outlive_a_restart_and_a_rotation_of_the_master() {
    let home = tempfile::tempdir().unwrap();
    let created = open(home.path(), &ring(1)).create(new(1), NOW).await.unwrap();
    let rotated = open(home.path(), &ring(2).with_old(&[1; 32]));
    let seen = rotated.find(&created.secret, NOW).await.unwrap().expect("a session under the old master");
    assert!(rotated.touch(&seen, NOW.plus(60_000)).await.unwrap());
    assert!(rotated.find(&created.secret, NOW.plus(60_000)).await.unwrap().is_some());
    assert!(rotated.end(seen.id, NOW).await.unwrap().is_some());
}

#[tokio::test]
async fn a_session_of_a_provider_is_found_by_its_name_after_a_rotation() {
    let home = tempfile::tempdir().unwrap();
    let provider = ProviderSession::new("https://id.example", "s1").unwrap();
    let at_provider = || NewSession { provider: Some(provider.clone()), ..new(1) };
    let before = open(home.path(), &ring(1)).create(at_provider(), NOW).await.unwrap();
    let sessions = open(home.path(), &ring(2).with_old(&[1; 32]));
    let after = sessions.create(at_provider(), NOW.plus(1)).await.unwrap();
    let ended = sessions.end_elsewhere(EndedElsewhere::Session(provider.clone()), NOW.plus(2)).await.unwrap();
    let ended: BTreeSet<_> = ended.into_iter().collect();
    assert_eq!(ended, BTreeSet::from([before.session.id, after.session.id]));
    drop(sessions);
    let file = fs::read(home.path().join("store/store.redb")).unwrap();
    assert!(!file.windows(10).any(|window| window == b"id.example"), "the index names no provider");
}

/// A record of before names were kept has the very fields that one without a name has today.
#[test]
fn a_record_without_a_provider_reads_and_writes_as_it_always_did() {
    let text = r#"{"id":"00000000-0000-4000-8000-000000000001","account":"00000000-0000-0000-0000-000000000002",
        "created_at":1,"absolute_end":2,"assurance":1,"client":null,"user_agent":null}"#;
    let record: Record = serde_json::from_str(text).unwrap();
    assert!(record.provider.is_none());
    let again: serde_json::Value = serde_json::to_value(&record).unwrap();
    assert_eq!(again, serde_json::from_str::<serde_json::Value>(text).unwrap());
}

#[tokio::test]
async fn nothing_on_disk_tells_who_is_signed_in_or_lets_anybody_in() {
    let home = tempfile::tempdir().unwrap();
    let sessions = open(home.path(), &ring(1));
    let agent = Some("a browser that is easy to find".to_owned());
    let created = sessions.create(NewSession { user_agent: agent, ..new(1) }, NOW).await.unwrap();
    let secret = created.secret.reveal().to_string();
    drop(sessions);
    let file = fs::read(home.path().join("store/store.redb")).unwrap();
    for needle in [b"easy to find".as_slice(), secret.as_bytes(), created.secret.bytes()] {
        assert!(!file.windows(needle.len()).any(|window| window == needle));
    }
}

#[tokio::test]
async fn an_edited_store_signs_nobody_in() {
    type Edit = fn(&mut Rows, &mut Rows);
    let edits: [(&str, Edit); 5] = [
        ("another session's record in this one's place", |records, _| records[0].1 = records[1].1.clone()),
        ("another session's last use", |_, touches| touches[0].1 = touches[1].1.clone()),
        ("a last use in the future", |_, touches| touches[0].1[7] ^= 0x80),
        ("a bit of the record", |records, _| records[0].1[60] ^= 1),
        ("no last use at all", |_, touches| touches[0].1.clear()),
    ];
    for (name, edit) in edits {
        let home = tempfile::tempdir().unwrap();
        let sessions = open(home.path(), &ring(1));
        let created = [
            sessions.create(new(1), NOW).await.unwrap(),
            sessions.create(new(2), NOW.plus(9)).await.unwrap(),
        ];
        drop(sessions);
        tamper(&home.path().join("store/store.redb"), edit);
        let sessions = open(home.path(), &ring(1));
        let mut broken = 0;
        for created in created {
            match sessions.find(&created.secret, NOW).await {
                Ok(found) => assert_eq!(found.map(|session| session.id), Some(created.session.id), "{name}"),
                Err(StoreError::Unseal(_) | StoreError::Malformed) => broken += 1,
                Err(other) => panic!("{name}: {other}"),
            }
        }
        assert_eq!(broken, 1, "{name}");
    }
}

/// Threat 14: an ended session does not come back, even from a copy of its rows.
#[tokio::test]
async fn a_session_that_is_written_back_stays_ended() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("store/store.redb");
    let created = open(home.path(), &ring(1)).create(new(1), NOW).await.unwrap();
    let copy = rows(&path);
    let sessions = open(home.path(), &ring(1));
    sessions.end(created.session.id, NOW).await.unwrap().unwrap();
    drop(sessions);
    write(&path, copy);
    let sessions = open(home.path(), &ring(1));
    assert!(sessions.find(&created.secret, NOW).await.unwrap().is_none());
    sessions.sweep(NOW.plus(RULES.absolute_ms - 1)).await.unwrap();
    assert!(sessions.find(&created.secret, NOW).await.unwrap().is_none(), "until its absolute end");
}

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn tamper(path: &Path, edit: fn(&mut Rows, &mut Rows)) {
    let [mut records, mut touches] = rows(path);
    edit(&mut records, &mut touches);
    write(path, [records, touches]);
}

fn rows(path: &Path) -> [Rows; 2] {
    let database = Database::open(path).unwrap();
    let read = database.begin_read().unwrap();
    [RECORDS, TOUCHES].map(|table| {
        let table = read.open_table(table).unwrap();
        let rows = table.iter().unwrap().map(|row| row.unwrap());
        rows.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).collect()
    })
}

fn write(path: &Path, rows: [Rows; 2]) {
    let database = Database::open(path).unwrap();
    let write = database.begin_write().unwrap();
    for (table, rows) in [RECORDS, TOUCHES].into_iter().zip(rows) {
        let mut table = write.open_table(table).unwrap();
        for (key, value) in rows {
            table.insert(key.as_slice(), value.as_slice()).unwrap();
        }
    }
    write.commit().unwrap();
}
