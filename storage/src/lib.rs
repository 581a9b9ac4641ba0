//! Remembers: sessions, credentials, counters and the audit log.

pub mod sessions;
