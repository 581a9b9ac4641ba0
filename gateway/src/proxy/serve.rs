//! One request of a client's connection, from its first byte to its record.

use std::sync::Arc;
use std::time::Duration;

use engine::audit::End;
use engine::route::Target;
use pingora_core::apps::{HttpPersistentSettings, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use pingora_core::{Error, ErrorSource, ErrorType, Result};

use super::request::{self, RequestContext};
use super::{Gateway, answer, exchange};
use crate::edge::Connection;

/// Bytes a second that a reader must take, so that one that never reads does not hold an answer for ever.
const SEND_RATE_MIN: usize = 1024;
/// For the client to take a write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// For reading away the body of a refused request before its connection is used again.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves the next request of a connection. Gives the connection back where it may carry another.
pub async fn serve(
    gateway: &Gateway,
    connection: &Arc<Connection>,
    mut session: ServerSession,
    stop: &ShutdownWatch,
) -> Option<ReusedHttpStream> {
    if !arrived(&mut session).await {
        return None;
    }
    if *stop.borrow() {
        session.set_keepalive(None);
    }
    // It is moved from hand to hand, so it is a pointer.
    let mut ctx = Box::new(RequestContext::begin(gateway.0.recorder.clone(), connection.clone()));
    prepare(gateway, &mut session, &mut ctx);
    if let Err(error) = answered(gateway, &mut session, &mut ctx).await {
        answer::failed(&gateway.0, &mut session, &mut ctx, &error).await;
        ctx.trail.record(ended_by(&error));
        return None;
    }
    ctx.trail.record(End::Complete);
    let settings = HttpPersistentSettings::for_session(&session);
    let reusable = session.finish().await.ok().flatten()?;
    Some(ReusedHttpStream::from_reusable_stream(reusable, settings))
}

/// Waits for a whole head. What the parser answers to one that is none, the edge replaces.
async fn arrived(session: &mut ServerSession) -> bool {
    let said = match session.read_request().await {
        // A tunnel has no answer that ends, and so no place here.
        Ok(true) if session.req_header().method == http::Method::CONNECT => session.respond_error(405).await,
        Ok(whole) => return whole,
        Err(error) if *error.etype() == ErrorType::InvalidHTTPHeader => session.respond_error(400).await,
        // Nobody is left to be told.
        Err(_gone) => Ok(()),
    };
    if let Err(error) = said {
        tracing::debug!(%error, "a refusal could not be delivered");
    }
    session.shutdown().await;
    false
}

/// From here on the answers are ours, and how the connection is used is the configuration's to say.
fn prepare(gateway: &Gateway, session: &mut ServerSession, ctx: &mut RequestContext) {
    ctx.admitted(&session.req_header().headers);
    // Nobody asks how a name was spelt from here on.
    request::with_parts(session.req_header_mut(), |_parts| {});
    // The parser took the client's word for how long the connection is kept: for ever.
    let idle = gateway.0.config.connections.idle;
    let kept = session.get_keepalive().map(|_unbounded| idle.as_secs().max(1));
    session.set_keepalive(kept);
    // How long a body is waited for is the edge's to say: a bound that starts anew with each byte bounds nothing.
    session.set_read_timeout(None);
    session.set_write_timeout(Some(WRITE_TIMEOUT));
    session.set_total_drain_timeout(Some(DRAIN_TIMEOUT));
    session.set_min_send_rate(Some(SEND_RATE_MIN));
}

/// Decides and answers.
async fn answered(gateway: &Gateway, session: &mut ServerSession, ctx: &mut RequestContext) -> Result<()> {
    // A panic in a stage is this request's end and nobody else's: it is answered like any refusal.
    let decided = request::guarded(&gateway.0, session, ctx).await;
    let decided = match decided {
        Ok(Target::Upstream(_)) if !ctx.is_websocket() => {
            return exchange::exchange(gateway, session, ctx).await;
        }
        // What few requests come to is set aside, or every request would carry the room for it.
        Ok(Target::Upstream(_)) => match Box::pin(request::bridged(&gateway.0, session, ctx)).await {
            Ok(()) => {
                session.set_keepalive(None);
                return Ok(());
            }
            Err(refusal) => Err(refusal),
        },
        decided => decided,
    };
    Box::pin(answer::guarded(&gateway.0, session, ctx, decided)).await
}

/// Who ended a request that did not end well.
fn ended_by(error: &Error) -> End {
    match error.esource() {
        ErrorSource::Upstream => End::UpstreamDied,
        ErrorSource::Downstream => End::ClientGone,
        ErrorSource::Internal | ErrorSource::Unset => End::Complete,
    }
}
