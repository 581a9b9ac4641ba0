//! Marks of one gateway: in memory, and in its store, so that a restart forgets none that was kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::time::UnixMillis;
use redb::{Durability, ReadableTable, TableDefinition, WriteTransaction};

use super::{Ending, MARKS_MAX, MESSAGE, Mark, SESSION, SUBJECT, text};
use crate::keyring::{Digest, Keyring, Purpose};
use crate::{Store, StoreError};

/// Digest -> until when what was issued is over, and when the mark is forgotten.
const MARKS: TableDefinition<&[u8], (u64, u64)> = TableDefinition::new("provider_endings");

#[derive(Clone)]
pub(super) struct Embedded {
    store: Store,
    marks: Arc<Mutex<HashMap<Digest, Mark>>>,
}

impl Embedded {
    pub(super) fn open(store: Store) -> Result<Self, StoreError> {
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

    pub(super) fn keyring(&self) -> &Keyring {
        self.store.keyring()
    }

    pub(super) fn is_taken(&self, issuer: &str, message: &str, now: UnixMillis) -> bool {
        self.find(MESSAGE, issuer, message).is_some_and(|mark| now < mark.forget)
    }

    pub(super) fn has_ended(
        &self,
        issuer: &str,
        subject: &str,
        sid: Option<&str>,
        issued: UnixMillis,
    ) -> bool {
        let is_over = |mark: Option<Mark>| mark.is_some_and(|mark| issued <= mark.until);
        sid.is_some_and(|sid| is_over(self.find(SESSION, issuer, sid)))
            || is_over(self.find(SUBJECT, issuer, subject))
    }

    pub(super) fn mark(&self, ending: &Ending, now: UnixMillis) {
        put(&mut self.marks(), ending.place(self.store.keyring()), ending.mark(now));
    }

    /// The same where nothing will be kept of it: the table has no more than its bound all the same.
    pub(super) fn mark_unkept(&self, ending: &Ending, now: UnixMillis) {
        self.mark(ending, now);
        trim(&mut self.marks());
    }

    pub(super) async fn keep(
        &self,
        ending: &Ending,
        message: &str,
        message_until: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let keyring = self.store.keyring();
        let name = keyring.digest(Purpose::ProviderSession, &text(MESSAGE, &ending.issuer, message));
        let taken = Mark { until: now, forget: message_until };
        let rows = [(ending.place(keyring), ending.mark(now)), (name, taken)];
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
            })
    }

    pub(super) async fn sweep(&self, now: UnixMillis) -> Result<(), StoreError> {
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

    fn find(&self, kind: &str, issuer: &str, name: &str) -> Option<Mark> {
        if self.marks().is_empty() {
            return None;
        }
        let text = text(kind, issuer, name);
        let mut digests = self.store.keyring().digests(Purpose::ProviderSession, &text);
        let marks = self.marks();
        digests.find_map(|digest| marks.get(&digest).copied())
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

/// Makes the table, so that readers find it.
pub(crate) fn prepare(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(MARKS)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Ended;
    use super::*;

    #[test]
    fn marks_are_bounded_and_the_oldest_go() {
        let now = UnixMillis(1_800_000_000_000);
        let endings = Embedded::open(Store::in_memory(&Keyring::from_master(&[1; 32])).unwrap()).unwrap();
        for number in 0..MARKS_MAX as u64 + 10 {
            let what = Ended::Session(number.to_string(), now);
            endings.mark(&Ending { issuer: "a".to_owned(), what }, now.plus(number));
        }
        let gone = trim(&mut endings.marks());
        assert!(endings.marks().len() <= MARKS_MAX && gone.len() == MARKS_MAX / 16);
        assert!(trim(&mut endings.marks()).is_empty());
        let ended = |number: usize| endings.has_ended("a", "x", Some(&number.to_string()), now);
        assert!(!ended(0) && ended(MARKS_MAX / 2) && ended(MARKS_MAX + 9));
        for number in 0..MARKS_MAX as u64 + 10 {
            let what = Ended::Subject(number.to_string(), now);
            endings.mark_unkept(&Ending { issuer: "a".to_owned(), what }, now.plus(number));
            assert!(endings.marks().len() <= MARKS_MAX);
        }
    }
}
