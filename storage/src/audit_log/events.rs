//! The records that the log itself writes.

use engine::audit::{AnswerFacts, AuditEvent, ClientFacts, DecisionFacts, End, EventKind, Outcome};
use engine::time::UnixMillis;
use uuid::{NoContext, Timestamp, Uuid};

use super::early::Counts;

/// Early refusals past their share.
pub(super) fn summary(counts: &Counts) -> AuditEvent {
    let total: u64 = counts.by_code.values().sum();
    let notes = counts.by_code.iter().map(|(code, count)| format!("{code}: {count}")).collect();
    let time = text(counts.at);
    own(
        EventKind::Summary,
        time,
        counts.at,
        format!("{total} early refusals without a record of their own"),
        notes,
    )
}

/// Records that found the queue full.
pub(super) fn lost(count: u64, time: String) -> AuditEvent {
    let at = millis(&time);
    own(EventKind::Security, time, at, format!("{count} audit records were lost"), Vec::new())
}

/// The last line of the file was incomplete when it was opened.
pub(super) fn mended(now: UnixMillis) -> AuditEvent {
    let detail = "the line before this one is incomplete: the program ended while it was written".to_owned();
    own(EventKind::Security, text(now), now, detail, Vec::new())
}

fn own(kind: EventKind, time: String, at: UnixMillis, detail: String, notes: Vec<String>) -> AuditEvent {
    AuditEvent {
        time,
        kind,
        request_id: uuid_v7(at),
        trace_id: "0".repeat(32),
        client: ClientFacts { address: None, peer: None, user_agent: None },
        principal: None,
        request: None,
        route: None,
        decision: DecisionFacts {
            outcome: Outcome::None,
            deciding: Vec::new(),
            erring: Vec::new(),
            bundle: String::new(),
            refusal: None,
            detail: Some(detail),
        },
        answer: AnswerFacts { status: 0, bytes_in: 0, bytes_out: 0, total_us: 0, end: End::Complete },
        upstream: None,
        stages_us: Vec::new(),
        notes,
    }
}

fn uuid_v7(at: UnixMillis) -> Uuid {
    let nanos = u32::try_from(at.0 % 1000 * 1_000_000).unwrap_or_default();
    Uuid::new_v7(Timestamp::from_unix(NoContext, at.0 / 1000, nanos))
}

/// RFC 3339 in UTC with milliseconds, as all records have it.
pub(super) fn text(at: UnixMillis) -> String {
    let at = i64::try_from(at.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", at.unwrap_or(jiff::Timestamp::MAX))
}

fn millis(time: &str) -> UnixMillis {
    let at = time.parse::<jiff::Timestamp>().unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    UnixMillis(u64::try_from(at.as_millisecond()).unwrap_or_default())
}
