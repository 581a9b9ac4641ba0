//! A client's connection: its requests, and what it is answered.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::date::get_cached_date;
use pingora_core::{Error, ErrorType, OrErr as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::HOP;
use super::alarm::Alarm;
use super::head::{self, RequestHead};
use super::incoming::{self, Incoming, Taken};
use super::outgoing::{self, Outgoing};
use crate::pipeline::headers::HeaderEdits;

/// Bytes of a request's head, at most: past what is kept of it for its record, and refused by `receive` long before.
const HEAD_BYTES_MAX: usize = 256 * 1024;
/// Bytes that are read at once of a head, and of a body.
const HEAD_ROOM: usize = 4 * 1024;
const BODY_ROOM: usize = 32 * 1024;
/// Requests that one connection may carry before it is closed, so that per-connection memory is returned.
const REQUESTS_MAX: u32 = 1000;
/// Bytes a second that a reader must take, so that one that never reads does not hold an answer for ever.
const SEND_RATE_MIN: u64 = 1024;
/// For reading away the body of a refused request before its connection is used again.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// A client's connection.
pub struct ServerSession {
    stream: Stream,
    input: BytesMut,
    out: Vec<u8>,
    head: RequestHead,
    body: Incoming,
    output: Outgoing,
    /// The status of what was answered last, interim answers included.
    answered: Option<StatusCode>,
    /// How long the connection waits for a request.
    idle: Duration,
    /// Whether another request may follow.
    keeps: bool,
    /// Requests that may still come.
    left: u32,
    /// Whether what is left of a body is read away after an answer, instead of closing.
    drains: bool,
    alarm: Alarm,
}

/// The head of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The status.
    pub status: StatusCode,
    /// What stands beside the status, where that is not the usual words.
    pub reason: Option<&'a [u8]>,
    /// The fields.
    pub headers: &'a HeaderMap,
    /// What of them is changed.
    pub edits: &'a HeaderEdits,
    /// The body that follows.
    pub body: Outgoing,
    /// The length that is announced where no body follows, as to `HEAD`.
    pub length: Option<u64>,
}

impl ServerSession {
    /// Speaks HTTP with this client, who may wait for as long as `idle` before each request.
    pub fn new(stream: Stream, idle: Duration) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            out: Vec::new(),
            head: RequestHead::default(),
            body: Incoming::Done,
            output: Outgoing::None,
            answered: None,
            idle,
            keeps: true,
            left: REQUESTS_MAX,
            drains: false,
            alarm: Alarm::default(),
        }
    }

    /// Waits for the head of a request. Nobody may have come, or stayed, until it was whole: `false`.
    ///
    /// # Errors
    /// `InvalidHTTPHeader`: what came is no head. Anything else is the connection's.
    pub async fn arrives(&mut self) -> Result<bool> {
        self.head.headers.clear();
        (self.body, self.answered, self.drains) = (Incoming::Done, None, false);
        self.left = self.left.saturating_sub(1);
        let mut line = 0;
        loop {
            let begun = self.read_head().await?;
            if !begun {
                return Ok(false);
            }
            // Empty lines before a request are left over from the body before it (RFC 9112, section 2.2).
            let blank = self.input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            drop(self.input.split_to(blank));
            match head::end(&self.input, line) {
                Ok(end) => {
                    let head = self.input.split_to(end).freeze();
                    let read = head::request(&head, &mut self.head);
                    let strict = read.map_err(|what| Error::explain(ErrorType::InvalidHTTPHeader, what))?;
                    // Where readers differ on its end, what follows is a request to one and a body to another. Whoever
                    // refuses it, for whatever reason, nothing follows.
                    self.keeps =
                        strict && self.left > 0 && incoming::goes_on(self.head.version, &self.head.headers);
                    self.body = Incoming::of_request(&self.head.headers);
                    return Ok(true);
                }
                Err(unfinished) => line = unfinished,
            }
            if self.input.len() > HEAD_BYTES_MAX {
                return Error::e_explain(ErrorType::InvalidHTTPHeader, "a head larger than anybody needs");
            }
        }
    }

    /// Reads more of a head; `false` where nobody waits for what would be said to it.
    async fn read_head(&mut self) -> Result<bool> {
        let Self { stream, alarm, input, idle, .. } = self;
        if input.capacity() - input.len() < HEAD_ROOM / 2 {
            input.reserve(HEAD_ROOM);
        }
        let begun = !input.is_empty();
        let read = if begun {
            // A head that has begun has the edge's deadline.
            Some(stream.read_buf(input).await)
        } else {
            alarm.within(*idle, stream.read_buf(input)).await
        };
        match read {
            Some(Ok(0)) if begun => Error::e_explain(ErrorType::ConnectionClosed, "closed within a head"),
            Some(Ok(read)) => Ok(read > 0),
            Some(Err(error)) if begun => Error::e_because(ErrorType::ReadError, "reading a head", error),
            // Nothing has begun that could fail.
            Some(Err(_)) | None => Ok(false),
        }
    }

    /// The head of the current request.
    #[must_use]
    pub const fn head(&self) -> &RequestHead {
        &self.head
    }

    /// Whether the connection ends with the current request.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        !self.keeps
    }

    /// The connection ends with the current request.
    pub fn ends(&mut self) {
        self.keeps = false;
    }

    /// What the current request's answer leaves of its body is read away, so that another may follow.
    pub fn drains(&mut self) {
        self.drains = true;
    }

    /// How the body of the current request goes on to somebody else: with its length, or in chunks.
    #[must_use]
    pub const fn framing(&self) -> Outgoing {
        self.body.passed_on()
    }

    /// Whether all of the request's body was read.
    #[must_use]
    pub fn is_body_done(&self) -> bool {
        self.body.is_done()
    }

    /// The next piece of the request's body; `None` at its end.
    ///
    /// # Errors
    /// The connection's, or that it ends before the body does.
    pub async fn piece(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.body.take(&mut self.input) {
                Ok(Taken::Piece(piece)) => return Ok(Some(piece)),
                Ok(Taken::End) => return Ok(None),
                Ok(Taken::Nothing) => {}
                Err(fault) => return Error::e_explain(ErrorType::InvalidHTTPHeader, fault),
            }
            if self.input.capacity() - self.input.len() < BODY_ROOM / 2 {
                self.input.reserve(BODY_ROOM);
            }
            let read = self.stream.read_buf(&mut self.input).await;
            if read.or_err(ErrorType::ReadError, "reading a request's body")? == 0 {
                return Error::e_explain(ErrorType::ConnectionClosed, "closed within a request's body");
            }
        }
    }

    /// Resolves when the client leaves: it has sent all of its request.
    pub async fn leaves(&mut self) -> Box<Error> {
        let read = self.stream.read(&mut [0]).await;
        self.keeps = false;
        match read {
            Ok(0) => Error::explain(ErrorType::ConnectionClosed, "closed before its answer"),
            Ok(_) => Error::explain(ErrorType::InvalidHTTPHeader, "bytes past a request's end"),
            Err(error) => Error::because(ErrorType::ReadError, "waiting for a client to leave", error),
        }
    }

    /// The status of what was answered last to the current request, interim answers included.
    #[must_use]
    pub const fn answered(&self) -> Option<StatusCode> {
        self.answered
    }

    /// Says something before the answer.
    ///
    /// # Errors
    /// The connection's.
    pub async fn interim(&mut self, status: StatusCode, reason: Option<&[u8]>) -> Result<()> {
        self.out.clear();
        outgoing::status_line(&mut self.out, status, reason);
        self.out.extend_from_slice(b"\r\n");
        self.answered = Some(status);
        self.write_out().await?;
        self.flush().await
    }

    /// Asks for the body of a client that waits for this before it sends it.
    ///
    /// # Errors
    /// The connection's.
    pub async fn go_on(&mut self) -> Result<()> {
        if self.answered.is_some() { Ok(()) } else { self.interim(StatusCode::CONTINUE, None).await }
    }

    /// Writes the head of the answer.
    ///
    /// # Errors
    /// The connection's.
    pub async fn answers(&mut self, answer: &Answer<'_>) -> Result<()> {
        if !self.body.is_done() && !self.drains {
            // What is left of the body would be read as the next request.
            self.keeps = false;
        }
        let bodyless = self.head.method == Method::HEAD
            || matches!(answer.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.output = if bodyless { Outgoing::None } else { answer.body };
        let out = &mut self.out;
        out.clear();
        outgoing::status_line(out, answer.status, answer.reason);
        outgoing::fields(out, answer.headers, answer.edits, is_ours);
        let length = answer.length.filter(|_| answer.status != StatusCode::NO_CONTENT);
        match (answer.body, length) {
            (Outgoing::Length(length), _) | (Outgoing::None, Some(length)) => {
                outgoing::number(out, &header::CONTENT_LENGTH, length);
            }
            (Outgoing::Chunked, _) => outgoing::field(out, &header::TRANSFER_ENCODING, b"chunked"),
            (Outgoing::None, None) => {}
        }
        outgoing::field(out, &header::DATE, get_cached_date().as_bytes());
        outgoing::field(out, &header::CONNECTION, if self.keeps { b"keep-alive" } else { b"close" });
        out.extend_from_slice(b"\r\n");
        self.answered = Some(answer.status);
        self.write_out().await
    }

    /// Writes a piece of the answer's body, which is not empty. What comes to `HEAD` is dropped.
    ///
    /// # Errors
    /// The connection's, or that the client takes it too slowly.
    pub async fn say(&mut self, piece: &[u8]) -> Result<()> {
        if self.output == Outgoing::None {
            return Ok(());
        }
        let Self { stream, alarm, output, .. } = self;
        match alarm.within(time_for(piece.len()), output.write(stream, piece)).await {
            Some(outcome) => outcome.or_err(ErrorType::WriteError, "writing an answer"),
            None => Error::e_explain(ErrorType::WriteTimedout, "writing an answer"),
        }
    }

    /// The answer is whole.
    ///
    /// # Errors
    /// The connection's, or that less of it came than was announced.
    pub async fn said(&mut self) -> Result<()> {
        let Self { stream, output, .. } = self;
        let writing = async {
            output.finish(stream).await?;
            stream.flush().await
        };
        writing.await.or_err(ErrorType::WriteError, "writing an answer")
    }

    /// Sends what was not sent yet of the answer. Whether another request may follow: a connection that carries no other is
    /// closed.
    ///
    /// # Errors
    /// The connection's, or that the client takes the answer too slowly, or its body does not come to an end.
    pub async fn goes_on(&mut self) -> Result<bool> {
        self.flush().await?;
        if !self.keeps {
            self.shutdown().await;
            return Ok(false);
        }
        if !self.body.is_done() {
            match tokio::time::timeout(DRAIN_TIMEOUT, self.read_away()).await {
                Ok(read) => read?,
                Err(_elapsed) => return Error::e_explain(ErrorType::ReadTimedout, "reading a body away"),
            }
        }
        if self.input.is_empty() && self.input.capacity() > HEAD_ROOM {
            // A connection that waits holds little.
            self.input = BytesMut::new();
        }
        Ok(self.input.is_empty())
    }

    /// Sends what was not sent yet of the answer.
    ///
    /// # Errors
    /// The connection's.
    pub async fn flush(&mut self) -> Result<()> {
        self.stream.flush().await.or_err(ErrorType::WriteError, "writing an answer")
    }

    async fn read_away(&mut self) -> Result<()> {
        while self.piece().await?.is_some() {}
        Ok(())
    }

    /// A request that no stage sees is refused in the edge's words (`edge/metered.rs`), which stand in the place of these.
    pub async fn refuse(&mut self, status: StatusCode) {
        self.out.clear();
        outgoing::status_line(&mut self.out, status, None);
        if let Err(error) = self.write_out().await {
            tracing::debug!(%error, "a refusal could not be delivered");
        }
        self.shutdown().await;
    }

    /// How long the client may take nothing is the edge's to say (`Connections::stall`).
    async fn write_out(&mut self) -> Result<()> {
        self.stream.write_all(&self.out).await.or_err(ErrorType::WriteError, "writing an answer")
    }

    async fn shutdown(&mut self) {
        if let Err(error) = self.stream.shutdown().await {
            tracing::trace!(%error, "the client's end was closed already");
        }
    }
}

/// Headers of an answer that are said anew for this hop, whoever else has said them.
fn is_ours(name: &HeaderName) -> bool {
    *name == header::CONTENT_LENGTH || *name == header::DATE || HOP.contains(name)
}

/// How long a client may take for this many bytes.
fn time_for(bytes: usize) -> Duration {
    Duration::from_millis((bytes as u64).max(SEND_RATE_MIN).saturating_mul(1000) / SEND_RATE_MIN)
}
