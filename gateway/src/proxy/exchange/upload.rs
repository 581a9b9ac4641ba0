//! The body of a request, on its way to the upstream.

use bytes::{Bytes, BytesMut};
use pingora_core::{Error, Result};

use super::super::Gateway;
use super::super::http1::{ClientSession, ServerSession};
use super::super::request::RequestContext;

/// Bytes of a body that are kept in case it has to be sent again.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// How far a body has come.
pub(super) struct Upload {
    goes_on: bool,
    /// Why the upstream takes no more of it. What it answers is told all the same; without an answer, this is why.
    failed: Option<Box<Error>>,
    /// What was sent of it over a connection that had waited.
    kept: Kept,
}

enum Kept {
    Nothing,
    All(BytesMut),
    TooMuch,
}

impl Upload {
    /// The body of this request.
    pub(super) fn new(session: &ServerSession) -> Self {
        Self { goes_on: !session.is_body_done(), failed: None, kept: Kept::Nothing }
    }

    /// It goes over another connection. Over one that has waited, its beginning is kept in case it has to be sent again.
    pub(super) fn begin(&mut self, session: &ServerSession, reused: bool) {
        self.failed = None;
        if self.goes_on && reused && session.head().method.is_idempotent() {
            self.kept = Kept::All(BytesMut::new());
        }
    }

    /// Whether there is more to come from the client.
    pub(super) const fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// Whether there is, and somebody who takes it.
    pub(super) const fn is_wanted(&self) -> bool {
        self.goes_on && self.failed.is_none()
    }

    /// Whether the upstream has been sent all of it.
    pub(super) const fn whole(&self) -> bool {
        !self.goes_on && self.failed.is_none()
    }

    /// Whether what was sent can be sent again.
    pub(super) const fn may_repeat(&self) -> bool {
        !matches!(self.kept, Kept::TooMuch)
    }

    /// Why the upstream took no more.
    pub(super) fn failure(&mut self) -> Option<Box<Error>> {
        self.failed.take()
    }

    /// Sends what an earlier connection was sent in vain, if any.
    pub(super) async fn again(&mut self, asked: &mut ClientSession) {
        let Kept::All(kept) = &mut self.kept else { return };
        let kept = kept.split().freeze();
        self.sent(asked, kept).await;
        if !self.goes_on {
            self.ends(asked).await;
        }
    }

    /// Passes a piece on, or the end.
    ///
    /// # Errors
    /// The body is over its bound.
    pub(super) async fn pass(
        &mut self,
        gateway: &Gateway,
        session: &ServerSession,
        asked: &mut ClientSession,
        piece: Option<Bytes>,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let ended = piece.is_none() || session.is_body_done();
        let piece = piece.unwrap_or_default();
        gateway.takes(&piece, ctx)?;
        self.keep(&piece);
        self.sent(asked, piece).await;
        if ended {
            self.ends(asked).await;
        }
        Ok(())
    }

    fn keep(&mut self, piece: &[u8]) {
        if let Kept::All(kept) = &mut self.kept {
            if kept.len() + piece.len() <= KEPT_BYTES_MAX {
                kept.extend_from_slice(piece);
            } else {
                self.kept = Kept::TooMuch;
            }
        }
    }

    async fn sent(&mut self, asked: &mut ClientSession, piece: Bytes) {
        // An empty piece would be written as the end of a chunked body, and what follows on a kept connection would be
        // read as another request.
        if self.failed.is_none()
            && !piece.is_empty()
            && let Err(error) = asked.send(&piece).await
        {
            self.fails(error);
        }
    }

    async fn ends(&mut self, asked: &mut ClientSession) {
        self.goes_on = false;
        if self.failed.is_none()
            && let Err(error) = asked.sent().await
        {
            self.fails(error);
        }
    }

    /// What still comes is read and dropped until the answer is there: left unread, it would look like bytes past the end.
    fn fails(&mut self, error: Box<Error>) {
        self.failed = Some(error.into_up());
    }
}
