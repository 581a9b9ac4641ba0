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
    AskedFacts, AuditEvent, End, EventKind, Outcome, Read, RouteFacts, SocketFacts, VALUE_BYTES_MAX,
};
use engine::authz::Decision;
use engine::bundle::{Bundle, BundleId};
use engine::identity::Identity;
use engine::refusal::{Deciding, Refusal, Spent};
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
    pub fn unparsed(self: &Arc<Self>, unparsed: &Unparsed<'_>, bundle: &BundleId) {
        let meter = &unparsed.connection.meter;
        let mut trail = Trail::begin(Arc::clone(self), unparsed.connection.peer.ip(), meter.begun());
        trail.bundle(bundle);
        trail.asked(meter.with_head(crate::pipeline::receive::asked_by_wire));
        let end = match meter.told() {
            Some(told) => {
                trail.request_id = told.request_id;
                trail.status(told.refusal.answer().status);
                trail.bytes_out(told.body_bytes);
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
    recorder: Arc<Recorder>,
    /// What is known, in the shape in which it is recorded; gone once it was handed to the log. On the heap from the
    /// beginning: it passes through many hands, and none of them carries it.
    event: Option<Box<AuditEvent>>,
    /// Our id of the request.
    pub request_id: Uuid,
    /// Its trace.
    pub trace: Trace,
    /// When it arrived.
    pub received_at: UnixMillis,
    /// The client's address.
    pub client: IpAddr,
    peer: IpAddr,
    bytes_in: u64,
    stage: Stage,
    /// The stages that have a time in the event, one bit each.
    timed: u16,
    stage_began: Instant,
    began: Instant,
    early: bool,
    conceal: bool,
    end: Option<End>,
    #[cfg(feature = "fault_injection")]
    fault: Option<Stage>,
}

impl Trail {
    /// Follows a request from its first byte.
    #[must_use]
    pub fn begin(recorder: Arc<Recorder>, peer: IpAddr, begun: Option<Begun>) -> Self {
        let begun = begun.unwrap_or_else(|| Begun { at: clock::now(), instant: clock::instant() });
        let (now, began) = (begun.at, begun.instant);
        let request_id = crate::random::request_id(now);
        let mut event = Box::new(AuditEvent::empty(EventKind::Request, String::new(), request_id));
        event.stages_us.reserve_exact(Stage::ALL.len());
        Self {
            recorder,
            event: Some(event),
            request_id,
            trace: Trace::begin(crate::random::bytes()),
            received_at: now,
            client: peer,
            peer,
            bytes_in: 0,
            stage: Stage::Receive,
            timed: 0,
            stage_began: began,
            began,
            early: true,
            conceal: false,
            end: None,
            #[cfg(feature = "fault_injection")]
            fault: None,
        }
    }

    /// A stage begins; the one before it has ended.
    pub fn enter(&mut self, stage: Stage) {
        let now = clock::instant();
        let spent = u64::try_from((now - self.stage_began).as_micros()).unwrap_or(u64::MAX);
        self.spent(self.stage, spent);
        self.stage = stage;
        self.stage_began = now;
        // Whoever presents a credential is no longer one of the many whom a record each would drown us in.
        self.early = self.early && !matches!(stage, Stage::Identify);
        #[cfg(feature = "fault_injection")]
        self.strike(stage);
    }

    fn spent(&mut self, stage: Stage, microseconds: u64) {
        let Some(event) = &mut self.event else { return };
        let (name, bit) = (stage.name(), 1 << stage as u16);
        if self.timed & bit == 0 {
            self.timed |= bit;
            event.stages_us.push((name, microseconds));
        } else if let Some((_, so_far)) = event.stages_us.iter_mut().find(|(known, _)| *known == name) {
            *so_far = so_far.saturating_add(microseconds);
        }
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
        self.asked(Some(AskedFacts {
            method: cut(received.method.as_str(), 32),
            host: received.host.clone(),
            path: cut(received.path.as_str(), PATH_BYTES_MAX),
            query_names: received.query.assigned_names().take(QUERY_NAMES_MAX).map(str::to_owned).collect(),
        }));
        if !received.dropped.is_empty() {
            let names: Vec<&str> = received.dropped.iter().map(http::HeaderName::as_str).collect();
            self.recorder.metrics.headers_dropped(names.len() as u64);
            self.note(format!("headers that no upstream sees: {}", names.join(", ")));
        }
    }

    /// What could be read of a request line that was refused.
    pub fn asked(&mut self, asked: Option<AskedFacts>) {
        if let Some(event) = &mut self.event {
            event.request = asked;
        }
    }

    /// The client's `User-Agent`.
    pub fn user_agent(&mut self, headers: &http::HeaderMap) {
        // Terminals obey more than the C0 controls: a log that people `tail` holds plain characters only.
        let plain = |byte: &u8| if matches!(byte, b' '..=b'~') { *byte } else { b'?' };
        let value = headers.get(http::header::USER_AGENT).map(http::HeaderValue::as_bytes);
        if let Some(event) = &mut self.event {
            // As bytes, which are made many at a time: a browser's 115 cost 440 instructions, and 2,000 as characters.
            let plain =
                |value: &[u8]| value.iter().take(USER_AGENT_BYTES_MAX).map(plain).collect::<Vec<u8>>();
            event.client.user_agent = value.and_then(|value| String::from_utf8(plain(value)).ok());
        }
    }

    /// The bundle that decides.
    pub fn bundle(&mut self, id: &BundleId) {
        if let Some(event) = &mut self.event {
            event.decision.bundle = id.shared();
        }
    }

    /// The route that was found. What the schema declares `@sensitive` is kept out: then the path is recorded as the pattern.
    pub fn matched(&mut self, matched: &RouteMatch, bundle: &Bundle) {
        let route = &matched.route;
        self.conceal = route.conceal;
        let Some(event) = &mut self.event else { return };
        let mut withheld = false;
        let parameters = matched.parameters.iter().map(|(name, value)| {
            let sensitive = bundle.is_sensitive(name);
            withheld |= sensitive;
            (name.clone(), (!sensitive).then(|| cut(value, VALUE_BYTES_MAX)))
        });
        event.route = Some(RouteFacts {
            names: Arc::clone(&route.recorded),
            parameters: parameters.collect(),
            class: Arc::clone(&route.class),
            cost: route.cost,
        });
        if withheld && let Some(asked) = &mut event.request {
            asked.path.clone_from(&route.pattern);
        }
    }

    /// The schemes have answered.
    pub fn identified(&mut self, identified: &Identified) {
        if let (Identity::Known(principal), Some(event)) = (&identified.identity, &mut self.event) {
            event.principal = Some(Arc::clone(principal));
        }
        for note in &identified.notes {
            self.note(note.clone());
        }
    }

    /// Policy has answered, after a look at this.
    pub fn decided(&mut self, decision: &Decision, read: Read) {
        let (outcome, deciding, erring): (_, &[Deciding], Vec<String>) = match decision {
            Decision::Permit(permit) => (Outcome::Permit, permit.deciding(), Vec::new()),
            Decision::Deny(denial) => (Outcome::Deny, &denial.forbidding, Vec::new()),
            Decision::Undecidable { erring } => (Outcome::Error, &[], erring.clone()),
        };
        let Some(event) = &mut self.event else { return };
        event.decision.outcome = outcome;
        event.decision.deciding = deciding.to_vec();
        event.decision.erring = erring;
        event.decision.read = read;
    }

    /// Policies have given what they permit other classes of limits than the route's.
    pub fn counted_in(&mut self, given: &[&Arc<str>]) {
        if let Some(event) = self.event.as_mut().filter(|_| !given.is_empty()) {
            event.decision.classes = given.iter().map(|class| (*class).to_string()).collect();
        }
    }

    /// A limit that is only tried out would have refused the request. Told once of each.
    pub fn shadowed(&mut self, spent: &Spent) {
        let Spent { limit, rate, .. } = spent;
        let note = format!("limit `{limit}` ({rate}) is shadowed and would have refused this");
        if self.event.as_ref().is_some_and(|event| !event.notes.contains(&note)) {
            self.recorder.metrics.limit_shadowed(limit);
            self.note(note);
        }
    }

    /// The request is refused.
    pub fn refused(&mut self, refusal: &Refusal) {
        let Some(event) = &mut self.event else { return };
        event.decision.refusal = Some(refusal.code());
        if event.decision.detail.is_none() {
            event.decision.detail = Some(refusal.detail_for_record().into_owned());
        }
    }

    /// The precise reason of a refusal, for the record only.
    pub fn detail(&mut self, detail: String) {
        if let Some(event) = &mut self.event {
            event.decision.detail = Some(cut(&detail, PATH_BYTES_MAX));
        }
    }

    /// Something worth an analyst's look.
    pub fn note(&mut self, note: String) {
        if let Some(event) = self.event.as_mut().filter(|event| event.notes.len() < NOTES_MAX) {
            event.notes.push(cut(&note, PATH_BYTES_MAX));
        }
    }

    /// The upstream that was chosen.
    pub fn upstream(&mut self, name: impl Into<Arc<str>>) {
        if let Some(event) = &mut self.event {
            event.upstream = Some(name.into());
        }
    }

    /// The status that the client is sent.
    pub fn status(&mut self, status: u16) {
        if let Some(event) = &mut self.event {
            event.answer.status = status;
        }
    }

    /// Body bytes from the client.
    pub fn bytes_in(&mut self, bytes: u64) {
        self.bytes_in = self.bytes_in.saturating_add(bytes);
    }

    /// Body bytes to the client.
    pub fn bytes_out(&mut self, bytes: u64) {
        if let Some(event) = &mut self.event {
            event.answer.bytes_out = event.answer.bytes_out.saturating_add(bytes);
        }
    }

    /// Bytes of messages that have passed over a WebSocket, from the client and to it.
    pub fn passed(&mut self, bytes_in: u64, bytes_out: u64) {
        self.bytes_in = bytes_in;
        if let Some(event) = &mut self.event {
            event.answer.bytes_out = bytes_out;
        }
    }

    /// What has passed over a WebSocket, and how it was closed.
    pub fn socket(&mut self, facts: SocketFacts) {
        if let Some(event) = &mut self.event {
            event.socket = Some(facts);
        }
    }

    /// Moves the trail to whoever follows the request from here on; what stays behind writes nothing.
    #[must_use]
    pub fn hand_over(&mut self) -> Self {
        let mut left = Self::begin(self.recorder.clone(), self.peer, None);
        left.event = None;
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

    /// The event of an audited request that is about to be forwarded; `None` when it has its record already.
    #[must_use]
    pub fn opening(&mut self) -> Option<Box<AuditEvent>> {
        self.complete(End::Complete);
        let mut event = self.event.clone()?;
        event.kind = EventKind::Opening;
        Some(event)
    }

    /// Ends the trail and hands its event to the log.
    pub fn record(&mut self, end: End) {
        if self.event.is_none() {
            return;
        }
        self.enter(Stage::Record);
        self.complete(self.end.unwrap_or(end));
        // Only now: what panics above is tried again as the trail is dropped.
        let Some(event) = self.event.take() else { return };
        self.recorder.metrics.request(&event);
        if self.early {
            self.recorder.audit.append_early(event, clock::now());
        } else if self.recorder.audit.append(event).is_err() {
            // The log itself counts what it loses and says so; there is nobody left to refuse.
            tracing::debug!(request_id = %self.request_id, "this request's record was lost");
        }
    }

    /// Puts what the trail itself knows into the event.
    fn complete(&mut self, end: End) {
        let Some(event) = &mut self.event else { return };
        let total = clock::instant() - self.began;
        event.time = clock::rfc3339(self.received_at);
        event.request_id = self.request_id;
        event.trace = self.trace;
        event.client.address = Some(self.client);
        event.client.peer = (self.peer != self.client).then_some(self.peer);
        event.answer.bytes_in = self.bytes_in;
        event.answer.total_us = u64::try_from(total.as_micros()).unwrap_or(u64::MAX);
        event.answer.end = end;
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

/// Records that Cedar's own evaluation came to another answer than ours.
pub fn oracle_differs(audit: &AuditLog, now: UnixMillis, bundle: &BundleId, notes: &[String]) {
    security(audit, now, bundle, Some("oracle_differs"), notes);
}

/// Records that a store that gateways share is away, which has this name then, or there again.
pub fn shared_store(
    audit: &AuditLog,
    now: UnixMillis,
    bundle: &BundleId,
    refusal: Option<&'static str>,
    notes: &[String],
) {
    security(audit, now, bundle, refusal, notes);
}

/// Records that accounts and keys of this gateway's own, so many of both, are now where gateways share them.
pub fn brought(audit: &AuditLog, now: UnixMillis, bundle: &BundleId, (accounts, keys): (usize, usize)) {
    let note = format!("{accounts} account(s) and {keys} API key(s) of this gateway's own are in redis now");
    tracing::info!("{note}");
    security(audit, now, bundle, None, &[note]);
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
    event.decision.bundle = bundle.shared();
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
