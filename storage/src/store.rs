//! The embedded store: one redb file that belongs to one process.
//!
//! The file is `store/store.redb` (0600) in a directory of its own (0700) below the data directory, so that
//! a data directory which holds other files keeps its mode. Holding the file open is holding its exclusive
//! lock: only who holds it may say that no gateway runs (threat 18).
//!
//! Durability: whatever is acknowledged is on disk before the answer, except touches of sessions (see
//! [`crate::sessions`]), whose loss shortens a session and nothing else.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{
    Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};

use crate::files::{PrivateError, private_dir, private_file};
use crate::keyring::{KeyId, Keyring, Purpose};
use crate::seal::{SealError, UnsealError, seal, unseal};

/// Bytes that redb may keep in memory. A session takes about 600 bytes in all, so this holds 100,000.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// The layout of the tables. A store of another layout is refused, never guessed at.
const SCHEMA: u64 = 1;

/// What stands sealed under each master that the store was opened with.
const KEY_CHECK: &[u8] = b"cedargate store";

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const KEY_CHECKS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("key_checks");

/// The embedded store. Cheap to clone; the file is released when the last clone is dropped.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    keyring: Keyring,
}

/// What a store was made for. It is written at creation and checked at every opening (threat 16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Made by the demo, with accounts whose passwords lie in a file.
    Demo,
    /// Made by a gateway that means it.
    Production,
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its directory or file is not private, or cannot be used at all.
    #[error("the store's directory or file cannot be used")]
    Private(#[source] PrivateError),
    /// Another process holds the store: the gateway, or a command that works on it directly.
    #[error("another process holds the store `{}`", path.display())]
    Held {
        /// The store's file.
        path: PathBuf,
    },
    /// The store was made for something else.
    #[error("this is a {} store, and a {} store is wanted", found.label(), wanted.label())]
    WrongMark {
        /// What it was made for.
        found: Mark,
        /// What was wanted.
        wanted: Mark,
    },
    /// The store needs a master key that was not given.
    #[error("the store was sealed under the master key `{needed}`, which is not among the keys given")]
    WrongKey {
        /// The id of the missing master.
        needed: String,
    },
    /// The store was written by a program of another version.
    #[error("the store has layout {found}, and this program knows layout {SCHEMA}")]
    UnknownSchema {
        /// The layout found.
        found: u64,
    },
    /// The file is no store, or is damaged.
    #[error("the store is damaged")]
    Damaged,
    /// The database failed.
    #[error("the store's database failed")]
    Database(#[source] StoreError),
}

/// Why an operation on the store failed. Whatever was under way did not happen.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed: the disk is full or broken, or the file is damaged.
    #[error("the database failed")]
    Database(#[source] Box<redb::Error>),
    /// A record could not be opened.
    #[error("a record cannot be opened")]
    Unseal(#[source] UnsealError),
    /// A record could not be sealed.
    #[error("a record cannot be sealed")]
    Seal(#[source] SealError),
    /// A record opened, and is not what it should be.
    #[error("a record is malformed")]
    Malformed,
    /// The thread that did the work panicked or was cancelled at shutdown.
    #[error("the operation was interrupted")]
    Interrupted,
}

impl Store {
    /// Opens the store below `data_dir`, making it when there is none, and holds it until dropped.
    ///
    /// Blocks: call it before there is traffic.
    ///
    /// # Errors
    /// See [`OpenError`]; each says what to do about it.
    pub fn open(data_dir: &Path, keyring: &Keyring, mark: Mark) -> Result<Self, OpenError> {
        let dir = data_dir.join("store");
        private_dir(&dir).map_err(OpenError::Private)?;
        let path = dir.join("store.redb");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = private_file(&path, &mut options).map_err(OpenError::Private)?;
        let backend = FileBackend::new(file).map_err(|error| opening(error, &path))?;
        let database = builder().create_with_backend(backend).map_err(|error| opening(error, &path))?;
        Self::checked(database, keyring, mark)
    }

    /// A store that lives in memory and dies with the process.
    ///
    /// # Errors
    /// When the database cannot be made.
    pub fn in_memory(keyring: &Keyring) -> Result<Self, OpenError> {
        let made = builder().create_with_backend(InMemoryBackend::new());
        let database = made.map_err(|error| OpenError::Database(error.into()))?;
        Self::checked(database, keyring, Mark::Production)
    }

    /// The keyring that the store was opened with.
    #[must_use]
    pub fn keyring(&self) -> &Keyring {
        &self.inner.keyring
    }

    fn checked(database: Database, keyring: &Keyring, mark: Mark) -> Result<Self, OpenError> {
        let transaction = database.begin_write().map_err(|error| OpenError::Database(error.into()))?;
        check(&transaction, keyring, mark)?;
        prepare(&transaction).map_err(OpenError::Database)?;
        transaction.commit().map_err(|error| OpenError::Database(error.into()))?;
        Ok(Self { inner: Arc::new(Inner { database, keyring: keyring.clone() }) })
    }

    /// Reads one consistent state. Short: a few pages, mostly from memory, so it runs on the caller's thread.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        work(&self.inner.database.begin_read()?)
    }

    /// Runs `work` in the one write transaction of the moment, on a thread that may block, and commits when
    /// it succeeds. With `Durability::Immediate` the result is on disk when this returns.
    pub(crate) async fn write<T, E>(
        &self,
        durability: Durability,
        work: impl FnOnce(&WriteTransaction, &Keyring) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || {
            let mut transaction = inner.database.begin_write().map_err(StoreError::from)?;
            transaction.set_durability(durability).map_err(StoreError::from)?;
            let result = work(&transaction, &inner.keyring)?;
            transaction.commit().map_err(StoreError::from)?;
            Ok(result)
        });
        done.await.unwrap_or_else(|_| Err(StoreError::Interrupted.into()))
    }
}

impl Mark {
    const fn label(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Production => "production",
        }
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn opening(error: DatabaseError, path: &Path) -> OpenError {
    if matches!(error, DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch) {
        OpenError::Held { path: path.to_owned() }
    } else {
        OpenError::Database(error.into())
    }
}

/// Makes the tables that readers expect.
fn prepare(transaction: &WriteTransaction) -> Result<(), StoreError> {
    crate::sessions::prepare(transaction)?;
    crate::credentials::prepare_accounts(transaction)?;
    crate::credentials::prepare_api_keys(transaction)?;
    crate::credentials::prepare_attempts(transaction)
}

/// Checks layout, mark and keys of a store that has them, and writes them into one that is new.
fn check(transaction: &WriteTransaction, keyring: &Keyring, mark: Mark) -> Result<(), OpenError> {
    let failed = |error: StoreError| OpenError::Database(error);
    let mut meta = transaction.open_table(META).map_err(|error| failed(error.into()))?;
    let read = |name| -> Result<Option<Vec<u8>>, OpenError> {
        let value = meta.get(name).map_err(|error| failed(error.into()))?;
        Ok(value.map(|value| value.value().to_vec()))
    };
    let (schema, found) = (read("schema")?, read("mark")?);
    match (schema, found) {
        (None, None) => {
            for (name, value) in
                [("schema", SCHEMA.to_be_bytes().as_slice()), ("mark", mark.label().as_bytes())]
            {
                drop(meta.insert(name, value).map_err(|error| failed(error.into()))?);
            }
        }
        (Some(schema), Some(found)) => {
            let schema = schema.try_into().map(u64::from_be_bytes).map_err(|_| OpenError::Damaged)?;
            if schema != SCHEMA {
                return Err(OpenError::UnknownSchema { found: schema });
            }
            let found =
                [Mark::Demo, Mark::Production].into_iter().find(|one| one.label().as_bytes() == found);
            let found = found.ok_or(OpenError::Damaged)?;
            if found != mark {
                return Err(OpenError::WrongMark { found, wanted: mark });
            }
        }
        _ => return Err(OpenError::Damaged),
    }
    check_keys(transaction, keyring)
}

/// Every master that something may be sealed under must be there; the active one is added.
fn check_keys(transaction: &WriteTransaction, keyring: &Keyring) -> Result<(), OpenError> {
    let failed = |error: StoreError| OpenError::Database(error);
    let mut table = transaction.open_table(KEY_CHECKS).map_err(|error| failed(error.into()))?;
    for row in table.iter().map_err(|error| failed(error.into()))? {
        let (id, sealed) = row.map_err(|error| failed(error.into()))?;
        match unseal(keyring, Purpose::KeyCheck, id.value(), sealed.value()) {
            Ok(opened) if opened.as_slice() == KEY_CHECK => {}
            Err(UnsealError::UnknownKey(needed)) => {
                return Err(OpenError::WrongKey { needed: needed.to_string() });
            }
            Ok(_) | Err(UnsealError::Malformed | UnsealError::Broken) => return Err(OpenError::Damaged),
        }
    }
    let KeyId(id) = keyring.active_id();
    if table.get(id.as_slice()).map_err(|error| failed(error.into()))?.is_none() {
        let sealed = seal(keyring, Purpose::KeyCheck, &id, KEY_CHECK);
        let sealed = sealed.map_err(|error| failed(StoreError::Seal(error)))?;
        drop(table.insert(id.as_slice(), sealed.as_slice()).map_err(|error| failed(error.into()))?);
    }
    Ok(())
}

macro_rules! database_errors {
    ($($error:ty),+ $(,)?) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )+};
}

database_errors!(
    redb::CommitError,
    redb::DatabaseError,
    redb::SetDurabilityError,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
);

#[cfg(test)]
mod tests {
    use super::*;

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
}
