//! The body of a request, on its way to the upstream.

use bytes::Bytes;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v1::client::HttpSession as Asked;
use pingora_core::{Error, ErrorType, Result};

use super::super::Gateway;
use super::super::request::RequestContext;

/// How far a body has come.
pub(super) struct Upload {
    goes_on: bool,
    /// Why the upstream takes no more of it. What it answers is told all the same; without an answer, this is why.
    failed: Option<Box<Error>>,
}

impl Upload {
    /// The body of this request. Over a connection that has waited, its beginning is kept in case it has to be sent again.
    pub(super) fn begin(session: &mut ServerSession, reused: bool) -> Self {
        let goes_on = !session.is_body_done();
        if goes_on && reused && session.req_header().method.is_idempotent() {
            session.enable_retry_buffering();
        }
        Self { goes_on, failed: None }
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

    /// Why the upstream took no more.
    pub(super) fn failure(&mut self) -> Option<Box<Error>> {
        self.failed.take()
    }

    /// Sends what an earlier connection was sent in vain.
    pub(super) async fn again(&mut self, session: &ServerSession, asked: &mut Asked) {
        let Some(kept) = session.get_retry_buffer() else { return };
        self.sent(asked, kept).await;
        if !self.goes_on {
            self.ends(asked).await;
        }
    }

    /// Passes a piece on, or the end.
    ///
    /// # Errors
    /// The body is over its bound, or something came past its end.
    pub(super) async fn pass(
        &mut self,
        gateway: &Gateway,
        session: &mut ServerSession,
        asked: &mut Asked,
        piece: Option<Bytes>,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        if !self.goes_on {
            let past: Result<()> =
                Error::e_explain(ErrorType::InvalidHTTPHeader, "bytes past a request's end");
            return past.map_err(|error| error.into_down());
        }
        let ended = piece.is_none() || session.is_body_done();
        let piece = piece.unwrap_or_default();
        gateway.takes(&piece, ctx)?;
        self.sent(asked, piece).await;
        if ended {
            self.ends(asked).await;
        }
        Ok(())
    }

    async fn sent(&mut self, asked: &mut Asked, piece: Bytes) {
        // An empty piece would be written as the end of a chunked body, and what follows on a kept connection would be
        // read as another request.
        if self.failed.is_none()
            && !piece.is_empty()
            && let Err(error) = asked.write_body(&piece).await
        {
            self.fails(error);
        }
    }

    async fn ends(&mut self, asked: &mut Asked) {
        self.goes_on = false;
        if self.failed.is_none()
            && let Err(error) = asked.finish_body().await
        {
            self.fails(error);
        }
    }

    /// What still comes is read and dropped until the answer is there: left unread, it would look like bytes past the end.
    fn fails(&mut self, error: Box<Error>) {
        self.failed = Some(error.into_up());
    }
}
