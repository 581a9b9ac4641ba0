//! What identity providers have ended, for whatever holds by itself: an access token, or a sign-in that is under way
//! while the word comes. Sessions are ended where they are kept.
//!
//! A mark is remembered for a day, which is longer than anything that it ends may live. They are found by keyed digests, so
//! that what is kept names nobody. There are at most [`MARKS_MAX`]; where one more comes, the ones that would be forgotten
//! first go. Only what a provider has signed becomes a mark, so nobody else fills them up.
//!
//! The contract that every adapter keeps (`contract.rs`):
//! - what was marked is over from then on for whoever shares the marks, within a second;
//! - what [`Endings::keep`] has said to be kept is there after a restart, and the message is taken at none of them again;
//! - a mark takes nothing back of an earlier one of the same name;
//! - without the store nobody knows what has ended: that is an error, and no word about anybody.

#[cfg(test)]
mod contract;
mod embedded;
mod shared;

use std::sync::Arc;

use engine::time::UnixMillis;
use uuid::Uuid;

use crate::keyring::{Digest, Keyring, Purpose};
use crate::sessions::Sessions;
use crate::{Change, Changes, Store, StoreError};
use embedded::Embedded;
pub(crate) use embedded::prepare;
use shared::Shared;

/// Marks that are remembered at once: 6 MB in memory, some 15 MB in a Redis.
pub const MARKS_MAX: usize = 65_536;
/// How long a mark is remembered: a day and an hour for clocks that differ, in milliseconds.
pub const KEPT_MS: u64 = 25 * 3600 * 1000;

/// The marks. Cheap to clone.
#[derive(Clone)]
pub struct Endings {
    /// Of this gateway: all there are, or those from before it shared them.
    own: Embedded,
    shared: Option<Arc<Shared>>,
    changes: Changes,
}

/// What a provider has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Who says so.
    pub issuer: String,
    /// What.
    pub what: Ended,
}

/// A session, or all of a person: whatever was issued for it until this moment of the provider's clock. What is issued
/// afterwards is another: a provider may end a session for one of its clients, and begin it there again under its old name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A session at the provider, by its name.
    Session(String, UnixMillis),
    /// All of a subject.
    Subject(String, UnixMillis),
}

/// Where a mark is: a keyed digest of what it ends, which names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place(Digest);

/// Until when what was issued is over, and when that is forgotten.
#[derive(Clone, Copy)]
struct Mark {
    until: UnixMillis,
    forget: UnixMillis,
}

impl Endings {
    /// The marks of `store`.
    ///
    /// # Errors
    /// When the store fails.
    pub fn open(store: Store) -> Result<Self, StoreError> {
        let changes = store.changes().clone();
        Ok(Self { own: Embedded::open(store)?, shared: None, changes })
    }

    /// The marks beside the sessions that gateways share, where they do. Those of before stay until they are forgotten.
    #[must_use]
    pub fn beside(self, sessions: &Sessions) -> Self {
        match sessions.line() {
            None => self,
            Some((line, keyring)) => Self {
                own: self.own,
                shared: Some(Arc::new(Shared::new(line, keyring))),
                // What others mark is heard there.
                changes: sessions.changes().clone(),
            },
        }
    }

    /// Whether another gateway may mark something. Then whoever rests on something asks each time; or else whatever rests on
    /// what is marked is ended here, by whoever marks it.
    #[must_use]
    pub const fn are_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Whether a message of this provider and name was taken before.
    ///
    /// # Errors
    /// When a shared store does not answer.
    pub async fn is_taken(&self, issuer: &str, message: &str, now: UnixMillis) -> Result<bool, StoreError> {
        if self.own.is_taken(issuer, message, now) {
            return Ok(true);
        }
        match &self.shared {
            None => Ok(false),
            // Boxed, so that whoever keeps them here does not carry what waits for a server.
            Some(shared) => Box::pin(shared.is_taken(issuer, message)).await,
        }
    }

    /// Whether what a provider has issued to a subject, at a moment of its clock and of one of its sessions, is over.
    ///
    /// # Errors
    /// When a shared store does not answer.
    pub async fn has_ended(
        &self,
        issuer: &str,
        subject: &str,
        sid: Option<&str>,
        issued: UnixMillis,
    ) -> Result<bool, StoreError> {
        if self.own.has_ended(issuer, subject, sid, issued) {
            return Ok(true);
        }
        match &self.shared {
            None => Ok(false),
            Some(shared) => Box::pin(shared.has_ended(issuer, subject, sid, issued)).await,
        }
    }

    /// Where a mark would be that ends what a provider has issued to a subject, of one of its sessions: one for each kind of
    /// mark and each master key. Nobody is asked.
    #[must_use]
    pub fn places(&self, issuer: &str, subject: &str, sid: Option<&str>) -> Vec<Place> {
        let keyring = self.shared.as_ref().map_or_else(|| self.own.keyring(), |shared| shared.keyring());
        of_issued(keyring, issuer, subject, sid).map(Place).collect()
    }

    /// Marks at once, before sessions are ended and anything is looked through, so that whoever comes in between finds the
    /// mark. It may be gone with this process until [`Endings::keep`].
    ///
    /// # Errors
    /// When a shared store does not answer, or too few of its replicas have it; then the mark holds here, and may elsewhere.
    pub async fn mark(&self, ending: &Ending, now: UnixMillis) -> Result<(), StoreError> {
        match &self.shared {
            None => {
                self.own.mark(ending, now);
                Ok(())
            }
            Some(shared) => {
                let marked = Box::pin(shared.mark(ending, now)).await;
                if marked.is_err() {
                    // Then it is at least over at the gateway that was told, for as long as that runs.
                    self.own.mark_unkept(ending, now);
                }
                marked
            }
        }
    }

    /// Has what was marked and the message's name kept, and tells whoever rests on `tokens`, which have ended by it. A message
    /// is taken with this, and not before all else is done: one that was cut off may come again.
    ///
    /// # Errors
    /// When the store fails; then the message was not taken, and the mark may be gone with this process.
    pub async fn keep(
        &self,
        ending: &Ending,
        message: &str,
        message_until: UnixMillis,
        tokens: &[Uuid],
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        match &self.shared {
            None => self.own.keep(ending, message, message_until, now).await?,
            Some(shared) => Box::pin(shared.take(&ending.issuer, message, message_until, now)).await?,
        }
        for id in tokens {
            self.token_is_over(*id);
        }
        Ok(())
    }

    /// Tells whoever rests on a token that its provider vouches for it no more.
    pub fn token_is_over(&self, token: Uuid) {
        self.changes.tell(Change::AccessToken(token));
    }

    /// Where the end of a token is told.
    #[must_use]
    pub const fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Forgets what is to be forgotten. Meant to run once a minute. A shared store forgets by itself.
    ///
    /// # Errors
    /// When the store fails; the next sweep forgets it.
    pub async fn sweep(&self, now: UnixMillis) -> Result<(), StoreError> {
        self.own.sweep(now).await
    }
}

impl From<Digest> for Place {
    fn from(digest: Digest) -> Self {
        Self(digest)
    }
}

impl Ending {
    /// Where the mark is, under the active master.
    fn place(&self, keyring: &Keyring) -> Digest {
        let (kind, name, _) = self.parts();
        keyring.digest(Purpose::ProviderSession, &text(kind, &self.issuer, name))
    }

    fn mark(&self, now: UnixMillis) -> Mark {
        let (_, _, until) = self.parts();
        Mark { until, forget: now.plus(KEPT_MS) }
    }

    const fn parts(&self) -> (&'static str, &str, UnixMillis) {
        match &self.what {
            Ended::Session(sid, until) => (SESSION, sid.as_str(), *until),
            Ended::Subject(subject, until) => (SUBJECT, subject.as_str(), *until),
        }
    }
}

const MESSAGE: &str = "message";
const SESSION: &str = "session";
const SUBJECT: &str = "subject";

/// Where marks are that end what was issued to a subject, of one of its provider's sessions.
fn of_issued<'a>(
    keyring: &'a Keyring,
    issuer: &str,
    subject: &str,
    sid: Option<&str>,
) -> impl Iterator<Item = Digest> + use<'a> {
    let texts = sid.map(|sid| text(SESSION, issuer, sid)).into_iter().chain([text(SUBJECT, issuer, subject)]);
    texts.flat_map(|text| places(keyring, &text))
}

/// Under whichever master it was put there.
fn places(keyring: &Keyring, text: &[u8]) -> Vec<Digest> {
    keyring.digests(Purpose::ProviderSession, text).collect()
}

/// Length-prefixed, so that no two of them spell another pair; none is what a session's index is keyed with, which begins
/// with a length in its first eight bytes that no kind spells.
fn text(kind: &str, issuer: &str, name: &str) -> Vec<u8> {
    let length = (issuer.len() as u64).to_be_bytes();
    [kind.as_bytes(), b"/", length.as_slice(), issuer.as_bytes(), name.as_bytes()].concat()
}
