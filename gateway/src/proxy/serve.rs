//! One request of a client's connection, from its first byte to its record.

use std::sync::Arc;

use engine::audit::End;
use engine::route::Target;
use http::StatusCode;
use pingora_core::server::ShutdownWatch;
use pingora_core::{Error, ErrorSource, ErrorType, Result};

use super::http1::ServerSession;
use super::request::{self, RequestContext};
use super::{Gateway, answer, exchange};
use crate::edge::Connection;

/// Serves the next request of a connection. Whether it may carry another.
pub async fn serve(
    gateway: &Gateway,
    connection: &Arc<Connection>,
    session: &mut ServerSession,
    stop: &ShutdownWatch,
) -> bool {
    if !arrived(session, connection).await {
        return false;
    }
    if *stop.borrow() || session.head().method == http::Method::CONNECT {
        // What follows a request for a tunnel is no request, whatever it is answered.
        session.ends();
    }
    // It is moved from hand to hand, so it is a pointer.
    let mut ctx = Box::new(RequestContext::begin(gateway.0.recorder.clone(), connection.clone()));
    // From here on the answers are ours.
    ctx.admitted(&session.head().headers);
    if connection.meter.is_out_of_step() {
        // Also where it is refused for something else, before anybody has judged how it is framed.
        session.ends();
    }
    let answered = match gateway.0.config.shared_sessions {
        // Nobody is asked who could be late.
        None => answered(gateway, session, &mut ctx).await,
        // What goes on for longer than that asks again with a patience of its own. Set aside, or every connection would carry
        // the room for both.
        Some(_) => {
            let answered = answered(gateway, session, &mut ctx);
            Box::pin(storage::redis::as_one_request(answered)).await
        }
    };
    if let Err(error) = answered {
        answer::failed(&gateway.0, session, &mut ctx, &error).await;
        ctx.trail.record(ended_by(&error));
        return false;
    }
    ctx.trail.record(End::Complete);
    session.goes_on().await.unwrap_or(false)
}

/// Waits for a whole head. What is none is refused by the edge.
async fn arrived(session: &mut ServerSession, connection: &Connection) -> bool {
    match session.arrives().await {
        Ok(whole) => whole,
        Err(error) if *error.etype() == ErrorType::InvalidHTTPHeader => {
            connection.meter.linger();
            session.refuse(StatusCode::BAD_REQUEST).await;
            false
        }
        // Nobody is left to be told.
        Err(_gone) => false,
    }
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
                session.ends();
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
