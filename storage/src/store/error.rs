//! How the store fails.

use std::path::PathBuf;

use super::Mark;
use super::check::SCHEMA;
use crate::files::PrivateError;
use crate::redis::Fault;
use crate::seal::{SealError, UnsealError};

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
    /// The database failed before and could not be opened again yet. It is tried again by itself.
    #[error("the database is closed after a failure")]
    Away,
    /// A store that gateways share did not do it, as far as is known: one that was late may have.
    #[error("the shared store does not answer")]
    Shared(#[source] Fault),
    /// Others changed the same at the same time, again and again.
    #[error("others change the same at this moment")]
    Contested,
    /// The thread that did the work panicked or was cancelled at shutdown.
    #[error("the operation was interrupted")]
    Interrupted,
}

impl StoreError {
    /// Whether it was done all the same, where too few replicas have it: it may be undone by the loss of one server.
    #[must_use]
    pub fn was_done(&self) -> bool {
        matches!(self, Self::Shared(Fault::Unkept))
    }

    /// Whether the database has to be opened anew before it does anything again.
    pub(super) fn needs_reopening(&self) -> bool {
        match self {
            Self::Away => true,
            Self::Database(error) => {
                matches!(**error, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed)
            }
            Self::Unseal(_)
            | Self::Seal(_)
            | Self::Malformed
            | Self::Shared(_)
            | Self::Contested
            | Self::Interrupted => false,
        }
    }
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
