//! WebSockets, bridged by the gateway itself: both sides speak to it, and neither to the other.
//!
//! Carried as bytes that nobody looks at, an upgrade could not be told a last word when it has to end, and nobody
//! would be asked again. So an upgrade passes the stages like any request ([`open`]), the upstream's
//! handshake is made here with a key of our own (`handshake`), and the client's connection is taken over from the
//! parser once the stages are through ([`Bridge::run`]). The frames themselves are `engine::websocket`.

mod bridge;
mod handshake;
mod heartbeat;
mod leg;
mod relay;

pub use bridge::Bridge;

use engine::refusal::{Malformed, Refusal, UpstreamFault};
use pingora_core::protocols::Stream;
use tokio::io::AsyncWriteExt as _;

use super::Parts;
use super::http1::ServerSession;
use super::request::{RequestContext, signed_identity};
use super::upstreams::Upstream;
use crate::clock;
use crate::pipeline::again::Standing;
use crate::pipeline::{Stage, respond, shape};
use handshake::Accepted;

/// The limit's name, as a refusal tells it.
const LIMIT: &str = "websockets";
/// When to try again where somebody has too many open: they end when their pages close.
const RETRY_S: u32 = 30;

/// Opens the upstream's side of a request that has passed every stage, and leaves a bridge with its connection,
/// which runs once its request has let go of it. Without one the request has been refused.
///
/// # Errors
/// The refusal; the client's protocol has not changed.
pub async fn open(parts: &Parts, session: &ServerSession, ctx: &mut RequestContext) -> Result<(), Refusal> {
    let headers = &session.head().headers;
    let asked = handshake::Asked::read(headers)?;
    let connection = ctx.connection.clone();
    let (Some(received), Some(passage), Some(upstream)) =
        (ctx.received.clone(), ctx.passage.clone(), ctx.upstream.clone())
    else {
        return Err(Refusal::Faulted);
    };
    if connection.meter.has_ahead() {
        // What came with the head was sent before anybody agreed to anything.
        return Err(Refusal::Malformed(Malformed::FRAMING_UPGRADE_EARLY));
    }
    let identity = passage.permit().identity();
    let lease = parts.live.socket(identity, ctx.since, parts.config.websockets.per_user_max);
    let lease = lease.map_err(|_| Refusal::QuotaSpent {
        limit: LIMIT.into(),
        retry_after_s: RETRY_S,
        rate: None,
        left: 0,
    })?;
    ctx.trail.enter(Stage::Shape);
    let token = signed_identity(parts, &passage, Some(&upstream), clock::now());
    let shaped = shape::shape(&passage, &received, headers, token, &ctx.trail);
    let key = handshake::key(crate::random::bytes());
    let request = handshake::request(&shaped.target, headers.clone(), shaped.edits, &asked, &key);
    ctx.trail.enter(Stage::Forward);
    let mut stream = connect(parts, &upstream, ctx).await?;
    let accepted = exchange(&mut stream, &request, &upstream, ctx).await?;
    let Accepted { headers: mut answer, protocol, rest } = accepted.check(&asked, &key).map_err(|why| {
        ctx.trail.detail(format!("the upstream's handshake: {why}"));
        Refusal::NoUpstream(UpstreamFault::Broken)
    })?;
    ctx.trail.enter(Stage::Respond);
    respond::respond(&super::answer::place(parts, ctx), &answer).apply(&mut answer);
    let answer = handshake::answer(&asked, protocol, answer);
    ctx.trail.status(101);
    ctx.trail.enter(Stage::Forward);
    connection.lasting.bridge(Bridge {
        trail: ctx.trail.hand_over(),
        standing: Standing::new(&parts.pipeline, passage, received, lease),
        upstream: stream,
        rest,
        answer,
        write_timeout: upstream.settings.timeouts.write,
    });
    connection.meter.hand_over();
    Ok(())
}

/// Connects to an address of the upstream that is well, one after the other.
async fn connect(parts: &Parts, upstream: &Upstream, ctx: &mut RequestContext) -> Result<Stream, Refusal> {
    let mut refused = Refusal::NoUpstream(UpstreamFault::NoneHealthy);
    for _ in upstream.backends() {
        let Some(backend) = upstream.choose() else { break };
        ctx.trail.upstream(format!("{} {}", upstream.name, backend.address));
        match parts.connector.new_stream(backend.peer()).await {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                tracing::debug!(%error, upstream = %upstream.name, address = %backend.address, "no connection for a WebSocket");
                refused = Refusal::NoUpstream(UpstreamFault::Connect);
                if upstream.backends().len() > 1 {
                    backend.set_well(false);
                }
            }
        }
    }
    Err(refused)
}

/// Sends the handshake and reads the answer to it.
async fn exchange(
    stream: &mut Stream,
    request: &[u8],
    upstream: &Upstream,
    ctx: &mut RequestContext,
) -> Result<handshake::Answered, Refusal> {
    let exchanged = async {
        stream.write_all(request).await?;
        stream.flush().await?;
        handshake::read(stream).await
    };
    match tokio::time::timeout(upstream.settings.timeouts.read, exchanged).await {
        Ok(Ok(answered)) => Ok(answered),
        Ok(Err(error)) => {
            ctx.trail.detail(format!("the upstream's handshake: {error}"));
            Err(Refusal::NoUpstream(UpstreamFault::Broken))
        }
        Err(_elapsed) => Err(Refusal::NoUpstream(UpstreamFault::Timeout)),
    }
}
