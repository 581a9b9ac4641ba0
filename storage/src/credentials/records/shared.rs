//! Records in the Redis that gateways share, beside their sessions and over the same connection.
//!
//! | key, after `PREFIX:{session}` | holds |
//! |---|---|
//! | `:account:ID`, `:apikey:ID` | a sealed record, without an end |
//! | `:account`, `:apikey` | all ids |
//!
//! A record is sealed for its key: who can write there can take accounts away, and bring back what they have copied before;
//! they make none and change none. What was read is told again for [`KNOWN`] at most, while the connection proves that no
//! change was missed.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Becomes, Kind, open, sealed};
use crate::StoreError;
use crate::keyring::Keyring;
use crate::recent::Recent;
use crate::redis::{Fault, will_not};
use crate::sessions::shared::{BEHIND, KNOWN, Line, Question, TIMELESS, base, id, list, number};

/// How long an API key is known not to be there. Nobody can have asked for one before it was made, for its id is drawn then: a
/// new one works at once all the same, and only one that is brought from a gateway's own store may have to wait for this.
const ABSENT: Duration = Duration::from_secs(1);
/// How often a change is made anew because somebody else was faster.
const CONTESTED_MAX: usize = 16;
/// Records that are read in one round trip.
const AT_ONCE: usize = 256;

pub(super) struct Shared {
    kind: Kind,
    line: Arc<Line>,
    keyring: Keyring,
    recent: Recent<Uuid, (Instant, Arc<[u8]>)>,
    absent: Recent<Uuid, Instant>,
}

impl Shared {
    pub(super) fn new(kind: Kind, line: Arc<Line>, keyring: Keyring) -> Self {
        Self { kind, line, keyring, recent: Recent::new(), absent: Recent::new() }
    }

    pub(super) fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// The sealed record of an id, as it was within the last second.
    pub(super) async fn sealed(&self, id: Uuid) -> Result<Option<Arc<[u8]>>, StoreError> {
        let epoch = self.line.epoch_of(id);
        if self.line.is_fresh() {
            if let Some((read, sealed)) = self.recent.get(&id, epoch)
                && read.elapsed() < KNOWN
            {
                return Ok(Some(sealed));
            }
            if self.absent.get(&id, epoch).is_some_and(|read| read.elapsed() < ABSENT) {
                return Ok(None);
            }
        }
        self.fetch(id).await
    }

    pub(super) fn open<R: DeserializeOwned>(&self, id: Uuid, sealed: &[u8]) -> Result<R, StoreError> {
        open(&self.keyring, self.kind, &self.place(id), sealed)
    }

    pub(super) async fn list<R: DeserializeOwned, T>(
        &self,
        told: impl Fn(Uuid, &R) -> T,
    ) -> Result<Vec<T>, StoreError> {
        let ids = self.ask_behind(&self.question("record.ids")).await?;
        let ids = list(&ids, id).map_err(StoreError::Shared)?;
        let mut all = Vec::new();
        for some in ids.chunks(AT_ONCE) {
            let question = self.question("record.read").with_all(some.iter().map(Uuid::to_string));
            let answer = self.ask_behind(&question).await?;
            for (id, found) in some.iter().zip(each(&answer, some.len()).map_err(StoreError::Shared)?) {
                // One that was removed since its id was told.
                if let Some(sealed) = found {
                    all.push(told(*id, &self.open(*id, &sealed)?));
                }
            }
        }
        Ok(all)
    }

    pub(super) async fn update<R, T, E>(
        &self,
        id: Uuid,
        change: impl Fn(Option<R>) -> Result<Becomes<R, T>, E>,
    ) -> Result<T, E>
    where
        R: Serialize + DeserializeOwned,
        E: From<StoreError>,
    {
        for _ in 0..CONTESTED_MAX {
            let before = self.fetch(id).await?;
            let known = before.as_deref().map(|sealed| self.open(id, sealed)).transpose()?;
            let (after, answer, told) = match change(known)? {
                Becomes::Kept(answer) => return Ok(answer),
                Becomes::Anew(record, answer) => (self.seal(id, &record)?, answer, false),
                Becomes::Otherwise(record, answer) => (self.seal(id, &record)?, answer, true),
            };
            if self.put(id, before.as_deref().unwrap_or_default(), after, told).await? {
                return Ok(answer);
            }
        }
        Err(StoreError::Contested.into())
    }

    pub(super) async fn remove<R: DeserializeOwned, T>(
        &self,
        id: Uuid,
        told: impl Fn(&R) -> T,
    ) -> Result<Option<T>, StoreError> {
        let answer = self.ask_lasting(&self.question("record.remove").with(id.to_string())).await;
        self.line.changed(id, self.kind.change(id));
        let Some(sealed) = text(&answer?).map_err(StoreError::Shared)? else { return Ok(None) };
        Ok(Some(told(&self.open(id, &sealed)?)))
    }

    fn seal<R: Serialize>(&self, id: Uuid, record: &R) -> Result<Vec<u8>, StoreError> {
        sealed(&self.keyring, self.kind, &self.place(id), record)
    }

    /// Makes sure that what is read of an id would survive the loss of one server.
    pub(super) async fn kept(&self, id: Uuid) -> Result<(), StoreError> {
        let found = one(&self.ask_lasting(&self.read(id)).await?)?;
        // Or else gone with a server that has been replaced since it was written.
        found.map(drop).ok_or(StoreError::Shared(Fault::Unkept))
    }

    /// Makes sure that what was done until now would survive the loss of one server, also where nothing is there to be read;
    /// whether anybody wants that here.
    pub(super) async fn settled(&self) -> Result<bool, StoreError> {
        let nobody = self.read(Uuid::nil());
        self.ask_lasting(&nobody).await.map(|_| self.line.lasts())
    }

    /// What the store has, asked now.
    pub(super) async fn fetch(&self, id: Uuid) -> Result<Option<Arc<[u8]>>, StoreError> {
        let (epoch, read) = (self.line.epoch_of(id), Instant::now());
        let Some(sealed) = one(&self.ask(&self.read(id)).await?)? else {
            // The id of a person follows from their login: somebody may ask for them and make them afterwards.
            if self.kind == Kind::ApiKey {
                self.absent.put(id, epoch, read);
            }
            return Ok(None);
        };
        let sealed: Arc<[u8]> = sealed.into();
        self.recent.put(id, epoch, (read, Arc::clone(&sealed)));
        Ok(Some(sealed))
    }

    /// Puts a record in the place of the one that was read, or of none; whether that one was still there.
    async fn put(&self, id: Uuid, before: &[u8], after: Vec<u8>, told: bool) -> Result<bool, StoreError> {
        let tells = if told { "1" } else { "" };
        let question = self.question("record.put").with(id.to_string()).with(before).with(after).with(tells);
        let answer = self.ask(&question).await;
        // Also where it is not known what came of it.
        if told {
            self.line.changed(id, self.kind.change(id));
        } else {
            self.line.rewritten(id);
        }
        if number(&answer?).map_err(StoreError::Shared)? != 1 {
            return Ok(false);
        }
        if told && self.line.lasts() { self.stays(id, before).await } else { Ok(true) }
    }

    /// Waits until replicas have what was put there, in the place of another record; whether it was not lost meanwhile, with
    /// a server that has been replaced. Asked by itself: where nothing was put, there is nothing to wait for, and that too few
    /// have it would be told as if it was done. What a request has waited by then is taken off its budget by the line.
    async fn stays(&self, id: Uuid, before: &[u8]) -> Result<bool, StoreError> {
        let answer = self.line.ask_lasting(&self.read(id), self.line.budget()).await.map_err(|fault| {
            // It was done, whatever keeps us from knowing whether it lasts.
            StoreError::Shared(if will_not(fault) { fault } else { Fault::Unkept })
        })?;
        Ok(one(&answer)?.is_some_and(|found| found != before))
    }

    /// The name of a record's key, which it is sealed for.
    fn place(&self, id: Uuid) -> Vec<u8> {
        format!("{}:{}:{id}", base(self.line.prefix()), self.word()).into_bytes()
    }

    /// What keys and words on the channel call the kind.
    const fn word(&self) -> &'static str {
        match self.kind {
            Kind::Account => "account",
            Kind::ApiKey => "apikey",
        }
    }

    fn question(&self, verb: &str) -> Question {
        self.line.question(verb, TIMELESS).with(self.word())
    }

    fn read(&self, id: Uuid) -> Question {
        self.question("record.read").with(id.to_string())
    }

    /// Asks within what a request waits.
    async fn ask(&self, question: &Question) -> Result<Value, StoreError> {
        self.line.ask(question, self.line.budget()).await.map_err(StoreError::Shared)
    }

    /// The same for what must not be undone by the loss of one server: a key that was revoked would hold again.
    async fn ask_lasting(&self, question: &Question) -> Result<Value, StoreError> {
        self.line.ask_lasting(question, self.line.budget()).await.map_err(StoreError::Shared)
    }

    /// Asks where no request waits.
    async fn ask_behind(&self, question: &Question) -> Result<Value, StoreError> {
        self.line.ask(question, BEHIND.max(self.line.budget())).await.map_err(StoreError::Shared)
    }
}

/// What is answered for each of so many ids, in their order.
fn each(answer: &Value, count: usize) -> Result<Vec<Option<Vec<u8>>>, Fault> {
    let Value::Array(found) = answer else { return Err(Fault::Nonsense) };
    if found.len() != count {
        return Err(Fault::Nonsense);
    }
    found.iter().map(text).collect()
}

/// What is answered for the one id that was asked for.
fn one(answer: &Value) -> Result<Option<Vec<u8>>, StoreError> {
    let found = each(answer, 1).map_err(StoreError::Shared)?;
    Ok(found.into_iter().next().flatten())
}

fn text(answer: &Value) -> Result<Option<Vec<u8>>, Fault> {
    if matches!(answer, Value::Nil) {
        return Ok(None);
    }
    let Value::BulkString(text) = answer else { return Err(Fault::Nonsense) };
    Ok(Some(text.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_for_fewer_or_more_than_were_asked_for_is_none() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let found = each(&Value::Array(vec![text("a"), Value::Nil]), 2).unwrap();
        assert_eq!(found, [Some(b"a".to_vec()), None]);
        for wrong in [
            Value::Array(vec![text("a")]),
            Value::Array(vec![text("a"), text("b"), text("c")]),
            Value::Array(vec![text("a"), Value::Int(0)]),
            Value::Nil,
            text("a"),
        ] {
            assert_eq!(each(&wrong, 2), Err(Fault::Nonsense), "{wrong:?}");
        }
    }
}
