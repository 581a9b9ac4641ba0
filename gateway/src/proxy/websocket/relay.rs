//! Frames pass from side to side, checked, counted and never kept.

use std::io;
use std::time::Duration;

use engine::audit::{ClosedBy, SocketFacts};
use engine::limit::{Gcra, Rate, gcra};
use engine::websocket::{Close, Event, Fault, Piece, Writer};

use super::heartbeat::{Beat, Heartbeat};
use super::leg::{Leg, now};
use crate::clock;

/// A fragment of fewer bytes costs as much of the rate as a message: dust is as dear to check as a message is.
const FRAGMENT_BYTES_MIN: u64 = 1024;
/// For the other side's last word, once one has said its own.
pub(super) const LAST_WORD: Duration = Duration::from_secs(5);

/// Both sides of a bridge and what has passed.
pub(super) struct Relay {
    pub(super) client: Leg,
    pub(super) upstream: Leg,
    pub(super) heartbeat: Heartbeat,
    pub(super) rate: Rate,
    pub(super) tat: Option<u64>,
    pub(super) passed: Passed,
    /// Who spoke of the end first, and until when the other may answer.
    pub(super) closing: Option<(ClosedBy, Option<u16>, tokio::time::Instant)>,
}

/// What has passed so far.
#[derive(Debug, Default)]
pub(super) struct Passed {
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) messages_in: u64,
    pub(super) messages_out: u64,
    /// Whether the client has sent something since this was last looked at.
    pub(super) is_used: bool,
}

/// Why a bridge ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Both sides have said their last word.
    Closed,
    /// The client's connection is gone.
    ClientGone,
    /// The upstream's connection is gone.
    UpstreamGone,
    /// The client has broken a rule: the code and the reason that it is told.
    Client(u16, &'static str),
    /// The upstream has broken a rule.
    Upstream(Fault),
    /// The client takes nothing any more.
    ClientStalled,
}

impl Relay {
    /// Passes on what the client has sent.
    ///
    /// # Errors
    /// The bridge has to end.
    pub(super) fn client_said(&mut self) -> Result<(), Ending> {
        let Self { client, upstream, heartbeat, passed, .. } = self;
        while !client.is_done {
            let next = client.receiver.next(client.incoming.rest());
            let next = next.map_err(|fault| Ending::Client(fault.close_code(), fault.reason()))?;
            let Some((taken, event)) = next else { break };
            if costs(&event) {
                spend(self.rate, &mut self.tat)?;
            }
            match event {
                Event::Data(piece) => {
                    heartbeat.heard();
                    passed.is_used = true;
                    passed.bytes_in = passed.bytes_in.saturating_add(piece.payload.len() as u64);
                    passed.messages_in = passed.messages_in.saturating_add(u64::from(piece.last));
                    pass(&piece, upstream);
                }
                Event::Ping(payload) => {
                    heartbeat.heard();
                    client.outgoing.write(|out| Writer::pong(payload, None, out));
                }
                Event::Pong(payload) => heartbeat.answered(payload),
                Event::Close(close) => {
                    client.is_done = true;
                    upstream.tell(close.as_ref());
                    closes(&mut self.closing, ClosedBy::Client, close.as_ref());
                }
            }
            client.incoming.take(taken);
        }
        Ok(())
    }

    /// Passes on what the upstream has sent.
    ///
    /// # Errors
    /// The bridge has to end.
    pub(super) fn upstream_said(&mut self) -> Result<(), Ending> {
        let Self { client, upstream, passed, .. } = self;
        while !upstream.is_done {
            let next = upstream.receiver.next(upstream.incoming.rest()).map_err(Ending::Upstream)?;
            let Some((taken, event)) = next else { break };
            match event {
                Event::Data(piece) => {
                    passed.bytes_out = passed.bytes_out.saturating_add(piece.payload.len() as u64);
                    passed.messages_out = passed.messages_out.saturating_add(u64::from(piece.last));
                    pass(&piece, client);
                }
                Event::Ping(payload) => {
                    let key = Some(crate::random::bytes());
                    upstream.outgoing.write(|out| Writer::pong(payload, key, out));
                }
                Event::Pong(_) => {}
                Event::Close(close) => {
                    upstream.is_done = true;
                    client.tell(close.as_ref());
                    closes(&mut self.closing, ClosedBy::Upstream, close.as_ref());
                }
            }
            upstream.incoming.take(taken);
        }
        Ok(())
    }

    /// Waits until something can be read or sent, or its time has come, and does it. May be dropped at any time.
    ///
    /// # Errors
    /// The bridge has to end.
    pub(super) async fn step(&mut self, write_timeout: Duration) -> Result<(), Ending> {
        self.judge(write_timeout)?;
        let next = self.next(write_timeout);
        let Self { client, upstream, .. } = self;
        // A side is read while the other takes what it says: a slow reader stops the one that it hears.
        let from_client = !client.is_done && upstream.is_drained() && client.outgoing.has_room();
        let from_upstream = !upstream.is_done && client.is_drained() && upstream.outgoing.has_room();
        let (to_client, to_upstream) = (!client.is_drained(), !upstream.is_drained());
        tokio::select! {
            read = client.incoming.read(&mut client.reader), if from_client => match read {
                Ok(1..) => self.client_said(),
                Ok(0) | Err(_) => Err(Ending::ClientGone),
            },
            read = upstream.incoming.read(&mut upstream.reader), if from_upstream => match read {
                Ok(1..) => self.upstream_said(),
                Ok(0) | Err(_) => Err(Ending::UpstreamGone),
            },
            sent = client.outgoing.send(&mut client.writer), if to_client => gone(sent, Ending::ClientGone),
            sent = upstream.outgoing.send(&mut upstream.writer), if to_upstream => gone(sent, Ending::UpstreamGone),
            () = tokio::time::sleep_until(next) => Ok(()),
        }
    }

    /// Whether it is over, or somebody takes too long.
    fn judge(&mut self, write_timeout: Duration) -> Result<(), Ending> {
        let drained = self.client.is_drained() && self.upstream.is_drained();
        if let Some((_, _, until)) = self.closing
            && ((drained && self.client.is_done && self.upstream.is_done) || now() >= until)
        {
            return Err(Ending::Closed);
        }
        if !self.client.is_drained() && now() >= self.client.outgoing.since + self.heartbeat.idle() {
            return Err(Ending::ClientStalled);
        }
        if !self.upstream.is_drained() && now() >= self.upstream.outgoing.since + write_timeout {
            return Err(Ending::UpstreamGone);
        }
        // Who is not read cannot be heard.
        if self.client.is_done || !self.upstream.is_drained() {
            self.heartbeat.pause();
            return Ok(());
        }
        match self.heartbeat.beat() {
            Beat::Wait => Ok(()),
            Beat::Ask(payload) => {
                self.client.outgoing.write(|out| Writer::ping(&payload, None, out));
                Ok(())
            }
            Beat::GiveUp => Err(Ending::Client(1001, "no sign of life")),
        }
    }

    fn next(&self, write_timeout: Duration) -> tokio::time::Instant {
        let mut next = self.heartbeat.next();
        if let Some((_, _, until)) = self.closing {
            next = next.min(until);
        }
        if !self.client.is_drained() {
            next = next.min(self.client.outgoing.since + self.heartbeat.idle());
        }
        if !self.upstream.is_drained() {
            next = next.min(self.upstream.outgoing.since + write_timeout);
        }
        next
    }

    /// What the record tells of it.
    pub(super) fn facts(&self, closed_by: ClosedBy, close_code: Option<u16>) -> SocketFacts {
        SocketFacts {
            messages_in: self.passed.messages_in,
            messages_out: self.passed.messages_out,
            close_code,
            closed_by,
        }
    }
}

fn pass(piece: &Piece<'_>, to: &mut Leg) {
    // An empty fragment in the middle says nothing.
    if piece.payload.is_empty() && !piece.last {
        return;
    }
    let key = to.key();
    let Leg { frames, outgoing, .. } = to;
    outgoing.write(|out| frames.data(piece.kind, piece.payload, piece.last, key, out));
}

/// Whether an event counts against the client's rate.
fn costs(event: &Event<'_>) -> bool {
    match event {
        Event::Data(piece) => {
            piece.first || piece.frame_bytes.is_some_and(|bytes| bytes < FRAGMENT_BYTES_MIN)
        }
        Event::Ping(_) | Event::Pong(_) => true,
        Event::Close(_) => false,
    }
}

fn spend(rate: Rate, tat: &mut Option<u64>) -> Result<(), Ending> {
    match gcra(rate, *tat, clock::now(), 1) {
        Gcra::Admit { tat: next } => {
            *tat = Some(next);
            Ok(())
        }
        Gcra::Refuse { .. } => Err(Ending::Client(1008, "too many messages")),
    }
}

/// Who closes first is who closes.
fn closes(
    closing: &mut Option<(ClosedBy, Option<u16>, tokio::time::Instant)>,
    by: ClosedBy,
    close: Option<&Close>,
) {
    // 1005: a close frame without a code, as RFC 6455 names what was not said.
    let code = Some(close.map_or(1005, |close| close.code));
    closing.get_or_insert_with(|| (by, code, now() + LAST_WORD));
}

fn gone(outcome: io::Result<()>, ending: Ending) -> Result<(), Ending> {
    outcome.map_err(|_| ending)
}
