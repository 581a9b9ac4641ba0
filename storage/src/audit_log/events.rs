//! The records that the log itself writes.

use std::cell::RefCell;

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
    thread_local! {
        static LAST: RefCell<(u64, String)> = RefCell::default();
    }
    // The times of a second differ in their milliseconds alone, and most of what a busy gateway spells are of one.
    LAST.with_borrow_mut(|(second, spelt)| {
        if *second != at.0 / 1000 || spelt.is_empty() {
            (*second, *spelt) = (at.0 / 1000, whole_second(at.0 / 1000));
        }
        let Some(before) = spelt.strip_suffix("000Z") else { return spelt.clone() };
        let mut text = String::with_capacity(spelt.len());
        text.push_str(before);
        let milliseconds = at.0 % 1000;
        text.extend([milliseconds / 100, milliseconds / 10 % 10, milliseconds % 10].map(digit));
        text.push('Z');
        text
    })
}

/// The beginning of a second; past what can be told, the last time that can.
fn whole_second(second: u64) -> String {
    let at = i64::try_from(second).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
    format!("{:.3}", at.unwrap_or(jiff::Timestamp::MAX))
}

fn digit(number: u64) -> char {
    u32::try_from(number).ok().and_then(|number| char::from_digit(number, 10)).unwrap_or('0')
}

fn millis(time: &str) -> UnixMillis {
    let at = time.parse::<jiff::Timestamp>().unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    UnixMillis(u64::try_from(at.as_millisecond()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(at: u64) {
        let known = i64::try_from(at).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let expected = format!("{:.3}", known.unwrap_or(jiff::Timestamp::MAX));
        assert_eq!(rfc3339(UnixMillis(at)), expected, "{at}");
    }

    #[test]
    fn past_the_calendar_its_end_is_told() {
        for at in [253_402_207_201_000, i64::MAX as u64, u64::MAX] {
            check(at);
        }
    }

    proptest! {
        /// One after the other, so that times of one second, of the next and of the one before follow each other.
        #[test]
        fn a_time_is_spelt_as_by_the_calendar(
            at in prop_oneof![any::<u64>(), 0..4_102_444_800_000_u64, Just(253_402_207_197_000)],
            steps in proptest::collection::vec(0..2_500_u64, 0..8),
        ) {
            check(at);
            for step in steps {
                check(at.saturating_add(step));
                check(at.saturating_sub(step));
            }
        }
    }
}
