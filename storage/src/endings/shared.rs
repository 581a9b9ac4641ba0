//! Marks that gateways share, in the Redis of their sessions and over the same connection.
//!
//! | key, after `PREFIX:{session}` | holds |
//! |---|---|
//! | `:o:PLACE` | until when what was issued is over |
//! | `:os` | all places, by when they are forgotten |
//!
//! A place is a keyed digest, so that whoever reads there learns no person and no session. A mark is told on the channel of
//! ends before it is written, and what was read of it, or that there was none, is believed as a session is: while the
//! connection proves that nothing was missed, and for [`KNOWN`] at most.

use std::sync::Arc;
use std::time::Duration;

use engine::time::UnixMillis;
use redis::Value;
use tokio::time::Instant;

use super::{Ending, MARKS_MAX, MESSAGE, Mark, of_issued, places, text};
use crate::StoreError;
use crate::keyring::{Digest, Keyring, Purpose};
use crate::recent::Recent;
use crate::redis::Fault;
use crate::sessions::shared::{BEHIND, KNOWN, Line, Question, TIMELESS, hex};

pub(super) struct Shared {
    line: Arc<Line>,
    keyring: Keyring,
    recent: Recent<Digest, (Instant, Option<UnixMillis>)>,
    room: usize,
}

impl Shared {
    pub(super) fn new(line: Arc<Line>, keyring: Keyring) -> Self {
        Self::with_room(line, keyring, MARKS_MAX)
    }

    /// The same with room for so many.
    pub(super) fn with_room(line: Arc<Line>, keyring: Keyring, room: usize) -> Self {
        Self { line, keyring, recent: Recent::new(), room }
    }

    pub(super) async fn is_taken(&self, issuer: &str, message: &str) -> Result<bool, StoreError> {
        let places = places(&self.keyring, &text(MESSAGE, issuer, message));
        let found = self.read(&places).await?;
        Ok(found.iter().any(Option::is_some))
    }

    pub(super) async fn has_ended(
        &self,
        issuer: &str,
        subject: &str,
        sid: Option<&str>,
        issued: UnixMillis,
    ) -> Result<bool, StoreError> {
        let places: Vec<Digest> = of_issued(&self.keyring, issuer, subject, sid).collect();
        let until = match self.known(&places) {
            Some(known) => known,
            None => self.read(&places).await?,
        };
        Ok(until.into_iter().flatten().any(|until| issued <= until))
    }

    pub(super) async fn mark(&self, ending: &Ending, now: UnixMillis) -> Result<(), StoreError> {
        let place = ending.place(&self.keyring);
        let question = self.put(&place, ending.mark(now), now).with("1");
        let answer = self.line.ask_lasting(&question, self.within()).await;
        // Also where it is not known what came of it.
        self.line.marked(&place);
        answer.map(drop).map_err(StoreError::Shared)
    }

    pub(super) async fn take(
        &self,
        issuer: &str,
        message: &str,
        forget: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let place = self.keyring.digest(Purpose::ProviderSession, &text(MESSAGE, issuer, message));
        let question = self.put(&place, Mark { until: now, forget }, now).with("");
        self.line.ask(&question, self.within()).await.map(drop).map_err(StoreError::Shared)
    }

    fn put(&self, place: &Digest, mark: Mark, now: UnixMillis) -> Question {
        self.line
            .question("ending.put", now)
            .with(hex(place))
            .with(mark.until.0.to_string())
            .with(mark.forget.since(now).max(1).to_string())
            .with(self.room.to_string())
    }

    /// What was read of all of these, where that is believed at this moment.
    fn known(&self, places: &[Digest]) -> Option<Vec<Option<UnixMillis>>> {
        if !self.line.is_fresh() {
            return None;
        }
        let known = |place: &Digest| {
            let (read, until) = self.recent.get(place, self.line.epoch_at(place))?;
            (read.elapsed() < KNOWN).then_some(until)
        };
        places.iter().map(known).collect()
    }

    /// What the store has of these, in their order, asked now.
    async fn read(&self, places: &[Digest]) -> Result<Vec<Option<UnixMillis>>, StoreError> {
        let read = Instant::now();
        let epochs: Vec<_> = places.iter().map(|place| self.line.epoch_at(place)).collect();
        let question = self.line.question("ending.read", TIMELESS).with_all(places.iter().map(hex));
        let answer = self.line.ask(&question, self.line.budget()).await.map_err(StoreError::Shared)?;
        let found = each(&answer, places.len()).map_err(StoreError::Shared)?;
        for ((place, epoch), until) in places.iter().zip(epochs).zip(&found) {
            self.recent.put(*place, epoch, (read, *until));
        }
        Ok(found)
    }

    pub(super) const fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// How long a provider waits that says something; nobody else does.
    fn within(&self) -> Duration {
        BEHIND.max(self.line.budget())
    }
}

/// What is answered for each of so many places, in their order.
fn each(answer: &Value, count: usize) -> Result<Vec<Option<UnixMillis>>, Fault> {
    let Value::Array(found) = answer else { return Err(Fault::Nonsense) };
    if found.len() != count {
        return Err(Fault::Nonsense);
    }
    let until = |found: &Value| {
        if matches!(found, Value::Nil) {
            return Ok(None);
        }
        let Value::BulkString(text) = found else { return Err(Fault::Nonsense) };
        let text = std::str::from_utf8(text).map_err(|_| Fault::Nonsense)?;
        text.parse().map(|until| Some(UnixMillis(until))).map_err(|_| Fault::Nonsense)
    };
    found.iter().map(until).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_no_time_for_each_is_none() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let found = each(&Value::Array(vec![text("7"), Value::Nil]), 2);
        assert_eq!(found, Ok(vec![Some(UnixMillis(7)), None]));
        for wrong in [
            Value::Array(vec![text("7")]),
            Value::Array(vec![text("7"), text("")]),
            Value::Array(vec![text("7"), text("-1")]),
            Value::Array(vec![text("7"), Value::Int(1)]),
            Value::Nil,
        ] {
            assert_eq!(each(&wrong, 2), Err(Fault::Nonsense), "{wrong:?}");
        }
    }
}
