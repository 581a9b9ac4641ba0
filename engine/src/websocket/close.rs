//! Close frames.

use super::Fault;

/// Bytes of a close frame's reason, at most: a control frame without the code.
pub const REASON_BYTES_MAX: usize = 123;

/// Why one side ends a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The code.
    pub code: u16,
    /// The reason, for people.
    pub reason: String,
}

impl Close {
    /// A code and as much of a reason as fits.
    #[must_use]
    pub fn new(code: u16, reason: &str) -> Self {
        let end = reason.floor_char_boundary(REASON_BYTES_MAX);
        Self { code, reason: reason.get(..end).unwrap_or_default().to_owned() }
    }

    /// Reads the payload of a close frame; an empty one has no code.
    ///
    /// # Errors
    /// Half a code, a code that nobody may send, or a reason that is not UTF-8.
    pub fn read(payload: &[u8]) -> Result<Option<Self>, Fault> {
        let Some((code, reason)) = payload.split_first_chunk::<2>() else {
            return if payload.is_empty() { Ok(None) } else { Err(Fault::Protocol("half a close code")) };
        };
        let code = u16::from_be_bytes(*code);
        if !is_close_code(code) {
            return Err(Fault::Protocol("close code"));
        }
        let reason = std::str::from_utf8(reason).map_err(|_| Fault::NotUtf8)?;
        Ok(Some(Self { code, reason: reason.to_owned() }))
    }
}

/// Whether a close frame may carry this code: those that are registered and travel, and those for libraries and
/// private use (section 7.4).
#[must_use]
pub const fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
