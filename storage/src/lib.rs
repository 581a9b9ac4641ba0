//! Remembers: sessions, credentials, counters and the audit log.

mod address;
pub mod audit_log;
pub mod counters;
pub mod credentials;
mod files;
pub mod keyring;
mod random;
pub mod seal;
mod secret;
pub mod sessions;
pub mod store;

pub use address::address_bucket;
pub use files::PrivateError;
pub use keyring::Keyring;
pub use secret::Secret;
pub use store::{Mark, OpenError, Store, StoreError};
