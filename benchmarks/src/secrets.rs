//! Secrets of one run, and how they are left for a gateway.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use ring::rand::{SecureRandom as _, SystemRandom};

use crate::Failure;

/// The keys that a gateway does not start without.
pub(crate) const KEYS: [&str; 3] =
    ["BOTSERVER_ENCRYPTION_KEY", "DATABASE_ENCRYPTION_KEY", "BOTSERVER_JWT_SECRET"];

/// 32 random bytes in hexadecimal digits.
///
/// # Errors
/// The system gives none.
pub(crate) fn hex() -> Result<String, Failure> {
    let mut bytes = [0_u8; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_unspecified| "the system gives no random bytes")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Writes a file that nobody else reads; one that is there already is left as it is.
///
/// # Errors
/// It cannot be written, or is there.
pub(crate) fn leave(file: &Path, text: &str) -> Result<(), Failure> {
    let mut written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    Ok(written.write_all(text.as_bytes())?)
}
