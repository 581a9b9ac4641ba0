//! Remembers: sessions, credentials, counters and the audit log.

pub mod keyring;
pub mod audit_log;
mod files;
mod random;
pub mod seal;
mod secret;
pub mod sessions;
pub mod store;

pub use keyring::Keyring;
pub use files::PrivateError;
pub use secret::Secret;
pub use store::{Mark, OpenError, Store, StoreError};
