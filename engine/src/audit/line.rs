//! An event as its line of JSON.
//!
//! The same text as `serde_json` makes of it, which the tests hold it against. Every request has a line, and most of
//! what writing one cost was looking at each byte for something to escape.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use uuid::Uuid;

use super::{
    AnswerFacts, AskedFacts, AuditEvent, ClientFacts, ClosedBy, DecisionFacts, End, EventKind,
    MEMBERSHIPS_MAX, Outcome, RouteFacts, SocketFacts,
};
use crate::bytes;
use crate::identity::{Principal, PrincipalKind, Scheme};
use crate::route::COST_DEFAULT;
use crate::spelt;

impl AuditEvent {
    /// Appends the event as one line of JSON, without a line end.
    pub fn write_line(&self, line: &mut String) {
        // Taken apart, so that a field that is added is written too.
        let Self {
            time,
            kind,
            request_id,
            trace,
            client,
            principal,
            request,
            route,
            decision,
            answer,
            socket,
            upstream,
            stages_us,
            notes,
        } = self;
        text(line, "{\"time\":\"", time);
        plain(line, ",\"kind\":\"", self::kind(*kind));
        uuid(line, ",\"request_id\":\"", *request_id);
        trace.trace_id.with_text(|id| plain(line, ",\"trace_id\":\"", id));
        if !trace.span_id.is_none() {
            trace.span_id.with_text(|id| plain(line, ",\"span_id\":\"", id));
        }
        self::client(line, client);
        principal.iter().for_each(|principal| self::principal(line, principal));
        request.iter().for_each(|request| asked(line, request));
        route.iter().for_each(|route| self::route(line, route));
        self::decision(line, decision);
        self::answer(line, answer);
        socket.iter().for_each(|socket| self::socket(line, socket));
        optional(line, ",\"upstream\":\"", upstream.as_deref());
        stages(line, stages_us);
        if !notes.is_empty() {
            texts(line, ",\"notes\":[", notes);
        }
        line.push('}');
    }
}

fn client(line: &mut String, client: &ClientFacts) {
    let ClientFacts { address, peer, user_agent } = client;
    line.push_str(",\"client\":{");
    let begin = line.len();
    address.iter().for_each(|address| self::address(line, ",\"address\":\"", *address));
    peer.iter().for_each(|address| self::address(line, ",\"peer\":\"", *address));
    optional(line, ",\"user_agent\":\"", user_agent.as_deref());
    // Each is there or not, so the first of them has brought a comma too many.
    if line.len() > begin {
        line.remove(begin);
    }
    line.push('}');
}

fn principal(line: &mut String, principal: &Principal) {
    // `expires_at` decides nothing: who has expired is not identified.
    let Principal { kind, id, name, roles, groups, scopes, scheme, assurance, .. } = principal;
    let Principal { authenticated_at, credential_id, expires_at: _, suspended, .. } = principal;
    let kind = match kind {
        PrincipalKind::User => "user",
        PrincipalKind::Service => "service",
        PrincipalKind::Operator => "operator",
    };
    let scheme = match scheme {
        Scheme::Session => "session",
        Scheme::ApiKey => "api_key",
        Scheme::AccessToken => "access_token",
        Scheme::ControlSocket => "control_socket",
    };
    plain(line, ",\"principal\":{\"kind\":\"", kind);
    uuid(line, ",\"id\":\"", *id);
    text(line, ",\"name\":\"", name);
    plain(line, ",\"scheme\":\"", scheme);
    number(line, ",\"assurance\":", (*assurance).into());
    credential_id.iter().for_each(|id| uuid(line, ",\"credential_id\":\"", *id));
    number(line, ",\"authenticated_at\":", authenticated_at.0);
    memberships(line, ",\"roles\":[", roles);
    if !groups.is_empty() {
        memberships(line, ",\"groups\":[", groups);
    }
    if !scopes.is_empty() {
        memberships(line, ",\"scopes\":[", scopes);
    }
    if [roles, groups, scopes].iter().any(|names| names.len() > MEMBERSHIPS_MAX) {
        line.push_str(",\"cut\":true");
    }
    if *suspended {
        line.push_str(",\"suspended\":true");
    }
    line.push('}');
}

fn memberships(line: &mut String, before: &str, names: &BTreeSet<String>) {
    line.push_str(before);
    for (at, name) in names.iter().take(MEMBERSHIPS_MAX).enumerate() {
        text(line, if at == 0 { "\"" } else { ",\"" }, name);
    }
    line.push(']');
}

fn asked(line: &mut String, asked: &AskedFacts) {
    let AskedFacts { method, host, path, query_names } = asked;
    text(line, ",\"request\":{\"method\":\"", method);
    text(line, ",\"host\":\"", host);
    text(line, ",\"path\":\"", path);
    texts(line, ",\"query_names\":[", query_names);
    line.push('}');
}

fn route(line: &mut String, route: &RouteFacts) {
    let RouteFacts { names, parameters, class, cost } = route;
    line.push_str(",\"route\":{");
    line.push_str(names.json());
    line.push_str(",\"parameters\":[");
    for (at, (name, value)) in parameters.iter().enumerate() {
        text(line, if at == 0 { "[\"" } else { ",[\"" }, name);
        match value {
            Some(value) => text(line, ",\"", value),
            None => line.push_str(",null"),
        }
        line.push(']');
    }
    text(line, "],\"class\":\"", class);
    if *cost != COST_DEFAULT {
        number(line, ",\"cost\":", (*cost).into());
    }
    line.push('}');
}

fn decision(line: &mut String, decision: &DecisionFacts) {
    let DecisionFacts { outcome, deciding, classes, erring, bundle, read, refusal, detail } = decision;
    let outcome = match outcome {
        Outcome::Permit => "permit",
        Outcome::Deny => "deny",
        Outcome::Error => "error",
        Outcome::None => "none",
    };
    plain(line, ",\"decision\":{\"outcome\":\"", outcome);
    line.push_str(",\"deciding\":[");
    for (at, policy) in deciding.iter().enumerate() {
        text(line, if at == 0 { "{\"id\":\"" } else { ",{\"id\":\"" }, &policy.id);
        text(line, ",\"reason\":\"", &policy.reason);
        line.push('}');
    }
    line.push(']');
    if !classes.is_empty() {
        texts(line, ",\"classes\":[", classes);
    }
    if !erring.is_empty() {
        texts(line, ",\"erring\":[", erring);
    }
    text(line, ",\"bundle\":\"", bundle);
    if !read.is_empty() {
        line.push_str(",\"read\":");
        line.push_str(read.as_str());
    }
    optional(line, ",\"refusal\":\"", *refusal);
    optional(line, ",\"detail\":\"", detail.as_deref());
    line.push('}');
}

fn answer(line: &mut String, answer: &AnswerFacts) {
    let AnswerFacts { status, bytes_in, bytes_out, total_us, end } = answer;
    number(line, ",\"answer\":{\"status\":", (*status).into());
    number(line, ",\"bytes_in\":", *bytes_in);
    number(line, ",\"bytes_out\":", *bytes_out);
    number(line, ",\"total_us\":", *total_us);
    let end = match end {
        End::Complete => "complete",
        End::ClientGone => "client_gone",
        End::UpstreamDied => "upstream_died",
        End::Deadline => "deadline",
        End::Revoked => "revoked",
        End::Panic => "panic",
        End::Protocol => "protocol",
        End::Unserved => "unserved",
    };
    plain(line, ",\"end\":\"", end);
    line.push('}');
}

fn socket(line: &mut String, socket: &SocketFacts) {
    let SocketFacts { messages_in, messages_out, close_code, closed_by } = socket;
    number(line, ",\"socket\":{\"messages_in\":", *messages_in);
    number(line, ",\"messages_out\":", *messages_out);
    close_code.iter().for_each(|code| number(line, ",\"close_code\":", (*code).into()));
    let closed_by = match closed_by {
        ClosedBy::Client => "client",
        ClosedBy::Upstream => "upstream",
        ClosedBy::Gateway => "gateway",
    };
    plain(line, ",\"closed_by\":\"", closed_by);
    line.push('}');
}

fn stages(line: &mut String, stages: &[(&'static str, u64)]) {
    line.push_str(",\"stages_us\":[");
    for (at, (name, spent)) in stages.iter().enumerate() {
        plain(line, if at == 0 { "[\"" } else { ",[\"" }, name);
        number(line, ",", *spent);
        line.push(']');
    }
    line.push(']');
}

const fn kind(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Request => "request",
        EventKind::Control => "control",
        EventKind::Opening => "opening",
        EventKind::Summary => "summary",
        EventKind::Security => "security",
    }
}

/// A word of ours, in which there is nothing to escape.
fn plain(line: &mut String, before: &str, word: &str) {
    line.push_str(before);
    line.push_str(word);
    line.push('"');
}

fn uuid(line: &mut String, before: &str, id: Uuid) {
    plain(line, before, id.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
}

fn address(line: &mut String, before: &str, address: IpAddr) {
    line.push_str(before);
    spelt::address(line, address);
    line.push('"');
}

fn number(line: &mut String, before: &str, value: u64) {
    line.push_str(before);
    spelt::number(line, value);
}

fn optional(line: &mut String, before: &str, value: Option<&str>) {
    if let Some(value) = value {
        text(line, before, value);
    }
}

fn texts(line: &mut String, before: &str, values: &[String]) {
    line.push_str(before);
    for (at, value) in values.iter().enumerate() {
        text(line, if at == 0 { "\"" } else { ",\"" }, value);
    }
    line.push(']');
}

pub(super) fn text(line: &mut String, before: &str, value: &str) {
    line.push_str(before);
    escape(line, value);
    line.push('"');
}

/// A text without its quotes.
pub(super) fn escape(line: &mut String, value: &str) {
    // There is next to never anything to escape.
    if bytes::are_json(value.as_bytes()) {
        return line.push_str(value);
    }
    // A resource has two quotes, `Module::"docs"`: what stands between goes over in one piece.
    let mut rest = value;
    while let Some((plain, special)) =
        rest.bytes().position(bytes::is_escaped_in_json).and_then(|at| rest.split_at_checked(at))
    {
        line.push_str(plain);
        let mut characters = special.chars();
        characters.next().iter().for_each(|character| escaped(line, *character));
        rest = characters.as_str();
    }
    line.push_str(rest);
}

fn escaped(line: &mut String, character: char) {
    let short = match character {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\u{8}' => "\\b",
        '\t' => "\\t",
        '\n' => "\\n",
        '\u{c}' => "\\f",
        '\r' => "\\r",
        '\0'..'\u{20}' => {
            write!(line, "\\u{:04x}", u32::from(character)).ok();
            return;
        }
        plain => return line.push(plain),
    };
    line.push_str(short);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::RouteNames;
    use super::super::read::{Read, Reading};
    use super::*;
    use crate::refusal::Deciding;
    use crate::time::UnixMillis;
    use crate::trace::{SpanId, Trace, TraceId};

    fn any_text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z0-9 ./:-]{0,20}", "(?s).{0,20}", "[\\x00-\\x1f\"\\\\é]{0,6}"]
    }

    fn any_time() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), Just(9), Just(10), Just(u64::MAX), any::<u64>(), 0_u64..2_000]
    }

    fn read(one: &str, other: &str) -> Read {
        let mut reading = Reading::begin();
        reading.text("parameters", Some(one), other);
        reading.redacted("tls", None);
        reading.end()
    }

    fn some<T: Clone>(value: &T, wanted: bool) -> Option<T> {
        wanted.then(|| value.clone())
    }

    proptest! {
        /// Every field in every combination of present and absent, with texts that have to be escaped.
        #[test]
        fn a_line_is_what_serde_json_makes_of_the_event(
            texts in proptest::collection::vec(any_text(), 8..9),
            numbers in proptest::collection::vec(any_time(), 6..7),
            (there, which) in any::<(u16, u8)>(),
            (id, trace, span) in any::<(u128, [u8; 16], [u8; 8])>(),
            address in any::<IpAddr>(),
        ) {
            let has = |bit: u16| there & (1 << bit) != 0;
            let text = |at: usize| texts[at % texts.len()].clone();
            let shared = |at: usize| -> Arc<str> { text(at).into() };
            let kinds = [EventKind::Request, EventKind::Control, EventKind::Opening, EventKind::Summary, EventKind::Security];
            let mut event = AuditEvent::empty(kinds[usize::from(which) % 5], text(0), Uuid::from_u128(id));
            event.trace = Trace { trace_id: TraceId(trace), span_id: SpanId(if has(0) { span } else { [0; 8] }), ..Trace::default() };
            event.client = ClientFacts { address: some(&address, has(1)), peer: some(&address, has(2)), user_agent: some(&text(1), has(3)) };
            let several = || texts.iter().take(usize::from(which) % 4).cloned().collect::<Vec<_>>();
            let names = |many: bool| if many { (0..100).map(|name| format!("n{name:02}")).collect() } else { several().into_iter().collect() };
            event.principal = has(4).then(|| Arc::new(Principal {
                kind: [PrincipalKind::User, PrincipalKind::Service, PrincipalKind::Operator][usize::from(which) % 3],
                id: Uuid::from_u128(id),
                name: text(2),
                roles: names(has(6)),
                groups: names(has(7)),
                scopes: names(has(8)),
                scheme: [Scheme::Session, Scheme::ApiKey, Scheme::ControlSocket, Scheme::AccessToken]
                    [usize::from(which) % 4],
                assurance: which,
                authenticated_at: UnixMillis(numbers[5]),
                credential_id: has(5).then_some(Uuid::from_u128(!id)),
                expires_at: has(9).then_some(UnixMillis(numbers[4])),
                suspended: has(10),
            }));
            event.request = has(6).then(|| AskedFacts { method: text(3), host: text(4), path: text(5), query_names: several() });
            event.route = has(7).then(|| RouteFacts {
                names: Arc::new(RouteNames::new(shared(6), shared(7), shared(0))),
                parameters: several().into_iter().map(|value| (shared(1).as_ref().into(), some(&value, has(15)))).collect(),
                class: shared(2),
                cost: u32::from(which) % 3,
            });
            event.decision = DecisionFacts {
                outcome: [Outcome::Permit, Outcome::Deny, Outcome::Error, Outcome::None][usize::from(which) % 4],
                deciding: several().into_iter().map(|id| Deciding { id: id.into(), reason: shared(3) }).collect(),
                classes: if has(9) { several() } else { Vec::new() },
                erring: if has(8) { several() } else { Vec::new() },
                bundle: shared(4),
                read: if has(12) { read(&text(6), &text(7)) } else { Read::default() },
                refusal: has(9).then_some("unrouted"),
                detail: some(&text(5), has(10)),
            };
            let ends = [
                End::Complete, End::ClientGone, End::UpstreamDied, End::Deadline, End::Revoked, End::Panic, End::Protocol, End::Unserved,
            ];
            event.answer = AnswerFacts {
                status: u16::from(which) * 3,
                bytes_in: numbers[0],
                bytes_out: numbers[1],
                total_us: numbers[2],
                end: ends[usize::from(which) % 8],
            };
            event.socket = has(11).then(|| SocketFacts {
                messages_in: numbers[3],
                messages_out: numbers[4],
                close_code: has(12).then_some(1005),
                closed_by: [ClosedBy::Client, ClosedBy::Upstream, ClosedBy::Gateway][usize::from(which) % 3],
            });
            event.upstream = some(&shared(6), has(13));
            event.stages_us = ["receive", "route", "admit"].into_iter().take(usize::from(which) % 4).zip(numbers.clone()).collect();
            event.notes = if has(14) { several() } else { Vec::new() };
            let mut line = String::new();
            event.write_line(&mut line);
            prop_assert_eq!(line, serde_json::to_string(&event).unwrap());
        }
    }
}
