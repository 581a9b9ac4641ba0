//! Remembers: sessions, credentials, counters and the audit log.
//!
//! | what | where | kept in |
//! |---|---|---|
//! | [`sessions`] | who signed in, until when | the embedded store, memory, or a Redis that gateways share |
//! | [`credentials`] | accounts, API keys, and attempts to guess a password | the embedded store |
//! | [`counters`] | how often somebody did something lately | memory of a fixed size, or a Redis that gateways share |
//! | [`endings`] | what identity providers have ended lately | the embedded store, or a Redis that gateways share |
//! | [`grants`] | what identity providers have given us for sessions | the embedded store |
//! | [`audit_log`] | one line of JSON a request | files, one a day |
//!
//! Below them:
//!
//! - [`Store`] is the embedded store: one file, held by one process, marked as the demo's or not.
//! - [`Keyring`] derives a key for every [`keyring::Purpose`] from a master; [`seal`] seals records with keys
//!   that are used once.
//! - [`Secret`] is a value that no log line can show.
//!
//! What can be kept in more than one place is a port: a struct over a closed set of adapters, with a contract
//! in its documentation and a suite (`contract.rs`) that every adapter passes. Adding an adapter is a change
//! of this crate, because it is security code.
//!
//! Time is an argument everywhere ([`engine::time::UnixMillis`]). Reading the store happens on the caller's
//! thread, because it is short; writing happens on a thread that may block, and is on disk when it is
//! acknowledged. A store that fails is an error, never an answer: nobody is signed in, admitted or let off
//! because something could not be read.

mod address;
pub mod audit_log;
mod changes;
pub mod counters;
pub mod credentials;
pub mod endings;
mod files;
pub mod grants;
pub mod keyring;
mod opened;
mod random;
mod recent;
pub mod redis;
pub mod seal;
mod secret;
pub mod sessions;
pub mod store;

pub use address::address_bucket;
pub use changes::{Change, Changes};
pub use files::PrivateError;
pub use keyring::Keyring;
pub use secret::Secret;
pub use store::{Mark, OpenError, Store, StoreError};
