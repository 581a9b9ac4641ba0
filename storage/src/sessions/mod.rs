//! Sessions: who signed in, until when.
//!
//! The cookie holds 256 random bits and nothing else; they are never stored. A session is found by their
//! keyed digest, and its record is sealed with that digest as its place, so a copied or swapped record does
//! not open. The time of last use lies beside the record, authenticated, so that a touch rewrites 48 bytes.
//!
//! The contract that every adapter keeps (`contract.rs`):
//! - `create` is on disk before it returns; so are `end` and `end_all`, and what they ended is found by
//!   nobody from then on. A tombstone stays until the session's absolute end, and wins over a record that
//!   somebody writes back.
//! - `find` answers live sessions only: before the absolute end, and used within the idle time.
//! - `touch` writes at most once in a while ([`SessionRules::touch_every_ms`]), only if nobody touched since
//!   the session was read, and never creates: a touch that races an end loses (threat 14). A touch may be
//!   lost in a crash, which shortens the session and nothing else.
//! - an account has at most [`SessionRules::per_account_max`] live sessions; one more ends the oldest.
//! - whoever keeps what was read does so for a second at most past the end of a session, whichever gateway has ended it.
//! - a hint is there from `create` on and goes with its session, however that ends; `replace_hint` brings none back.
//! - `end_elsewhere` ends what an identity provider names, by its name for the session, and by the account. A session of an
//!   account that knows no such name, because it was made before names were kept or the provider tells none, ends with
//!   every session of its account that the provider ends: rather too many than one too few.

#[cfg(test)]
mod contract;
mod embedded;
mod hint;
mod memory;
mod provider;
mod record;
pub(crate) mod redis;
mod secret;
#[cfg(test)]
mod tests;
mod touch;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::time::UnixMillis;
use tokio::sync::watch;
use uuid::Uuid;

use self::redis::Redis;
use crate::credentials::Person;
use crate::keyring::Digest;
use crate::redis::{Observer, RedisPlace, Standings};
use crate::{Change, Changes, Keyring, Store, StoreError};
use embedded::Embedded;
pub(crate) use embedded::prepare;
pub use hint::{HINT_BYTES_MAX, SignOutHint};
use memory::Memory;
pub use provider::{EndedElsewhere, ProviderSession, SID_BYTES_MAX};
use record::{Record, displaced};
pub use secret::SessionSecret;

/// What else gateways share is asked over the connection of their sessions.
pub(crate) mod shared {
    pub(crate) use super::redis::line::{BEHIND, KNOWN, Line, TIMELESS};
    pub(crate) use super::redis::script::{Question, base, hex, id, list, number};
}

/// `User-Agent` is remembered up to this many bytes, for the list of sessions that a person sees.
pub const USER_AGENT_BYTES_MAX: usize = 256;

/// Live sessions of one account: a person's browsers and devices. The oldest end when there are more.
pub const PER_ACCOUNT_DEFAULT: usize = 10;

/// A session in use is written at least this often, in milliseconds, however long the idle time is.
const TOUCH_EVERY_MS_MAX: u64 = 60_000;

/// Where sessions are kept.
pub struct Sessions {
    adapter: Adapter,
    changes: Changes,
}

enum Adapter {
    Embedded(Embedded),
    Memory(Memory),
    Redis(Box<Redis>),
}

/// The Redis that gateways share sessions in.
#[derive(Clone, Debug)]
pub struct SharedSessions {
    /// Where it is, and who we are there.
    pub place: RedisPlace,
    /// How long a request waits for an answer at most. Past it there is no session.
    pub budget: Duration,
    /// How many replicas have a sign-in, or an end, before it is said to be done; 0 where the one server's word is enough.
    pub replicas: u8,
}

/// How long sessions live and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRules {
    /// A session ends when it was not used for this many milliseconds. Because a use is written once in a
    /// while only, it may end up to [`SessionRules::touch_every_ms`] sooner, never later.
    pub idle_ms: u64,
    /// A session ends this many milliseconds after it was created, used or not.
    pub absolute_ms: u64,
    /// Live sessions of one account, at least 1.
    pub per_account_max: usize,
}

/// What is known when somebody signs in.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// The account that signed in.
    pub account: Uuid,
    /// How strongly it was proved: 1 for one factor, 2 for two, 3 for a phishing-resistant one.
    pub assurance: u8,
    /// When it was proved; 0 where nobody says.
    pub authenticated_at: UnixMillis,
    /// Where from.
    pub client: Option<IpAddr>,
    /// With which program; kept up to [`USER_AGENT_BYTES_MAX`] bytes.
    pub user_agent: Option<String>,
    /// The session at an identity provider that it goes back to, where that has a name.
    pub provider: Option<ProviderSession>,
    /// Whom a provider vouched for, where it did. Kept where gateways share sessions, for those of them that have not met
    /// the person.
    pub person: Option<Person>,
    /// What the provider is shown when the person signs out there as well.
    pub hint: Option<SignOutHint>,
}

impl NewSession {
    /// By one factor that was proved then, and nothing known beside.
    #[must_use]
    pub const fn of(account: Uuid, authenticated_at: UnixMillis) -> Self {
        Self {
            account,
            assurance: 1,
            authenticated_at,
            client: None,
            user_agent: None,
            provider: None,
            person: None,
            hint: None,
        }
    }
}

/// A session that was just created.
pub struct CreatedSession {
    /// What the cookie carries. It is not stored; this is the only time that it is there.
    pub secret: SessionSecret,
    /// The session.
    pub session: SessionView,
    /// The account's oldest sessions, ended because it had too many.
    pub displaced: Vec<Uuid>,
}

/// A live session, as the gateway sees it. The cookie's secret is not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Public id (UUID v4): what records and administrators name it by.
    pub id: Uuid,
    /// The account that signed in.
    pub account: Uuid,
    /// When it was created.
    pub created_at: UnixMillis,
    /// When it ends whatever happens.
    pub absolute_end: UnixMillis,
    /// When it was last written as used; also the version that a touch compares.
    pub touched_at: UnixMillis,
    /// When it ends unless it is used.
    pub idle_end: UnixMillis,
    /// How strongly its account was proved when it was created.
    pub assurance: u8,
    /// When that was; 0 where nobody says.
    pub authenticated_at: UnixMillis,
    /// Where it was created from.
    pub client: Option<IpAddr>,
    /// With which program.
    pub user_agent: Option<Arc<str>>,
    /// The session at an identity provider that it goes back to.
    pub provider: Option<Arc<ProviderSession>>,
    /// Whom a provider vouched for, where gateways share sessions.
    pub person: Option<Arc<Person>>,
    /// Where it lies in the store: the keyed digest of its secret.
    pub(crate) place: Digest,
}

impl Sessions {
    /// Sessions in the embedded store.
    #[must_use]
    pub fn embedded(store: Store, rules: SessionRules) -> Self {
        let changes = store.changes().clone();
        Self { adapter: Adapter::Embedded(Embedded::new(store, rules)), changes }
    }

    /// Sessions in memory, which end with the process.
    #[must_use]
    pub fn memory(keyring: Keyring, rules: SessionRules) -> Self {
        Self { adapter: Adapter::Memory(Memory::new(keyring, rules)), changes: Changes::default() }
    }

    /// Sessions in a Redis that several gateways share; all of them hold the same master keys. It is connected to by
    /// [`Sessions::tend`] alone. What ends is told to `changes`, whichever gateway has ended it.
    #[must_use]
    pub fn redis(
        shared: SharedSessions,
        keyring: Keyring,
        rules: SessionRules,
        changes: Changes,
        observer: Observer,
    ) -> Self {
        let redis = Redis::new(shared, keyring, rules, changes.clone(), observer);
        Self { adapter: Adapter::Redis(Box::new(redis)), changes }
    }

    /// Keeps a shared store connected, and hears what other gateways end. Runs until it is dropped; for the others there
    /// is nothing to do.
    pub async fn tend(&self) {
        match &self.adapter {
            Adapter::Embedded(_) | Adapter::Memory(_) => {}
            Adapter::Redis(redis) => match redis.tend().await {},
        }
    }

    /// How a shared store is, and a notice of every change; the others are always there.
    #[must_use]
    pub fn standing(&self) -> Option<watch::Receiver<Standings>> {
        match &self.adapter {
            Adapter::Embedded(_) | Adapter::Memory(_) => None,
            Adapter::Redis(redis) => Some(redis.standing()),
        }
    }

    /// The connection to a shared store, for what gateways share beside sessions.
    pub(crate) fn line(&self) -> Option<(Arc<shared::Line>, Keyring)> {
        match &self.adapter {
            Adapter::Embedded(_) | Adapter::Memory(_) => None,
            Adapter::Redis(redis) => Some(redis.line()),
        }
    }

    /// Creates a session. Rotation at sign-in is a creation followed by [`Sessions::end`] of the old one.
    ///
    /// # Errors
    /// When the store fails; then there is no session.
    pub async fn create(&self, new: NewSession, now: UnixMillis) -> Result<CreatedSession, StoreError> {
        let created = match &self.adapter {
            // Whose accounts lie beside it.
            Adapter::Embedded(embedded) => embedded.create(NewSession { person: None, ..new }, now).await?,
            Adapter::Memory(memory) => memory.create(NewSession { person: None, ..new }, now),
            // Boxed, so that whoever keeps sessions here does not carry what waits for a server.
            Adapter::Redis(redis) => Box::pin(redis.create(new, now)).await?,
        };
        self.tell(&created.displaced);
        Ok(created)
    }

    /// The live session of a cookie's secret.
    ///
    /// # Errors
    /// When the store fails or the record was tampered with; nobody is signed in by that.
    pub async fn find(
        &self,
        secret: &SessionSecret,
        now: UnixMillis,
    ) -> Result<Option<SessionView>, StoreError> {
        match &self.adapter {
            Adapter::Embedded(embedded) => embedded.find(secret, now),
            Adapter::Memory(memory) => Ok(memory.find(secret, now)),
            Adapter::Redis(redis) => Box::pin(redis.find(secret, now)).await,
        }
    }

    /// The live session of this public id: for who was found by the secret and asks again, never to find anybody.
    ///
    /// # Errors
    /// When the store fails or the record was tampered with; then nobody is signed in by that.
    pub async fn live(&self, id: Uuid, now: UnixMillis) -> Result<Option<SessionView>, StoreError> {
        match &self.adapter {
            Adapter::Embedded(embedded) => embedded.live(id, now),
            Adapter::Memory(memory) => Ok(memory.live(id, now)),
            Adapter::Redis(redis) => Box::pin(redis.live(id, now)).await,
        }
    }

    /// Where the end of a session is told; one that ends by time tells nobody.
    #[must_use]
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Notes that a session that was found is used, where that is due. Whether anything was written.
    ///
    /// # Errors
    /// When the store fails; the session is what it was.
    pub async fn touch(&self, session: &SessionView, now: UnixMillis) -> Result<bool, StoreError> {
        match &self.adapter {
            Adapter::Embedded(embedded) => embedded.touch(session, now).await,
            Adapter::Memory(memory) => Ok(memory.touch(session, now)),
            Adapter::Redis(redis) => Box::pin(redis.touch(session, now)).await,
        }
    }

    /// What the provider of a session is shown when its person signs out there as well, where that is kept.
    ///
    /// # Errors
    /// When the store fails or what is kept was tampered with.
    pub async fn hint(&self, id: Uuid, now: UnixMillis) -> Result<Option<SignOutHint>, StoreError> {
        match &self.adapter {
            Adapter::Embedded(embedded) => embedded.hint(id),
            Adapter::Memory(memory) => Ok(memory.hint(id)),
            Adapter::Redis(redis) => Box::pin(redis.hint(id, now)).await,
        }
    }

    /// Keeps another in its place, for as long as the session is there. It may be lost in a crash: then the one before is told.
    ///
    /// # Errors
    /// When the store fails; then the one before is told.
    pub async fn replace_hint(&self, id: Uuid, hint: SignOutHint, now: UnixMillis) -> Result<(), StoreError> {
        match &self.adapter {
            Adapter::Embedded(embedded) => embedded.replace_hint(id, hint).await,
            Adapter::Memory(memory) => {
                memory.replace_hint(id, hint);
                Ok(())
            }
            Adapter::Redis(redis) => Box::pin(redis.replace_hint(id, &hint, now)).await,
        }
    }

    /// Ends a session by its public id; answers what it was, or nothing where there was none.
    ///
    /// # Errors
    /// When the store fails; then the session may live on.
    pub async fn end(&self, id: Uuid, now: UnixMillis) -> Result<Option<SessionView>, StoreError> {
        let ended = match &self.adapter {
            Adapter::Embedded(embedded) => embedded.end(id, now).await?,
            Adapter::Memory(memory) => memory.end(id, now),
            Adapter::Redis(redis) => Box::pin(redis.end(id, now)).await?,
        };
        self.tell(&[id]);
        Ok(ended)
    }

    /// Ends every session of an account, and answers which.
    ///
    /// # Errors
    /// When the store fails; then none was ended.
    pub async fn end_all(&self, account: Uuid, now: UnixMillis) -> Result<Vec<Uuid>, StoreError> {
        let ended = match &self.adapter {
            Adapter::Embedded(embedded) => embedded.end_all(account, now).await?,
            Adapter::Memory(memory) => memory.end_all(account, now),
            Adapter::Redis(redis) => Box::pin(redis.end_all(account, now)).await?,
        };
        self.tell(&ended);
        Ok(ended)
    }

    /// Ends what an identity provider says has ended there, and answers which.
    ///
    /// # Errors
    /// When the store fails; then none was ended.
    pub async fn end_elsewhere(
        &self,
        ended: EndedElsewhere,
        now: UnixMillis,
    ) -> Result<Vec<Uuid>, StoreError> {
        let ended = match &self.adapter {
            Adapter::Embedded(embedded) => embedded.end_elsewhere(ended, now).await?,
            Adapter::Memory(memory) => memory.end_elsewhere(&ended, now),
            Adapter::Redis(redis) => Box::pin(redis.end_elsewhere(&ended, now)).await?,
        };
        self.tell(&ended);
        Ok(ended)
    }

    /// The live sessions, of one account or of all, oldest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, account: Option<Uuid>, now: UnixMillis) -> Result<Vec<SessionView>, StoreError> {
        let mut sessions = match &self.adapter {
            Adapter::Embedded(embedded) => embedded.list(account, now).await?,
            Adapter::Memory(memory) => memory.list(account, now),
            Adapter::Redis(redis) => Box::pin(redis.list(account, now)).await?,
        };
        sessions.sort_by_key(|session| (session.created_at, session.id));
        Ok(sessions)
    }

    /// How many live sessions there are.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn count(&self, now: UnixMillis) -> Result<usize, StoreError> {
        match &self.adapter {
            Adapter::Embedded(_) | Adapter::Memory(_) => Ok(self.list(None, now).await?.len()),
            Adapter::Redis(redis) => Box::pin(redis.count(now)).await,
        }
    }

    /// Removes what has ended by time, and tombstones past their time. Meant to run once a minute; it also
    /// puts touches on disk. Answers how many sessions were removed.
    ///
    /// # Errors
    /// When the store fails; the next sweep removes them.
    pub async fn sweep(&self, now: UnixMillis) -> Result<usize, StoreError> {
        match &self.adapter {
            Adapter::Embedded(embedded) => embedded.sweep(now).await,
            Adapter::Memory(memory) => Ok(memory.sweep(now)),
            Adapter::Redis(redis) => Box::pin(redis.sweep(now)).await,
        }
    }
}

impl Sessions {
    fn tell(&self, ended: &[Uuid]) {
        // What gateways share is told where it is heard, whoever has ended it.
        if matches!(self.adapter, Adapter::Redis(_)) {
            return;
        }
        for id in ended {
            self.changes.tell(Change::Session(*id));
        }
    }
}

impl SessionRules {
    /// How often a session in use is written, in milliseconds: a tenth of the idle time, at most a minute.
    #[must_use]
    pub fn touch_every_ms(&self) -> u64 {
        (self.idle_ms / 10).min(TOUCH_EVERY_MS_MAX)
    }
}

impl SessionView {
    /// Whether it is neither past its absolute end nor idle for too long.
    #[must_use]
    pub fn is_live(&self, now: UnixMillis) -> bool {
        now < self.absolute_end && now < self.idle_end
    }
}
