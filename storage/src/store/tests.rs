//! Opening the store, and a disk that fails under it.

use std::fmt;

use redb::StorageBackend;

use super::*;
use crate::sessions::{NewSession, SessionRules, Sessions};

const MASTER: [u8; 32] = [1; 32];

fn ring(master: u8) -> Keyring {
    Keyring::from_master(&[master; 32])
}

#[test]
fn an_opening_is_checked_against_lock_mark_and_keys() {
    let home = tempfile::tempdir().unwrap();
    let open = |keyring: &Keyring, mark| Store::open(home.path(), keyring, mark);
    let first = open(&Keyring::from_master(&MASTER), Mark::Demo).unwrap();
    let held = open(&ring(1), Mark::Demo).err().unwrap();
    assert!(matches!(held, OpenError::Held { .. }), "{held}");
    assert!(held.to_string().starts_with("another process holds the store"));
    drop(first);

    assert!(matches!(open(&ring(1), Mark::Production), Err(OpenError::WrongMark { .. })));
    let wrong = open(&ring(2), Mark::Demo).err().unwrap();
    assert!(matches!(wrong, OpenError::WrongKey { .. }), "{wrong}");
    assert!(wrong.to_string().contains(&ring(1).active_id().to_string()));
    drop(open(&ring(2).with_old(&MASTER), Mark::Demo).unwrap());
    let both = open(&ring(1), Mark::Demo);
    assert!(matches!(both, Err(OpenError::WrongKey { .. })), "the rotation left something under key 2");
    drop(open(&ring(1).with_old(&[2; 32]), Mark::Demo).unwrap());
}

#[test]
fn a_file_that_is_no_store_is_refused() {
    let home = tempfile::tempdir().unwrap();
    drop(Store::open(home.path(), &ring(1), Mark::Production).unwrap());
    let path = home.path().join("store/store.redb");
    std::fs::write(&path, vec![7; 8192]).unwrap();
    assert!(matches!(Store::open(home.path(), &ring(1), Mark::Production), Err(OpenError::Database(_))));
}

/// A disk in memory that outlives the database on it, and can be full.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<Vec<u8>>>, Arc<AtomicBool>);

impl fmt::Debug for Disk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Disk")
    }
}

impl Disk {
    fn check(&self) -> std::io::Result<()> {
        let full = self.1.load(Ordering::SeqCst);
        if full { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> std::io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        let at = offset as usize;
        out.copy_from_slice(&self.0.lock().unwrap()[at..at + out.len()]);
        Ok(())
    }

    fn set_len(&self, length: u64) -> std::io::Result<()> {
        self.check()?;
        self.0.lock().unwrap().resize(length as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.check()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.check()?;
        let at = offset as usize;
        self.0.lock().unwrap()[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_heals_without_a_restart() {
    let now = engine::time::UnixMillis(1_800_000_000_000);
    let rules = SessionRules { idle_ms: 60_000, absolute_ms: 60_000, per_account_max: 100 };
    let new = || NewSession::of(uuid::Uuid::nil(), now);
    let disk = Disk::default();
    let open = {
        let disk = disk.clone();
        move || builder().create_with_backend(disk.clone()).map_err(|error| OpenError::Database(error.into()))
    };
    let store = Store::with(Box::new(open), &ring(1), Mark::Production).unwrap();
    let sessions = Sessions::embedded(store.clone(), rules);
    let before = sessions.create(new(), now).await.unwrap();
    assert!(!store.is_failing());

    disk.1.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert!(sessions.create(new(), now).await.is_err());
        assert!(store.is_failing());
    }
    disk.1.store(false, Ordering::SeqCst);
    while sessions.find(&before.secret, now).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(sessions.find(&before.secret, now).await.unwrap().is_some(), "what was acknowledged is there");
    let after = sessions.create(new(), now).await.unwrap();
    assert!(!store.is_failing());
    assert!(sessions.find(&after.secret, now).await.unwrap().is_some());
    assert_eq!(sessions.list(None, now).await.unwrap().len(), 2, "what was refused did not happen");
}
