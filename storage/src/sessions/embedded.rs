//! Sessions in the embedded store.

use engine::time::UnixMillis;
use redb::{Durability, ReadableTable, Table, TableDefinition, WriteTransaction};
use uuid::Uuid;

use super::touch::{part, read_touch, touch};
use super::{
    CreatedSession, EndedElsewhere, NewSession, ProviderSession, Record, SessionRules, SessionSecret,
    SessionView, SignOutHint, displaced,
};
use crate::keyring::{Digest, Keyring, Purpose};
use crate::opened::Opened;
use crate::recent::{Reach, Recent};
use crate::seal::{seal, unseal};
use crate::{Store, StoreError};

/// Digest of the secret -> sealed record.
const RECORDS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("session_records");
/// Digest of the secret -> time of last use, with its authentication.
const TOUCHES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("session_touches");
/// Public id -> digest of the secret.
const PLACES: TableDefinition<u128, &[u8]> = TableDefinition::new("session_places");
/// Account and public id.
const OWNERS: TableDefinition<(u128, u128), ()> = TableDefinition::new("session_owners");
/// Digest of a session at an identity provider, and public id.
const ELSEWHERE: TableDefinition<(&[u8], u128), ()> = TableDefinition::new("session_elsewhere");
/// Public id -> what its provider is shown at sign-out, sealed for the id.
const HINTS: TableDefinition<u128, &[u8]> = TableDefinition::new("session_hints");
/// Digest of the secret of a session that was ended -> its absolute end.
const TOMBSTONES: TableDefinition<&[u8], u64> = TableDefinition::new("session_tombstones");

pub(super) struct Embedded {
    store: Store,
    rules: SessionRules,
    opened: Opened<Digest, Record>,
    touches: Opened<Digest, UnixMillis>,
    recent: Recent<Digest, SessionView>,
}

impl Embedded {
    pub(super) fn new(store: Store, rules: SessionRules) -> Self {
        Self { store, rules, opened: Opened::new(), touches: Opened::new(), recent: Recent::new() }
    }

    pub(super) async fn create(
        &self,
        mut new: NewSession,
        now: UnixMillis,
    ) -> Result<CreatedSession, StoreError> {
        let (rules, hint) = (self.rules, new.hint.take());
        self.write(move |tables| {
            let secret = SessionSecret::generate();
            let place = tables.keyring.digest(Purpose::SessionDigest, secret.bytes());
            let displaced = displaced(tables.of(new.account, &rules)?, &rules, now);
            for id in displaced.ended.iter().chain(&displaced.oldest) {
                tables.end(*id, &rules)?;
            }
            let record = Record::new(new, &rules, now);
            tables.insert(&place, &record, now)?;
            if let Some(hint) = hint {
                tables.put_hint(record.id, &hint)?;
            }
            Ok(CreatedSession {
                secret,
                session: record.view(place, now, &rules),
                displaced: displaced.oldest,
            })
        })
        .await
    }

    pub(super) fn find(
        &self,
        secret: &SessionSecret,
        now: UnixMillis,
    ) -> Result<Option<SessionView>, StoreError> {
        // Sealed under whichever master: the digest under the active one tells the secret from all others.
        let key = secret.digest(self.store.keyring());
        let epoch = self.store.epoch(part(&key));
        let found = match epoch.and_then(|epoch| self.recent.get(&key, epoch)) {
            Some(session) => Some(session),
            None => {
                let found = self.read(secret)?;
                // The use of a session under an older master is noted in another part: it is read every time.
                if let (Some(session), Some(epoch)) = (&found, epoch)
                    && part(&session.place) == part(&key)
                {
                    self.recent.put(key, epoch, session.clone());
                }
                found
            }
        };
        Ok(found.filter(|session| session.is_live(now)))
    }

    /// The session of a secret, whether it lives or has ended by time.
    fn read(&self, secret: &SessionSecret) -> Result<Option<SessionView>, StoreError> {
        let keyring = self.store.keyring();
        self.store.read(|transaction| {
            let (records, touches) = (transaction.open_table(RECORDS)?, transaction.open_table(TOUCHES)?);
            let tombstones = transaction.open_table(TOMBSTONES)?;
            for place in keyring.digests(Purpose::SessionDigest, secret.bytes()) {
                if tombstones.get(place.as_bytes().as_slice())?.is_some() {
                    return Ok(None);
                }
                let key = place.as_bytes().as_slice();
                let Some(sealed) = records.get(key)? else { continue };
                let record = self.opened.get(place, sealed.value(), || open(keyring, key, sealed.value()))?;
                let touch = touches.get(key)?.ok_or(StoreError::Malformed)?;
                let touched_at = self.touches.get(place, touch.value(), || {
                    read_touch(keyring, &place, touch.value()).ok_or(StoreError::Malformed)
                })?;
                return Ok(Some(record.view(place, touched_at, &self.rules)));
            }
            Ok(None)
        })
    }

    pub(super) fn live(&self, id: Uuid, now: UnixMillis) -> Result<Option<SessionView>, StoreError> {
        let keyring = self.store.keyring();
        self.store.read(|transaction| {
            let places = transaction.open_table(PLACES)?;
            let Some(place) = places.get(id.as_u128())? else { return Ok(None) };
            let place = Digest::from_bytes(place.value()).ok_or(StoreError::Malformed)?;
            if transaction.open_table(TOMBSTONES)?.get(place.as_bytes().as_slice())?.is_some() {
                return Ok(None);
            }
            let (records, touches) = (transaction.open_table(RECORDS)?, transaction.open_table(TOUCHES)?);
            let session = load(&records, &touches, keyring, &self.rules, &place)?;
            Ok(session.filter(|session| session.is_live(now)))
        })
    }

    pub(super) async fn touch(&self, seen: &SessionView, now: UnixMillis) -> Result<bool, StoreError> {
        if now.since(seen.touched_at) < self.rules.touch_every_ms() {
            return Ok(false);
        }
        let (id, version, rules) = (seen.id, seen.touched_at, self.rules);
        // Not durable by itself: the next durable commit, a sweep at the latest, carries it to the disk.
        self.store
            .write_within(Reach::Part(part(&seen.place)), Durability::None, move |transaction, keyring| {
                let mut tables = Tables::open(transaction, keyring)?;
                let Some((place, session)) = tables.find(id, &rules)? else { return Ok(false) };
                if session.touched_at != version || !session.is_live(now) {
                    return Ok(false);
                }
                tables.put_touch(&place, now)?;
                Ok(true)
            })
            .await
    }

    pub(super) fn hint(&self, id: Uuid) -> Result<Option<SignOutHint>, StoreError> {
        let keyring = self.store.keyring();
        self.store.read(|transaction| {
            let hints = transaction.open_table(HINTS)?;
            let Some(sealed) = hints.get(id.as_u128())? else { return Ok(None) };
            SignOutHint::open(keyring, id.as_bytes(), sealed.value()).map(Some)
        })
    }

    pub(super) async fn replace_hint(&self, id: Uuid, hint: SignOutHint) -> Result<(), StoreError> {
        // Nothing that is remembered of the store rests on a hint, and the next durable commit carries it to the disk.
        let part = id.as_bytes().last().copied().unwrap_or_default();
        self.store
            .write_within(Reach::Part(part), Durability::None, move |transaction, keyring| {
                let mut tables = Tables::open(transaction, keyring)?;
                let is_there = tables.places.get(id.as_u128())?.is_some();
                if is_there { tables.put_hint(id, &hint) } else { Ok(()) }
            })
            .await
    }

    pub(super) async fn end(&self, id: Uuid, now: UnixMillis) -> Result<Option<SessionView>, StoreError> {
        let rules = self.rules;
        self.write(move |tables| Ok(tables.end(id, &rules)?.filter(|session| session.is_live(now)))).await
    }

    pub(super) async fn end_all(&self, account: Uuid, now: UnixMillis) -> Result<Vec<Uuid>, StoreError> {
        let rules = self.rules;
        self.write(move |tables| {
            let mut ended = Vec::new();
            for session in tables.of(account, &rules)? {
                tables.end(session.id, &rules)?;
                ended.extend(session.is_live(now).then_some(session.id));
            }
            Ok(ended)
        })
        .await
    }

    pub(super) async fn end_elsewhere(
        &self,
        ended: EndedElsewhere,
        now: UnixMillis,
    ) -> Result<Vec<Uuid>, StoreError> {
        let rules = self.rules;
        self.write(move |tables| {
            let concerned = match &ended {
                EndedElsewhere::Session(session) => tables.of_provider(session, &rules)?,
                EndedElsewhere::SessionOf(_, account) | EndedElsewhere::Account(account) => {
                    tables.of(*account, &rules)?
                }
            };
            let mut gone = Vec::new();
            for session in concerned.iter().filter(|session| ended.ends(session)) {
                tables.end(session.id, &rules)?;
                gone.extend(session.is_live(now).then_some(session.id));
            }
            Ok(gone)
        })
        .await
    }

    pub(super) async fn list(
        &self,
        account: Option<Uuid>,
        now: UnixMillis,
    ) -> Result<Vec<SessionView>, StoreError> {
        let rules = self.rules;
        // A write transaction that changes nothing: it reads on a thread that may block.
        self.store
            .write(Durability::None, move |transaction, keyring| {
                let tables = Tables::open(transaction, keyring)?;
                let mut sessions = match account {
                    Some(account) => tables.of(account, &rules)?,
                    None => tables.all(&rules)?,
                };
                sessions.retain(|session| session.is_live(now));
                Ok(sessions)
            })
            .await
    }

    pub(super) async fn sweep(&self, now: UnixMillis) -> Result<usize, StoreError> {
        let rules = self.rules;
        self.write(move |tables| {
            let mut ended = tables.all(&rules)?;
            ended.retain(|session| !session.is_live(now));
            for session in &ended {
                tables.end(session.id, &rules)?;
            }
            tables.tombstones.retain(|_, end| now.0 < end)?;
            Ok(ended.len())
        })
        .await
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tables<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.store
            .write(Durability::Immediate, move |transaction, keyring| {
                work(&mut Tables::open(transaction, keyring)?)
            })
            .await
    }
}

/// All tables of sessions within one write transaction.
struct Tables<'t> {
    keyring: &'t Keyring,
    records: Table<'t, &'static [u8], &'static [u8]>,
    touches: Table<'t, &'static [u8], &'static [u8]>,
    places: Table<'t, u128, &'static [u8]>,
    owners: Table<'t, (u128, u128), ()>,
    elsewhere: Table<'t, (&'static [u8], u128), ()>,
    hints: Table<'t, u128, &'static [u8]>,
    tombstones: Table<'t, &'static [u8], u64>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction, keyring: &'t Keyring) -> Result<Self, StoreError> {
        Ok(Self {
            keyring,
            records: transaction.open_table(RECORDS)?,
            touches: transaction.open_table(TOUCHES)?,
            places: transaction.open_table(PLACES)?,
            owners: transaction.open_table(OWNERS)?,
            elsewhere: transaction.open_table(ELSEWHERE)?,
            hints: transaction.open_table(HINTS)?,
            tombstones: transaction.open_table(TOMBSTONES)?,
        })
    }

    fn insert(&mut self, place: &Digest, record: &Record, now: UnixMillis) -> Result<(), StoreError> {
        let text = serde_json::to_vec(record).map_err(|_| StoreError::Malformed)?;
        let sealed = seal(self.keyring, Purpose::SessionRecord, place.as_bytes(), &text);
        let sealed = sealed.map_err(StoreError::Seal)?;
        self.records.insert(place.as_bytes().as_slice(), sealed.as_slice())?;
        self.places.insert(record.id.as_u128(), place.as_bytes().as_slice())?;
        self.owners.insert((record.account.as_u128(), record.id.as_u128()), ())?;
        if let Some(provider) = &record.provider {
            let digest = provider.digest(self.keyring);
            self.elsewhere.insert((digest.as_bytes().as_slice(), record.id.as_u128()), ())?;
        }
        self.put_touch(place, now)
    }

    fn put_hint(&mut self, id: Uuid, hint: &SignOutHint) -> Result<(), StoreError> {
        let sealed = hint.sealed(self.keyring, id.as_bytes())?;
        self.hints.insert(id.as_u128(), sealed.as_slice())?;
        Ok(())
    }

    fn put_touch(&mut self, place: &Digest, at: UnixMillis) -> Result<(), StoreError> {
        let value = touch(self.keyring, place, at);
        self.touches.insert(place.as_bytes().as_slice(), value.as_slice())?;
        Ok(())
    }

    fn find(&self, id: Uuid, rules: &SessionRules) -> Result<Option<(Digest, SessionView)>, StoreError> {
        let Some(place) = self.places.get(id.as_u128())? else { return Ok(None) };
        let place = Digest::from_bytes(place.value()).ok_or(StoreError::Malformed)?;
        let session = load(&self.records, &self.touches, self.keyring, rules, &place)?;
        Ok(session.map(|session| (place, session)))
    }

    fn of(&self, account: Uuid, rules: &SessionRules) -> Result<Vec<SessionView>, StoreError> {
        let account = account.as_u128();
        let mut sessions = Vec::new();
        for row in self.owners.range((account, u128::MIN)..=(account, u128::MAX))? {
            let (_, id) = row?.0.value();
            sessions.extend(self.find(Uuid::from_u128(id), rules)?.map(|(_, session)| session));
        }
        Ok(sessions)
    }

    fn of_provider(
        &self,
        provider: &ProviderSession,
        rules: &SessionRules,
    ) -> Result<Vec<SessionView>, StoreError> {
        let mut sessions = Vec::new();
        for digest in provider.digests(self.keyring) {
            let digest = digest.as_bytes().as_slice();
            for row in self.elsewhere.range((digest, u128::MIN)..=(digest, u128::MAX))? {
                let (_, id) = row?.0.value();
                sessions.extend(self.find(Uuid::from_u128(id), rules)?.map(|(_, session)| session));
            }
        }
        Ok(sessions)
    }

    fn all(&self, rules: &SessionRules) -> Result<Vec<SessionView>, StoreError> {
        let mut sessions = Vec::new();
        for row in self.places.iter()? {
            let id = row?.0.value();
            sessions.extend(self.find(Uuid::from_u128(id), rules)?.map(|(_, session)| session));
        }
        Ok(sessions)
    }

    fn end(&mut self, id: Uuid, rules: &SessionRules) -> Result<Option<SessionView>, StoreError> {
        self.hints.remove(id.as_u128())?;
        let Some((place, session)) = self.find(id, rules)? else { return Ok(None) };
        let key = place.as_bytes().as_slice();
        self.records.remove(key)?;
        self.touches.remove(key)?;
        self.places.remove(id.as_u128())?;
        self.owners.remove((session.account.as_u128(), id.as_u128()))?;
        if let Some(provider) = &session.provider {
            // Under whichever master it was put there.
            for digest in provider.digests(self.keyring) {
                self.elsewhere.remove((digest.as_bytes().as_slice(), id.as_u128()))?;
            }
        }
        self.tombstones.insert(key, session.absolute_end.0)?;
        Ok(Some(session))
    }
}

/// Makes the tables, so that readers find them.
pub(crate) fn prepare(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(RECORDS)?;
    transaction.open_table(TOUCHES)?;
    transaction.open_table(PLACES)?;
    transaction.open_table(HINTS)?;
    transaction.open_table(TOMBSTONES)?;
    Ok(())
}

type Bytes = &'static [u8];

/// Opens a record and its last use. A record without an authentic last use is no session.
fn load(
    records: &impl ReadableTable<Bytes, Bytes>,
    touches: &impl ReadableTable<Bytes, Bytes>,
    keyring: &Keyring,
    rules: &SessionRules,
    place: &Digest,
) -> Result<Option<SessionView>, StoreError> {
    let key = place.as_bytes().as_slice();
    let Some(sealed) = records.get(key)? else { return Ok(None) };
    let record = open(keyring, key, sealed.value())?;
    let touch = touches.get(key)?.ok_or(StoreError::Malformed)?;
    let touched_at = read_touch(keyring, place, touch.value()).ok_or(StoreError::Malformed)?;
    Ok(Some(record.view(*place, touched_at, rules)))
}

fn open(keyring: &Keyring, key: &[u8], sealed: &[u8]) -> Result<Record, StoreError> {
    let text = unseal(keyring, Purpose::SessionRecord, key, sealed).map_err(StoreError::Unseal)?;
    serde_json::from_slice(&text).map_err(|_| StoreError::Malformed)
}
