//! What is known of each request, by the mark that it carries in its trace id.

use std::sync::atomic::{AtomicU8, Ordering};

/// The first half of a trace id of this run; the second half is the request's number.
pub(super) const RUN: &str = "5eed0000cedaca7e";

const SENT: u8 = 1;
const SERVED: u8 = 2;
const FORWARDED: u8 = 4;
const PERMITTED: u8 = 8;
const RECORDED: u8 = 16;
const RECORDED_AGAIN: u8 = 32;

/// One byte for each request.
pub(super) struct Marks(Vec<AtomicU8>);

/// What the three sides disagree on. All zero is what is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Disagreements {
    /// Requests without a record.
    pub unrecorded: u64,
    /// Requests with more than one.
    pub recorded_again: u64,
    /// Records of requests that nobody sent.
    pub unsent: u64,
    /// Requests that the upstream has seen and whose record permits nothing.
    pub unpermitted: u64,
    /// Answers of the upstream to requests that it has not seen.
    pub unforwarded: u64,
}

impl Marks {
    pub(super) fn new(count: usize) -> Self {
        Self(std::iter::repeat_with(|| AtomicU8::new(0)).take(count).collect())
    }

    fn set(&self, number: usize, bit: u8) -> u8 {
        self.0.get(number).map_or(0, |byte| byte.fetch_or(bit, Ordering::Relaxed))
    }

    /// The client has sent it.
    pub(super) fn sent(&self, number: usize) {
        self.set(number, SENT);
    }

    /// The client has read the upstream's answer to it.
    pub(super) fn served(&self, number: usize) {
        self.set(number, SERVED);
    }

    /// The upstream has seen it.
    pub(super) fn forwarded(&self, number: usize) {
        self.set(number, FORWARDED);
    }

    /// The file has a record of it.
    pub(super) fn recorded(&self, number: usize, permits: bool) {
        if self.set(number, RECORDED) & RECORDED != 0 {
            self.set(number, RECORDED_AGAIN);
        }
        if permits {
            self.set(number, PERMITTED);
        }
    }

    /// How many the upstream has seen.
    pub(super) fn count_forwarded(&self) -> u64 {
        self.count(|byte| byte & FORWARDED != 0)
    }

    /// What does not agree.
    pub(super) fn disagreements(&self) -> Disagreements {
        let has = |byte: u8, bit: u8| byte & bit != 0;
        Disagreements {
            unrecorded: self.count(|byte| has(byte, SENT) && !has(byte, RECORDED)),
            recorded_again: self.count(|byte| has(byte, RECORDED_AGAIN)),
            unsent: self.count(|byte| has(byte, RECORDED) && !has(byte, SENT)),
            unpermitted: self.count(|byte| has(byte, FORWARDED) && !has(byte, PERMITTED)),
            unforwarded: self.count(|byte| has(byte, SERVED) && !has(byte, FORWARDED)),
        }
    }

    fn count(&self, wanted: impl Fn(u8) -> bool) -> u64 {
        self.0.iter().map(|byte| u64::from(wanted(byte.load(Ordering::Relaxed)))).sum()
    }
}

/// The header by which a request carries its number.
pub(super) fn header(number: usize) -> String {
    format!("traceparent: 00-{RUN}{number:016x}-00000000000000a1-00\r\n")
}

/// The number that stands in a head or in a record.
pub(super) fn number_in(text: &[u8]) -> Option<usize> {
    let at = text.windows(RUN.len()).position(|bytes| bytes == RUN.as_bytes())?;
    let digits = text.get(at + RUN.len()..)?.get(..16)?;
    usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_carries_its_number_to_wherever_it_goes() {
        for number in [0, 1, 999_999] {
            assert_eq!(number_in(header(number).as_bytes()), Some(number));
            let record = format!("{{\"trace_id\":\"{RUN}{number:016x}\",\"span_id\":\"1\"}}");
            assert_eq!(number_in(record.as_bytes()), Some(number));
        }
        assert_eq!(number_in(b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-"), None);
        assert_eq!(number_in(RUN.as_bytes()), None);
    }

    #[test]
    fn every_disagreement_is_seen() {
        let marks = Marks::new(6);
        let none = Disagreements::default();
        marks.sent(0);
        marks.forwarded(0);
        marks.served(0);
        marks.recorded(0, true);
        assert_eq!(marks.disagreements(), none);
        marks.sent(1);
        assert_eq!(marks.disagreements(), Disagreements { unrecorded: 1, ..none });
        marks.recorded(1, false);
        assert_eq!(marks.disagreements(), none);
        marks.recorded(1, false);
        assert_eq!(marks.disagreements(), Disagreements { recorded_again: 1, ..none });
        marks.recorded(2, false);
        assert_eq!(marks.disagreements(), Disagreements { recorded_again: 1, unsent: 1, ..none });
        marks.forwarded(1);
        marks.served(2);
        let all = Disagreements { recorded_again: 1, unsent: 1, unpermitted: 1, unforwarded: 1, ..none };
        assert_eq!(marks.disagreements(), all);
        assert_eq!(marks.count_forwarded(), 2);
    }
}
