//! Lines on the socket: bounded, whole, and wiped, because one may hold a password.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use zeroize::Zeroizing;

/// Bytes of a request line, its end included: far past a login, a password and the roles of anybody.
pub(super) const REQUEST_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of an answer line: lists of accounts and sessions.
pub(super) const REPLY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The other side has ended, in the middle of a line if `half`. A half line is never acted on.
    #[error("the other side closed the connection")]
    Closed {
        /// Whether something had come.
        half: bool,
    },
    /// The line is longer than its bound.
    #[error("the line is longer than {0} bytes")]
    TooLong(u64),
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[source] io::Error),
}

/// Reads one line of at most `bytes_max` bytes, without its end.
///
/// # Errors
/// There is no whole line within the bound.
pub(super) async fn read(
    reader: &mut (impl AsyncBufRead + Unpin),
    bytes_max: u64,
) -> Result<Zeroizing<Vec<u8>>, LineError> {
    // Room at once for a request: a vector that grows leaves copies of a password behind.
    let room = usize::try_from(bytes_max.min(REQUEST_BYTES_MAX)).unwrap_or_default();
    let mut line = Zeroizing::new(Vec::with_capacity(room));
    let read = reader.take(bytes_max).read_until(b'\n', &mut line).await.map_err(LineError::Io)?;
    if line.pop_if(|last| *last == b'\n').is_some() {
        Ok(line)
    } else if read as u64 == bytes_max {
        Err(LineError::TooLong(bytes_max))
    } else {
        Err(LineError::Closed { half: read > 0 })
    }
}
