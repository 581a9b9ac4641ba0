//! The framing of a chunked body, strictly as RFC 9112, section 7.1 writes it.
//!
//! Whoever reads a chunked body leniently reads its end where another reader does not: an empty chunk size that
//! is taken for zero, a bare LF, a sign before a size, a trailer without a colon. So the gateway lets nothing
//! pass that has more than one reading, and learns from the same check where the body ends.

/// Hexadecimal digits of a chunk's size, leading zeros included. More than fifteen would not fit every reader's
/// signed 64 bits.
pub const SIZE_DIGITS_MAX: u8 = 15;
/// Bytes of chunk extensions in one body. No client of ours sends any; without a bound a body of one-byte chunks
/// costs the reader thousands of bytes for each that it yields (CVE-2023-39326).
pub const EXTENSION_BYTES_MAX: u32 = 4 * 1024;
/// Bytes of the trailer section of one body.
pub const TRAILER_BYTES_MAX: u32 = 8 * 1024;

/// How far a check has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The body is not at its end.
    More,
    /// The body has ended with the last byte that was taken.
    End,
    /// The next byte cannot stand where it stands; what is wrong with it.
    Fault(&'static str),
}

/// Checks the framing of one chunked body as its bytes pass, in pieces of any size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunked {
    at: At,
    /// Of the current chunk: its size while that is read, then what is left of its data.
    remaining: u64,
    digits: u8,
    extension_bytes: u32,
    trailer_bytes: u32,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size,
    Extension(Extension),
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Over(Progress),
}

/// `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    /// After space that follows a size or a value: only a semicolon may come.
    Next,
    NameStart,
    Name,
    /// After space that follows a name.
    AfterName,
    ValueStart,
    Token,
    Quoted,
    Escaped,
    /// After a closing quote.
    AfterQuoted,
}

const SIZE: Progress = Progress::Fault("a chunk's size");
const EXTENSION: Progress = Progress::Fault("a chunk's extension");
const DATA_END: Progress = Progress::Fault("the end of a chunk");
const TRAILER: Progress = Progress::Fault("a trailer");

impl Default for Chunked {
    fn default() -> Self {
        Self { at: At::Size, remaining: 0, digits: 0, extension_bytes: 0, trailer_bytes: 0 }
    }
}

impl Chunked {
    /// Looks at the next bytes and says how many of them belong to this body and are as they must be.
    ///
    /// After `End` or `Fault` no byte more is taken and the answer stays.
    pub fn advance(&mut self, bytes: &[u8]) -> (usize, Progress) {
        let mut taken = 0_usize;
        loop {
            let (framing, progress) = self.framing(bytes.get(taken..).unwrap_or_default());
            taken = taken.saturating_add(framing);
            let data = self.data(bytes.get(taken..).unwrap_or_default());
            if data == 0 {
                return (taken, progress);
            }
            taken = taken.saturating_add(data);
        }
    }

    /// Looks at the next bytes up to where a chunk's data begins, and says how many those are.
    pub fn framing(&mut self, bytes: &[u8]) -> (usize, Progress) {
        let mut taken = 0_usize;
        loop {
            match (self.at, bytes.get(taken)) {
                (At::Over(progress), _) => return (taken, progress),
                (At::Data, _) | (_, None) => return (taken, Progress::More),
                (_, Some(byte)) => match self.step(*byte) {
                    Ok(next) => {
                        self.at = next;
                        taken = taken.saturating_add(1);
                    }
                    Err(fault) => self.at = At::Over(fault),
                },
            }
        }
    }

    /// How many of the next bytes are data of the current chunk: none where its size was not read yet.
    pub fn data(&mut self, bytes: &[u8]) -> usize {
        if self.at != At::Data {
            return 0;
        }
        let data = usize::try_from(self.remaining).map_or(bytes.len(), |left| left.min(bytes.len()));
        self.remaining = self.remaining.saturating_sub(data as u64);
        if self.remaining == 0 {
            self.at = At::DataCr;
        }
        data
    }

    /// One byte that is no chunk data.
    fn step(&mut self, byte: u8) -> Result<At, Progress> {
        match self.at {
            At::Size => self.size(byte),
            At::Extension(extension) => {
                self.extension_bytes = self.extension_bytes.saturating_add(1);
                let bounded = self.extension_bytes <= EXTENSION_BYTES_MAX;
                extension.step(byte).filter(|_| bounded).ok_or(EXTENSION)
            }
            At::SizeLf if byte != b'\n' => Err(SIZE),
            At::SizeLf => {
                self.digits = 0;
                Ok(if self.remaining == 0 { At::TrailerStart } else { At::Data })
            }
            At::DataCr if byte == b'\r' => Ok(At::DataLf),
            At::DataLf if byte == b'\n' => Ok(At::Size),
            At::DataCr | At::DataLf | At::Data => Err(DATA_END),
            At::EndLf if byte == b'\n' => Ok(At::Over(Progress::End)),
            At::TrailerStart | At::TrailerName | At::TrailerValue | At::TrailerLf | At::EndLf => {
                self.trailer(byte)
            }
            At::Over(progress) => Err(progress),
        }
    }

    fn size(&mut self, byte: u8) -> Result<At, Progress> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            self.digits = self.digits.saturating_add(1);
            // Fifteen digits fit in 60 bits.
            self.remaining = (self.remaining << 4) | u64::from(digit);
            return if self.digits <= SIZE_DIGITS_MAX { Ok(At::Size) } else { Err(SIZE) };
        }
        match byte {
            // A size without digits is no zero: a reader who takes it for one sees the body end here.
            _ if self.digits == 0 => Err(SIZE),
            b'\r' => Ok(At::SizeLf),
            b';' => Ok(At::Extension(Extension::NameStart)),
            b' ' | b'\t' => Ok(At::Extension(Extension::Next)),
            _ => Err(SIZE),
        }
    }

    fn trailer(&mut self, byte: u8) -> Result<At, Progress> {
        self.trailer_bytes = self.trailer_bytes.saturating_add(1);
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(TRAILER);
        }
        match (self.at, byte) {
            (At::TrailerStart, b'\r') => Ok(At::EndLf),
            (At::TrailerStart | At::TrailerName, byte) if is_token(byte) => Ok(At::TrailerName),
            (At::TrailerName, b':') => Ok(At::TrailerValue),
            (At::TrailerValue, b'\r') => Ok(At::TrailerLf),
            (At::TrailerValue, byte) if is_text(byte) => Ok(At::TrailerValue),
            (At::TrailerLf, b'\n') => Ok(At::TrailerStart),
            _ => Err(TRAILER),
        }
    }
}

impl Extension {
    fn step(self, byte: u8) -> Option<At> {
        let next = match (self, byte) {
            (Self::Name | Self::Token | Self::AfterQuoted, b'\r') => return Some(At::SizeLf),
            (Self::Next | Self::Name | Self::AfterName | Self::Token | Self::AfterQuoted, b';') => {
                Self::NameStart
            }
            (Self::Next | Self::Token | Self::AfterQuoted, b' ' | b'\t') => Self::Next,
            (Self::NameStart, b' ' | b'\t') => Self::NameStart,
            (Self::Name | Self::AfterName, b' ' | b'\t') => Self::AfterName,
            (Self::ValueStart, b' ' | b'\t') => Self::ValueStart,
            (Self::Name | Self::AfterName, b'=') => Self::ValueStart,
            (Self::ValueStart, b'"') => Self::Quoted,
            (Self::Quoted, b'"') => Self::AfterQuoted,
            (Self::Quoted, b'\\') => Self::Escaped,
            (Self::Quoted | Self::Escaped, byte) if is_text(byte) => Self::Quoted,
            (Self::NameStart | Self::Name, byte) if is_token(byte) => Self::Name,
            (Self::ValueStart | Self::Token, byte) if is_token(byte) => Self::Token,
            _ => return None,
        };
        Some(At::Extension(next))
    }
}

/// `tchar` of RFC 9110, section 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// What a field value and a quoted string are made of: no control byte but the tab.
const fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..=0xff)
}

#[cfg(test)]
mod tests;
