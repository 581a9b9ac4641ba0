//! A request to its upstream, and the answer back: one step after the other, on the request's own task.
//!
//! Both sides are parsed and framed by pingora; what carries them is ours (docs/decisions/0017).

pub mod pool;
mod upload;

use http::{HeaderName, Version, header};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v1::client::HttpSession as Asked;
use pingora_core::upstreams::peer::Peer as _;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};

use super::Gateway;
use super::request::RequestContext;
use super::upstreams::Backend;
use crate::clock;
use upload::Upload;

/// Headers of a request that speak of the hop between client and gateway, and are not in `shape`'s own list.
const HOP: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

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
    let upstream = ctx.upstream.clone();
    let mut fresh = false;
    loop {
        let backend = gateway.choose(upstream.as_deref(), ctx)?;
        let (mut asked, reused) = match connection(gateway, backend, fresh).await {
            Ok(connection) => connection,
            Err(error) => {
                let error = gateway.not_connected(ctx, error.into_up());
                if error.retry() {
                    continue;
                }
                return Err(error);
            }
        };
        gateway.connected(ctx, reused);
        let mut upload = Upload::begin(session, reused);
        if let Err(mut error) = ask(gateway, session, &mut asked, &mut upload, ctx).await {
            // The upstream may have closed a connection that waited as the request was on its way. Whether it has read
            // that is not known, so only what may be done twice is asked again (RFC 9110, section 9.2.2), and once.
            let twice = session.req_header().method.is_idempotent() && !session.retry_buffer_truncated();
            error.retry.decide_reuse(reused && twice);
            if error.retry() {
                fresh = true;
                continue;
            }
            return Err(error);
        }
        answer(gateway, session, &mut asked, &mut upload, ctx).await?;
        asked.respect_keepalive();
        if upload.whole()
            && let Some(stream) = asked.reuse().await
        {
            backend.pool.put(stream, clock::instant());
        }
        return Ok(());
    }
}

/// A connection to this address, and whether it has carried requests before; a `fresh` one has not.
async fn connection(gateway: &Gateway, backend: &Backend, fresh: bool) -> Result<(Asked, bool)> {
    let peer = backend.peer();
    let idle = peer.idle_timeout().unwrap_or_default();
    let waiting = if fresh { None } else { backend.pool.take(clock::instant(), idle) };
    let (stream, reused) = match waiting {
        Some(stream) => (stream, true),
        None => (Box::pin(gateway.0.connector.new_stream(peer)).await?, false),
    };
    let mut asked = Asked::new(stream);
    asked.read_timeout = peer.options.read_timeout;
    asked.write_timeout = peer.options.write_timeout;
    Ok((asked, reused))
}

/// Sends the request and waits for the head of its answer; interim answers are passed on.
async fn ask(
    gateway: &Gateway,
    session: &mut ServerSession,
    asked: &mut Asked,
    upload: &mut Upload,
    ctx: &mut RequestContext,
) -> Result<()> {
    let mut request = Box::new(session.req_header().clone());
    gateway.shaped(session, &mut request, ctx)?;
    hop(&mut request, session.is_body_empty())?;
    asked.write_request_header(request).await.map_err(|error| error.into_up())?;
    upload.again(session, asked).await;
    loop {
        match next(session, upload.goes_on(), asked.read_response()).await {
            Ok(Next::Said(_bytes)) => {}
            Ok(Next::Sent(piece)) => {
                upload.pass(gateway, session, asked, piece, ctx).await?;
                continue;
            }
            Err(error) => return Err(upload.failure().unwrap_or(error)),
        }
        let Some(head) = asked.resp_header() else { return Ok(()) };
        if !head.status.is_informational() {
            return Ok(());
        }
        let mut head = Box::new(head.clone());
        super::answer::informational(&mut head)?;
        session.write_response_header(head).await.map_err(|error| error.into_down())?;
    }
}

/// The request begins a hop of its own.
fn hop(request: &mut RequestHeader, bodyless: bool) -> Result<()> {
    HOP.iter().for_each(|name| drop(request.remove_header(name)));
    request.set_version(Version::HTTP_11);
    if !bodyless && !request.headers.contains_key(header::CONTENT_LENGTH) {
        request.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    Ok(())
}

/// Passes the answer on, and what is left of the request's body.
async fn answer(
    gateway: &Gateway,
    session: &mut ServerSession,
    asked: &mut Asked,
    upload: &mut Upload,
    ctx: &mut RequestContext,
) -> Result<()> {
    let Some(head) = asked.resp_header() else {
        return Error::e_explain(ErrorType::InternalError, "an answer without a head");
    };
    let mut head = Box::new(head.clone());
    let mut ended = asked.is_body_done();
    if !ended {
        delimited(&mut head)?;
    }
    gateway.answered(&mut head, ctx)?;
    session.write_response_header(head).await.map_err(|error| error.into_down())?;
    while !ended {
        match next(session, upload.goes_on(), asked.read_body_bytes()).await? {
            Next::Said(piece) => {
                ended = piece.is_none() || asked.is_body_done();
                let piece = piece.unwrap_or_default();
                gateway.passes(&piece, ended, ctx);
                session.write_response_body(piece, false).await.map_err(|error| error.into_down())?;
            }
            Next::Sent(piece) => upload.pass(gateway, session, asked, piece, ctx).await?,
        }
    }
    session.finish_body().await.map_err(|error| error.into_down())?;
    while upload.is_wanted() {
        // The answer was whole before the body was: the client was told that its connection ends with it.
        let piece = session.read_request_body().await.map_err(|error| error.into_down())?;
        upload.pass(gateway, session, asked, piece, ctx).await?;
    }
    if upload.goes_on() {
        // Closed at once under a client that still sends, the connection would take the answer with it.
        ctx.connection.meter.linger();
    }
    Ok(())
}

/// An answer that ends with its connection goes on in chunks, so that the client's connection outlasts it.
fn delimited(head: &mut ResponseHeader) -> Result<()> {
    let says = |name| head.headers.contains_key(name);
    if !says(header::CONTENT_LENGTH) && !says(header::TRANSFER_ENCODING) {
        head.set_version(Version::HTTP_11);
        head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    Ok(())
}

/// What the upstream says or the client sends next, unless the client leaves before that: nobody is asked on behalf of
/// somebody who is gone. Dropping what was not ready loses nothing: both sides keep what they have read so far.
async fn next<T>(
    session: &mut ServerSession,
    sends: bool,
    upstream: impl Future<Output = Result<T>>,
) -> Result<Next<T>> {
    tokio::select! {
        biased;
        said = upstream => said.map(Next::Said).map_err(|error| error.into_up()),
        sent = session.read_body_or_idle(!sends) => sent.map(Next::Sent).map_err(|error| error.into_down()),
    }
}
