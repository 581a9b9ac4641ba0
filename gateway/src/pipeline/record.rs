//! Stage 10, record: one event for each request, exactly once, whatever becomes of it.
//!
//! A [`Trail`] follows its request and collects what is known. It is written when the request ends, and at
//! the latest when it is dropped: a panic in a stage unwinds through it, a cut connection drops it, so
//! neither can lose the record. A request that the HTTP parser refuses by itself never has a trail; the edge
//! records it by [`Recorder::unparsed`].

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use engine::audit::{
    AnswerFacts, AskedFacts, AuditEvent, ClientFacts, DecisionFacts, End, EventKind, Outcome, PrincipalFacts,
    RouteFacts, SocketFacts,
};
use engine::authz::Decision;
use engine::bundle::BundleId;
use engine::identity::Identity;
use engine::refusal::{Deciding, Refusal};
use engine::route::RouteMatch;
use engine::time::UnixMillis;
use engine::trace::Trace;
use storage::audit_log::AuditLog;
use uuid::Uuid;

use crate::admin::metrics::Metrics;
use crate::authn::Identified;
use crate::clock;
use crate::config::telemetry::Sampler;
use crate::edge::meter::Begun;
use crate::pipeline::Stage;
use crate::pipeline::receive::Received;
use crate::pipeline::trace;

/// Bytes of `User-Agent` that are kept.
const USER_AGENT_BYTES_MAX: usize = 256;
/// Bytes of a path that are kept.
const PATH_BYTES_MAX: usize = 2048;
/// Query names that are kept.
const QUERY_NAMES_MAX: usize = 32;
/// Notes that are kept.
const NOTES_MAX: usize = 16;

/// Where events go.
#[derive(Clone)]
pub struct Recorder {
    /// The audit log.
    pub audit: AuditLog,
    /// The counters that the same events feed.
    pub metrics: Arc<Metrics>,
    /// Whether the drain time is over: what ends unfinished from then on, we have cut.
    pub cutting: Arc<AtomicBool>,
    /// Which requests leave spans.
    pub sampler: Sampler,
}

/// A request that the HTTP parser refused by itself, or that never became whole.
pub struct Unparsed<'a> {
    /// The connection it came over.
    pub connection: &'a crate::edge::Connection,
    /// How it ended.
    pub end: End,
}

impl Recorder {
    /// Records a request that no stage has seen.
    pub fn unparsed(&self, unparsed: &Unparsed<'_>, bundle: &BundleId) {
        let meter = &unparsed.connection.meter;
        let mut trail = Trail::begin(self.clone(), unparsed.connection.peer.ip(), meter.begun());
        trail.bundle(bundle);
        trail.asked = meter.with_head(crate::pipeline::receive::asked_by_wire);
        let end = match meter.told() {
            Some(told) => {
                trail.request_id = told.request_id;
                trail.status = told.refusal.answer().status;
                trail.bytes_out = told.body_bytes;
                trail.refused(&told.refusal);
                unparsed.end
            }
            // Nobody was refused: it ended before its head was whole.
            None if unparsed.end == End::Protocol => End::ClientGone,
            None => unparsed.end,
        };
        trail.record(end);
    }
}

/// What is known of one request so far. Writes its event exactly once.
pub struct Trail {
    recorder: Recorder,
    /// Our id of the request.
    pub request_id: Uuid,
    /// Its trace.
    pub trace: Trace,
    /// When it arrived.
    pub received_at: UnixMillis,
    /// The client's address.
    pub client: IpAddr,
    peer: IpAddr,
    user_agent: Option<String>,
    principal: Option<PrincipalFacts>,
    asked: Option<AskedFacts>,
    route: Option<RouteFacts>,
    decision: DecisionFacts,
    status: u16,
    bytes_in: u64,
    bytes_out: u64,
    socket: Option<SocketFacts>,
    upstream: Option<String>,
    notes: Vec<String>,
    stages_us: Vec<(&'static str, u64)>,
    stage: Stage,
    stage_began: Instant,
    began: Instant,
    early: bool,
    conceal: bool,
    end: Option<End>,
    written: bool,
    #[cfg(feature = "fault_injection")]
    fault: Option<Stage>,
}

impl Trail {
    /// Follows a request from its first byte.
    #[must_use]
    pub fn begin(recorder: Recorder, peer: IpAddr, begun: Option<Begun>) -> Self {
        let begun = begun.unwrap_or_else(|| Begun { at: clock::now(), instant: clock::instant() });
        let (now, began) = (begun.at, begun.instant);
        Self {
            recorder,
            request_id: crate::random::request_id(now),
            trace: Trace::begin(crate::random::bytes()),
            received_at: now,
            client: peer,
            peer,
            user_agent: None,
            principal: None,
            asked: None,
            route: None,
            decision: DecisionFacts::default(),
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            socket: None,
            upstream: None,
            notes: Vec::new(),
            stages_us: Vec::with_capacity(Stage::ALL.len()),
            stage: Stage::Receive,
            stage_began: began,
            began,
            early: true,
            conceal: false,
            end: None,
            written: false,
            #[cfg(feature = "fault_injection")]
            fault: None,
        }
    }

    /// A stage begins; the one before it has ended.
    pub fn enter(&mut self, stage: Stage) {
        let now = clock::instant();
        let spent = u64::try_from((now - self.stage_began).as_micros()).unwrap_or(u64::MAX);
        match self.stages_us.iter_mut().find(|(name, _)| *name == self.stage.name()) {
            Some((_, so_far)) => *so_far = so_far.saturating_add(spent),
            None => self.stages_us.push((self.stage.name(), spent)),
        }
        self.stage = stage;
        self.stage_began = now;
        // Whoever presents a credential is no longer one of the many whom a record each would drown us in.
        self.early = self.early && !matches!(stage, Stage::Identify);
        #[cfg(feature = "fault_injection")]
        self.strike(stage);
    }

    /// Arms the fault that a test's request asks for: `x-cedargate-fault: <stage>` panics in that stage.
    #[cfg(feature = "fault_injection")]
    pub fn arm(&mut self, headers: &http::HeaderMap) {
        let asked = headers.get("x-cedargate-fault").and_then(|value| value.to_str().ok());
        self.fault = Stage::ALL.into_iter().find(|stage| Some(stage.name()) == asked);
        self.strike(Stage::Receive);
    }

    #[cfg(feature = "fault_injection")]
    #[expect(clippy::panic, reason = "the panic that a test asks for")]
    fn strike(&mut self, stage: Stage) {
        if self.fault.take_if(|fault| *fault == stage).is_some() {
            panic!("a test asked for a panic in {}", stage.name());
        }
    }

    /// Continues the caller's trace, or begins one; the sampler says whether it leaves spans.
    pub fn traced(&mut self, headers: &http::HeaderMap) {
        self.trace = trace::trace(headers, crate::random::bytes(), self.recorder.sampler);
    }

    /// The head was taken in.
    pub fn received(&mut self, received: &Received) {
        self.client = received.client;
        self.asked = Some(AskedFacts {
            method: cut(received.method.as_str(), 32),
            host: received.host.clone(),
            path: cut(received.path.as_str(), PATH_BYTES_MAX),
            query_names: received.query.assigned_names().take(QUERY_NAMES_MAX).map(str::to_owned).collect(),
        });
        if !received.dropped.is_empty() {
            let names: Vec<&str> = received.dropped.iter().map(http::HeaderName::as_str).collect();
            self.recorder.metrics.headers_dropped(names.len() as u64);
            self.note(format!("headers that no upstream sees: {}", names.join(", ")));
        }
    }

    /// What could be read of a request line that was refused.
    pub fn asked(&mut self, asked: Option<AskedFacts>) {
        self.asked = asked;
    }

    /// The client's `User-Agent`.
    pub fn user_agent(&mut self, headers: &http::HeaderMap) {
        // Terminals obey more than the C0 controls: a log that people `tail` holds plain characters only.
        let plain = |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '?' };
        let value = headers.get(http::header::USER_AGENT).map(http::HeaderValue::as_bytes);
        self.user_agent = value.map(|value| value.iter().take(USER_AGENT_BYTES_MAX).map(plain).collect());
    }

    /// The bundle that decides.
    pub fn bundle(&mut self, id: &BundleId) {
        self.decision.bundle = id.to_string();
    }

    /// The route that was found.
    pub fn matched(&mut self, matched: &RouteMatch) {
        let route = &matched.route;
        self.conceal = route.conceal;
        self.route = Some(RouteFacts {
            name: route.name.clone(),
            action: route.action.to_string(),
            resource: format!("Module::\"{}\"", route.module),
            parameters: matched
                .parameters
                .iter()
                .map(|(name, value)| (name.to_string(), cut(value, USER_AGENT_BYTES_MAX)))
                .collect(),
            class: route.class.to_string(),
        });
    }

    /// The schemes have answered.
    pub fn identified(&mut self, identified: &Identified) {
        if let Identity::Known(principal) = &identified.identity {
            self.principal = Some(PrincipalFacts::of(principal));
        }
        for note in &identified.notes {
            self.note(note.clone());
        }
    }

    /// Policy has answered.
    pub fn decided(&mut self, decision: &Decision) {
        let (outcome, deciding, erring): (_, &[Deciding], Vec<String>) = match decision {
            Decision::Permit(permit) => (Outcome::Permit, permit.deciding(), Vec::new()),
            Decision::Deny(denial) => (Outcome::Deny, &denial.forbidding, Vec::new()),
            Decision::Undecidable { erring } => (Outcome::Error, &[], erring.clone()),
        };
        self.decision.outcome = outcome;
        self.decision.deciding = deciding.to_vec();
        self.decision.erring = erring;
    }

    /// The request is refused.
    pub fn refused(&mut self, refusal: &Refusal) {
        self.decision.refusal = Some(refusal.code());
        if self.decision.detail.is_none() {
            self.decision.detail = Some(refusal.detail_for_record().into_owned());
        }
    }

    /// The precise reason of a refusal, for the record only.
    pub fn detail(&mut self, detail: String) {
        self.decision.detail = Some(cut(&detail, PATH_BYTES_MAX));
    }

    /// Something worth an analyst's look.
    pub fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(cut(&note, PATH_BYTES_MAX));
        }
    }

    /// The upstream that was chosen.
    pub fn upstream(&mut self, name: String) {
        self.upstream = Some(name);
    }

    /// The status that the client is sent.
    pub fn status(&mut self, status: u16) {
        self.status = status;
    }

    /// Body bytes from the client.
    pub fn bytes_in(&mut self, bytes: u64) {
        self.bytes_in = self.bytes_in.saturating_add(bytes);
    }

    /// Body bytes to the client.
    pub fn bytes_out(&mut self, bytes: u64) {
        self.bytes_out = self.bytes_out.saturating_add(bytes);
    }

    /// Bytes of messages that have passed over a WebSocket, from the client and to it.
    pub fn passed(&mut self, bytes_in: u64, bytes_out: u64) {
        (self.bytes_in, self.bytes_out) = (bytes_in, bytes_out);
    }

    /// What has passed over a WebSocket, and how it was closed.
    pub fn socket(&mut self, facts: SocketFacts) {
        self.socket = Some(facts);
    }

    /// Moves the trail to whoever follows the request from here on; what stays behind writes nothing.
    #[must_use]
    pub fn hand_over(&mut self) -> Self {
        let mut left = Self::begin(self.recorder.clone(), self.peer, None);
        left.written = true;
        std::mem::replace(self, left)
    }

    /// Body bytes received so far.
    #[must_use]
    pub fn bytes_in_so_far(&self) -> u64 {
        self.bytes_in
    }

    /// When the request began, by the monotonic clock.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Whether the route's refusals look like an unrouted path.
    #[must_use]
    pub fn conceals(&self) -> bool {
        self.conceal
    }

    /// How it will have ended, where that is known before it ends.
    pub fn ends(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    /// The event of an audited request that is about to be forwarded.
    #[must_use]
    pub fn opening(&self) -> AuditEvent {
        self.event(EventKind::Opening, End::Complete)
    }

    /// Ends the trail and hands its event to the log.
    pub fn record(&mut self, end: End) {
        if self.written {
            return;
        }
        self.enter(Stage::Record);
        let event = self.event(EventKind::Request, self.end.unwrap_or(end));
        // Only now: what panics above is tried again as the trail is dropped.
        self.written = true;
        self.recorder.metrics.request(&event);
        if self.early {
            self.recorder.audit.append_early(event, clock::now());
        } else if self.recorder.audit.append(event).is_err() {
            // The log itself counts what it loses and says so; there is nobody left to refuse.
            tracing::debug!(request_id = %self.request_id, "this request's record was lost");
        }
    }

    fn event(&self, kind: EventKind, end: End) -> AuditEvent {
        let total = clock::instant() - self.began;
        AuditEvent {
            time: clock::rfc3339(self.received_at),
            kind,
            request_id: self.request_id,
            trace: self.trace,
            client: ClientFacts {
                address: Some(self.client),
                peer: (self.peer != self.client).then_some(self.peer),
                user_agent: self.user_agent.clone(),
            },
            principal: self.principal.clone(),
            request: self.asked.clone(),
            route: self.route.clone(),
            decision: self.decision.clone(),
            answer: AnswerFacts {
                status: self.status,
                bytes_in: self.bytes_in,
                bytes_out: self.bytes_out,
                total_us: u64::try_from(total.as_micros()).unwrap_or(u64::MAX),
                end,
            },
            socket: self.socket.clone(),
            upstream: self.upstream.clone(),
            stages_us: self.stages_us.clone(),
            notes: self.notes.clone(),
        }
    }
}

/// Records that another bundle decides from now on.
pub fn bundle_changed(audit: &AuditLog, now: UnixMillis, id: &BundleId, notes: &[String]) {
    security(audit, now, id, None, notes);
}

/// Records that a bundle was not taken.
pub fn bundle_refused(audit: &AuditLog, now: UnixMillis, serving: &BundleId, notes: &[String]) {
    security(audit, now, serving, Some("bundle_refused"), notes);
}

/// An event that belongs to no request.
fn security(
    audit: &AuditLog,
    now: UnixMillis,
    bundle: &BundleId,
    refusal: Option<&'static str>,
    notes: &[String],
) {
    let mut event =
        AuditEvent::empty(EventKind::Security, clock::rfc3339(now), crate::random::request_id(now));
    event.trace = Trace::begin(crate::random::bytes());
    event.decision.bundle = bundle.to_string();
    event.decision.refusal = refusal;
    event.notes = notes.iter().take(NOTES_MAX).map(|note| cut(note, PATH_BYTES_MAX)).collect();
    if audit.append(event).is_err() {
        tracing::error!(?notes, "a security event could not be recorded");
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        let end = if std::thread::panicking() {
            End::Panic
        } else if self.recorder.cutting.load(Ordering::Acquire) {
            End::Deadline
        } else {
            End::ClientGone
        };
        // A second panic while one unwinds would end the process and every other request with it.
        if std::panic::catch_unwind(AssertUnwindSafe(|| self.record(end))).is_err() {
            tracing::error!(request_id = %self.request_id, "this request's record could not be made");
        }
    }
}

/// The text, or as much of it as fits, cut at a character.
fn cut(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default().to_owned()
}
