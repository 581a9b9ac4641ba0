//! What is known of a connection and its current request from under the HTTP parser.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant as StdInstant;

use bytes::BytesMut;
use engine::refusal::Refusal;
use engine::time::UnixMillis;
use http::HeaderMap;
use http::header::UPGRADE;
use pingora_core::protocols::Stream;
use tokio::time::Instant;
use uuid::Uuid;

use super::framing::{Delimiter, Framing, Turn};
use super::pace::{BodyPace, Late};
use crate::clock;
use crate::config::settings::Connections;

/// Bytes of a request's head that are kept for its record and for the check of its request line.
/// Past the largest head that is accepted (8 KiB of target, 32 KiB of headers) by a margin.
pub const HEAD_BYTES_MAX: usize = 48 * 1024;

/// What is known of a connection's current request before the parser has handed it over, and where it ends.
#[derive(Debug, Default)]
pub struct Meter {
    passing: Mutex<Passing>,
    admitted: AtomicBool,
    lingers: AtomicBool,
    sent_ahead: AtomicBool,
    hands_over: AtomicBool,
    handed: Mutex<Option<Handed>>,
}

/// A connection that the parser has let go of.
#[derive(Debug)]
pub struct Handed {
    /// The connection.
    pub stream: Stream,
    /// What came after the parser's last request.
    pub ahead: BytesMut,
}

#[derive(Debug, Default)]
struct Passing {
    delimiter: Delimiter,
    head: Vec<u8>,
    begun: Option<Begun>,
    told: Option<Told>,
    /// Whether the current request asks for another protocol, so that what was sent after it may be no request.
    asks_other: bool,
    /// The beginning of requests whose turn never came.
    left: Vec<u8>,
    pace: BodyPace,
    ends_by: Option<Instant>,
    late: Option<Late>,
}

/// What a client was told whose request no stage has seen.
#[derive(Clone, Debug)]
pub struct Told {
    /// The request's id, for its record.
    pub request_id: Uuid,
    /// The refusal.
    pub refusal: Refusal,
    /// Bytes of the answer's body.
    pub body_bytes: u64,
}

/// When a request began: with its first byte, or, where it was sent before the one before it was answered, when
/// its turn came.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// By the wall clock.
    pub at: UnixMillis,
    /// By the monotonic clock.
    pub instant: StdInstant,
}

impl Begun {
    fn now() -> Self {
        Self { at: clock::now(), instant: clock::instant() }
    }
}

impl Meter {
    /// A new request may begin on this connection.
    pub fn reset(&self) {
        let mut passing = self.passing();
        passing.delimiter.next_request();
        passing.head.clear();
        passing.begun = None;
        passing.told = None;
        passing.pace = BodyPace::default();
        passing.ends_by = None;
        passing.late = None;
        self.admitted.store(false, Ordering::Release);
    }

    /// Keeps what a client was told, so that its record says the same.
    pub fn tell(&self, told: Told) {
        self.passing().told = Some(told);
    }

    /// What the client was told; `None` when the connection ended without an answer.
    pub fn told(&self) -> Option<Told> {
        self.passing().told.clone()
    }

    /// The client may still be sending when this connection ends: what it sends is read away for a moment,
    /// because closing under unread bytes resets the connection and can lose the answer on its way.
    pub fn linger(&self) {
        self.lingers.store(true, Ordering::Release);
    }

    /// Whether what the client still sends is read away at the end.
    pub fn lingers(&self) -> bool {
        self.lingers.load(Ordering::Acquire)
    }

    /// The connection is kept when the parser lets go of it: it speaks another protocol from then on.
    pub fn hand_over(&self) {
        self.hands_over.store(true, Ordering::Release);
    }

    /// The connection that the parser has let go of.
    pub fn take_handed(&self) -> Option<Handed> {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether something has come after the current request.
    pub fn has_ahead(&self) -> bool {
        self.sent_ahead.load(Ordering::Acquire)
    }

    pub(super) fn ahead(&self, bytes: &[u8]) {
        self.sent_ahead.store(!bytes.is_empty(), Ordering::Release);
    }

    pub(super) fn is_handed_over(&self) -> bool {
        self.hands_over.load(Ordering::Acquire)
    }

    pub(super) fn handed(&self, handed: Option<Handed>) {
        *self.handed.lock().unwrap_or_else(PoisonError::into_inner) = handed;
    }

    /// Whether a byte of the current request has arrived.
    pub fn begun(&self) -> Option<Begun> {
        self.passing().begun
    }

    /// A request with these headers has reached `receive`: from here on the answers are ours.
    pub fn admit(&self, headers: &HeaderMap) {
        let mut passing = self.passing();
        passing.delimiter.framed(Framing::of(headers));
        passing.asks_other = headers.contains_key(UPGRADE);
        drop(passing);
        self.admitted.store(true, Ordering::Release);
    }

    /// Whether the request has reached `receive`.
    pub fn admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire)
    }

    /// Whether the request has no framing that is believed, so that nothing after it is.
    pub fn is_out_of_step(&self) -> bool {
        self.turn() == Turn::OutOfStep
    }

    /// The request's framing is refused: what came after it is no request, whatever it looks like.
    pub fn distrust(&self) {
        self.passing().delimiter.distrust();
    }

    /// What is wrong with the framing of the current request's body, as far as it has come.
    pub fn body_fault(&self) -> Option<&'static str> {
        match self.turn() {
            Turn::Broken(fault) => Some(fault),
            Turn::Deliver | Turn::Hold | Turn::OutOfStep => None,
        }
    }

    /// The current request has to have its whole answer by then.
    pub fn ends_by(&self, end: StdInstant) {
        self.passing().ends_by = Some(Instant::from_std(end));
    }

    /// What of the current request came too late, so that it is ended.
    pub fn late(&self) -> Option<Late> {
        self.passing().late
    }

    /// Until when the client's bytes are waited for, and what comes too late then.
    pub(super) fn reads_until(&self, bounds: &Connections) -> Option<(Instant, Late)> {
        let mut passing = self.passing();
        if passing.late.is_some() {
            return None;
        }
        let route = passing.ends_by.map(|end| (end, Late::Route));
        let begun = passing.begun.filter(|_| passing.delimiter.in_head());
        let head = begun.map(|begun| (Instant::from_std(begun.instant + bounds.head), Late::Head));
        let in_body = passing.delimiter.in_body();
        let body = in_body.then(|| (passing.pace.waits(Instant::now(), bounds), Late::Body));
        route.into_iter().chain(head).chain(body).min_by_key(|(end, _)| *end)
    }

    /// Until when the client may take nothing, since it has taken nothing, and what comes too late then.
    pub(super) fn writes_until(&self, since: Instant, bounds: &Connections) -> Option<(Instant, Late)> {
        let passing = self.passing();
        // What is too late already is still told, as long as the client takes it.
        let route = passing.ends_by.filter(|_| passing.late.is_none()).map(|end| (end, Late::Route));
        route.into_iter().chain([(since + bounds.stall, Late::Reader)]).min_by_key(|(end, _)| *end)
    }

    /// The time is over.
    pub(super) fn is_late(&self, late: Late) {
        self.passing().late = Some(late);
    }

    /// Looks at the head's first bytes without copying them.
    pub fn with_head<T>(&self, look: impl FnOnce(&[u8]) -> T) -> T {
        look(&self.passing().head)
    }

    /// Whether requests were sent whose turn never came, because the connection closed with the answer before
    /// them. If so the first of them becomes the current request, so that it can be recorded.
    pub fn take_left(&self) -> bool {
        let mut passing = self.passing();
        if passing.left.is_empty() {
            return false;
        }
        passing.head = std::mem::take(&mut passing.left);
        passing.begun = Some(Begun::now());
        passing.told = None;
        self.admitted.store(false, Ordering::Release);
        true
    }

    /// What may be done with the bytes that come next.
    pub(super) fn turn(&self) -> Turn {
        self.passing().delimiter.turn()
    }

    /// The connection ends with these bytes undelivered.
    pub(super) fn ends_with(&self, undelivered: &[u8]) {
        let mut passing = self.passing();
        // In any other state they belong to a request that has its record.
        if passing.delimiter.turn() == Turn::Hold && !passing.asks_other {
            let blank = super::framing::blank_bytes(undelivered);
            passing.left = undelivered.iter().skip(blank).take(HEAD_BYTES_MAX).copied().collect();
        }
    }

    /// How many of these bytes the parser may see now.
    pub(super) fn arrived(&self, bytes: &[u8]) -> usize {
        let mut passing = self.passing();
        let in_body = passing.delimiter.in_body();
        let taken = passing.delimiter.advance(bytes);
        if in_body {
            passing.pace.arrived(taken.bytes, Instant::now());
        }
        let head = bytes.get(taken.head).unwrap_or_default();
        if head.is_empty() {
            return taken.bytes;
        }
        let room = HEAD_BYTES_MAX.saturating_sub(passing.head.len());
        passing.head.extend_from_slice(head.get(..room).unwrap_or(head));
        passing.begun.get_or_insert_with(Begun::now);
        taken.bytes
    }

    /// Nothing that is kept under this lock can be left half-changed by a panic.
    fn passing(&self) -> MutexGuard<'_, Passing> {
        self.passing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
