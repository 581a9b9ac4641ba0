//! What is written: heads from a map and a stage's changes, and bodies in their framing.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use pingora_core::protocols::Stream;
use tokio::io::AsyncWriteExt as _;

use super::HOP;
use crate::pipeline::headers::HeaderEdits;

/// How a body is delimited that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outgoing {
    /// There is none, whatever its head says of a length.
    #[default]
    None,
    /// By this many bytes, still to be written.
    Length(u64),
    /// In chunks.
    Chunked,
}

impl Outgoing {
    /// Writes a piece of it, which is not empty.
    ///
    /// # Errors
    /// The connection's, or that more is written than was announced.
    pub(super) async fn write(&mut self, stream: &mut Stream, piece: &[u8]) -> std::io::Result<()> {
        match self {
            Self::None => Err(past_its_end()),
            Self::Length(left) => {
                *left = left.checked_sub(piece.len() as u64).ok_or_else(past_its_end)?;
                stream.write_all(piece).await
            }
            Self::Chunked => {
                stream.write_all(size(piece.len()).as_bytes()).await?;
                stream.write_all(piece).await?;
                stream.write_all(b"\r\n").await
            }
        }
    }

    /// Writes its end.
    ///
    /// # Errors
    /// The connection's, or that less was written than was announced.
    pub(super) async fn finish(&mut self, stream: &mut Stream) -> std::io::Result<()> {
        match std::mem::take(self) {
            Self::None | Self::Length(0) => Ok(()),
            Self::Length(_) => Err(std::io::Error::other("a body shorter than was announced")),
            Self::Chunked => stream.write_all(b"0\r\n\r\n").await,
        }
    }
}

fn past_its_end() -> std::io::Error {
    std::io::Error::other("a body longer than was announced")
}

/// The line before a chunk.
fn size(bytes: usize) -> String {
    format!("{bytes:x}\r\n")
}

/// The head of a request to an upstream, whose body is framed like this.
#[must_use]
pub fn request(
    method: &Method,
    target: &str,
    headers: &HeaderMap,
    edits: &HeaderEdits,
    body: Outgoing,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    fields(&mut out, headers, edits, |name| HOP.contains(name));
    if body == Outgoing::Chunked {
        field(&mut out, &header::TRANSFER_ENCODING, b"chunked");
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// The status line of an answer.
pub(super) fn status_line(out: &mut Vec<u8>, status: StatusCode, reason: Option<&[u8]>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason.unwrap_or_else(|| status.canonical_reason().unwrap_or_default().as_bytes()));
    out.extend_from_slice(b"\r\n");
}

/// Writes fields as a stage has changed them, but those that came and of which `is_left_out` says so.
pub(super) fn fields(
    out: &mut Vec<u8>,
    headers: &HeaderMap,
    edits: &HeaderEdits,
    is_left_out: impl Fn(&HeaderName) -> bool,
) {
    for (name, value) in headers {
        if !is_left_out(name) && !edits.removes(name) {
            field(out, name, value.as_bytes());
        }
    }
    for (name, value) in edits.added() {
        field(out, name, value.as_bytes());
    }
}

/// Writes one field.
pub(super) fn field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    let name = name.as_str();
    out.reserve(name.len().saturating_add(value.len()).saturating_add(4));
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes one field with a number.
pub(super) fn number(out: &mut Vec<u8>, name: &HeaderName, value: u64) {
    field(out, name, HeaderValue::from(value).as_bytes());
}
