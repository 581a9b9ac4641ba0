//! The records that the log itself writes.

use engine::audit::{AuditEvent, EventKind};
use engine::time::UnixMillis;
use uuid::{NoContext, Timestamp, Uuid};

use super::early::Counts;

/// Early refusals past their share.
pub(super) fn summary(counts: &Counts) -> AuditEvent {
    let total: u64 = counts.by_code.values().sum();
    let notes = counts.by_code.iter().map(|(code, count)| format!("{code}: {count}")).collect();
    let time = rfc3339(counts.at);
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
    own(EventKind::Security, rfc3339(now), now, detail, Vec::new())
}

/// The live file is no longer where it was. `time` is that of the record which found it out.
pub(super) fn moved(time: &str) -> AuditEvent {
    let detail =
        "the live file was moved away or removed; what was written before is in the old one".to_owned();
    own(EventKind::Security, time.to_owned(), millis(time), detail, Vec::new())
}

fn own(kind: EventKind, time: String, at: UnixMillis, detail: String, notes: Vec<String>) -> AuditEvent {
    let mut event = AuditEvent::empty(kind, time, uuid_v7(at));
    event.decision.detail = Some(detail);
    event.notes = notes;
    event
}

fn uuid_v7(at: UnixMillis) -> Uuid {
    let nanos = u32::try_from(at.0 % 1000 * 1_000_000).unwrap_or_default();
    Uuid::new_v7(Timestamp::from_unix(NoContext, at.0 / 1000, nanos))
}

/// RFC 3339 in UTC with milliseconds, as all records have it.
#[must_use]
pub fn rfc3339(at: UnixMillis) -> String {
    let at = i64::try_from(at.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", at.unwrap_or(jiff::Timestamp::MAX))
}

fn millis(time: &str) -> UnixMillis {
    let at = time.parse::<jiff::Timestamp>().unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    UnixMillis(u64::try_from(at.as_millisecond()).unwrap_or_default())
}
