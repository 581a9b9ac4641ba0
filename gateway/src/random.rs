//! The gateway's randomness: ids and trace numbers. Secrets are made in `storage`.

use engine::time::UnixMillis;
use rand::Rng;
use uuid::Uuid;

/// Random bytes from the thread's cryptographic generator.
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// A request id: UUID v7, so that records sort by time.
#[must_use]
pub fn request_id(now: UnixMillis) -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(now.0, &bytes()).into_uuid()
}
