//! Where one request ends on a connection, and the next begins.
//!
//! Requests may come one after the other without waiting (RFC 9112, section 9.3.2). The HTTP parser is never shown
//! a byte past the request that it works on: whether it would drop such bytes, take them for a body or answer
//! them out of turn is no longer its to say. The end of a head is read here, its body's length is what the
//! parser itself read from its headers, and a chunked body is checked strictly as it passes. Where the two
//! readings differ, nothing more is delivered and the connection ends.

use std::ops::Range;
use std::sync::LazyLock;

use engine::chunked::{Chunked, Progress};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use memchr::memmem::Finder;

/// Bytes of empty lines before a request that are no part of it (RFC 9112, section 2.2, asks for one line). More
/// of them are a request that does not come, under the deadline of every head.
pub const BLANK_BYTES_MAX: usize = 8;

/// How a request's body is delimited, as its parsed headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By this many bytes.
    Length(u64),
    /// By its chunks.
    Chunked,
    /// In no way that has one reading only: such a request is refused, and nothing after it is served.
    Unknown,
}

impl Framing {
    /// The framing that these headers announce.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
        let (coding, length) = (codings.next(), lengths.next());
        if codings.next().is_some() || lengths.next().is_some() {
            return Self::Unknown;
        }
        match (coding, length) {
            (None, None) => Self::Length(0),
            (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Self::Chunked,
            (None, Some(length)) => decimal(length.as_bytes()).map_or(Self::Unknown, Self::Length),
            _ => Self::Unknown,
        }
    }
}

/// Digits alone: other readers take `+4`, `4, 4` or ` 4`, and not all of them for the same number.
#[must_use]
pub fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok()?.parse().ok().filter(|_| digits)
}

/// What may be done with the bytes that come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// They belong to the current request.
    Deliver,
    /// The current request is whole; what comes belongs to the next one.
    Hold,
    /// The parser wants more of a head that is whole, or found its end elsewhere.
    OutOfStep,
    /// The body is not framed as it must be; what is wrong with it.
    Broken(&'static str),
}

/// Follows one connection from request to request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delimiter {
    at: At,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    /// In a head, so far into the CR LF CR LF that ends it.
    Head {
        blank: usize,
        begun: bool,
        matched: u8,
    },
    /// The head is whole; the parser has not said how its body is framed.
    HeadEnd,
    Length(u64),
    Chunked(Chunked),
    End,
    OutOfStep,
    Broken(&'static str),
}

impl Default for At {
    fn default() -> Self {
        Self::Head { blank: 0, begun: false, matched: 0 }
    }
}

impl Delimiter {
    /// The parser waits for a new request.
    pub fn next_request(&mut self) {
        self.at = match self.at {
            At::OutOfStep | At::Broken(_) => return,
            At::Head { .. } | At::HeadEnd | At::Length(_) | At::Chunked(_) | At::End => At::default(),
        };
    }

    /// The parser has read the head, and this is how the body is framed.
    pub fn framed(&mut self, framing: Framing) {
        self.at = match (&self.at, framing) {
            (At::HeadEnd, Framing::Length(0)) => At::End,
            (At::HeadEnd, Framing::Length(length)) => At::Length(length),
            (At::HeadEnd, Framing::Chunked) => At::Chunked(Chunked::default()),
            _ => At::OutOfStep,
        };
    }

    /// Whether the next byte belongs to a head, or would begin one.
    #[must_use]
    pub const fn in_head(&self) -> bool {
        matches!(self.at, At::Head { .. })
    }

    /// Whether the next byte belongs to a body.
    #[must_use]
    pub const fn in_body(&self) -> bool {
        matches!(self.at, At::Length(_) | At::Chunked(_))
    }

    /// Nothing more is delivered.
    pub fn distrust(&mut self) {
        self.at = At::OutOfStep;
    }

    /// What may be done with the bytes that come next.
    #[must_use]
    pub const fn turn(&self) -> Turn {
        match self.at {
            At::Head { .. } | At::Length(_) | At::Chunked(_) => Turn::Deliver,
            At::End => Turn::Hold,
            At::HeadEnd | At::OutOfStep => Turn::OutOfStep,
            At::Broken(fault) => Turn::Broken(fault),
        }
    }

    /// How many of these bytes may be delivered now; what is left belongs to the next turn.
    pub fn advance(&mut self, bytes: &[u8]) -> Taken {
        let mut taken = Taken { bytes: bytes.len(), head: 0..0 };
        taken.bytes = match &mut self.at {
            At::Head { blank, begun, matched } => {
                let room = if *begun { 0 } else { BLANK_BYTES_MAX.saturating_sub(*blank) };
                let skipped = blank_bytes(bytes).min(room);
                *blank = blank.saturating_add(skipped);
                *begun = *begun || skipped < bytes.len();
                let end = bytes.get(skipped..).and_then(|rest| head_end(rest, matched));
                if end.is_some() {
                    self.at = At::HeadEnd;
                }
                taken.head = skipped..end.map_or(bytes.len(), |end| end.saturating_add(skipped));
                taken.head.end
            }
            At::Length(left) => {
                let taken = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left = left.saturating_sub(taken as u64);
                if *left == 0 {
                    self.at = At::End;
                }
                taken
            }
            At::Chunked(chunked) => {
                let (taken, progress) = chunked.advance(bytes);
                match progress {
                    Progress::More => {}
                    Progress::End => self.at = At::End,
                    Progress::Fault(fault) => self.at = At::Broken(fault),
                }
                taken
            }
            At::HeadEnd | At::End | At::OutOfStep | At::Broken(_) => 0,
        };
        taken
    }
}

/// What was taken of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// How many of them, from the first on.
    pub bytes: usize,
    /// Which of these belong to a head; empty lines before one do not.
    pub head: Range<usize>,
}

/// Finds the empty line after a head; made once, because making it costs as much as finding.
pub static HEAD_END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));

/// How many bytes of empty lines these begin with.
pub fn blank_bytes(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

/// Where the empty line after a head ends. Lines that end in a bare LF are none here: a head that has them is
/// refused, and what follows it is never looked at.
fn head_end(bytes: &[u8], matched: &mut u8) -> Option<usize> {
    let mut at = 0_usize;
    loop {
        if *matched == 0 {
            let rest = bytes.get(at..)?;
            if let Some(found) = HEAD_END.find(rest) {
                return Some(at.saturating_add(found).saturating_add(4));
            }
            // What it ends with may begin one.
            *matched = [b"\r\n\r".as_slice(), b"\r\n", b"\r"]
                .iter()
                .find(|begun| rest.ends_with(begun))
                .map_or(0, |begun| begun.len() as u8);
            return None;
        }
        *matched = match (*matched, bytes.get(at)?) {
            (2, b'\r') | (1 | 3, b'\n') => matched.saturating_add(1),
            (_, b'\r') => 1,
            _ => 0,
        };
        at = at.saturating_add(1);
        if *matched == 4 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    proptest! {
        #[test]
        fn a_head_ends_at_its_first_empty_line_however_it_is_cut(
            bytes in vec(select(b"\r\n\r\na".as_slice()), 0..24),
            pieces in vec(1_usize..6, 1..24),
        ) {
            let expected = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
            let (mut matched, mut begin, mut found) = (0, 0, None);
            for length in pieces.into_iter().chain([bytes.len()]) {
                let end = (begin + length).min(bytes.len());
                found = head_end(&bytes[begin..end], &mut matched).map(|at| begin + at);
                if found.is_some() {
                    break;
                }
                begin = end;
            }
            prop_assert_eq!(found, expected, "{}", bytes.escape_ascii());
        }
    }
}
