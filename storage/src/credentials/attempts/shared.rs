//! Counters that gateways share, in the Redis of their sessions and over the same connection.
//!
//! | key, after `PREFIX:{session}` | holds |
//! |---|---|
//! | `:t:PLACE` | a counter: failures, attempts before their wait was over, last failure, end of the lock |
//! | `:tw` | all places, by what would be lost with them |
//! | `:te` | all places, by when they are forgotten |
//!
//! A place is a keyed digest, so that whoever reads there learns no login. Who can write there can lift a lock and lay one
//! on, as they can sign people out.

use std::sync::Arc;

use engine::time::UnixMillis;
use redis::Value;

use super::counter::{Counted, FORGET_MS, WAIT_MS, WAIT_MS_MAX};
use super::{Attempt, AttemptRules, Reservation};
use crate::StoreError;
use crate::keyring::{Digest, Keyring, Purpose};
use crate::redis::Fault;
use crate::sessions::shared::{Line, Question, hex, number};

pub(super) struct Shared {
    line: Arc<Line>,
    keyring: Keyring,
    rules: AttemptRules,
    room: usize,
    /// Whether time is what the caller says, for tests; or else what the store says.
    #[cfg(test)]
    by_caller: bool,
}

impl Shared {
    pub(super) fn new(line: Arc<Line>, keyring: Keyring, rules: AttemptRules, room: usize) -> Self {
        Self {
            line,
            keyring,
            rules,
            room,
            #[cfg(test)]
            by_caller: false,
        }
    }

    #[cfg(test)]
    pub(super) fn by_caller(self) -> Self {
        Self { by_caller: true, ..self }
    }

    pub(super) async fn reserve(&self, name: &[u8], now: UnixMillis) -> Result<Attempt, StoreError> {
        let places = self.places(name);
        let answer = self.ask(self.question("attempt.reserve", now, &places)).await?;
        let (counted, at) = counted(&answer, now).map_err(StoreError::Shared)?;
        let place = places.get(at).ok_or(StoreError::Shared(Fault::Nonsense))?;
        Ok(Attempt::of(counted, *place, now))
    }

    pub(super) async fn succeed(&self, reservation: &Reservation) -> Result<(), StoreError> {
        self.number("attempt.forget", reservation.at, &[reservation.place]).await.map(drop)
    }

    pub(super) async fn give_back(&self, reservation: &Reservation) -> Result<(), StoreError> {
        self.number("attempt.give_back", reservation.at, &[reservation.place]).await.map(drop)
    }

    pub(super) async fn forget(&self, name: &[u8]) -> Result<bool, StoreError> {
        let forgotten = self.number("attempt.forget", UnixMillis(0), &self.places(name)).await?;
        Ok(forgotten > 0)
    }

    pub(super) async fn count(&self) -> Result<usize, StoreError> {
        self.number("attempt.count", UnixMillis(0), &[]).await
    }

    /// Where the counter is: under the active master's digest, or still under an older one's.
    fn places(&self, name: &[u8]) -> Vec<Digest> {
        self.keyring.digests(Purpose::AttemptDigest, name).collect()
    }

    fn question(&self, verb: &str, now: UnixMillis, places: &[Digest]) -> Question {
        self.timed(verb, now)
            .with(self.rules.attempts_max.to_string())
            .with(self.rules.lockout_ms.to_string())
            .with(WAIT_MS.to_string())
            .with(WAIT_MS_MAX.to_string())
            .with(FORGET_MS.to_string())
            .with(self.room.to_string())
            .with_all(places.iter().map(hex))
    }

    #[cfg(not(test))]
    fn timed(&self, verb: &str, _now: UnixMillis) -> Question {
        self.line.question_by_its_clock(verb)
    }

    #[cfg(test)]
    fn timed(&self, verb: &str, now: UnixMillis) -> Question {
        if self.by_caller { self.line.question(verb, now) } else { self.line.question_by_its_clock(verb) }
    }

    async fn number(&self, verb: &str, now: UnixMillis, places: &[Digest]) -> Result<usize, StoreError> {
        number(&self.ask(self.question(verb, now, places)).await?).map_err(StoreError::Shared)
    }

    async fn ask(&self, question: Question) -> Result<Value, StoreError> {
        self.line.ask(&question, self.line.budget()).await.map_err(StoreError::Shared)
    }
}

/// What became of an attempt, and which of the places it is counted at.
fn counted(answer: &Value, now: UnixMillis) -> Result<(Counted, usize), Fault> {
    let Value::Array(parts) = answer else { return Err(Fault::Nonsense) };
    let [Value::Int(kind), Value::Int(value), Value::Int(at)] = parts.as_slice() else {
        return Err(Fault::Nonsense);
    };
    let value = u64::try_from(*value).map_err(|_| Fault::Nonsense)?;
    let counted = match (kind, value) {
        (0, 0 | 1) => Counted::Granted { warned: value == 1 },
        (1, _) => Counted::Slow(value),
        (2, _) => Counted::Locked(now.plus(value)),
        (_, _) => return Err(Fault::Nonsense),
    };
    Ok((counted, usize::try_from(*at).map_err(|_| Fault::Nonsense)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_mean_nothing_grant_nothing() {
        let check = |parts: &[i64], expected: Result<(Counted, usize), Fault>| {
            let answer = Value::Array(parts.iter().map(|part| Value::Int(*part)).collect());
            assert_eq!(counted(&answer, UnixMillis(100)), expected, "{parts:?}");
        };
        check(&[0, 0, 0], Ok((Counted::Granted { warned: false }, 0)));
        check(&[0, 1, 1], Ok((Counted::Granted { warned: true }, 1)));
        check(&[1, 500, 0], Ok((Counted::Slow(500), 0)));
        check(&[2, 7, 0], Ok((Counted::Locked(UnixMillis(107)), 0)));
        for wrong in [&[][..], &[0], &[0, 0], &[0, 2, 0], &[0, 0, -1], &[1, -1, 0], &[3, 0, 0], &[0, 0, 0, 0]]
        {
            check(wrong, Err(Fault::Nonsense));
        }
        for wrong in [Value::Nil, Value::Okay, Value::Int(0)] {
            assert_eq!(counted(&wrong, UnixMillis(100)), Err(Fault::Nonsense), "{wrong:?}");
        }
    }
}
