//! Sessions in a Redis that several gateways share.
//!
//! | key, after `PREFIX:{session}` | holds |
//! |---|---|
//! | `:s:PLACE` | a session: the sealed record, its authenticated last use, and what the script finds its other keys by |
//! | `:i:ID` | the place of a public id |
//! | `:a:ACCOUNT` | the ids of an account's sessions, by creation |
//! | `:p:DIGEST` | the ids that go back to a session of a provider |
//! | `:h:ID` | what the provider of a session is shown at sign-out, sealed for this key |
//! | `:ends` | all ids, by when they end unless they are used |
//! | `:x:PLACE` | that a session was ended, until its absolute end |
//! | `:mark:RANDOM` | nothing: it is written so that replicas have it, where they are waited for |
//! | `:key` | a digest that tells which master key the sessions are sealed under |
//!
//! The record is sealed for its key, and alone believed: who can write there may take sessions away and bring back one
//! that they have copied before its end, and can make none, change none, and move none to another account.
//!
//! A look-up is answered from what was read before, for [`KNOWN`] at most, while [`mod@line`] says that nothing was missed.
//! Without the store there is no session: every question is an error then, which is no word about anybody.

mod heard;
mod lasting;
pub(super) mod line;
pub(super) mod script;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use engine::time::UnixMillis;
use redis::Value;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use uuid::Uuid;

use self::heard::Heard;
use self::line::{BEHIND, KNOWN, Line};
use self::script::{Gone, Question, Stored, hex, hint_key, record_key};
use super::touch::{read_touch, touch};
use super::{
    CreatedSession, EndedElsewhere, NewSession, Record, SessionRules, SessionSecret, SessionView,
    SharedSessions, SignOutHint,
};
use crate::keyring::{Digest, Keyring, Purpose};
use crate::opened::Opened;
use crate::recent::Recent;
use crate::redis::{Fault, IN_FLIGHT_MAX, Observer, Pause, Standing, Standings};
use crate::seal::{seal, unseal};
use crate::{Changes, StoreError};

/// Sessions that are read, or removed, in one round trip.
const AT_ONCE: usize = 256;
/// How long it is tried to do what nobody waits for any more: longer than it takes to start a Redis, or to replace it.
const AFTERWARDS: Duration = Duration::from_secs(300);

pub(super) struct Redis {
    line: Arc<Line>,
    keyring: Keyring,
    rules: SessionRules,
    opened: Opened<Digest, Record>,
    recent: Recent<Digest, (Instant, SessionView)>,
    /// Room for what is done afterwards: for all that may have been under way when a store went away.
    afterwards: Arc<Semaphore>,
}

impl Redis {
    pub(super) fn new(
        shared: SharedSessions,
        keyring: Keyring,
        rules: SessionRules,
        changes: Changes,
        observer: Observer,
    ) -> Self {
        let line = Arc::new(Line::new(shared, keyring.clone(), Heard::new(changes), observer));
        let afterwards = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
        Self { line, keyring, rules, opened: Opened::new(), recent: Recent::new(), afterwards }
    }

    pub(super) async fn tend(&self) -> Infallible {
        self.line.tend().await
    }

    pub(super) fn standing(&self) -> watch::Receiver<Standings> {
        self.line.standing()
    }

    /// The connection, for what is kept beside sessions, and the keys that it is kept under.
    pub(super) fn line(&self) -> (Arc<Line>, Keyring) {
        (Arc::clone(&self.line), self.keyring.clone())
    }

    /// Asks within what a request waits.
    async fn ask(&self, question: &Question) -> Result<Value, StoreError> {
        self.line.ask(question, self.line.budget()).await.map_err(StoreError::Shared)
    }

    /// The same for what must not be undone by the loss of one server.
    async fn ask_lasting(&self, question: &Question) -> Result<Value, StoreError> {
        self.line.ask_lasting(question, self.line.budget()).await.map_err(StoreError::Shared)
    }

    /// The same where no request waits.
    async fn ask_lasting_behind(&self, question: &Question) -> Result<Value, StoreError> {
        let within = BEHIND.max(self.line.budget());
        self.line.ask_lasting(question, within).await.map_err(StoreError::Shared)
    }

    /// Asks where no request waits.
    async fn ask_behind(&self, question: &Question) -> Result<Value, StoreError> {
        self.line.ask(question, BEHIND.max(self.line.budget())).await.map_err(StoreError::Shared)
    }

    pub(super) async fn create(
        &self,
        mut new: NewSession,
        now: UnixMillis,
    ) -> Result<CreatedSession, StoreError> {
        if self.line.misses_replicas() {
            return Err(StoreError::Shared(Fault::Unkept));
        }
        let hint = new.hint.take();
        let secret = SessionSecret::generate();
        let place = self.keyring.digest(Purpose::SessionDigest, secret.bytes());
        let record = Record::new(new, &self.rules, now);
        let text = serde_json::to_vec(&record).map_err(|_| StoreError::Malformed)?;
        let key = record_key(self.line.prefix(), &place);
        let sealed = seal(&self.keyring, Purpose::SessionRecord, &key, &text).map_err(StoreError::Seal)?;
        let provider = record.provider.as_ref().map(|provider| hex(&provider.digest(&self.keyring)));
        let session = record.view(place, now, &self.rules);
        let hint = hint
            .map(|hint| hint.sealed(&self.keyring, &hint_key(self.line.prefix(), session.id)))
            .transpose()?;
        let question = self
            .line
            .question("create", now)
            .with(hex(&place))
            .with(session.id.to_string())
            .with(session.account.to_string())
            .with(provider.unwrap_or_default())
            .with(sealed)
            .with(touch(&self.keyring, &place, now))
            .with(session.absolute_end.0.to_string())
            .with(session.idle_end.0.to_string())
            .with(hint.unwrap_or_default());
        let was_there = self.line.is_there();
        let created = if self.line.lasts() {
            self.create_lasting(&question.with(""), &session, now).await
        } else {
            self.create_alone(&question.with(self.per_account_max())).await
        };
        // It may have been made all the same, or be made yet.
        if was_there && matches!(created, Err(StoreError::Shared(_))) {
            self.take_back(session.id, now);
        }
        let displaced = created?.iter().map(|gone| gone.id).collect();
        Ok(CreatedSession { secret, session, displaced })
    }

    async fn create_alone(&self, question: &Question) -> Result<Vec<Gone>, StoreError> {
        self.gone(&self.ask(question).await?)
    }

    /// Creates a session that replicas have to have. It takes nothing away before they do, and does not stay where they do
    /// not: nobody is signed out by a sign-in that came to nothing, however often. Once they have it, it stays: those that are
    /// too many beside it may be gone then, though nobody has said so in time.
    async fn create_lasting(
        &self,
        question: &Question,
        session: &SessionView,
        now: UnixMillis,
    ) -> Result<Vec<Gone>, StoreError> {
        let displace = self
            .line
            .question("displace", now)
            .with(session.account.to_string())
            .with(session.id.to_string())
            .with(self.per_account_max());
        self.ask_lasting(question).await?;
        match self.ask(&displace).await {
            // By now the replicas have the session, so that it stays: taken back, it might have signed somebody out for nothing.
            Err(StoreError::Shared(_)) => {
                self.afterwards(displace, "an account may have more sessions than it should");
                Ok(Vec::new())
            }
            answer => self.gone(&answer?),
        }
    }

    /// Ends a session that was made in vain. Whoever wanted it has their answer by then, and would be counted as if they held
    /// it.
    fn take_back(&self, id: Uuid, now: UnixMillis) {
        let undo = self.line.question("end", now).with(id.to_string());
        self.afterwards(undo, "a session that nobody holds may be left in the store");
    }

    /// Asks where nobody waits for it any more, once the store is there. What it takes away all gateways hear of, as of all
    /// ends.
    fn afterwards(&self, question: Question, otherwise: &'static str) {
        let Ok(room) = Arc::clone(&self.afterwards).try_acquire_owned() else {
            tracing::warn!("{otherwise}: too much is to be done already");
            return;
        };
        let line = Arc::clone(&self.line);
        tokio::spawn(async move {
            let _room = room;
            let (mut standing, mut pause) = (line.standing(), Pause::default());
            let done = async {
                loop {
                    // It says how it is for as long as there is a line.
                    standing.wait_for(|standings| standings.now == Standing::Up).await.ok();
                    match line.ask(&question, BEHIND).await {
                        Ok(_) => return,
                        Err(error) => tracing::debug!(%error, "it is asked again"),
                    }
                    tokio::time::sleep(pause.next()).await;
                }
            };
            if tokio::time::timeout(AFTERWARDS, done).await.is_err() {
                tracing::warn!("{otherwise}");
            }
        });
    }

    fn per_account_max(&self) -> String {
        self.rules.per_account_max.max(1).to_string()
    }

    pub(super) async fn find(
        &self,
        secret: &SessionSecret,
        now: UnixMillis,
    ) -> Result<Option<SessionView>, StoreError> {
        // Sealed under whichever master: the digest under the active one tells the secret from all others.
        let key = secret.digest(&self.keyring);
        let epoch = self.line.heard.epoch(&key);
        if self.line.is_fresh()
            && let Some((read, session)) = self.recent.get(&key, epoch)
            && read.elapsed() < KNOWN
            // Idle too long is what we know of it; another gateway may have noted a use.
            && session.is_live(now)
        {
            return Ok(Some(session));
        }
        let places: Vec<Digest> = self.keyring.digests(Purpose::SessionDigest, secret.bytes()).collect();
        let question = self.line.question("find", now).with_all(places.iter().map(hex));
        let read = Instant::now();
        let Some(stored) = script::stored(&self.ask(&question).await?).map_err(StoreError::Shared)? else {
            return Ok(None);
        };
        // A record opens in its place, and only we know whose place that is.
        if !places.contains(&stored.place) {
            return Err(StoreError::Malformed);
        }
        let session = self.open(&stored)?;
        // What is kept is forgotten by its own place: that of a session under an older master is another.
        if session.place == key {
            self.recent.put(key, epoch, (read, session.clone()));
        }
        Ok(Some(session).filter(|session| session.is_live(now)))
    }

    pub(super) async fn live(&self, id: Uuid, now: UnixMillis) -> Result<Option<SessionView>, StoreError> {
        let sessions = self.read(&[id], now).await?;
        Ok(sessions.into_iter().find(|session| session.id == id && session.is_live(now)))
    }

    /// What there is of these.
    async fn read(&self, ids: &[Uuid], now: UnixMillis) -> Result<Vec<SessionView>, StoreError> {
        let question = self.line.question("live", now).with_all(ids.iter().map(Uuid::to_string));
        let stored = script::list(&self.ask_behind(&question).await?, script::stored);
        stored.map_err(StoreError::Shared)?.iter().map(|stored| self.open(stored)).collect()
    }

    pub(super) async fn touch(&self, seen: &SessionView, now: UnixMillis) -> Result<bool, StoreError> {
        // One that nobody touched since is live as long as it was then.
        if now.since(seen.touched_at) < self.rules.touch_every_ms() || !seen.is_live(now) {
            return Ok(false);
        }
        let question = self
            .line
            .question("touch", now)
            .with(hex(&seen.place))
            .with(seen.id.to_string())
            .with(seen.touched_at.0.to_be_bytes())
            .with(touch(&self.keyring, &seen.place, now))
            .with(now.plus(self.rules.idle_ms).0.to_string());
        let answer = self.ask(&question).await;
        // Also where it was another gateway that noted a use, or where it is not known what came of it.
        self.line.heard.changed(&seen.place);
        Ok(script::number(&answer?).map_err(StoreError::Shared)? == 1)
    }

    pub(super) async fn hint(&self, id: Uuid, now: UnixMillis) -> Result<Option<SignOutHint>, StoreError> {
        let answer = self.ask(&self.line.question("hint", now).with(id.to_string())).await?;
        if matches!(answer, Value::Nil) {
            return Ok(None);
        }
        let Value::BulkString(sealed) = answer else { return Err(StoreError::Shared(Fault::Nonsense)) };
        SignOutHint::open(&self.keyring, &hint_key(self.line.prefix(), id), &sealed).map(Some)
    }

    pub(super) async fn replace_hint(
        &self,
        id: Uuid,
        hint: &SignOutHint,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let sealed = hint.sealed(&self.keyring, &hint_key(self.line.prefix(), id))?;
        let question = self.line.question("replace_hint", now).with(id.to_string()).with(sealed);
        self.ask_behind(&question).await.map(drop)
    }

    pub(super) async fn end(&self, id: Uuid, now: UnixMillis) -> Result<Option<SessionView>, StoreError> {
        let answer = self.ask_lasting(&self.line.question("end", now).with(id.to_string())).await?;
        let Some(stored) = script::stored(&answer).map_err(StoreError::Shared)? else { return Ok(None) };
        self.line.heard.ended(&stored.place, id);
        Ok(Some(self.open(&stored)?).filter(|session| session.is_live(now)))
    }

    pub(super) async fn end_all(&self, account: Uuid, now: UnixMillis) -> Result<Vec<Uuid>, StoreError> {
        let question = self.line.question("end_account", now).with(account.to_string());
        let gone = self.gone(&self.ask_lasting_behind(&question).await?)?;
        Ok(lived(&gone))
    }

    pub(super) async fn end_elsewhere(
        &self,
        ended: &EndedElsewhere,
        now: UnixMillis,
    ) -> Result<Vec<Uuid>, StoreError> {
        let of_account = |account: &Uuid| self.line.question("end_account", now).with(account.to_string());
        let question = match ended {
            EndedElsewhere::Account(account) => of_account(account),
            EndedElsewhere::SessionOf(session, account) => {
                of_account(account).with_all(session.digests(&self.keyring).map(|digest| hex(&digest)))
            }
            EndedElsewhere::Session(session) => self
                .line
                .question("end_provider", now)
                .with_all(session.digests(&self.keyring).map(|digest| hex(&digest))),
        };
        let gone = self.gone(&self.ask_lasting_behind(&question).await?)?;
        Ok(lived(&gone))
    }

    pub(super) async fn list(
        &self,
        account: Option<Uuid>,
        now: UnixMillis,
    ) -> Result<Vec<SessionView>, StoreError> {
        let named = account.map(|account| account.to_string()).unwrap_or_default();
        let answer = self.ask_behind(&self.line.question("ids", now).with(named)).await?;
        let ids = script::list(&answer, script::id).map_err(StoreError::Shared)?;
        let mut sessions = Vec::new();
        for some in ids.chunks(AT_ONCE) {
            sessions.extend(self.read(some, now).await?);
        }
        sessions.retain(|session| {
            session.is_live(now) && account.is_none_or(|account| session.account == account)
        });
        Ok(sessions)
    }

    pub(super) async fn count(&self, now: UnixMillis) -> Result<usize, StoreError> {
        let answer = self.ask_behind(&self.line.question("count", now)).await?;
        script::number(&answer).map_err(StoreError::Shared)
    }

    pub(super) async fn sweep(&self, now: UnixMillis) -> Result<usize, StoreError> {
        let question = self.line.question("sweep", now).with(AT_ONCE.to_string());
        let mut swept = 0_usize;
        loop {
            let some = script::number(&self.ask_behind(&question).await?).map_err(StoreError::Shared)?;
            swept = swept.saturating_add(some);
            if some < AT_ONCE {
                return Ok(swept);
            }
        }
    }

    /// What was ended, told to whoever rests on it.
    fn gone(&self, answer: &Value) -> Result<Vec<Gone>, StoreError> {
        let gone = script::list(answer, script::gone).map_err(StoreError::Shared)?;
        for Gone { id, place, .. } in &gone {
            self.line.heard.ended(place, *id);
        }
        Ok(gone)
    }

    fn open(&self, stored: &Stored) -> Result<SessionView, StoreError> {
        let Stored { place, record, touch } = stored;
        let record = self.opened.get(*place, record, || {
            let key = record_key(self.line.prefix(), place);
            let text =
                unseal(&self.keyring, Purpose::SessionRecord, &key, record).map_err(StoreError::Unseal)?;
            serde_json::from_slice::<Record>(&text).map_err(|_| StoreError::Malformed)
        })?;
        let touched_at = read_touch(&self.keyring, place, touch).ok_or(StoreError::Malformed)?;
        Ok(record.view(*place, touched_at, &self.rules))
    }
}

fn lived(gone: &[Gone]) -> Vec<Uuid> {
    gone.iter().filter(|gone| gone.was_live).map(|gone| gone.id).collect()
}
