//! From a parsed head to a passage and its target, or to the refusal of the stage that said no.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use engine::headers::{ClientAddress, client_address};
use engine::refusal::{CAPACITY_RETRY_S, Dependency, Malformed, Refusal, UpstreamFault};
use engine::route::Target;
use engine::time::UnixMillis;
use futures_util::FutureExt;
use pingora_core::{Error, ErrorType, Result};

use super::http1::{RequestHead, ServerSession};
use super::upstreams::Upstream;
use super::{Parts, websocket};
use crate::admin::metrics::InFlight;
use crate::clock;
use crate::config::settings::{UpstreamIdentity, WhenFull};
use crate::edge::Connection;
use crate::edge::caps::{Over, Slot};
use crate::live::Moment;
use crate::named::Naming;
use crate::pipeline::receive::{Head, Received, asked_by_wire, receive};
use crate::pipeline::record::{Recorder, Trail};
use crate::pipeline::{Passage, Stage, admit, forward};

/// What one request carries from phase to phase.
pub struct RequestContext {
    /// Its record.
    pub trail: Trail,
    /// Counts it as under way.
    pub in_flight: InFlight,
    /// Holds one of the requests that may be under way at once.
    pub slot: Option<Slot>,
    /// Its connection.
    pub connection: Arc<Connection>,
    /// Its head, once it was taken in.
    pub received: Option<Received>,
    /// The moment before it was decided.
    pub since: Moment,
    /// The witness that it passed every stage.
    pub passage: Option<Passage>,
    /// The upstream that it goes to.
    pub upstream: Option<Arc<Upstream>>,
    /// The address that was tried last.
    pub backend: Option<SocketAddr>,
    /// How many addresses could not be connected to.
    pub unreached: usize,
    /// The bound of its body in bytes.
    pub body_bytes_max: u64,
    /// Reads from its answer what is named to the caller.
    pub naming: Option<Naming>,
    /// Why it will be refused, where a later phase answers.
    pub refusal: Option<Refusal>,
    /// Whether its refusals look like an unrouted path.
    pub conceal: bool,
}

impl RequestContext {
    /// A request on this connection begins.
    #[must_use]
    pub fn begin(recorder: Arc<Recorder>, connection: Arc<Connection>) -> Self {
        Self {
            in_flight: recorder.metrics.request_begins(),
            trail: super::trail(recorder, &connection),
            slot: None,
            connection,
            received: None,
            since: Moment::default(),
            passage: None,
            upstream: None,
            backend: None,
            unreached: 0,
            body_bytes_max: 0,
            naming: None,
            refusal: None,
            conceal: false,
        }
    }

    /// Whether it passed as the opening of a WebSocket.
    #[must_use]
    pub fn is_websocket(&self) -> bool {
        self.passage.as_ref().is_some_and(|passage| passage.matched().route.websocket)
    }

    /// From here on the answers are ours, and this is where the request ends.
    pub fn admitted(&self, headers: &http::HeaderMap) {
        self.connection.meter.admit(headers);
    }
}

/// Runs the stages; a panic in one of them is a refusal like others, and recorded as a panic.
///
/// # Errors
/// The refusal.
pub async fn guarded(
    parts: &Parts,
    session: &ServerSession,
    ctx: &mut RequestContext,
) -> Result<Target, Refusal> {
    let outcome = {
        // In its place, and not moved there: it is as large as all that the stages may come to.
        let stages = pin!(stages(parts, session, &mut *ctx));
        AssertUnwindSafe(stages).catch_unwind().await
    };
    match outcome {
        Ok(outcome) => outcome,
        Err(_panic) => {
            panicked(ctx);
            Err(Refusal::Faulted)
        }
    }
}

/// Opens a WebSocket; a panic on the way is a refusal like others.
///
/// # Errors
/// The refusal.
pub async fn bridged(
    parts: &Parts,
    session: &ServerSession,
    ctx: &mut RequestContext,
) -> Result<(), Refusal> {
    AssertUnwindSafe(websocket::open(parts, session, ctx)).catch_unwind().await.unwrap_or_else(|_panic| {
        panicked(ctx);
        Err(Refusal::Faulted)
    })
}

/// What is cut while it goes on is recorded with the reason.
impl Drop for RequestContext {
    fn drop(&mut self) {
        if let Some(refusal) = self.connection.lasting.take_denied() {
            self.trail.refused(&refusal);
            self.trail.ends(engine::audit::End::Revoked);
        }
    }
}

/// Runs a stage after the deciding ones; a panic in it ends the request with a refusal.
///
/// # Errors
/// What the stage says, or that it panicked.
pub fn unwinding<T>(
    ctx: &mut RequestContext,
    stage: impl FnOnce(&mut RequestContext) -> Result<T>,
) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(|| stage(ctx))).unwrap_or_else(|_panic| {
        panicked(ctx);
        ctx.refusal = Some(Refusal::Faulted);
        Error::e_explain(ErrorType::InternalError, "a stage panicked")
    })
}

/// Notes that a stage panicked.
pub fn panicked(ctx: &mut RequestContext) {
    ctx.trail.ends(engine::audit::End::Panic);
    ctx.trail.note("a stage panicked".to_owned());
}

async fn stages(parts: &Parts, session: &ServerSession, ctx: &mut RequestContext) -> Result<Target, Refusal> {
    let now = clock::now();
    let header = session.head();
    #[cfg(feature = "fault_injection")]
    ctx.trail.arm(&header.headers);
    ctx.trail.user_agent(&header.headers);
    ctx.trail.traced(&header.headers);
    let peer = ctx.connection.peer.ip();
    let address = client_address(peer, &header.headers, &parts.rules.trusted_proxies);
    let client = address.client;
    ctx.trail.client = client;
    // One policy world from here on.
    let snapshot = parts.pipeline.snapshot.current();
    let tried = admit::address(&parts.pipeline.counters, &snapshot, now, client).inspect_err(|_| {
        ctx.trail.asked(ctx.connection.meter.with_head(asked_by_wire));
    })?;
    tried.iter().for_each(|spent| ctx.trail.shadowed(spent));
    ctx.slot = Some(parts.caps.requests.take(Some(client)).map_err(over)?);
    let received = take_in(parts, header, ctx, address)?;
    ctx.trail.received(&received);
    let received = &*ctx.received.insert(received);
    let facts = received.facts(&header.headers, now, ctx.trail.request_id);
    ctx.since = parts.live.moment();
    let decided = parts.pipeline.decide(now, snapshot, &facts, &ctx.connection.recall, &mut ctx.trail).await;
    ctx.conceal = ctx.trail.conceals();
    let passage = decided?;
    ctx.trail.enter(Stage::Forward);
    let target = forward::forward(&passage, received)?.clone();
    forward::named(&parts.named, &passage, received)?;
    let route = passage.matched().route.clone();
    ctx.body_bytes_max = route.body_bytes_max.unwrap_or(parts.config.upload_bytes_max);
    if received.content_length.is_some_and(|length| length > ctx.body_bytes_max) {
        return Err(Refusal::TooLarge { bytes_max: ctx.body_bytes_max });
    }
    if let Target::Upstream(name) = &target {
        let upstream = parts.upstreams.named(name).ok_or(Refusal::NoUpstream(UpstreamFault::NoneHealthy))?;
        ctx.upstream = Some(upstream.clone());
    }
    if let Some(deadline_s) = route.deadline_s {
        ctx.connection.meter.ends_by(ctx.trail.began() + Duration::from_secs(deadline_s.into()));
    }
    audit_first(parts, ctx, &route).await?;
    ctx.passage = Some(passage);
    Ok(target)
}

/// What whoever is over a cap is told.
#[must_use]
pub fn over(over: Over) -> Refusal {
    match over {
        Over::All => Refusal::Unavailable(Dependency::Capacity),
        Over::Address => Refusal::Throttled { retry_after_s: CAPACITY_RETRY_S, limit: None },
    }
}

fn take_in(
    parts: &Parts,
    header: &RequestHead,
    ctx: &mut RequestContext,
    client: ClientAddress,
) -> Result<Received, Refusal> {
    let connection = ctx.connection.clone();
    let outcome = connection.meter.with_head(|wire| {
        let head = Head {
            method: &header.method,
            version: header.version,
            headers: &header.headers,
            wire,
            client,
            tls: connection.tls,
        };
        receive(&head, &parts.rules).map_err(|fault| (fault, asked_by_wire(wire)))
    });
    outcome.map_err(|(fault, asked): (Malformed, _)| {
        ctx.trail.asked(asked);
        ctx.trail.bundle(parts.pipeline.snapshot.current().bundle.id());
        Refusal::Malformed(fault)
    })
}

/// On an audited route the write would have happened upstream when its record fails: so an opening entry is
/// on disk before anything is forwarded. Other routes ask only whether the log is well, where their class
/// says that it must be.
async fn audit_first(
    parts: &Parts,
    ctx: &mut RequestContext,
    route: &engine::route::Route,
) -> Result<(), Refusal> {
    let audit = &parts.recorder.audit;
    if route.audited {
        let opening = ctx.trail.opening().ok_or(Refusal::Faulted)?;
        return audit.append_durable(opening).await.map_err(|_| Refusal::Unavailable(Dependency::AuditLog));
    }
    let refuses = parts.config.audit.when_full(&route.class) == WhenFull::Refuse;
    if refuses && !audit.accepts() {
        return Err(Refusal::Unavailable(Dependency::AuditLog));
    }
    Ok(())
}

/// The header that tells the upstream who asks.
#[must_use]
pub fn signed_identity(
    parts: &Parts,
    passage: &Passage,
    upstream: Option<&Upstream>,
    now: UnixMillis,
) -> Option<http::HeaderValue> {
    let principal = forward::speaks_for(passage)?;
    let bundle = &passage.snapshot().bundle;
    let upstream = upstream?;
    let header = |mint: &dyn Fn() -> String| {
        parts.minted.header(&upstream.name, principal, &bundle.id().shared(), now, mint)
    };
    match upstream.identity() {
        UpstreamIdentity::BotServer => header(&|| {
            let roles = bundle.effective_roles(principal);
            let roles = roles.iter().filter_map(|role| bundle.role_attribute(role, "botserver")).collect();
            parts.botserver.mint(principal, &roles, now)
        }),
        UpstreamIdentity::Ed25519 { audience } => header(&|| parts.ed25519.mint(principal, audience, now)),
        UpstreamIdentity::None => None,
    }
}
