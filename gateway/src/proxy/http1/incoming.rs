//! A body that comes: how much of what was read belongs to it, and where it ends.

use bytes::{Buf as _, Bytes, BytesMut};
use engine::chunked::{Chunked, Progress};
use http::{HeaderMap, HeaderValue, Version, header};

use super::outgoing::Outgoing;
use crate::edge::framing::{Framing, decimal};

/// How a body is delimited, and how much of it is still to come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Incoming {
    /// None of it.
    #[default]
    Done,
    /// This many bytes, at least one.
    Length(u64),
    /// As its chunks say.
    Chunked(Chunked),
    /// All that comes until the connection ends.
    UntilClose,
}

/// What there is of a body in what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// This much.
    Piece(Bytes),
    /// Nothing yet.
    Nothing,
    /// Its end.
    End,
}

/// A length, as all of a message's fields of that name say it (RFC 9110, section 8.6): the same number repeated is that
/// number, anything else is none.
pub(super) fn length(headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut found = None;
    let values = headers.get_all(header::CONTENT_LENGTH).iter().map(HeaderValue::as_bytes);
    for word in values.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii) {
        let number = decimal(word).ok_or("a length that is no number")?;
        if found.replace(number).is_some_and(|before| before != number) {
            return Err("two lengths");
        }
    }
    Ok(found)
}

impl Incoming {
    /// The body of a request with these headers, as the edge delimits it. One that is framed in no way that has one reading is
    /// refused, and ends its connection, before anybody asks for it.
    pub(super) fn of_request(headers: &HeaderMap) -> Self {
        match Framing::of(headers) {
            Framing::Length(length) => Self::of_length(length),
            Framing::Chunked => Self::Chunked(Chunked::default()),
            Framing::Unknown => Self::Done,
        }
    }

    /// The body of an answer with these headers and this length, which may have one: without a framing, it goes on to the
    /// end.
    ///
    /// # Errors
    /// It is in a coding that nobody has asked for.
    pub(super) fn of_response(headers: &HeaderMap, length: Option<u64>) -> Result<Self, &'static str> {
        let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
        if let Some(coding) = codings.next() {
            // No other was asked for, and what is in another would go on as something else.
            let chunked = codings.next().is_none() && coding.as_bytes().eq_ignore_ascii_case(b"chunked");
            return if chunked {
                Ok(Self::Chunked(Chunked::default()))
            } else {
                Err("another coding than chunked")
            };
        }
        Ok(length.map_or(Self::UntilClose, Self::of_length))
    }

    const fn of_length(length: u64) -> Self {
        if length == 0 { Self::Done } else { Self::Length(length) }
    }

    /// How it goes on to somebody else, of whom none has been read: with its length, or in chunks.
    pub(super) const fn passed_on(&self) -> Outgoing {
        match self {
            Self::Done => Outgoing::None,
            Self::Length(length) => Outgoing::Length(*length),
            Self::Chunked(_) | Self::UntilClose => Outgoing::Chunked,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        *self == Self::Done
    }

    /// Takes what belongs to it.
    ///
    /// # Errors
    /// Its chunks are not framed as they must be.
    pub(super) fn take(&mut self, read: &mut BytesMut) -> Result<Taken, &'static str> {
        let piece = match self {
            Self::Done => return Ok(Taken::End),
            Self::Length(left) => {
                let taken = usize::try_from(*left).map_or(read.len(), |left| left.min(read.len()));
                *left = left.saturating_sub(taken as u64);
                let piece = read.split_to(taken).freeze();
                if *left == 0 {
                    *self = Self::Done;
                }
                piece
            }
            Self::Chunked(chunked) => {
                skip(chunked, read)?;
                let data = read.split_to(chunked.data(read)).freeze();
                // So that the end is known with the last piece.
                if skip(chunked, read)? {
                    *self = Self::Done;
                    if data.is_empty() {
                        return Ok(Taken::End);
                    }
                }
                data
            }
            Self::UntilClose => read.split().freeze(),
        };
        Ok(if piece.is_empty() { Taken::Nothing } else { Taken::Piece(piece) })
    }
}

/// Drops what stands before the next chunk's data. Whether the body has ended instead.
fn skip(chunked: &mut Chunked, read: &mut BytesMut) -> Result<bool, &'static str> {
    let (framing, progress) = chunked.framing(read);
    read.advance(framing);
    match progress {
        Progress::More => Ok(false),
        Progress::End => Ok(true),
        Progress::Fault(fault) => Err(fault),
    }
}

/// Whether a connection goes on after a message of this version, with these headers.
pub(super) fn goes_on(version: Version, headers: &HeaderMap) -> bool {
    super::keeps_alive(headers).unwrap_or(version == Version::HTTP_11)
}
