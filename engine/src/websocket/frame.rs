//! The header of a frame.

use super::{Fault, Sender};

/// Bytes of a frame's header, at most: two, eight of length, four of mask.
pub const HEADER_BYTES_MAX: usize = 14;

/// Bytes of a control frame's payload, at most (section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// Goes on with the message.
    Continuation,
    /// Begins a text.
    Text,
    /// Begins a binary message.
    Binary,
    /// Ends the connection.
    Close,
    /// Asks for a pong.
    Ping,
    /// Answers a ping.
    Pong,
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether the message ends with this frame.
    pub fin: bool,
    /// What it is.
    pub opcode: Opcode,
    /// The key that its payload is masked with.
    pub mask: Option<[u8; 4]>,
    /// Bytes of its payload.
    pub length: u64,
}

impl Opcode {
    /// Whether it stands between the frames of a message.
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    const fn code(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    const fn read(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Continuation),
            1 => Some(Self::Text),
            2 => Some(Self::Binary),
            8 => Some(Self::Close),
            9 => Some(Self::Ping),
            10 => Some(Self::Pong),
            _ => None,
        }
    }
}

impl Header {
    /// Reads a header from the first bytes of what came; answers it with its length in bytes, or nothing while it
    /// is not whole. What two bytes tell is judged on two bytes.
    ///
    /// # Errors
    /// The protocol is broken: a reserved bit or opcode, a mask where none belongs or none where one does, a
    /// length that is not spelt in the shortest form, a control frame that is long or in pieces.
    pub fn read(bytes: &[u8], from: Sender) -> Result<Option<(Self, usize)>, Fault> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if first & 0b0111_0000 != 0 {
            return Err(Fault::Protocol("reserved bit"));
        }
        let opcode = Opcode::read(first & 0b0000_1111).ok_or(Fault::Protocol("unknown opcode"))?;
        let (fin, masked, short) = (first & 0x80 != 0, second & 0x80 != 0, second & 0x7f);
        if masked != (from == Sender::Client) {
            return Err(Fault::Protocol(if masked { "masked" } else { "not masked" }));
        }
        if opcode.is_control() && (!fin || usize::from(short) > CONTROL_BYTES_MAX) {
            return Err(Fault::Protocol("control frame long or in pieces"));
        }
        let Some((length, rest)) = length(short, rest)? else { return Ok(None) };
        let (mask, rest) = match (masked, rest.split_first_chunk::<4>()) {
            (false, _) => (None, rest),
            (true, Some((key, rest))) => (Some(*key), rest),
            (true, None) => return Ok(None),
        };
        let header = Self { fin, opcode, mask, length };
        Ok(Some((header, bytes.len().saturating_sub(rest.len()))))
    }

    /// Writes it.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.fin) << 7 | self.opcode.code());
        let masked = u8::from(self.mask.is_some()) << 7;
        match (u8::try_from(self.length), u16::try_from(self.length)) {
            (Ok(short @ ..126), _) => out.push(masked | short),
            (_, Ok(medium)) => {
                out.push(masked | 126);
                out.extend_from_slice(&medium.to_be_bytes());
            }
            (_, Err(_)) => {
                out.push(masked | 127);
                out.extend_from_slice(&self.length.to_be_bytes());
            }
        }
        out.extend_from_slice(self.mask.as_ref().map_or(&[], <[u8; 4]>::as_slice));
    }
}

type Length<'b> = Option<(u64, &'b [u8])>;

/// A length has one spelling: two would let two readers see two ends of a frame.
fn length(short: u8, rest: &[u8]) -> Result<Length<'_>, Fault> {
    let (length, least, rest) = match short {
        126 => match rest.split_first_chunk::<2>() {
            Some((bytes, rest)) => (u64::from(u16::from_be_bytes(*bytes)), 126, rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk::<8>() {
            Some((bytes, rest)) => (u64::from_be_bytes(*bytes), 0x1_0000, rest),
            None => return Ok(None),
        },
        short => (u64::from(short), 0, rest),
    };
    if length < least || length > u64::MAX >> 1 {
        return Err(Fault::Protocol("length"));
    }
    Ok(Some((length, rest)))
}

/// Masks or unmasks bytes that stand at this offset of their payload.
pub fn mask(key: [u8; 4], offset: usize, bytes: &mut [u8]) {
    let mut turned = key;
    turned.rotate_left(offset % 4);
    let word = u32::from_ne_bytes(turned);
    let (words, rest) = bytes.as_chunks_mut::<4>();
    for chunk in words {
        *chunk = (u32::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(turned) {
        *byte ^= key;
    }
}
