//! Sessions in memory: everything ends with the process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use engine::time::UnixMillis;
use uuid::Uuid;

use super::{
    CreatedSession, EndedElsewhere, NewSession, Record, SessionRules, SessionSecret, SessionView,
    SignOutHint, displaced,
};
use crate::Keyring;
use crate::keyring::{Digest, Purpose};

pub(super) struct Memory {
    keyring: Keyring,
    rules: SessionRules,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sessions: HashMap<Digest, SessionView>,
    places: HashMap<Uuid, Digest>,
    tombstones: HashMap<Digest, UnixMillis>,
    hints: HashMap<Uuid, SignOutHint>,
}

impl Memory {
    pub(super) fn new(keyring: Keyring, rules: SessionRules) -> Self {
        Self { keyring, rules, state: Mutex::default() }
    }

    pub(super) fn create(&self, mut new: NewSession, now: UnixMillis) -> CreatedSession {
        let secret = SessionSecret::generate();
        let place = self.keyring.digest(Purpose::SessionDigest, secret.bytes());
        let mut state = self.state();
        let others = state.of(Some(new.account)).cloned().collect();
        let displaced = displaced(others, &self.rules, now);
        for id in displaced.ended.iter().chain(&displaced.oldest) {
            state.end(*id);
        }
        let hint = new.hint.take();
        let session = Record::new(new, &self.rules, now).view(place, now, &self.rules);
        state.hints.extend(hint.map(|hint| (session.id, hint)));
        state.places.insert(session.id, place);
        state.sessions.insert(place, session.clone());
        CreatedSession { secret, session, displaced: displaced.oldest }
    }

    pub(super) fn find(&self, secret: &SessionSecret, now: UnixMillis) -> Option<SessionView> {
        let state = self.state();
        let mut places = self.keyring.digests(Purpose::SessionDigest, secret.bytes());
        let session = places.find_map(|place| state.find(&place))?;
        session.is_live(now).then(|| session.clone())
    }

    pub(super) fn live(&self, id: Uuid, now: UnixMillis) -> Option<SessionView> {
        let state = self.state();
        let session = state.places.get(&id).and_then(|place| state.find(place))?;
        session.is_live(now).then(|| session.clone())
    }

    pub(super) fn touch(&self, seen: &SessionView, now: UnixMillis) -> bool {
        if now.since(seen.touched_at) < self.rules.touch_every_ms() {
            return false;
        }
        let mut state = self.state();
        let Some(place) = state.places.get(&seen.id).copied() else { return false };
        let Some(session) = state.sessions.get_mut(&place) else { return false };
        if session.touched_at != seen.touched_at || !session.is_live(now) {
            return false;
        }
        session.touched_at = now;
        session.idle_end = now.plus(self.rules.idle_ms);
        true
    }

    pub(super) fn hint(&self, id: Uuid) -> Option<SignOutHint> {
        self.state().hints.get(&id).cloned()
    }

    pub(super) fn replace_hint(&self, id: Uuid, hint: SignOutHint) {
        let mut state = self.state();
        if state.places.contains_key(&id) {
            state.hints.insert(id, hint);
        }
    }

    pub(super) fn end(&self, id: Uuid, now: UnixMillis) -> Option<SessionView> {
        self.state().end(id).filter(|session| session.is_live(now))
    }

    pub(super) fn end_all(&self, account: Uuid, now: UnixMillis) -> Vec<Uuid> {
        let mut state = self.state();
        let ids: Vec<_> = state.of(Some(account)).map(|session| session.id).collect();
        ids.into_iter().filter(|id| state.end(*id).is_some_and(|session| session.is_live(now))).collect()
    }

    pub(super) fn end_elsewhere(&self, ended: &EndedElsewhere, now: UnixMillis) -> Vec<Uuid> {
        let mut state = self.state();
        let ids: Vec<_> =
            state.of(None).filter(|session| ended.ends(session)).map(|session| session.id).collect();
        ids.into_iter().filter(|id| state.end(*id).is_some_and(|session| session.is_live(now))).collect()
    }

    pub(super) fn list(&self, account: Option<Uuid>, now: UnixMillis) -> Vec<SessionView> {
        self.state().of(account).filter(|session| session.is_live(now)).cloned().collect()
    }

    pub(super) fn sweep(&self, now: UnixMillis) -> usize {
        let mut state = self.state();
        let ended: Vec<_> =
            state.of(None).filter(|session| !session.is_live(now)).map(|session| session.id).collect();
        for id in &ended {
            state.end(*id);
        }
        state.tombstones.retain(|_, end| now < *end);
        ended.len()
    }

    /// A poisoned lock is taken all the same: every change below is whole before anything can panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn of(&self, account: Option<Uuid>) -> impl Iterator<Item = &SessionView> {
        self.sessions.values().filter(move |session| account.is_none_or(|account| session.account == account))
    }

    fn find(&self, place: &Digest) -> Option<&SessionView> {
        self.sessions.get(place).filter(|_| !self.tombstones.contains_key(place))
    }

    fn end(&mut self, id: Uuid) -> Option<SessionView> {
        self.hints.remove(&id);
        let place = self.places.remove(&id)?;
        let session = self.sessions.remove(&place)?;
        self.tombstones.insert(place, session.absolute_end);
        Some(session)
    }
}
