//! A request to its upstream, and the answer back: one step after the other, on the request's own task
//! (docs/decisions/0017).

pub mod pool;
mod upload;

use http::StatusCode;
use pingora_core::{Error, ErrorType, Result};

use super::Gateway;
use super::http1::{self, Answer, ClientSession, Outgoing, ServerSession};
use super::request::RequestContext;
use super::upstreams::Backend;
use crate::clock;
use upload::Upload;

/// What comes next.
enum Next<T> {
    /// The upstream said this.
    Said(T),
    /// The client sent this, or the end of its body.
    Sent(Option<bytes::Bytes>),
}

/// Asks the upstream and passes its answer on.
///
/// # Errors
/// Either side broke; whose fault it was is the error's source.
pub async fn exchange(
    gateway: &Gateway,
    session: &mut ServerSession,
    ctx: &mut RequestContext,
) -> Result<()> {
    let mut exchange = Exchange { gateway, upload: Upload::new(session), session, ctx };
    let upstream = exchange.ctx.upstream.clone();
    let head = exchange.session.head();
    let shaped = gateway.shaped(&head.headers, exchange.ctx)?;
    let body = exchange.session.framing();
    let request = http1::request(&head.method, &shaped.target, &head.headers, &shaped.edits, body);
    let mut fresh = false;
    loop {
        let backend = gateway.choose(upstream.as_deref(), exchange.ctx)?;
        let (mut asked, reused) = match connection(gateway, backend, fresh).await {
            Ok(connection) => connection,
            Err(error) => {
                let error = gateway.not_connected(exchange.ctx, error.into_up());
                if error.retry() {
                    continue;
                }
                return Err(error);
            }
        };
        gateway.connected(exchange.ctx, reused);
        exchange.upload.begin(exchange.session, reused);
        if let Err(mut error) = exchange.ask(&mut asked, &request, body).await {
            // The upstream may have closed a connection that waited as the request was on its way. Whether it has read
            // that is not known, so only what may be done twice is asked again (RFC 9110, section 9.2.2), and once.
            let twice = exchange.session.head().method.is_idempotent() && exchange.upload.may_repeat();
            error.retry.decide_reuse(reused && twice);
            if error.retry() {
                fresh = true;
                continue;
            }
            return Err(error);
        }
        exchange.answer(&mut asked).await?;
        if exchange.upload.whole() && asked.may_be_asked_again() {
            backend.pool.put(asked, clock::instant());
        }
        return Ok(());
    }
}

/// A connection to this address, and whether it has carried requests before; a `fresh` one has not.
async fn connection(gateway: &Gateway, backend: &Backend, fresh: bool) -> Result<(Box<ClientSession>, bool)> {
    let timeouts = backend.timeouts();
    if !fresh && let Some(waiting) = backend.pool.take(clock::instant(), timeouts.idle) {
        return Ok((waiting, true));
    }
    let stream = Box::pin(gateway.0.connector.new_stream(backend.peer())).await?;
    Ok((Box::new(ClientSession::new(stream, timeouts.read, timeouts.write)), false))
}

/// One request on its way, and its answer.
struct Exchange<'a> {
    gateway: &'a Gateway,
    session: &'a mut ServerSession,
    upload: Upload,
    ctx: &'a mut RequestContext,
}

impl Exchange<'_> {
    /// Sends the request and waits for the head of its answer; interim answers are passed on.
    async fn ask(&mut self, asked: &mut ClientSession, request: &[u8], body: Outgoing) -> Result<()> {
        let head_only = self.session.head().method == http::Method::HEAD;
        asked.ask(request, body, head_only).await.map_err(|error| error.into_up())?;
        self.upload.again(asked).await;
        loop {
            match next(self.session, self.upload.goes_on(), asked.answer()).await {
                Ok(Next::Said(())) => {}
                Ok(Next::Sent(piece)) => {
                    self.sent(asked, piece).await?;
                    continue;
                }
                Err(error) => return Err(self.upload.failure().unwrap_or(error)),
            }
            let head = asked.head();
            if !head.status.is_informational() {
                return Ok(());
            }
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                // There is no bridge for it to go over.
                let broken: Result<()> =
                    Error::e_explain(ErrorType::InvalidHTTPHeader, "an upstream switched protocols");
                return broken.map_err(|error| error.into_up());
            }
            // It passes before `respond`, so none of its headers may: a cookie of our name would arrive as well by a
            // `103` as by a `200`.
            let said = self.session.interim(head.status, head.reason.as_deref()).await;
            said.map_err(|error| error.into_down())?;
        }
    }

    /// Passes the answer on, and what is left of the request's body.
    async fn answer(&mut self, asked: &mut ClientSession) -> Result<()> {
        self.answer_head(asked).await?;
        let mut ended = asked.is_done();
        while !ended {
            match next(self.session, self.upload.goes_on(), asked.piece()).await? {
                Next::Said(piece) => {
                    ended = piece.is_none() || asked.is_done();
                    let piece = piece.unwrap_or_default();
                    self.gateway.passes(&piece, ended, self.ctx);
                    if !piece.is_empty() {
                        self.session.say(&piece).await.map_err(|error| error.into_down())?;
                    }
                }
                Next::Sent(piece) => self.sent(asked, piece).await?,
            }
        }
        self.session.said().await.map_err(|error| error.into_down())?;
        while self.upload.is_wanted() {
            // The answer was whole before the body was: the client was told that its connection ends with it.
            let piece = self.session.piece().await.map_err(|error| error.into_down())?;
            self.sent(asked, piece).await?;
        }
        if self.upload.goes_on() {
            // Closed at once under a client that still sends, the connection would take the answer with it.
            self.ctx.connection.meter.linger();
        }
        Ok(())
    }

    async fn answer_head(&mut self, asked: &ClientSession) -> Result<()> {
        let head = asked.head();
        let edits = self.gateway.answered(head, self.ctx)?;
        let answer = Answer {
            status: head.status,
            reason: head.reason.as_deref(),
            headers: &head.headers,
            edits: &edits,
            body: asked.framing(),
            length: asked.length(),
        };
        self.session.answers(&answer).await.map_err(|error| error.into_down())
    }

    /// Passes on what the client has sent.
    async fn sent(&mut self, asked: &mut ClientSession, piece: Option<bytes::Bytes>) -> Result<()> {
        self.upload.pass(self.gateway, self.session, asked, piece, self.ctx).await
    }
}

/// What the upstream says or the client sends next, unless the client leaves before that: nobody is asked on behalf of
/// somebody who is gone. Dropping what was not ready loses nothing: both sides keep what they have read so far.
async fn next<T>(
    session: &mut ServerSession,
    sends: bool,
    upstream: impl Future<Output = Result<T>>,
) -> Result<Next<T>> {
    let client = async { if sends { session.piece().await } else { Err(session.leaves().await) } };
    tokio::select! {
        biased;
        said = upstream => said.map(Next::Said).map_err(|error| error.into_up()),
        sent = client => sent.map(Next::Sent).map_err(|error| error.into_down()),
    }
}
