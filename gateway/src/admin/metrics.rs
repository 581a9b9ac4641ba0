//! What is counted. Labels are our own words or configured names, never anything that a client sends.

mod ends;
mod make;

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use engine::audit::{AuditEvent, End, Outcome};
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

use rustc_hash::FxHashMap;

use crate::edge::caps::Over;
use crate::pipeline::Stage;
pub use ends::{Asked, Login, Renewal};
use make::{Maker, Shared, Telemetry};
use storage::redis::{Answered, Waited};

/// Policies that are counted by their own id. A bundle may have ten thousand, and each would be a series for ever.
const POLICIES_MAX: usize = 500;
/// What the others are counted as.
const OTHER_POLICY: &str = "other";

/// Every metric of the gateway.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    refusals: IntCounterVec,
    duration: Histogram,
    stages: HistogramVec,
    in_flight: IntGauge,
    websockets: IntGauge,
    upload_bytes: IntCounter,
    download_bytes: IntCounter,
    dropped_headers: IntCounter,
    dropped_bearers: IntCounter,
    empty_connections: IntCounter,
    connections: IntGauge,
    refused_connections: IntCounterVec,
    oracle: IntCounterVec,
    failed_handshakes: IntCounter,
    protocol_errors: IntCounter,
    panics: IntCounter,
    logins: IntCounterVec,
    introspections: IntCounterVec,
    renewals: IntCounterVec,
    sessions: IntGauge,
    audit_up: IntGauge,
    audit_summarised: IntCounter,
    bundle_reloads: IntCounterVec,
    upstream_up: IntGaugeVec,
    upstream_connections: IntCounterVec,
    policy_decisions: IntCounterVec,
    series: Arc<Series>,
    telemetry: Telemetry,
    limits: Shared,
    shadowed: IntCounterVec,
    evicted: IntCounter,
    shared_sessions: Shared,
}

/// The series that requests count in, each found once by its labels: to find one costs more than to count. Names are the
/// operator's, so that no hash has to be kept from those who choose them.
#[derive(Debug, Default)]
struct Series {
    requests: [[OnceLock<IntCounter>; STATUS_CLASSES.len()]; OUTCOMES],
    stages: [OnceLock<Histogram>; Stage::ALL.len()],
    policies: RwLock<FxHashMap<Arc<str>, [OnceLock<IntCounter>; OUTCOMES]>>,
    upstreams: RwLock<FxHashMap<Arc<str>, [IntCounter; 2]>>,
}

/// What becomes of one kind of telemetry.
#[derive(Clone, Debug)]
pub struct TelemetryCounters {
    /// Records, requests' spans or data points that the collector has taken.
    pub sent: IntCounter,
    /// Those that were lost, for whatever reason.
    pub dropped: IntCounter,
    /// Exports that failed, each try for itself.
    pub failures: IntCounter,
}

/// What becomes of the questions to the store that gateways share.
#[derive(Clone, Debug)]
pub struct StoreCounters {
    asked: [IntCounter; Answered::ALL.len()],
    waited: Histogram,
    overrun: Histogram,
}

impl StoreCounters {
    fn of(store: &Shared) -> Self {
        Self {
            asked: Answered::ALL.map(|answered| store.asked.with_label_values(&[answered.name()])),
            waited: store.waited.clone(),
            overrun: store.overrun.clone(),
        }
    }

    /// A question has its answer or none, after so long.
    pub fn asked(&self, answered: Answered, waited: Option<Waited>) {
        if let Some(counter) = self.asked.get(answered as usize) {
            counter.inc();
        }
        if let Some(Waited { time, overrun }) = waited {
            self.waited.observe(time.as_secs_f64());
            if let Some(overrun) = overrun {
                self.overrun.observe(overrun.as_secs_f64());
            }
        }
    }
}

/// A request or connection that is under way, counted until it is dropped.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// All metrics at zero, in a registry of their own.
    ///
    /// # Errors
    /// Two metrics have one name: a fault of ours that shows on the first start.
    pub fn new() -> Result<Self, prometheus::Error> {
        let make = Maker(Registry::new());
        make.gauges("build_info", "Always 1.", "version")?
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        Ok(Self {
            requests: make.counters(
                "requests_total",
                "Requests that ended.",
                &["outcome", "status_class"],
            )?,
            refusals: make.counters("refusals_total", "Refused requests by code.", &["code"])?,
            duration: make.histogram()?,
            stages: make.stages()?,
            in_flight: make.gauge("in_flight_requests", "Requests that are under way.")?,
            websockets: make.gauge("websockets", "Open WebSockets.")?,
            upload_bytes: make.counter("upload_bytes_total", "Body bytes received from clients.")?,
            download_bytes: make.counter("download_bytes_total", "Body bytes sent to clients.")?,
            dropped_headers: make.counter("dropped_headers_total", "Request headers that were dropped.")?,
            dropped_bearers: make.counter("dropped_bearers_total", "BotServer bearers beside a session.")?,
            empty_connections: make.counter("empty_connections_total", "Connections without a request.")?,
            connections: make.gauge("connections", "Connections of clients.")?,
            refused_connections: make.counters(
                "refused_connections_total",
                "Connections over a cap, by whose it is.",
                &["cap"],
            )?,
            failed_handshakes: make.counter("failed_handshakes_total", "TLS handshakes that failed.")?,
            protocol_errors: make
                .counter("protocol_errors_total", "Requests that the HTTP parser refused.")?,
            panics: make.counter("panics_total", "Stages that panicked: each is a fault of ours.")?,
            logins: make.counters("logins_total", "Sign-ins by their end.", &["result"])?,
            renewals: make.counters(
                "renewals_total",
                "Questions to providers whether a session still stands, by their end.",
                &["result"],
            )?,
            introspections: make.counters(
                "introspections_total",
                "Opaque access tokens that were not known, by what came of them.",
                &["result"],
            )?,
            sessions: make.gauge("sessions", "Live sessions.")?,
            audit_up: make.gauge("audit_log_up", "1 while the audit log can be written.")?,
            audit_summarised: make
                .counter("audit_summarised_total", "Early refusals recorded by count only.")?,
            bundle_reloads: make.counters("bundle_reloads_total", "Reloads by their end.", &["result"])?,
            upstream_up: make.gauges("upstream_up", "1 while an address of it is healthy.", "upstream")?,
            upstream_connections: make.counters(
                "upstream_connections_total",
                "Connections that requests were forwarded over.",
                &["upstream", "from"],
            )?,
            policy_decisions: make.counters(
                "policy_decisions_total",
                "Decisions by the policies that they rest on.",
                &["outcome", "policy"],
            )?,
            oracle: make.counters("oracle_total", "Decisions that Cedar was asked as well.", &["result"])?,
            series: Arc::default(),
            telemetry: make.telemetry()?,
            limits: make.limits()?,
            shadowed: make.shadowed()?,
            evicted: make.evicted()?,
            shared_sessions: make.shared_sessions()?,
            registry: make.0,
        })
    }

    /// A request has begun; it counts as under way while the guard lives.
    #[must_use]
    pub fn request_begins(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// A WebSocket is open while the guard lives.
    #[must_use]
    pub fn websocket_opens(&self) -> InFlight {
        self.websockets.inc();
        InFlight(self.websockets.clone())
    }

    /// A request has ended, as its record tells.
    pub fn request(&self, event: &AuditEvent) {
        let outcome = event.decision.outcome;
        self.counted(outcome, event.answer.status);
        if let Some(code) = event.decision.refusal {
            self.refusals.with_label_values(&[code]).inc();
        }
        for deciding in &event.decision.deciding {
            self.decided(outcome, &deciding.id);
        }
        self.upload_bytes.inc_by(event.answer.bytes_in);
        self.download_bytes.inc_by(event.answer.bytes_out);
        match event.answer.end {
            End::Panic => self.panics.inc(),
            End::Protocol => self.protocol_errors.inc(),
            End::Complete
            | End::ClientGone
            | End::UpstreamDied
            | End::Deadline
            | End::Revoked
            | End::Unserved => {}
        }
        for (stage, spent_us) in &event.stages_us {
            #[expect(clippy::cast_precision_loss, reason = "a stage of 285 years would lose a microsecond")]
            self.spent(stage, *spent_us as f64 / 1_000_000.0);
        }
        #[expect(clippy::cast_precision_loss, reason = "seconds need no more than 52 bits of microseconds")]
        self.duration.observe(event.answer.total_us as f64 / 1_000_000.0);
    }

    fn counted(&self, outcome: Outcome, status: u16) {
        let class = status_class(status);
        let found = || self.requests.with_label_values(&[word(outcome), name_of(class)]);
        let known = self.series.requests.get(outcome as usize).and_then(|classes| classes.get(class));
        known.map_or_else(|| found().inc(), |known| known.get_or_init(found).inc());
    }

    fn spent(&self, stage: &str, seconds: f64) {
        let found = || self.stages.with_label_values(&[stage]);
        let at = Stage::ALL.iter().position(|known| known.name() == stage);
        let known = at.and_then(|at| self.series.stages.get(at));
        known.map_or_else(|| found().observe(seconds), |known| known.get_or_init(found).observe(seconds));
    }

    /// A policy has a series of its own if it is one of the first [`POLICIES_MAX`] that decided.
    fn decided(&self, outcome: Outcome, policy: &Arc<str>) {
        let count = |counters: &[OnceLock<IntCounter>; OUTCOMES]| {
            let found = || self.policy_decisions.with_label_values(&[word(outcome), policy]);
            counters.get(outcome as usize).map(|counter| counter.get_or_init(found).inc())
        };
        let known =
            self.series.policies.read().unwrap_or_else(PoisonError::into_inner).get(policy).and_then(count);
        if known.is_some() {
            return;
        }
        let mut known = self.series.policies.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < POLICIES_MAX || known.contains_key(policy) {
            count(known.entry(policy.clone()).or_default());
        } else {
            self.policy_decisions.with_label_values(&[word(outcome), OTHER_POLICY]).inc();
        }
    }

    /// A request goes to an upstream, over a connection of the pool or a new one.
    pub fn upstream_connected(&self, upstream: &Arc<str>, pooled: bool) {
        let count = |[fresh, reused]: &[IntCounter; 2]| if pooled { reused.inc() } else { fresh.inc() };
        let known =
            self.series.upstreams.read().unwrap_or_else(PoisonError::into_inner).get(upstream).map(count);
        if known.is_none() {
            let found =
                ["new", "pool"].map(|from| self.upstream_connections.with_label_values(&[upstream, from]));
            count(&found);
            let mut upstreams = self.series.upstreams.write().unwrap_or_else(PoisonError::into_inner);
            upstreams.insert(upstream.clone(), found);
        }
    }

    /// Request headers were dropped.
    pub fn headers_dropped(&self, count: u64) {
        self.dropped_headers.inc_by(count);
    }

    /// A BotServer bearer beside a valid session was dropped.
    pub fn bearer_dropped(&self) {
        self.dropped_bearers.inc();
    }

    /// A connection has begun; it counts while the guard lives.
    #[must_use]
    pub fn connection_begins(&self) -> InFlight {
        self.connections.inc();
        InFlight(self.connections.clone())
    }

    /// A connection was turned away.
    pub fn connection_refused(&self, over: Over) {
        let cap = match over {
            Over::All => "all",
            Over::Address => "address",
        };
        self.refused_connections.with_label_values(&[cap]).inc();
    }

    /// Cedar itself was asked for a decision as well.
    pub fn oracle_asked(&self, agrees: bool) {
        self.oracle.with_label_values(&[if agrees { "agrees" } else { "differs" }]).inc();
    }

    /// A TLS handshake failed.
    pub fn handshake_failed(&self) {
        self.failed_handshakes.inc();
    }

    /// A connection ended before the first byte of a request.
    pub fn connection_without_request(&self) {
        self.empty_connections.inc();
    }

    /// A sign-in ended.
    pub fn login_ended(&self, login: Login) {
        self.logins.with_label_values(&[login.word()]).inc();
    }

    /// A provider was asked whether a session still stands.
    pub fn session_renewed(&self, renewal: Renewal) {
        self.renewals.with_label_values(&[renewal.word()]).inc();
    }

    /// An opaque access token was not known.
    pub fn token_asked_about(&self, asked: Asked) {
        self.introspections.with_label_values(&[asked.word()]).inc();
    }

    /// How many sessions live.
    pub fn sessions_live(&self, count: u64) {
        self.sessions.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Whether the audit log can be written.
    pub fn audit_log_up(&self, up: bool) {
        self.audit_up.set(i64::from(up));
    }

    /// Early refusals were recorded by their count only.
    pub fn audit_summarised(&self, count: u64) {
        self.audit_summarised.inc_by(count);
    }

    /// A bundle was taken, or refused while the last good one serves.
    pub fn bundle_reloaded(&self, taken: bool) {
        self.bundle_reloads.with_label_values(&[if taken { "taken" } else { "refused" }]).inc();
    }

    /// Whether an address of an upstream is healthy; the name is a configured one.
    pub fn upstream_up(&self, upstream: &str, up: bool) {
        self.upstream_up.with_label_values(&[upstream]).set(i64::from(up));
    }

    /// Whether limits are counted in the store that gateways share.
    pub fn limits_store_up(&self, up: bool) {
        self.limits.up.set(i64::from(up));
    }

    /// Whether the store that gateways share sessions in answers.
    pub fn sessions_store_up(&self, up: bool) {
        self.shared_sessions.up.set(i64::from(up));
    }

    /// The counters of the store that gateways share limits in.
    #[must_use]
    pub fn limits_store(&self) -> StoreCounters {
        StoreCounters::of(&self.limits)
    }

    /// The counters of the store that gateways share sessions in.
    #[must_use]
    pub fn sessions_store(&self) -> StoreCounters {
        StoreCounters::of(&self.shared_sessions)
    }

    /// The counters of a kind of telemetry.
    #[must_use]
    pub fn telemetry(&self, signal: &str) -> TelemetryCounters {
        TelemetryCounters {
            sent: self.telemetry.sent.with_label_values(&[signal]),
            dropped: self.telemetry.dropped.with_label_values(&[signal]),
            failures: self.telemetry.failures.with_label_values(&[signal]),
        }
    }

    /// Everything as it is now.
    #[must_use]
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// A metric does not encode: a fault of ours.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}

/// How many outcomes there are.
const OUTCOMES: usize = 4;
/// The classes of a status.
const STATUS_CLASSES: [&str; 7] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx", "other"];

const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Permit => "permit",
        Outcome::Deny => "deny",
        Outcome::Error => "error",
        Outcome::None => "none",
    }
}

/// Which of [`STATUS_CLASSES`] a status is in.
const fn status_class(status: u16) -> usize {
    match status {
        0 => 0,
        100..200 => 1,
        200..300 => 2,
        300..400 => 3,
        400..500 => 4,
        500..600 => 5,
        _ => 6,
    }
}

fn name_of(class: usize) -> &'static str {
    STATUS_CLASSES.get(class).copied().unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use engine::audit::{AnswerFacts, EventKind};
    use uuid::Uuid;

    use super::*;

    fn event(outcome: Outcome, status: u16, refusal: Option<&'static str>, end: End) -> AuditEvent {
        let mut event = AuditEvent::empty(EventKind::Request, String::new(), Uuid::nil());
        event.decision.outcome = outcome;
        event.decision.refusal = refusal;
        event.answer = AnswerFacts { status, bytes_in: 10, bytes_out: 20, total_us: 1_500, end };
        event
    }

    #[test]
    fn policies_past_a_bound_share_one_series() {
        use engine::refusal::Deciding;
        let metrics = Metrics::new().unwrap();
        let mut event = event(Outcome::Deny, 403, Some("denied"), End::Complete);
        for number in 0..=POLICIES_MAX + 1 {
            event.decision.deciding = vec![Deciding { id: format!("p{number}").into(), reason: "".into() }];
            metrics.request(&event);
            metrics.request(&event);
        }
        let text = metrics.text().unwrap();
        let series: Vec<&str> =
            text.lines().filter(|line| line.starts_with("cedargate_policy_decisions_total{")).collect();
        assert_eq!(series.len(), POLICIES_MAX + 1);
        assert!(series.contains(&"cedargate_policy_decisions_total{outcome=\"deny\",policy=\"other\"} 4"));
        assert!(series.contains(&"cedargate_policy_decisions_total{outcome=\"deny\",policy=\"p7\"} 2"));
    }

    #[test]
    fn what_is_counted_is_told() {
        let metrics = Metrics::new().unwrap();
        let first = metrics.request_begins();
        drop(metrics.request_begins());
        metrics.request(&event(Outcome::Permit, 200, None, End::Complete));
        metrics.request(&event(Outcome::None, 0, Some("unrouted"), End::Panic));
        metrics.login_ended(Login::Held);
        metrics.upstream_up("botserver", true);
        metrics.bundle_reloaded(false);
        let text = metrics.text().unwrap();
        for line in [
            "cedargate_in_flight_requests 1",
            "cedargate_requests_total{outcome=\"permit\",status_class=\"2xx\"} 1",
            "cedargate_requests_total{outcome=\"none\",status_class=\"none\"} 1",
            "cedargate_refusals_total{code=\"unrouted\"} 1",
            "cedargate_upload_bytes_total 20",
            "cedargate_download_bytes_total 40",
            "cedargate_panics_total 1",
            "cedargate_protocol_errors_total 0",
            "cedargate_logins_total{result=\"held\"} 1",
            "cedargate_upstream_up{upstream=\"botserver\"} 1",
            "cedargate_bundle_reloads_total{result=\"refused\"} 1",
            "cedargate_request_duration_seconds_bucket{le=\"0.0025\"} 2",
            "cedargate_empty_connections_total 0",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} in {text}");
        }
        drop(first);
        assert!(metrics.text().unwrap().contains("cedargate_in_flight_requests 0"));
    }
}
