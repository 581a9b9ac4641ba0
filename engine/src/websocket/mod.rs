//! WebSocket frames (RFC 6455), read and written piece by piece, as pure functions of bytes.
//!
//! Published libraries hand out whole frames or whole messages, so each open socket could be made to hold as
//! much as the largest message. A gateway only passes on: here a payload leaves as it comes, every piece as a
//! fragment of its own, and a reader holds no more than one unfinished header or control frame. That is also
//! what lets a close frame go out at any moment, in the middle of somebody's message. Without an extension,
//! which the gateway never offers, an intermediary may change fragmentation (section 5.4).

mod close;
mod frame;
mod receive;
#[cfg(test)]
mod tests;
mod utf8;
mod write;

pub use close::{Close, REASON_BYTES_MAX, is_close_code};
pub use frame::{CONTROL_BYTES_MAX, HEADER_BYTES_MAX, Header, Opcode, mask};
pub use receive::{Event, Piece, Receiver};
pub use utf8::Utf8;
pub use write::Writer;

/// Who sends the frames that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Its frames are masked.
    Client,
    /// Its frames are not.
    Server,
}

/// What a message contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Anything.
    Binary,
}

/// Why the bytes that came are no frames to pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They break the protocol, in this way.
    Protocol(&'static str),
    /// A text is not UTF-8.
    NotUtf8,
    /// A message is larger than the bound.
    TooLarge,
}

impl Fault {
    /// The code of section 7.4.1 that tells it to the sender.
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::NotUtf8 => 1007,
            Self::TooLarge => 1009,
        }
    }

    /// What is wrong, in words that may leave.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Protocol(reason) => reason,
            Self::NotUtf8 => "text is not UTF-8",
            Self::TooLarge => "message too large",
        }
    }
}
