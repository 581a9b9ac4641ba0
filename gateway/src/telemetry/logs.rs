//! An audit event as a log record. Everything that the file's line holds is in it.

use engine::audit::{AuditEvent, DecisionFacts, End, EventKind, Outcome};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use prost::Message;

use super::Event;
use super::attributes::{Origin, SCHEMA, map, now_ns, number, string, text, texts, time_ns};
use super::delivery::Export;

/// Bytes of one export: collectors take 4 MiB and more. A record is bounded far below it.
const EXPORT_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Methods that the conventions know; others are `_OTHER`, so that nobody outside makes up values.
const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// Events as exports: one, unless they are uncommonly large.
pub(super) fn encode(events: Vec<Event>, origin: &Origin) -> Vec<Export> {
    let observed = now_ns();
    let mut exports = Vec::with_capacity(1);
    let (mut records, mut bytes) = (Vec::with_capacity(events.len()), 0_usize);
    for event in events {
        let record = record(*event, observed);
        bytes = bytes.saturating_add(record.encoded_len());
        if bytes > EXPORT_BYTES_MAX && !records.is_empty() {
            bytes = record.encoded_len();
            exports.push(export(std::mem::take(&mut records), origin));
        }
        records.push(record);
    }
    if !records.is_empty() {
        exports.push(export(records, origin));
    }
    exports
}

fn export(log_records: Vec<LogRecord>, origin: &Origin) -> Export {
    let items = log_records.len() as u64;
    let scope_logs =
        ScopeLogs { scope: Some(origin.scope.clone()), log_records, schema_url: SCHEMA.to_owned() };
    let resource_logs = ResourceLogs {
        resource: Some(origin.resource.clone()),
        scope_logs: vec![scope_logs],
        schema_url: SCHEMA.to_owned(),
    };
    let request = ExportLogsServiceRequest { resource_logs: vec![resource_logs] };
    Export { body: request.encode_to_vec().into(), items }
}

fn record(event: AuditEvent, observed_time_unix_nano: u64) -> LogRecord {
    let severity = severity(&event);
    let trace = event.trace;
    LogRecord {
        time_unix_nano: time_ns(&event.time),
        observed_time_unix_nano,
        severity_number: severity.into(),
        severity_text: severity.as_str_name().trim_start_matches("SEVERITY_NUMBER_").to_owned(),
        body: Some(string(sentence(&event))),
        event_name: name(event.kind).to_owned(),
        flags: u32::from(trace.sampled),
        trace_id: if trace.trace_id.is_none() { Vec::new() } else { trace.trace_id.0.to_vec() },
        span_id: if trace.span_id.is_none() { Vec::new() } else { trace.span_id.0.to_vec() },
        attributes: attributes(event),
        dropped_attributes_count: 0,
    }
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
fn attributes(event: AuditEvent) -> Vec<KeyValue> {
    let mut all = Vec::with_capacity(36);
    all.push(text("cedargate.request_id", event.request_id.to_string()));
    common(&event, &mut all);
    if let Some(asked) = event.request {
        all.push(text("server.address", asked.host));
        all.push(text("url.path", asked.path));
        if !asked.query_names.is_empty() {
            all.push(texts("cedargate.query_names", asked.query_names));
        }
    }
    all.extend(event.client.peer.map(|peer| text("network.peer.address", peer.to_string())));
    all.extend(event.client.user_agent.map(|agent| text("user_agent.original", agent)));
    if let Some(principal) = event.principal {
        all.push(text("user.id", principal.id.to_string()));
        all.push(text("user.name", principal.name));
        all.push(text("cedargate.principal.kind", word(&principal.kind)));
        all.push(text("cedargate.principal.scheme", word(&principal.scheme)));
        all.push(number("cedargate.principal.assurance", principal.assurance.into()));
        let credential = principal.credential_id;
        all.extend(credential.map(|id| text("cedargate.principal.credential_id", id.to_string())));
    }
    if let Some(route) = event.route {
        all.push(text("cedargate.route.name", route.name));
        all.push(text("cedargate.route.action", route.action));
        all.push(text("cedargate.route.resource", route.resource));
        all.push(text("cedargate.route.class", route.class));
        if !route.parameters.is_empty() {
            let parameters = route.parameters.into_iter().map(|(name, value)| text(&name, value)).collect();
            all.push(map("cedargate.route.parameters", parameters));
        }
    }
    decision(event.decision, &mut all);
    all.push(number("http.request.body.size", event.answer.bytes_in));
    all.push(number("http.response.body.size", event.answer.bytes_out));
    all.push(number("cedargate.total_us", event.answer.total_us));
    let stages = event.stages_us.into_iter().map(|(stage, spent)| number(stage, spent)).collect();
    all.push(map("cedargate.stages_us", stages));
    if !event.notes.is_empty() {
        all.push(texts("cedargate.notes", event.notes));
    }
    all
}

/// What logs and spans both say.
pub(super) fn common(event: &AuditEvent, all: &mut Vec<KeyValue>) {
    if let Some(asked) = &event.request {
        let known = METHODS.contains(&asked.method.as_str());
        all.push(text("http.request.method", if known { asked.method.as_str() } else { "_OTHER" }));
        if !known {
            all.push(text("http.request.method_original", asked.method.as_str()));
        }
    }
    if let Some((_, pattern)) = event.route.as_ref().and_then(|route| route.name.split_once(' ')) {
        all.push(text("http.route", pattern));
    }
    all.extend(event.client.address.map(|address| text("client.address", address.to_string())));
    if event.answer.status != 0 {
        all.push(number("http.response.status_code", event.answer.status.into()));
    }
    let end = word(&event.answer.end);
    // The class of what went wrong: the refusal where there is one, otherwise how it ended.
    match event.decision.refusal {
        Some(refusal) => all.push(text("error.type", refusal)),
        None if event.answer.end != End::Complete => all.push(text("error.type", end.as_str())),
        None => {}
    }
    all.push(text("cedargate.end", end));
    all.push(text("cedargate.decision.outcome", word(&event.decision.outcome)));
    all.extend(event.upstream.as_deref().map(|upstream| text("cedargate.upstream", upstream)));
}

fn decision(decision: DecisionFacts, all: &mut Vec<KeyValue>) {
    if !decision.deciding.is_empty() {
        let ids = decision.deciding.iter().map(|deciding| deciding.id.to_string());
        all.push(texts("cedargate.decision.policies", ids));
        let reasons = decision.deciding.iter().map(|deciding| deciding.reason.to_string());
        all.push(texts("cedargate.decision.reasons", reasons));
    }
    if !decision.erring.is_empty() {
        all.push(texts("cedargate.decision.erring", decision.erring));
    }
    if !decision.bundle.is_empty() {
        all.push(text("cedargate.decision.bundle", decision.bundle));
    }
    all.extend(decision.refusal.map(|refusal| text("cedargate.decision.refusal", refusal)));
    all.extend(decision.detail.map(|detail| text("cedargate.decision.detail", detail)));
}

/// A value as the file spells it.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(_) | Err(_) => String::new(),
    }
}
