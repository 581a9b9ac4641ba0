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
//! | `:x:PLACE` | that a session was ended, or is wanted by nobody any more, until its absolute end: none begins here |
//! | `:mark:RANDOM` | nothing: it is written so that replicas have it, where they are waited for |
//! | `:key` | a digest that tells which master key the sessions are sealed under |
//!
//! The record is sealed for its key, and alone believed: who can write there may take sessions away and bring back one
//! that they have copied before its end, and can make none, change none, and move none to another account.
//!
//! A look-up is answered from what was read before, for [`KNOWN`] at most, while [`mod@line`] says that nothing was missed.
//! Without the store there is no session: every question is an error then, which is no word about anybody.

mod afterwards;
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

use engine::time::UnixMillis;
use redis::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use self::afterwards::{Afterwards, Unheld};
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
use crate::redis::{Fault, Observer, Standings};
use crate::seal::{seal, unseal};
use crate::{Changes, StoreError};

/// Sessions that are read, or removed, in one round trip.
const AT_ONCE: usize = 256;
/// Has a session that is made name those that are too many beside it, and end none yet.
const NAMED: &str = "named";

pub(super) struct Redis {
    line: Arc<Line>,
    keyring: Keyring,
    rules: SessionRules,
    opened: Opened<Digest, Record>,
    recent: Recent<Digest, (Instant, SessionView)>,
    afterwards: Afterwards,
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
        let afterwards = Afterwards::new(Arc::clone(&line));
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
            .with(hint.unwrap_or_default())
            .with(self.per_account_max());
        let mut unheld = self.unheld(&session, now);
        let created = if self.line.lasts() {
            self.create_lasting(&question.with(NAMED), &session, now).await
        } else {
            self.create_alone(&question).await
        };
        match &created {
            Ok(_) => unheld.is_held(),
            // Nothing is under way any more that could make it: it is there, or never will be, and then needs no tombstone,
            // which a memory that is full has no room for.
            Err(StoreError::Shared(Fault::Refused(_) | Fault::Unkept)) => {
                unheld.undone_by(self.line.question("end", now).with(session.id.to_string()));
            }
            Err(_) => {}
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
        let named = script::list(&self.ask_lasting(question).await?, script::id);
        let named = named.map_err(StoreError::Shared)?;
        if named.is_empty() {
            return Ok(Vec::new());
        }
        // Of those alone that were there before it: where this comes late, a newer session is another sign-in's to judge by.
        let displace = self
            .line
            .question("displace", now)
            .with(session.account.to_string())
            .with(session.id.to_string())
            .with(self.per_account_max())
            .with_all(named.iter().map(Uuid::to_string));
        match self.ask(&displace).await {
            // By now the replicas have the session, so that it stays: taken back, it might have signed somebody out for nothing.
            Err(StoreError::Shared(_)) => {
                self.afterwards.ask(displace, "an account may have more sessions than it should");
                Ok(Vec::new())
            }
            answer => self.gone(&answer?),
        }
    }

    /// A session that is about to be made. Where nobody comes to hold it, it ends, and its place is closed: the question that
    /// makes it may be under way still and arrive after that, over another connection or a network that kept it, and then makes
    /// none and displaces nobody.
    ///
    /// The place stays closed as after any end, until the session would be over whatever happened to it
    /// ([`SessionRules::absolute_ms`]) and ten minutes. No bound of how long a question can be under way would do: the system
    /// sends what a closed connection still had for minutes (`tcp_orphan_retries`, some 100 s on Linux), one that is open has a
    /// quarter of an hour (`tcp_retries2`), and whatever stands between has its own. What comes after this bound makes a session
    /// that has ended.
    fn unheld(&self, session: &SessionView, now: UnixMillis) -> Unheld<'_> {
        let take_back = self
            .line
            .question("take_back", now)
            .with(hex(&session.place))
            .with(session.id.to_string())
            .with(session.absolute_end.0.to_string());
        self.afterwards.unheld(take_back)
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
