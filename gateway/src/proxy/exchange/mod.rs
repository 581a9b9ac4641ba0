//! A request without a body to its upstream, and the answer back: one after the other, on the request's own task.
//!
//! The proxy library carries both directions at once, with a queue each way and a task's worth of bookkeeping: what a
//! body needs, and most requests have none. They are most of what a gateway does, and it costs half of what carrying
//! them costs. Parsing and framing stay the library's.

pub mod pool;

use http::{HeaderName, Version, header};
use pingora_core::protocols::http::v1::client::HttpSession as Asked;
use pingora_core::upstreams::peer::Peer as _;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::Gateway;
use super::request::RequestContext;
use super::upstreams::Backend;
use crate::clock;

/// Headers of a request that speak of the hop between client and gateway, and are not in `shape`'s own list.
const HOP: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// Whether a request may go this way: it has no body, and nothing that asks how one would be taken.
#[must_use]
pub fn suits(session: &Session) -> bool {
    let header = session.req_header();
    let of_bodies = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::EXPECT];
    header.version == Version::HTTP_11 && !of_bodies.iter().any(|name| header.headers.contains_key(name))
}

/// Asks the upstream and passes its answer on.
///
/// # Errors
/// Either side broke; whose fault it was is the error's source.
pub async fn exchange(gateway: &Gateway, session: &mut Session, ctx: &mut RequestContext) -> Result<()> {
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
        let mut request = Box::new(session.req_header().clone());
        gateway.shaped(session, &mut request, ctx)?;
        HOP.iter().for_each(|name| drop(request.remove_header(name)));
        if let Err(mut error) = ask(session, &mut asked, request).await {
            // The upstream may have closed a connection that waited as the request was on its way. Whether it has read
            // that is not known, so only what may be done twice is asked again (RFC 9110, section 9.2.2), and once.
            error.retry.decide_reuse(reused && session.req_header().method.is_idempotent());
            if error.retry() {
                fresh = true;
                continue;
            }
            return Err(error);
        }
        answer(gateway, session, &mut asked, ctx).await?;
        asked.respect_keepalive();
        if let Some(stream) = asked.reuse().await {
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
        None => (gateway.0.connector.new_stream(peer).await?, false),
    };
    let mut asked = Asked::new(stream);
    asked.read_timeout = peer.options.read_timeout;
    asked.write_timeout = peer.options.write_timeout;
    Ok((asked, reused))
}

/// Sends the request and waits for the head of its answer; interim answers are passed on.
async fn ask(session: &mut Session, asked: &mut Asked, request: Box<RequestHeader>) -> Result<()> {
    asked.write_request_header(request).await.map_err(|error| error.into_up())?;
    loop {
        unless_left(session, asked.read_response()).await?;
        let Some(head) = asked.resp_header() else { return Ok(()) };
        if !head.status.is_informational() {
            return Ok(());
        }
        let mut head = Box::new(head.clone());
        super::answer::informational(&mut head)?;
        session.write_response_header(head, false).await.map_err(|error| error.into_down())?;
    }
}

/// Passes the answer on.
async fn answer(
    gateway: &Gateway,
    session: &mut Session,
    asked: &mut Asked,
    ctx: &mut RequestContext,
) -> Result<()> {
    let Some(head) = asked.resp_header() else {
        return Error::e_explain(ErrorType::InternalError, "an answer without a head");
    };
    let mut head = Box::new(head.clone());
    let mut ended = asked.is_body_done();
    if !ended && !head.headers.contains_key(header::TRANSFER_ENCODING) {
        delimited(&mut head)?;
    }
    gateway.answered(&mut head, ctx)?;
    session.write_response_header(head, ended).await.map_err(|error| error.into_down())?;
    if ended {
        return session.write_response_body(None, true).await.map_err(|error| error.into_down());
    }
    while !ended {
        let piece = unless_left(session, asked.read_body_bytes()).await?;
        ended = piece.is_none() || asked.is_body_done();
        gateway.passes(piece.as_deref().unwrap_or_default(), ended, ctx);
        session.write_response_body(piece, ended).await.map_err(|error| error.into_down())?;
    }
    Ok(())
}

/// An answer that ends with its connection goes on in chunks, so that the client's connection outlasts it.
fn delimited(head: &mut ResponseHeader) -> Result<()> {
    if !head.headers.contains_key(header::CONTENT_LENGTH) {
        head.set_version(Version::HTTP_11);
        head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    Ok(())
}

/// What the upstream says, unless the client leaves before that: nobody is asked on behalf of somebody who is gone.
async fn unless_left<T>(session: &mut Session, upstream: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        said = upstream => said.map_err(|error| error.into_up()),
        left = session.downstream_session.read_body_or_idle(true) => match left {
            Err(error) => Err(error.into_down()),
            Ok(_more) => Error::e_explain(ErrorType::ConnectError, "bytes past a request without a body")
                .map_err(|error: Box<Error>| error.into_down()),
        },
    }
}
