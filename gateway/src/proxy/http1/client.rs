//! A connection to an upstream: requests and their answers, one after the other.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::{StatusCode, Version, header};
use pingora_core::protocols::Stream;
use pingora_core::{Error, ErrorType, OrErr as _, Result, RetryType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::alarm::Alarm;
use super::head::{self, ResponseHead};
use super::incoming::{self, Incoming, Taken};
use super::outgoing::Outgoing;

/// Bytes of an answer's head, at most.
const HEAD_BYTES_MAX: usize = 128 * 1024;
/// Bytes that are read at once of a head, and of a body.
const HEAD_ROOM: usize = 4 * 1024;
const BODY_ROOM: usize = 32 * 1024;

/// A connection to an upstream. What waits for its other end can be dropped before it is done, and asked for again: what
/// was read stays.
pub struct ClientSession {
    stream: Stream,
    input: BytesMut,
    head: ResponseHead,
    body: Incoming,
    /// The length that the current answer was announced with.
    length: Option<u64>,
    output: Outgoing,
    /// Whether a head is all that answers the request.
    head_only: bool,
    /// Whether the current answer leaves the connection in step.
    goes_on: bool,
    read_timeout: Duration,
    write_timeout: Duration,
    alarm: Alarm,
}

impl ClientSession {
    /// Speaks HTTP over this connection. A read or a write that takes longer than its time ends the request.
    pub fn new(stream: Stream, read_timeout: Duration, write_timeout: Duration) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            head: ResponseHead::default(),
            body: Incoming::Done,
            length: None,
            output: Outgoing::None,
            head_only: false,
            goes_on: false,
            read_timeout,
            write_timeout,
            alarm: Alarm::default(),
        }
    }

    /// Whether the other end has neither closed the connection nor spoken since its last answer.
    pub fn waits(&mut self) -> bool {
        // Whatever there is to read, an end included, is not what a connection that waits has. Asked past the runtime's
        // budget: once that is spent, it would say of everything that there is nothing.
        self.input.is_empty()
            && tokio::task::unconstrained(self.stream.read(&mut [0])).now_or_never().is_none()
    }

    /// Sends a request's head, which is followed by this body.
    ///
    /// # Errors
    /// The connection's.
    pub async fn ask(&mut self, head: &[u8], body: Outgoing, head_only: bool) -> Result<()> {
        (self.output, self.head_only, self.goes_on) = (body, head_only, false);
        let Self { stream, alarm, write_timeout, .. } = self;
        let writing = async {
            stream.write_all(head).await?;
            stream.flush().await
        };
        written(alarm.within(*write_timeout, writing).await)
    }

    /// Sends a piece of the request's body, which is not empty.
    ///
    /// # Errors
    /// The connection's, or that the body is longer than was announced.
    pub async fn send(&mut self, piece: &[u8]) -> Result<()> {
        let Self { stream, alarm, output, write_timeout, .. } = self;
        let writing = async {
            output.write(stream, piece).await?;
            stream.flush().await
        };
        written(alarm.within(*write_timeout, writing).await)
    }

    /// The request's body is whole.
    ///
    /// # Errors
    /// The connection's, or that the body is shorter than was announced.
    pub async fn sent(&mut self) -> Result<()> {
        let Self { stream, alarm, output, write_timeout, .. } = self;
        let writing = async {
            output.finish(stream).await?;
            stream.flush().await
        };
        written(alarm.within(*write_timeout, writing).await)
    }

    /// Waits for the head of an answer; after an interim one, for the next.
    ///
    /// # Errors
    /// The connection's, or what comes is no head of an answer, or one that can be framed in two ways.
    pub async fn answer(&mut self) -> Result<()> {
        loop {
            if let Ok(end) = head::end(&self.input, 0) {
                let head = self.input.split_to(end).freeze();
                return self.begins(&head).or_else(|what| {
                    self.goes_on = false;
                    Error::e_explain(ErrorType::InvalidHTTPHeader, what)
                });
            }
            if self.input.len() > HEAD_BYTES_MAX {
                return Error::e_explain(ErrorType::InvalidHTTPHeader, "a head larger than anybody needs");
            }
            if self.read(HEAD_ROOM).await? == 0 {
                let mut error = Error::explain(ErrorType::ConnectionClosed, "closed before its answer");
                error.retry = RetryType::ReusedOnly;
                return Err(error);
            }
        }
    }

    /// An answer begins with this head.
    fn begins(&mut self, head: &Bytes) -> std::result::Result<(), &'static str> {
        head::response(head, &mut self.head)?;
        let ResponseHead { status, version, headers, .. } = &self.head;
        if status.is_informational() {
            return Ok(());
        }
        let bodyless = self.head_only || matches!(*status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let length = incoming::length(headers)?;
        self.length = length;
        self.body = if bodyless { Incoming::Done } else { Incoming::of_response(headers, length)? };
        let coded = headers.contains_key(header::TRANSFER_ENCODING);
        let twice = length.is_some() && coded;
        let unsaid = *status == StatusCode::NO_CONTENT && length.is_some_and(|length| length > 0);
        let chunked_before = *version == Version::HTTP_10 && coded;
        // Where two readers could find its end in two places, nothing is asked over it after that one (RFC 9112,
        // section 6.1).
        self.goes_on = incoming::goes_on(*version, headers)
            && self.body != Incoming::UntilClose
            && !twice
            && !unsaid
            && !chunked_before;
        Ok(())
    }

    /// The head that was read last.
    #[must_use]
    pub fn head(&self) -> &ResponseHead {
        &self.head
    }

    /// How the body of the current answer goes on to somebody else: with its length, or in chunks.
    #[must_use]
    pub const fn framing(&self) -> Outgoing {
        self.body.passed_on()
    }

    /// The length that the current answer was announced with, also where it has no body to have it.
    #[must_use]
    pub const fn length(&self) -> Option<u64> {
        self.length
    }

    /// Waits for the next piece of the answer's body; `None` at its end.
    ///
    /// # Errors
    /// The connection's, or that it ends before the body does, or that the body's chunks are none.
    pub async fn piece(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.body.take(&mut self.input) {
                Ok(Taken::Piece(piece)) => return Ok(Some(piece)),
                Ok(Taken::End) => return Ok(None),
                Ok(Taken::Nothing) => {}
                Err(fault) => return Error::e_explain(ErrorType::InvalidHTTPHeader, fault),
            }
            if self.read(BODY_ROOM).await? == 0 {
                if self.body != Incoming::UntilClose {
                    return Error::e_explain(ErrorType::ConnectionClosed, "closed within its answer");
                }
                self.body = Incoming::Done;
            }
        }
    }

    /// Whether the answer is whole.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.body.is_done()
    }

    /// Whether another request may follow over it, as far as the current one tells. Whatever is said past the answer would be
    /// read as the next one, so whoever keeps the connection looks whether it `waits`.
    pub fn may_be_asked_again(&mut self) -> bool {
        // The answer's memory goes with it.
        self.head.headers.clear();
        if self.input.is_empty() && self.input.capacity() > HEAD_ROOM {
            self.input = BytesMut::new();
        }
        self.goes_on && self.body.is_done() && self.output == Outgoing::None && self.input.is_empty()
    }

    async fn read(&mut self, room: usize) -> Result<usize> {
        let Self { stream, alarm, input, read_timeout, .. } = self;
        if input.capacity() - input.len() < room / 2 {
            input.reserve(room);
        }
        match alarm.within(*read_timeout, stream.read_buf(input)).await {
            Some(Ok(read)) => Ok(read),
            Some(Err(error)) => {
                let on_the_way = error.raw_os_error().is_some();
                let mut error = Error::because(ErrorType::ReadError, "reading an answer", error);
                if on_the_way {
                    error.retry = RetryType::ReusedOnly;
                }
                Err(error)
            }
            None => Error::e_explain(ErrorType::ReadTimedout, "waiting for an answer"),
        }
    }
}

fn written(outcome: Option<std::io::Result<()>>) -> Result<()> {
    match outcome {
        Some(outcome) => outcome.or_err(ErrorType::WriteError, "sending a request"),
        None => Error::e_explain(ErrorType::WriteTimedout, "sending a request"),
    }
}
