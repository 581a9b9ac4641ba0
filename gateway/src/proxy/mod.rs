//! From a connection's bytes to the stages, and from their outcome to bytes. No decision is made here.

pub mod answer;
pub mod exchange;
pub mod http1;
pub mod request;
pub mod serve;
pub mod upstreams;
pub mod watch;
pub mod websocket;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use engine::refusal::{Malformed, Refusal, UpstreamFault};
use http::HeaderMap;
use pingora_core::connectors::TransportConnector;
use pingora_core::server::ShutdownWatch;
use pingora_core::{Error, ErrorType, Result};

use crate::admin::health::Health;
use crate::admin::metrics::{InFlight, Metrics};
use crate::clock;
use crate::config::Config;
use crate::config::settings::Connections;
use crate::edge::Connection;
use crate::edge::caps::{Caps, Over, Slot};
use crate::edge::meter::Handed;
use crate::identity;
use crate::live::Live;
use crate::named::{Named, Naming};
use crate::pages::Pages;
use crate::pipeline::again::Standing;
use crate::pipeline::headers::HeaderEdits;
use crate::pipeline::receive::ReceiveRules;
use crate::pipeline::record::{Recorder, Trail, Unparsed};
use crate::pipeline::shape::Shaped;
use crate::pipeline::{Pipeline, Stage, admit, respond, shape};
use http1::ResponseHead;
use request::RequestContext;
use upstreams::{Backend, Upstream, Upstreams};

/// An answer of more bytes than this, or of an unknown number, can go on for long: its ground is watched.
const LONG_ANSWER_BYTES: u64 = 64 * 1024;
/// Everything that requests are served with.
pub struct Parts {
    /// The configuration.
    pub config: Arc<Config>,
    /// The deciding stages.
    pub pipeline: Pipeline,
    /// What a head must obey.
    pub rules: ReceiveRules,
    /// Where events go.
    pub recorder: Arc<Recorder>,
    /// Our own pages.
    pub pages: Arc<Pages>,
    /// Where permitted requests go.
    pub upstreams: Arc<Upstreams>,
    /// Signs identities for BotServer.
    pub botserver: identity::botserver::Signer,
    /// Signs identities for every other upstream.
    pub ed25519: identity::ed25519::Signer,
    /// What either has signed a moment ago.
    pub minted: identity::minted::Minted,
    /// What answers have named to sessions and keys.
    pub named: Arc<Named>,
    /// What goes on past its request.
    pub live: Arc<Live>,
    /// Connects to upstreams.
    pub connector: TransportConnector,
    /// What is well.
    pub health: Arc<Health>,
    /// How much is held at once.
    pub caps: Caps,
}

/// The gateway, as the edge drives it. Clones share everything.
#[derive(Clone)]
pub struct Gateway(Arc<Parts>);

impl Gateway {
    /// A gateway of these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.recorder.metrics
    }

    /// The stages, and where they record.
    #[must_use]
    pub fn pipeline(&self) -> (&Pipeline, &Arc<Recorder>) {
        (&self.0.pipeline, &self.0.recorder)
    }

    /// How slow a client may be.
    #[must_use]
    pub fn bounds(&self) -> Connections {
        self.0.config.connections
    }

    /// Holds a connection of this peer. Those of a trusted proxy carry many clients and are none of its own.
    ///
    /// # Errors
    /// The cap that is reached.
    pub fn hold_connection(&self, peer: IpAddr) -> Result<HeldConnection, Over> {
        let peer = peer.to_canonical();
        let trusted = self.0.rules.trusted_proxies.iter().any(|network| network.contains(&peer));
        let slot = self.0.caps.connections.take((!trusted).then_some(peer))?;
        Ok(HeldConnection { _counted: self.metrics().connection_begins(), _slot: slot })
    }

    /// What a connection over a cap is told. Counted, and told in the log once a minute.
    #[must_use]
    pub fn refuse_connection(&self, peer: SocketAddr, over: Over) -> Bytes {
        self.metrics().connection_refused(over);
        if let Some(refused) = self.0.caps.connections.refused(clock::now()) {
            tracing::warn!(refused, ?over, last = %peer.ip(), "connections over a cap are turned away");
        }
        let connection = Connection::new(peer, false, Arc::default());
        answer::unparsed(&connection, &self.0, request::over(over))
    }

    /// What goes on past its request.
    #[must_use]
    pub fn live(&self) -> Arc<Live> {
        self.0.live.clone()
    }

    /// What answers have named.
    #[must_use]
    pub fn named(&self) -> Arc<Named> {
        self.0.named.clone()
    }

    /// Runs a bridge on the connection that it was opened for.
    pub async fn run(&self, bridge: websocket::Bridge, client: Handed, stop: ShutdownWatch) {
        bridge.run(&self.0, client, stop).await;
    }

    /// Resolves when the answer that is streamed on this connection may go on no longer.
    pub async fn denied(&self, connection: &Connection) {
        connection.lasting.denied(&self.0.pipeline).await;
    }

    /// The drain time is over: what is still under way ends now, and its records say so.
    pub fn cut(&self) {
        self.0.recorder.cutting.store(true, Ordering::Release);
    }

    /// Records a request that the HTTP parser refused by itself, or that never became whole.
    pub fn record_unparsed(&self, unparsed: &Unparsed<'_>) {
        if unparsed.connection.meter.told().is_none() {
            // An unfinished head costs its address as much as a whole one.
            drop(self.admit_unparsed(unparsed.connection));
        }
        let snapshot = self.0.pipeline.snapshot.current();
        self.0.recorder.unparsed(unparsed, snapshot.bundle.id());
    }

    /// Spends the address's limit for a request that no stage sees: malformed floods are not free.
    fn admit_unparsed(&self, connection: &Connection) -> Result<(), Refusal> {
        let pipeline = &self.0.pipeline;
        let (snapshot, client) = (pipeline.snapshot.current(), connection.peer.ip().to_canonical());
        let tried = admit::address(&pipeline.counters, &snapshot, clock::now(), client)?;
        tried.iter().for_each(|spent| self.0.recorder.metrics.limit_shadowed(&spent.limit));
        Ok(())
    }

    /// The answer that replaces what the HTTP parser would say.
    #[must_use]
    pub fn refuse_unparsed(&self, connection: &Connection, status: u16) -> Bytes {
        tracing::debug!(status, peer = %connection.peer, "the HTTP parser refused a request");
        let refusal = self.admit_unparsed(connection).err();
        answer::unparsed(
            connection,
            &self.0,
            refusal.unwrap_or(Refusal::Malformed(Malformed::FRAMING_UNPARSABLE)),
        )
    }
}

/// A client's connection, counted and held until it is dropped.
#[derive(Debug)]
pub struct HeldConnection {
    _slot: Slot,
    _counted: InFlight,
}

impl Gateway {
    /// Whether an answer's members are named to whoever asked.
    fn naming(&self, response: &ResponseHead, ctx: &RequestContext) -> Option<Naming> {
        let passage = ctx.passage.as_ref()?;
        let names = &passage.matched().route.names;
        let credential = crate::pipeline::forward::speaks_for(passage)?.credential_id?;
        let reads = !names.is_empty() && response.status.is_success();
        reads.then(|| Naming::new(credential, names.clone()))
    }

    /// An answer that may go on for long stands on its session and the bundle as long as it does.
    fn streams(&self, response: &ResponseHead, ctx: &RequestContext) {
        let length = response.headers.get(http::header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length <= LONG_ANSWER_BYTES) {
            return;
        }
        if let (Some(passage), Some(received)) = (&ctx.passage, &ctx.received) {
            let lease = self.0.live.stream(passage.permit().identity(), ctx.since);
            let standing = Standing::new(&self.0.pipeline, passage.clone(), received.clone(), lease);
            ctx.connection.lasting.stream(standing);
        }
    }

    /// The address that is asked next.
    fn choose<'a>(&self, upstream: Option<&'a Upstream>, ctx: &mut RequestContext) -> Result<&'a Backend> {
        let Some(backend) = upstream.and_then(Upstream::choose) else {
            ctx.refusal = Some(Refusal::NoUpstream(UpstreamFault::NoneHealthy));
            return Error::e_explain(ErrorType::HTTPStatus(502), "no address of the upstream is well");
        };
        ctx.trail.upstream(Arc::clone(&backend.label));
        ctx.backend = Some(backend.address);
        Ok(backend)
    }

    /// The address that was chosen last cannot be connected to. The error says whether another is tried.
    fn not_connected(&self, ctx: &mut RequestContext, mut error: Box<Error>) -> Box<Error> {
        let late = matches!(error.etype(), ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout);
        let fault = if late { UpstreamFault::Timeout } else { UpstreamFault::Connect };
        ctx.refusal = Some(Refusal::NoUpstream(fault));
        ctx.unreached += 1;
        let Some(upstream) = &ctx.upstream else { return error };
        if let Some(backend) = upstream.backends().iter().find(|backend| Some(backend.address) == ctx.backend)
            && upstream.backends().len() > 1
            && backend.set_well(false)
        {
            tracing::warn!(upstream = %upstream.name, address = %backend.address, %error, "an upstream's address is not well");
        }
        // Nothing of the request has been sent, so another address may be tried whatever the method.
        error.set_retry(ctx.unreached < upstream.backends().len());
        error
    }

    /// The address that was chosen last is connected to.
    fn connected(&self, ctx: &mut RequestContext, reused: bool) {
        if let Some(upstream) = &ctx.upstream {
            self.metrics().upstream_connected(&upstream.name, reused);
        }
        ctx.refusal = None;
    }

    /// Shapes what the upstream is sent.
    fn shaped(&self, headers: &HeaderMap, ctx: &mut RequestContext) -> Result<Shaped> {
        request::unwinding(ctx, |ctx| self.shape(headers, ctx))
    }

    /// The head of the upstream's answer becomes what the client may see.
    fn answered(&self, response: &ResponseHead, ctx: &mut RequestContext) -> Result<HeaderEdits> {
        request::unwinding(ctx, |ctx| {
            ctx.trail.enter(Stage::Respond);
            ctx.trail.status(response.status.as_u16());
            self.streams(response, ctx);
            ctx.naming = self.naming(response, ctx);
            Ok(respond::respond(&answer::place(&self.0, ctx), &response.headers))
        })
    }

    /// A piece of the request's body passes.
    fn takes(&self, piece: &[u8], ctx: &mut RequestContext) -> Result<()> {
        ctx.trail.bytes_in(piece.len() as u64);
        if ctx.trail.bytes_in_so_far() > ctx.body_bytes_max {
            ctx.refusal = Some(Refusal::TooLarge { bytes_max: ctx.body_bytes_max });
            return Error::e_explain(ErrorType::HTTPStatus(413), "request body over its bound");
        }
        Ok(())
    }

    /// A piece of the upstream's answer passes.
    fn passes(&self, piece: &[u8], ended: bool, ctx: &mut RequestContext) {
        if let Some(naming) = &mut ctx.naming {
            naming.piece(&self.0.named, piece, ended);
        }
        ctx.trail.bytes_out(piece.len() as u64);
    }

    /// What the upstream is sent instead of what came.
    fn shape(&self, headers: &HeaderMap, ctx: &mut RequestContext) -> Result<Shaped> {
        ctx.trail.enter(Stage::Shape);
        let Some((passage, received)) = ctx.passage.as_ref().zip(ctx.received.as_ref()) else {
            // Only a passage leads here; without one nothing leaves.
            ctx.refusal = Some(Refusal::Faulted);
            return Error::e_explain(
                ErrorType::InternalError,
                "a request without a passage reached the upstream",
            );
        };
        let token = request::signed_identity(&self.0, passage, ctx.upstream.as_deref(), clock::now());
        let shaped = shape::shape(passage, received, headers, token, &ctx.trail);
        ctx.trail.enter(Stage::Forward);
        Ok(shaped)
    }
}

/// The trail of a connection's request.
fn trail(recorder: Arc<Recorder>, connection: &Connection) -> Trail {
    Trail::begin(recorder, connection.peer.ip(), connection.meter.begun())
}
