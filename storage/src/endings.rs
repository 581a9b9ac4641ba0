//! What identity providers have ended, for whatever holds by itself: an access token, or a sign-in that is under way
//! while the word comes. Sessions are ended where they are kept.
//!
//! A mark is remembered for a day, which is longer than anything that it ends may live, and is on disk before the provider
//! is told that it was taken: a restart forgets none. They are found by keyed digests, so the file names nobody.
//! There are at most [`MARKS_MAX`]; where one more comes, the ones that would be forgotten first go. Only what a provider
//! has signed becomes a mark, so nobody else fills them up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::time::UnixMillis;
use redb::{Durability, ReadableTable, TableDefinition, WriteTransaction};
use uuid::Uuid;

use crate::keyring::{Digest, Purpose};
use crate::{Change, Changes, Store, StoreError};

/// Marks that are remembered at once: 6 MB in memory.
pub const MARKS_MAX: usize = 65_536;
/// How long a mark is remembered: a day and an hour for clocks that differ, in milliseconds.
pub const KEPT_MS: u64 = 25 * 3600 * 1000;

/// Digest -> until when what was issued is over, and when the mark is forgotten.
const MARKS: TableDefinition<&[u8], (u64, u64)> = TableDefinition::new("provider_endings");

/// The marks. Cheap to clone.
#[derive(Clone)]
pub struct Endings {
    store: Store,
    marks: Arc<Mutex<HashMap<Digest, Mark>>>,
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
        let marks = store.read(|transaction| {
            let mut marks = HashMap::new();
            for row in transaction.open_table(MARKS)?.iter()? {
                let (digest, value) = row?;
                let digest = Digest::from_bytes(digest.value()).ok_or(StoreError::Malformed)?;
                let (until, forget) = value.value();
                marks.insert(digest, Mark { until: UnixMillis(until), forget: UnixMillis(forget) });
            }
            Ok(marks)
        })?;
        Ok(Self { store, marks: Arc::new(Mutex::new(marks)) })
    }

    /// Whether a message of this provider and name was taken before.
    #[must_use]
    pub fn is_taken(&self, issuer: &str, message: &str, now: UnixMillis) -> bool {
        self.find("message", issuer, message).is_some_and(|mark| now < mark.forget)
    }

    /// Whether what a provider has issued to a subject, at a moment of its clock and of one of its sessions, is over.
    #[must_use]
    pub fn has_ended(&self, issuer: &str, subject: &str, sid: Option<&str>, issued: UnixMillis) -> bool {
        let is_over = |mark: Option<Mark>| mark.is_some_and(|mark| issued <= mark.until);
        sid.is_some_and(|sid| is_over(self.find("session", issuer, sid)))
            || is_over(self.find("subject", issuer, subject))
    }

    /// Marks at once, for this process: before sessions are ended and anything is looked through, so that whoever comes in
    /// between finds the mark.
    pub fn mark(&self, ending: &Ending, now: UnixMillis) {
        let (digest, mark) = self.of(ending, now);
        put(&mut self.marks(), digest, mark);
    }

    /// Tells whoever rests on a token that its provider vouches for it no more.
    pub fn token_is_over(&self, token: Uuid) {
        self.changes().tell(Change::AccessToken(token));
    }

    /// Where the end of a token is told.
    #[must_use]
    pub fn changes(&self) -> &Changes {
        self.store.changes()
    }

    /// Has the mark and the message's name on disk, and tells whoever rests on `tokens`, which have ended by it. A message
    /// is taken with this, and not before all else is done: one that was cut off may come again.
    ///
    /// # Errors
    /// When the store fails; then the message was not taken, and the mark holds in this process alone.
    pub async fn keep(
        &self,
        ending: &Ending,
        message: &str,
        message_until: UnixMillis,
        tokens: &[Uuid],
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let name = self.digest("message", &ending.issuer, message);
        let taken = Mark { until: now, forget: message_until };
        let rows = [self.of(ending, now), (name, taken)];
        let (rows, gone) = {
            let mut marks = self.marks();
            let rows = rows.map(|(digest, mark)| (digest, put(&mut marks, digest, mark)));
            (rows, trim(&mut marks))
        };
        self.store
            .write(Durability::Immediate, move |transaction, _| {
                let mut table = transaction.open_table(MARKS)?;
                for digest in gone {
                    table.remove(digest.as_bytes().as_slice())?;
                }
                for (digest, mark) in rows {
                    table.insert(digest.as_bytes().as_slice(), (mark.until.0, mark.forget.0))?;
                }
                Ok::<_, StoreError>(())
            })
            .await
            .inspect_err(|_| {
                self.marks().remove(&name);
            })?;
        for id in tokens {
            self.store.changes().tell(Change::AccessToken(*id));
        }
        Ok(())
    }

    /// Forgets what is to be forgotten. Meant to run once a minute.
    ///
    /// # Errors
    /// When the store fails; the next sweep forgets it.
    pub async fn sweep(&self, now: UnixMillis) -> Result<(), StoreError> {
        let over = self.marks().values().any(|mark| now >= mark.forget);
        if !over {
            return Ok(());
        }
        self.marks().retain(|_, mark| now < mark.forget);
        self.store
            .write(Durability::Immediate, move |transaction, _| {
                let mut table = transaction.open_table(MARKS)?;
                table.retain(|_, (_, forget)| now.0 < forget)?;
                Ok(())
            })
            .await
    }

    fn of(&self, ending: &Ending, now: UnixMillis) -> (Digest, Mark) {
        let (kind, name, until) = match &ending.what {
            Ended::Session(sid, until) => ("session", sid, *until),
            Ended::Subject(subject, until) => ("subject", subject, *until),
        };
        (self.digest(kind, &ending.issuer, name), Mark { until, forget: now.plus(KEPT_MS) })
    }

    fn find(&self, kind: &str, issuer: &str, name: &str) -> Option<Mark> {
        let text = text(kind, issuer, name);
        let mut digests = self.store.keyring().digests(Purpose::ProviderSession, &text);
        let marks = self.marks();
        digests.find_map(|digest| marks.get(&digest).copied())
    }

    fn digest(&self, kind: &str, issuer: &str, name: &str) -> Digest {
        self.store.keyring().digest(Purpose::ProviderSession, &text(kind, issuer, name))
    }

    /// A poisoned lock is taken all the same: every change under it is whole before anything can panic.
    fn marks(&self) -> MutexGuard<'_, HashMap<Digest, Mark>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts a mark in the place of an earlier one, of which it takes nothing back; answers what is there now.
fn put(marks: &mut HashMap<Digest, Mark>, digest: Digest, mark: Mark) -> Mark {
    let known = marks.entry(digest).or_insert(mark);
    known.until = known.until.max(mark.until);
    known.forget = known.forget.max(mark.forget);
    *known
}

/// Takes the oldest out of too many, and answers which. A sixteenth at once, so that a full table is not sorted for each.
fn trim(marks: &mut HashMap<Digest, Mark>) -> Vec<Digest> {
    if marks.len() <= MARKS_MAX {
        return Vec::new();
    }
    let mut all: Vec<_> = marks.iter().map(|(digest, mark)| (mark.forget, *digest)).collect();
    all.sort_unstable();
    let gone: Vec<Digest> = all.into_iter().take(MARKS_MAX / 16).map(|(_, digest)| digest).collect();
    for digest in &gone {
        marks.remove(digest);
    }
    gone
}

/// Length-prefixed, so that no two of them spell another pair; none is what a session's index is keyed with, which begins
/// with a length in its first eight bytes that no kind spells.
fn text(kind: &str, issuer: &str, name: &str) -> Vec<u8> {
    let length = (issuer.len() as u64).to_be_bytes();
    [kind.as_bytes(), b"/", length.as_slice(), issuer.as_bytes(), name.as_bytes()].concat()
}

/// Makes the table, so that readers find it.
pub(crate) fn prepare(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(MARKS)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keyring;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn session(issuer: &str, sid: &str) -> Ending {
        Ending { issuer: issuer.to_owned(), what: Ended::Session(sid.to_owned(), NOW) }
    }

    fn subject(issuer: &str, subject: &str, until: UnixMillis) -> Ending {
        Ending { issuer: issuer.to_owned(), what: Ended::Subject(subject.to_owned(), until) }
    }

    fn in_memory() -> Endings {
        Endings::open(Store::in_memory(&Keyring::from_master(&[1; 32])).unwrap()).unwrap()
    }

    #[test]
    fn a_mark_ends_what_it_names_and_nothing_else() {
        let endings = in_memory();
        let ended = |issuer: &str, subject: &str, sid: Option<&str>, issued: UnixMillis| {
            endings.has_ended(issuer, subject, sid, issued)
        };
        assert!(!ended("a", "ada", Some("s1"), NOW));
        endings.mark(&session("a", "s1"), NOW);
        assert!(ended("a", "ada", Some("s1"), NOW) && ended("a", "bob", Some("s1"), UnixMillis(0)));
        assert!(!ended("a", "ada", Some("s1"), NOW.plus(1)), "begun again under its old name");
        for (issuer, sid) in [("a", Some("s2")), ("a", None), ("b", Some("s1")), ("as", Some("1"))] {
            assert!(!ended(issuer, "ada", sid, NOW), "{issuer} {sid:?}");
        }
        // A name of one kind is not one of another.
        assert!(!ended("a", "s1", None, NOW) && !endings.is_taken("a", "s1", NOW));

        endings.mark(&subject("a", "ada", NOW), NOW);
        assert!(ended("a", "ada", None, NOW) && ended("a", "ada", Some("s9"), UnixMillis(0)));
        assert!(!ended("a", "ada", None, NOW.plus(1)), "issued afterwards");
        assert!(!ended("a", "bob", None, NOW) && !ended("b", "ada", None, NOW));
        // An older word takes nothing back.
        endings.mark(&subject("a", "ada", UnixMillis(5)), NOW);
        assert!(ended("a", "ada", None, NOW));
    }

    #[tokio::test]
    async fn what_was_taken_survives_a_restart_and_a_rotation_and_is_forgotten_in_time() {
        let home = tempfile::tempdir().unwrap();
        let open = |keyring: &Keyring| {
            Endings::open(Store::open(home.path(), keyring, crate::Mark::Production).unwrap()).unwrap()
        };
        let (old, until) = (Keyring::from_master(&[1; 32]), NOW.plus(120_000));
        let endings = open(&old);
        let mut told = endings.store.changes().listen();
        let token = Uuid::from_u128(7);
        endings.keep(&session("a", "s1"), "m1", until, &[token], NOW).await.unwrap();
        assert_eq!(told.try_recv(), Ok(Change::AccessToken(token)));
        endings.keep(&subject("a", "ada", NOW), "m2", until, &[], NOW).await.unwrap();
        drop(endings);

        let endings = open(&Keyring::from_master(&[2; 32]).with_old(&[1; 32]));
        assert!(endings.is_taken("a", "m1", NOW) && endings.is_taken("a", "m2", NOW));
        assert!(!endings.is_taken("a", "m1", until) && !endings.is_taken("b", "m1", NOW));
        assert!(endings.has_ended("a", "x", Some("s1"), NOW) && endings.has_ended("a", "ada", None, NOW));
        endings.sweep(until).await.unwrap();
        assert!(endings.has_ended("a", "x", Some("s1"), NOW), "a day has not gone by");
        endings.sweep(NOW.plus(KEPT_MS)).await.unwrap();
        assert!(!endings.has_ended("a", "x", Some("s1"), NOW) && endings.marks().is_empty());
        drop(endings);
        let kept = open(&Keyring::from_master(&[2; 32]).with_old(&[1; 32])).marks().len();
        assert_eq!(kept, 0, "on disk as well");
    }

    #[test]
    fn marks_are_bounded_and_the_oldest_go() {
        let endings = in_memory();
        for number in 0..MARKS_MAX as u64 + 10 {
            endings.mark(&session("a", &number.to_string()), NOW.plus(number));
        }
        let gone = trim(&mut endings.marks());
        assert!(endings.marks().len() <= MARKS_MAX && gone.len() == MARKS_MAX / 16);
        assert!(trim(&mut endings.marks()).is_empty());
        let ended = |number: usize| endings.has_ended("a", "x", Some(&number.to_string()), NOW);
        assert!(!ended(0) && ended(MARKS_MAX / 2) && ended(MARKS_MAX + 9));
    }
}
