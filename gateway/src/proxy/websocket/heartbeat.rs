//! Whether the client is still there.

use std::time::Duration;

use tokio::time::Instant;

use super::leg::now;

/// Asks a silent client for a sign of life, and gives it up.
#[derive(Debug)]
pub(super) struct Heartbeat {
    every: Duration,
    idle: Duration,
    heard: Instant,
    asked: Option<[u8; 8]>,
    count: u64,
}

/// What its time has come for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing yet.
    Wait,
    /// A ping with this payload.
    Ask([u8; 8]),
    /// It was silent for too long.
    GiveUp,
}

impl Heartbeat {
    /// Asks after `every` of silence, gives up after `idle`.
    pub(super) fn new(every: Duration, idle: Duration) -> Self {
        Self { every, idle, heard: now(), asked: None, count: 0 }
    }

    /// The client has said something of its own.
    pub(super) fn heard(&mut self) {
        self.heard = now();
        self.asked = None;
    }

    /// The client has answered a ping: a sign of life only if it is the one that was asked for, because anybody can
    /// send pongs ahead.
    pub(super) fn answered(&mut self, payload: &[u8]) {
        if self.asked.as_ref().is_some_and(|asked| asked == payload) {
            self.heard();
        }
    }

    /// The client cannot be heard at the moment, and is not given up for that.
    pub(super) fn pause(&mut self) {
        self.heard = now();
    }

    /// How long it may be silent.
    pub(super) fn idle(&self) -> Duration {
        self.idle
    }

    /// When to look again.
    pub(super) fn next(&self) -> Instant {
        self.heard + if self.asked.is_some() { self.idle } else { self.every.min(self.idle) }
    }

    /// Looks.
    pub(super) fn beat(&mut self) -> Beat {
        let silent = now().saturating_duration_since(self.heard);
        if silent >= self.idle {
            return Beat::GiveUp;
        }
        if self.asked.is_some() || silent < self.every {
            return Beat::Wait;
        }
        self.count = self.count.wrapping_add(1);
        let payload = self.count.to_be_bytes();
        self.asked = Some(payload);
        Beat::Ask(payload)
    }
}
