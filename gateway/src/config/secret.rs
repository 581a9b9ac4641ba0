//! The type of every secret: no `Debug`, no `Display`, no `Serialize`, wiped when dropped.

pub use storage::Secret;
