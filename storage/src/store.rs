//! The embedded store: one redb file that belongs to one process.
//!
//! The file is `store/store.redb` (0600) in a directory of its own (0700) below the data directory, so that
//! a data directory which holds other files keeps its mode. Holding the file open is holding its exclusive
//! lock: only who holds it may say that no gateway runs (threat 18).
//!
//! Durability: whatever is acknowledged is on disk before the answer, except touches of sessions (see
//! [`crate::sessions`]), whose loss shortens a session and nothing else.
//!
//! When the disk is full or fails, redb closes itself to everything until it is opened anew. The store does
//! that by itself, whenever it is asked for something: what was read before the failure can be read again at
//! once, and what is written is written when there is room.

mod check;
mod error;
#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, WriteTransaction};

use crate::changes::Changes;
use crate::files::{private_dir, private_file};
use crate::keyring::Keyring;
use crate::recent::{Epoch, Epochs, Reach};
use check::{check, prepare};
pub use error::{OpenError, StoreError};

/// Bytes that redb may keep in memory. A session takes about 600 bytes in all, so this holds 100,000; a hint of up to 6 KiB
/// is read once, at sign-out.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// The embedded store. Cheap to clone; the file is released when the last clone is dropped.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    /// `None` while it could not be opened again after a failure.
    database: RwLock<Option<Database>>,
    open: Opener,
    keyring: Keyring,
    changes: Changes,
    epochs: Epochs,
    mark: Mark,
    /// redb has closed itself.
    latched: AtomicBool,
    /// Nothing could be written since a failure.
    failing: AtomicBool,
    healing: Mutex<()>,
}

type Opener = Box<dyn Fn() -> Result<Database, OpenError> + Send + Sync>;

/// What a store was made for. It is written at creation and checked at every opening (threat 16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Made by the demo, with accounts whose passwords lie in a file.
    Demo,
    /// Made by a gateway that means it.
    Production,
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
        Self::with(Box::new(move || open_file(&path)), keyring, mark)
    }

    /// A store that lives in memory and dies with the process.
    ///
    /// # Errors
    /// When the database cannot be made.
    pub fn in_memory(keyring: &Keyring) -> Result<Self, OpenError> {
        let open = || {
            let made = builder().create_with_backend(InMemoryBackend::new());
            made.map_err(|error| OpenError::Database(error.into()))
        };
        Self::with(Box::new(open), keyring, Mark::Production)
    }

    /// The keyring that the store was opened with.
    #[must_use]
    pub fn keyring(&self) -> &Keyring {
        &self.inner.keyring
    }

    /// Where it is told that a session, an account or a key no longer is what it was.
    #[must_use]
    pub fn changes(&self) -> &Changes {
        &self.inner.changes
    }

    /// Whether the last write failed for the disk's sake. Reading may work all the same.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.inner.failing.load(Ordering::SeqCst)
    }

    fn with(open: Opener, keyring: &Keyring, mark: Mark) -> Result<Self, OpenError> {
        let database = RwLock::new(Some(checked(open()?, keyring, mark)?));
        let inner = Inner {
            database,
            open,
            keyring: keyring.clone(),
            changes: Changes::default(),
            epochs: Epochs::new(),
            mark,
            latched: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            healing: Mutex::new(()),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The epoch of a part, for what is kept of it; none while the database has closed itself, so that nothing is told
    /// that the store itself would not answer.
    pub(crate) fn epoch(&self, part: u8) -> Option<Epoch> {
        (!self.inner.latched.load(Ordering::SeqCst)).then(|| self.inner.epochs.of(part))
    }

    /// Reads one consistent state. Short: a few pages, mostly from memory, so it runs on the caller's thread.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.inner.latched.load(Ordering::SeqCst)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            // Opening blocks, so this caller is answered with the failure and the next ones are served.
            let inner = Arc::clone(&self.inner);
            drop(runtime.spawn_blocking(move || inner.heal()));
        }
        let result = self.inner.with_database(|database| work(&database.begin_read()?));
        result.inspect_err(|error| self.inner.note(error))
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
        self.write_within(Reach::All, durability, work).await
    }

    /// The same, of what changes no more than `reach` says.
    pub(crate) async fn write_within<T, E>(
        &self,
        reach: Reach,
        durability: Durability,
        work: impl FnOnce(&WriteTransaction, &Keyring) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || inner.write(reach, durability, work));
        done.await.unwrap_or_else(|_| Err(StoreError::Interrupted.into()))
    }
}

impl Inner {
    fn write<T, E: From<StoreError>>(
        &self,
        reach: Reach,
        durability: Durability,
        work: impl FnOnce(&WriteTransaction, &Keyring) -> Result<T, E>,
    ) -> Result<T, E> {
        self.heal();
        let durable = matches!(durability, Durability::Immediate);
        // The inner result is the caller's: an error of its own undoes the transaction and is no failure.
        let result = self.with_database(|database| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(durability)?;
            let result = work(&transaction, &self.keyring);
            match &result {
                Ok(_) => transaction.commit()?,
                Err(_) => transaction.abort()?,
            }
            Ok(result)
        });
        // Whatever came of it: a commit that failed may have reached the file.
        self.epochs.end(reach);
        match result {
            Ok(result) => {
                if durable && self.failing.swap(false, Ordering::SeqCst) {
                    tracing::info!("the store is written again");
                }
                result
            }
            Err(error) => {
                self.note(&error);
                Err(error.into())
            }
        }
    }

    fn with_database<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        work(database.as_ref().ok_or(StoreError::Away)?)
    }

    fn note(&self, error: &StoreError) {
        if error.needs_reopening() {
            self.latched.store(true, Ordering::SeqCst);
            if !self.failing.swap(true, Ordering::SeqCst) {
                tracing::error!(%error, "the store failed; it is opened anew until it works");
            }
        }
    }

    /// Opens the database anew where it has closed itself. Nothing that was acknowledged is lost by that.
    fn heal(&self) {
        if !self.latched.load(Ordering::SeqCst) {
            return;
        }
        let Ok(_turn) = self.healing.try_lock() else { return };
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // The file's lock has to be given up before it can be taken again.
        drop(database.take());
        match (self.open)().and_then(|opened| checked(opened, &self.keyring, self.mark)) {
            Ok(opened) => {
                *database = Some(opened);
                self.epochs.end(Reach::All);
                self.latched.store(false, Ordering::SeqCst);
            }
            Err(error) => tracing::debug!(%error, "the store cannot be opened yet"),
        }
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

fn open_file(path: &Path) -> Result<Database, OpenError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = private_file(path, &mut options).map_err(OpenError::Private)?;
    let opened = FileBackend::new(file).and_then(|backend| builder().create_with_backend(backend));
    opened.map_err(|error| {
        if matches!(error, DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch) {
            OpenError::Held { path: path.to_owned() }
        } else {
            OpenError::Database(error.into())
        }
    })
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Checks what was opened, and makes what is missing.
fn checked(database: Database, keyring: &Keyring, mark: Mark) -> Result<Database, OpenError> {
    let transaction = database.begin_write().map_err(|error| OpenError::Database(error.into()))?;
    check(&transaction, keyring, mark)?;
    prepare(&transaction).map_err(OpenError::Database)?;
    transaction.commit().map_err(|error| OpenError::Database(error.into()))?;
    Ok(database)
}
