//! An audit event as a log record. Everything that the file's line holds is in it.

use std::collections::BTreeSet;

use engine::audit::{AuditEvent, ClosedBy, DecisionFacts, End, EventKind, MEMBERSHIPS_MAX, Outcome};
use engine::identity::{Principal, PrincipalKind, Scheme};
use engine::route::COST_DEFAULT;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use prost::Message;

use super::Event;
use super::attributes::{Origin, SCHEMA, map, now_ns, string, text, texts, time_ns};
use super::delivery::Export;
use super::wire::{self, Attributes, RecordBytes};

/// Bytes of one export: collectors take 4 MiB and more. A record is bounded far below it.
const EXPORT_BYTES_MAX: usize = 3 * 1024 * 1024;

/// What a record usually takes.
const RECORD_BYTES: usize = 2 * 1024;

/// What stands for the value of a parameter that the schema declares `@sensitive`.
const WITHHELD: &str = "(sensitive)";

/// Methods that the conventions know; others are `_OTHER`, so that nobody outside makes up values.
const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// Events as exports: one, unless they are uncommonly large. Each record is encoded as soon as it is made.
pub(super) fn encode(events: Vec<Event>, origin: &Origin) -> Vec<Export> {
    let observed = now_ns();
    let mut exports = Vec::with_capacity(1);
    let (mut records, mut items) = (Vec::with_capacity(events.len().saturating_mul(RECORD_BYTES)), 0_u64);
    let mut record = RecordBytes::default();
    for event in events {
        if records.len() > EXPORT_BYTES_MAX {
            exports.push(export(&records, items, origin));
            records.clear();
            items = 0;
        }
        write(*event, observed, &mut record);
        record.end(&mut records);
        items = items.saturating_add(1);
    }
    if items > 0 {
        exports.push(export(&records, items, origin));
    }
    exports
}

/// One export of records that are encoded already.
fn export(records: &[u8], items: u64, origin: &Origin) -> Export {
    let scope = ScopeLogs {
        scope: Some(origin.scope.clone()),
        log_records: Vec::new(),
        schema_url: SCHEMA.to_owned(),
    };
    let resource = ResourceLogs {
        resource: Some(origin.resource.clone()),
        scope_logs: Vec::new(),
        schema_url: SCHEMA.to_owned(),
    };
    let body = wire::request(&resource.encode_to_vec(), &scope.encode_to_vec(), records);
    Export { body: body.into(), items }
}

fn write(event: AuditEvent, observed_time_unix_nano: u64, record: &mut RecordBytes) {
    let severity = severity(&event);
    let trace = event.trace;
    record.begin(&LogRecord {
        time_unix_nano: time_ns(&event.time),
        observed_time_unix_nano,
        severity_number: severity.into(),
        severity_text: severity.as_str_name().trim_start_matches("SEVERITY_NUMBER_").to_owned(),
        body: Some(string(sentence(&event))),
        event_name: name(event.kind).to_owned(),
        flags: u32::from(trace.sampled),
        trace_id: if trace.trace_id.is_none() { Vec::new() } else { trace.trace_id.0.to_vec() },
        span_id: if trace.span_id.is_none() { Vec::new() } else { trace.span_id.0.to_vec() },
        ..LogRecord::default()
    });
    attributes(event, record);
}

const fn name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Request => "cedargate.request",
        EventKind::Control => "cedargate.control",
        EventKind::Opening => "cedargate.opening",
        EventKind::Summary => "cedargate.summary",
        EventKind::Security => "cedargate.security",
    }
}

/// ERROR where something of ours or behind us is broken, WARN where somebody was refused or cut.
fn severity(event: &AuditEvent) -> SeverityNumber {
    let broken = event.decision.outcome == Outcome::Error
        || event.answer.status >= 500
        || matches!(event.answer.end, End::Panic | End::UpstreamDied);
    let refused = event.decision.refusal.is_some() || event.answer.end != End::Complete;
    match event.kind {
        _ if broken => SeverityNumber::Error,
        EventKind::Security | EventKind::Summary => SeverityNumber::Warn,
        EventKind::Request | EventKind::Control | EventKind::Opening if refused => SeverityNumber::Warn,
        EventKind::Request | EventKind::Control | EventKind::Opening => SeverityNumber::Info,
    }
}

/// What happened, for eyes.
fn sentence(event: &AuditEvent) -> String {
    let told = event.decision.refusal.or(match event.decision.outcome {
        Outcome::Permit => Some("permit"),
        Outcome::Deny => Some("deny"),
        Outcome::Error => Some("error"),
        Outcome::None => None,
    });
    let what = event.request.as_ref().map(|asked| format!("{} {}", asked.method, asked.path));
    match (what, &event.decision.detail) {
        (Some(what), _) => format!("{what}: {}, {}", told.unwrap_or("none"), event.answer.status),
        (None, Some(detail)) => detail.clone(),
        (None, None) => event.notes.first().cloned().unwrap_or_else(|| told.unwrap_or("none").to_owned()),
    }
}

/// The attributes of an event: the conventions' names where they have one, ours where not.
fn attributes(event: AuditEvent, to: &mut RecordBytes) {
    to.text("cedargate.request_id", &event.request_id.to_string());
    common(&event, to);
    if let Some(asked) = event.request {
        to.text("server.address", &asked.host);
        to.text("url.path", &asked.path);
        if !asked.query_names.is_empty() {
            to.any(texts("cedargate.query_names", asked.query_names));
        }
    }
    if let Some(peer) = event.client.peer {
        to.text("network.peer.address", &peer.to_string());
    }
    if let Some(agent) = &event.client.user_agent {
        to.text("user_agent.original", agent);
    }
    event.principal.iter().for_each(|principal| self::principal(principal, to));
    if let Some(route) = event.route {
        to.text("cedargate.route.name", route.names.name());
        to.text("cedargate.route.action", route.names.action());
        to.text("cedargate.route.resource", route.names.resource());
        to.text("cedargate.route.class", &route.class);
        if route.cost != COST_DEFAULT {
            to.number("cedargate.route.cost", route.cost.into());
        }
        if !route.parameters.is_empty() {
            // One that is withheld is named all the same.
            let parameters = route.parameters.into_iter();
            let parameters = parameters
                .map(|(name, value)| text(&name, value.unwrap_or_else(|| WITHHELD.to_owned())))
                .collect();
            to.any(map("cedargate.route.parameters", parameters));
        }
    }
    decision(event.decision, to);
    to.number("http.request.body.size", event.answer.bytes_in);
    to.number("http.response.body.size", event.answer.bytes_out);
    to.number("cedargate.total_us", event.answer.total_us);
    if let Some(socket) = event.socket {
        to.number("cedargate.socket.messages_in", socket.messages_in);
        to.number("cedargate.socket.messages_out", socket.messages_out);
        to.text("cedargate.socket.closed_by", closed_by(socket.closed_by));
        if let Some(code) = socket.close_code {
            to.number("cedargate.socket.close_code", code.into());
        }
    }
    for (stage, spent) in &event.stages_us {
        to.number_below("cedargate.stages_us.", stage, *spent);
    }
    if !event.notes.is_empty() {
        to.any(texts("cedargate.notes", event.notes));
    }
}

fn principal(principal: &Principal, to: &mut RecordBytes) {
    to.text("user.id", &principal.id.to_string());
    to.text("user.name", &principal.name);
    let names = |names: &BTreeSet<String>| names.iter().take(MEMBERSHIPS_MAX).cloned().collect::<Vec<_>>();
    for (name, held) in [
        ("user.roles", &principal.roles),
        ("cedargate.principal.groups", &principal.groups),
        ("cedargate.principal.scopes", &principal.scopes),
    ] {
        if !held.is_empty() {
            to.any(texts(name, names(held)));
        }
    }
    to.text("cedargate.principal.kind", kind(principal.kind));
    to.text("cedargate.principal.scheme", scheme(principal.scheme));
    to.number("cedargate.principal.assurance", principal.assurance.into());
    if let Some(credential) = principal.credential_id {
        to.text("cedargate.principal.credential_id", &credential.to_string());
    }
}

/// What logs and spans both say.
pub(super) fn common(event: &AuditEvent, to: &mut impl Attributes) {
    if let Some(asked) = &event.request {
        let known = METHODS.contains(&asked.method.as_str());
        to.text("http.request.method", if known { asked.method.as_str() } else { "_OTHER" });
        if !known {
            to.text("http.request.method_original", &asked.method);
        }
    }
    if let Some((_, pattern)) = event.route.as_ref().and_then(|route| route.names.name().split_once(' ')) {
        to.text("http.route", pattern);
    }
    if let Some(address) = event.client.address {
        to.text("client.address", &address.to_string());
    }
    if event.answer.status != 0 {
        to.number("http.response.status_code", event.answer.status.into());
    }
    let complete = event.answer.end == End::Complete;
    let end = if complete { "complete".into() } else { word(&event.answer.end) };
    // The class of what went wrong: the refusal where there is one, otherwise how it ended.
    match event.decision.refusal {
        Some(refusal) => to.text("error.type", refusal),
        None if !complete => to.text("error.type", &end),
        None => {}
    }
    to.text("cedargate.end", &end);
    to.text("cedargate.decision.outcome", outcome(event.decision.outcome));
    if let Some(upstream) = &event.upstream {
        to.text("cedargate.upstream", upstream);
    }
}

fn decision(decision: DecisionFacts, to: &mut RecordBytes) {
    if !decision.deciding.is_empty() {
        let ids = decision.deciding.iter().map(|deciding| deciding.id.to_string());
        to.any(texts("cedargate.decision.policies", ids));
        let reasons = decision.deciding.iter().map(|deciding| deciding.reason.to_string());
        to.any(texts("cedargate.decision.reasons", reasons));
    }
    if !decision.erring.is_empty() {
        to.any(texts("cedargate.decision.erring", decision.erring));
    }
    if !decision.bundle.is_empty() {
        to.text("cedargate.decision.bundle", &decision.bundle);
    }
    if !decision.read.is_empty() {
        // As the record has it: names with dots in them, values of several types.
        to.text("cedargate.decision.read", decision.read.as_str());
    }
    if let Some(refusal) = decision.refusal {
        to.text("cedargate.decision.refusal", refusal);
    }
    if let Some(detail) = &decision.detail {
        to.text("cedargate.decision.detail", detail);
    }
}

const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Permit => "permit",
        Outcome::Deny => "deny",
        Outcome::Error => "error",
        Outcome::None => "none",
    }
}

const fn closed_by(side: ClosedBy) -> &'static str {
    match side {
        ClosedBy::Client => "client",
        ClosedBy::Upstream => "upstream",
        ClosedBy::Gateway => "gateway",
    }
}

const fn kind(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::User => "user",
        PrincipalKind::Service => "service",
        PrincipalKind::Operator => "operator",
    }
}

const fn scheme(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Session => "session",
        Scheme::ApiKey => "api_key",
        Scheme::AccessToken => "access_token",
        Scheme::ControlSocket => "control_socket",
    }
}

/// A value as the file spells it.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(_) | Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use engine::audit::{AskedFacts, SocketFacts};
    use engine::trace::Trace;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use uuid::Uuid;

    use super::*;

    fn event(number: u128, path: &str) -> Event {
        let time = "2026-11-25T02:50:48.630Z".to_owned();
        let mut event = AuditEvent::empty(EventKind::Request, time, Uuid::from_u128(number));
        event.trace = Trace::begin([7; 24]);
        let method = if number == 1 { "GET" } else { "BREW" };
        let (host, path) = ("app.example".to_owned(), path.to_owned());
        event.request = Some(AskedFacts { method: method.to_owned(), host, path, query_names: Vec::new() });
        Box::new(event)
    }

    /// The records of some exports, each read by the types that collectors read with.
    fn read(exports: &[Export]) -> Vec<Vec<LogRecord>> {
        let records = exports.iter().map(|export| {
            let request = ExportLogsServiceRequest::decode(export.body.clone()).unwrap();
            assert_eq!(request.resource_logs.len(), 1);
            let logs = &request.resource_logs[0];
            assert_eq!((logs.schema_url.as_str(), logs.scope_logs.len()), (SCHEMA, 1));
            assert_eq!(logs.resource.as_ref().unwrap().attributes.len(), 3);
            assert_eq!(logs.scope_logs[0].scope.as_ref().unwrap().name, "cedargate");
            assert_eq!(export.items, logs.scope_logs[0].log_records.len() as u64);
            logs.scope_logs[0].log_records.clone()
        });
        records.collect()
    }

    #[test]
    fn a_batch_is_one_export_in_order_unless_it_is_too_large() {
        let origin = Origin::new(&[("service.name".to_owned(), "edge".to_owned())]);
        assert!(encode(Vec::new(), &origin).is_empty());
        let exports = read(&encode(vec![event(1, "/a"), event(2, "/b")], &origin));
        assert_eq!(exports.len(), 1);
        assert_eq!(
            exports[0].iter().map(|record| record.body.clone()).collect::<Vec<_>>(),
            [Some(string("GET /a: none, 0")), Some(string("BREW /b: none, 0")),]
        );
        assert_eq!(exports[0][0].time_unix_nano, 1_795_575_048_630_000_000);
        assert!(exports[0][1].attributes.contains(&text("http.request.method", "_OTHER")));
        assert!(exports[0][1].attributes.contains(&text("http.request.method_original", "BREW")));
        let large = "x".repeat(EXPORT_BYTES_MAX / 4);
        let exports = read(&encode((0..10).map(|number| event(number, &large)).collect(), &origin));
        assert!(exports.len() > 1);
        assert_eq!(exports.concat().len(), 10);
    }

    #[test]
    fn a_socket_says_what_passed_and_who_ended_it() {
        let origin = Origin::new(&[("service.name".to_owned(), "edge".to_owned())]);
        let mut socket = event(1, "/ws");
        let (messages_in, messages_out) = (3, 4);
        let facts =
            SocketFacts { messages_in, messages_out, close_code: Some(4401), closed_by: ClosedBy::Gateway };
        socket.socket = Some(facts);
        let records = read(&encode(vec![socket, event(2, "/a")], &origin)).concat();
        let told = |record: &LogRecord| -> Vec<_> {
            let attributes = record.attributes.iter();
            attributes.filter(|it| it.key.starts_with("cedargate.socket.")).cloned().collect()
        };
        let number = |name: &str, value| super::super::attributes::number(name, value);
        assert_eq!(
            told(&records[0]),
            [
                number("cedargate.socket.messages_in", 3),
                number("cedargate.socket.messages_out", 4),
                text("cedargate.socket.closed_by", "gateway"),
                number("cedargate.socket.close_code", 4401),
            ]
        );
        assert_eq!(told(&records[1]), []);
    }

    #[test]
    fn what_is_broken_is_an_error_and_who_is_refused_a_warning() {
        let check = |kind, status, refusal, end, expected: SeverityNumber| {
            let mut event = event(1, "/a");
            event.kind = kind;
            event.decision.refusal = refusal;
            (event.answer.status, event.answer.end) = (status, end);
            assert_eq!(severity(&event), expected, "{kind:?} {status} {refusal:?} {end:?}");
        };
        check(EventKind::Request, 200, None, End::Complete, SeverityNumber::Info);
        check(EventKind::Request, 403, Some("denied"), End::Complete, SeverityNumber::Warn);
        check(EventKind::Request, 200, None, End::ClientGone, SeverityNumber::Warn);
        check(EventKind::Request, 502, Some("upstream_broken"), End::Complete, SeverityNumber::Error);
        check(EventKind::Request, 200, None, End::UpstreamDied, SeverityNumber::Error);
        check(EventKind::Summary, 0, None, End::Complete, SeverityNumber::Warn);
        check(EventKind::Opening, 0, None, End::Complete, SeverityNumber::Info);
    }
}
