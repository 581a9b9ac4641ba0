//! A sampled request as spans: one of the server's, and one below it for each stage.

use engine::audit::{AuditEvent, End};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;

use super::Event;
use super::attributes::{Origin, SCHEMA, text, time_ns};
use super::delivery::Export;
use super::logs::common;

/// The requests' spans as one export; it is counted by requests.
pub(super) fn encode(events: Vec<Event>, origin: &Origin) -> Vec<Export> {
    if events.is_empty() {
        return Vec::new();
    }
    let items = events.len() as u64;
    let spans = events.iter().flat_map(|event| spans(event)).collect();
    let scope_spans = ScopeSpans { scope: Some(origin.scope.clone()), spans, schema_url: SCHEMA.to_owned() };
    let resource_spans = ResourceSpans {
        resource: Some(origin.resource.clone()),
        scope_spans: vec![scope_spans],
        schema_url: SCHEMA.to_owned(),
    };
    let request = ExportTraceServiceRequest { resource_spans: vec![resource_spans] };
    vec![Export { body: request.encode_to_vec().into(), items }]
}

fn spans(event: &AuditEvent) -> Vec<Span> {
    let begun = time_ns(&event.time);
    let after = |us: u64| begun.saturating_add(us.saturating_mul(1_000));
    let span = |name: String, kind: SpanKind, from_us: u64, to_us: u64| Span {
        trace_id: event.trace.trace_id.0.to_vec(),
        flags: 1,
        name,
        kind: kind.into(),
        start_time_unix_nano: after(from_us),
        end_time_unix_nano: after(to_us),
        ..Span::default()
    };
    let mut all = Vec::with_capacity(event.stages_us.len().saturating_add(1));
    let mut attributes = vec![text("cedargate.request_id", event.request_id.to_string())];
    common(event, &mut attributes);
    all.push(Span {
        span_id: event.trace.span_id.0.to_vec(),
        parent_span_id: event.trace.parent_id.map_or_else(Vec::new, |parent| parent.0.to_vec()),
        attributes,
        status: Some(status(event)),
        ..span(name(event), SpanKind::Server, 0, event.answer.total_us)
    });
    // What is known of a stage is how long it took in all. They are laid one after the other in the order in which
    // they were first entered.
    let mut from = 0_u64;
    for (stage, spent) in &event.stages_us {
        let to = from.saturating_add(*spent);
        all.push(Span {
            span_id: crate::random::bytes::<8>().to_vec(),
            parent_span_id: event.trace.span_id.0.to_vec(),
            ..span((*stage).to_owned(), SpanKind::Internal, from, to)
        });
        from = to;
    }
    all
}

/// Method and route, which are few; a path would be as many as clients please.
fn name(event: &AuditEvent) -> String {
    event.route.as_ref().map_or_else(|| "unrouted".to_owned(), |route| route.names.name().to_owned())
}

/// The server is at fault for 5xx and what it cut or broke, not for what it refuses.
fn status(event: &AuditEvent) -> Status {
    let cut = matches!(event.answer.end, End::Panic | End::UpstreamDied | End::Deadline);
    let broken = cut || event.answer.status >= 500;
    let code = if broken { StatusCode::Error } else { StatusCode::Unset };
    Status { code: code.into(), message: String::new() }
}
