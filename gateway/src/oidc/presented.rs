//! Access tokens that callers present: each is verified or asked about once, and known again by its digest while it holds.
//!
//! What is kept follows from the token's bytes, the provider's keys and the configuration. So it is compared with the keys
//! of this moment before it is used, ends with the token, and is gone with the process. Whose account it is, and whether
//! that may do anything, is asked each time and elsewhere.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use engine::identity::Principal;
use engine::time::UnixMillis;
use ring::digest::{SHA256, digest};
use serde_json::Value;
use storage::StoreError;
use storage::credentials::{Account, Person};
use storage::endings::{Ended, Ending, Place};
use storage::sessions::ProviderSession;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::access_token::{self, AccessFault, AccessToken};
use super::claims::{self, Mapped};
use super::jose::Jws;
use super::keys::{KeySet, SignatureFault};
use super::logout_token::{self, LogoutFault, LogoutToken};
use super::{Fault, Provider, Providers};

/// Bytes of all that is kept: ten thousand tokens with a dozen roles each.
pub const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of an entry beside its texts: itself, its digest, its principal, the nodes of their sets and of the map, and where
/// marks of its end would be.
const ENTRY_BYTES: usize = 1024;
/// Bytes that a text takes in a set beside its own.
const TEXT_BYTES: usize = 48;

/// The whole token's SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

/// A token that was verified.
pub struct Token {
    /// Names it in records: the first bytes of its digest, from which nobody makes the token.
    pub id: Uuid,
    /// Whose it is, by the claims of the token.
    pub person: Person,
    /// 1, or 2 where it says that several factors were proved.
    pub assurance: u8,
    /// What it says and holds.
    pub token: AccessToken,
    provider: Arc<Provider>,
    told: Option<Told>,
    /// Where marks of its end would be, once anybody has asked.
    places: OnceLock<Box<[Place]>>,
}

/// Of an opaque token: its text, with which its provider is asked again where something rests on it for long, and until
/// when the last answer counts.
struct Told {
    text: Zeroizing<String>,
    until: AtomicU64,
}

/// Who somebody is by a token, as long as the account is what it was.
pub type Known = (Arc<Account>, Arc<Principal>);

/// What is kept.
#[derive(Default)]
pub struct Presented {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<Uuid, Entry>,
    bytes: usize,
}

struct Entry {
    digest: Digest,
    token: Arc<Token>,
    known: Option<Known>,
    bytes: usize,
}

impl Digest {
    /// The digest of a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(digest(&SHA256, token.as_bytes()).as_ref()).for_each(|(to, from)| *to = *from);
        Self(bytes)
    }

    pub(super) fn id(&self) -> Uuid {
        let first = self.0.first_chunk().copied().unwrap_or_default();
        uuid::Builder::from_custom_bytes(first).into_uuid()
    }
}

impl Token {
    /// A token that its provider has told of, which counts until a moment.
    pub(super) fn told(
        provider: &Arc<Provider>,
        text: Zeroizing<String>,
        (person, assurance): (Person, u8),
        token: AccessToken,
        until: UnixMillis,
    ) -> Self {
        let (id, told) = (Digest::of(&text).id(), Told { text, until: AtomicU64::new(until.0) });
        Self {
            id,
            person,
            assurance,
            token,
            provider: Arc::clone(provider),
            told: Some(told),
            places: OnceLock::new(),
        }
    }

    /// Whether it still holds by itself: it is not over, and its provider still has the key that it was signed with, or was
    /// asked about it lately.
    #[must_use]
    pub fn stands(&self, now: UnixMillis) -> bool {
        let proved = match (&self.told, &self.token.key) {
            (Some(told), _) => now.0 < told.until.load(Ordering::Relaxed),
            (None, Some(key)) => self.provider.standing_keys().is_some_and(|keys| keys.has(key)),
            (None, None) => false,
        };
        proved && now < self.token.times.ends
    }

    /// Until when its provider's last word about an opaque token counts.
    #[must_use]
    pub fn told_until(&self) -> Option<UnixMillis> {
        self.told.as_ref().map(|told| UnixMillis(told.until.load(Ordering::Relaxed)))
    }

    /// The text of an opaque token that is not over: what its provider can be asked about again.
    #[must_use]
    pub fn to_ask_about(&self, now: UnixMillis) -> Option<&str> {
        let told = self.told.as_ref().filter(|_| now < self.token.times.ends)?;
        Some(&told.text)
    }

    /// Counts on as long as another answer about it that says the same; whether it does.
    pub(super) fn renewed(&self, by: &Self) -> bool {
        let (Some(own), Some(other)) = (&self.told, &by.told) else { return false };
        let Person { origin: _, login, roles, groups } = &self.person;
        let same = own.text == other.text
            && self.token == by.token
            && self.assurance == by.assurance
            && (login, roles, groups) == (&by.person.login, &by.person.roles, &by.person.groups);
        if same {
            own.until.fetch_max(other.until.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        same
    }

    /// Whether a provider's word ends it.
    #[must_use]
    pub fn is_ended_by(&self, ending: &Ending) -> bool {
        let AccessToken { origin, sid, times, .. } = &self.token;
        origin.issuer() == ending.issuer
            && match &ending.what {
                Ended::Session(ended, until) => {
                    sid.as_ref().is_some_and(|sid| sid.sid() == ended) && times.issued <= *until
                }
                Ended::Subject(subject, until) => origin.subject() == subject && times.issued <= *until,
            }
    }

    /// The same under the digest of another text.
    #[cfg(test)]
    pub(super) fn under(&self, digest: Digest) -> Self {
        Self {
            id: digest.id(),
            person: self.person.clone(),
            assurance: self.assurance,
            token: self.token.clone(),
            provider: Arc::clone(&self.provider),
            told: None,
            places: OnceLock::new(),
        }
    }

    fn bytes(&self) -> usize {
        let Person { origin, login, roles, groups } = &self.person;
        let own = [origin.issuer(), origin.subject(), login.as_str()].map(str::len).iter().sum::<usize>();
        let sets = [roles, groups, &self.token.scopes];
        let names = sets.iter().flat_map(|set| set.iter()).map(|name| name.len() + TEXT_BYTES).sum::<usize>();
        // The principal repeats them.
        ENTRY_BYTES
            + self.told.as_ref().map_or(0, |told| told.text.len())
            + self.token.sid.as_ref().map_or(0, |sid| sid.issuer().len() + sid.sid().len())
            + 2 * (own + names)
    }
}

impl Presented {
    /// What is known of a token, whether it still stands or not.
    #[must_use]
    pub fn find(&self, digest: &Digest) -> Option<(Arc<Token>, Option<Known>)> {
        let state = self.state();
        // Looked up by a part of the digest and believed by the whole.
        let entry = state.entries.get(&digest.id()).filter(|entry| entry.digest == *digest)?;
        Some((Arc::clone(&entry.token), entry.known.clone()))
    }

    /// What is known of a token by its id: for whoever was let in by it and is asked again.
    #[must_use]
    pub fn of_id(&self, id: Uuid) -> Option<(Arc<Token>, Option<Known>)> {
        let state = self.state();
        state.entries.get(&id).map(|entry| (Arc::clone(&entry.token), entry.known.clone()))
    }

    /// Keeps a token that was verified now. Where there is no room, those that are over go, then those that nobody rests on;
    /// where that makes none, it is not kept, and whatever rests on it for long ends early.
    pub fn put(&self, digest: Digest, token: Arc<Token>, now: UnixMillis) {
        let bytes = token.bytes();
        let mut state = self.state();
        state.remove(token.id);
        if state.bytes.saturating_add(bytes) > KEPT_BYTES_MAX {
            state.retain(|entry| now < entry.token.token.times.ends);
        }
        if state.bytes.saturating_add(bytes) > KEPT_BYTES_MAX {
            state.retain(Entry::is_rested_on);
        }
        if state.bytes.saturating_add(bytes) <= KEPT_BYTES_MAX {
            state.bytes = state.bytes.saturating_add(bytes);
            state.entries.insert(token.id, Entry { digest, token, known: None, bytes });
        }
    }

    /// Keeps who somebody is by a token that is kept.
    pub fn know(&self, id: Uuid, known: Known) {
        if let Some(entry) = self.state().entries.get_mut(&id) {
            entry.known = Some(known);
        }
    }

    /// Forgets a token.
    pub fn remove(&self, id: Uuid) {
        self.state().remove(id);
    }

    /// Forgets those that are `over`, and answers which.
    pub fn end(&self, over: impl Fn(&Token) -> bool) -> Vec<Uuid> {
        let mut state = self.state();
        let ended: Vec<Uuid> =
            state.entries.values().filter(|entry| over(&entry.token)).map(|entry| entry.token.id).collect();
        ended.iter().for_each(|id| state.remove(*id));
        ended
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize) {
        let state = self.state();
        (state.entries.len(), state.bytes)
    }

    /// No change under this lock can be left half done by a panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, id: Uuid) {
        if let Some(entry) = self.entries.remove(&id) {
            self.bytes = self.bytes.saturating_sub(entry.bytes);
        }
    }

    fn retain(&mut self, keep: impl Fn(&Entry) -> bool) {
        self.entries.retain(|_, entry| keep(entry));
        self.bytes = self.entries.values().map(|entry| entry.bytes).sum();
    }
}

impl Entry {
    /// Whether a request under way, an open socket or a stream has been let in by it.
    fn is_rested_on(&self) -> bool {
        self.known.as_ref().is_some_and(|(_, principal)| Arc::strong_count(principal) > 1)
    }
}

impl Providers {
    /// Whether access tokens of any provider are taken.
    #[must_use]
    pub fn take_access_tokens(&self) -> bool {
        self.all.iter().any(|provider| provider.settings.access_tokens.is_some())
    }

    /// Whether the provider of a token has ended it.
    ///
    /// # Errors
    /// When the store that gateways share does not answer.
    pub async fn has_ended(&self, token: &Token) -> Result<bool, StoreError> {
        let AccessToken { origin, sid, times, .. } = &token.token;
        let sid = sid.as_ref().map(ProviderSession::sid);
        self.endings.has_ended(origin.issuer(), origin.subject(), sid, times.issued).await
    }

    /// Whether a mark at this place may be of the end of a token, by the token's public id. One that is known no more may be.
    #[must_use]
    pub fn is_marked_at(&self, id: Uuid, place: &Place) -> bool {
        let Some((token, _)) = self.presented.of_id(id) else { return true };
        let places = token.places.get_or_init(|| {
            let AccessToken { origin, sid, .. } = &token.token;
            let sid = sid.as_ref().map(ProviderSession::sid);
            self.endings.places(origin.issuer(), origin.subject(), sid).into()
        });
        places.contains(place)
    }

    /// Verifies a logout token: the name and the issuer of the provider that says it, and what it says.
    ///
    /// # Errors
    /// It does not hold, or its provider's keys cannot be had.
    pub async fn logout_token(
        &self,
        text: &str,
        now: UnixMillis,
    ) -> Result<(Arc<str>, String, LogoutToken), Fault> {
        let jws = Jws::parse(text).map_err(LogoutFault::from)?;
        let provider = self.issuer_of(&jws).ok_or(LogoutFault::Issuer)?;
        let verify = |keys: &KeySet| logout_token::verify(&jws, &provider.settings, keys, now);
        let unknown = LogoutFault::Signature(SignatureFault::UnknownKey);
        let token = provider.with_keys(verify, |fault| *fault == unknown).await?;
        Ok((Arc::clone(provider.name()), provider.issuer().to_owned(), token))
    }

    /// The provider that a token names, which nothing has proved yet.
    fn issuer_of(&self, jws: &Jws<'_>) -> Option<&Arc<Provider>> {
        let issuer = jws.claims.get("iss").and_then(Value::as_str)?;
        self.all.iter().find(|provider| provider.settings.issuer == issuer)
    }

    /// Verifies an access token, and tells what the record should say beside it.
    ///
    /// # Errors
    /// It does not hold, or its provider's keys cannot be had.
    pub async fn verified(&self, text: &str, now: UnixMillis) -> Result<(Token, Vec<String>), Fault> {
        let jws = Jws::parse(text).map_err(AccessFault::from)?;
        let provider = self.issuer_of(&jws).ok_or(AccessFault::Issuer)?;
        let token = provider.access_token(&jws, now).await?;
        let Mapped { person, assurance, notes } =
            claims::map(&provider.settings, token.origin.clone(), &jws.claims);
        let (id, provider, places) = (Digest::of(text).id(), Arc::clone(provider), OnceLock::new());
        Ok((Token { id, person, assurance, token, provider, told: None, places }, notes))
    }
}

impl Provider {
    async fn access_token(&self, jws: &Jws<'_>, now: UnixMillis) -> Result<AccessToken, Fault> {
        let settings = self.settings.access_tokens.as_ref().ok_or(AccessFault::Issuer)?;
        let verify = |keys: &KeySet| access_token::verify(jws, &self.settings.issuer, settings, keys, now);
        let unknown = AccessFault::Signature(SignatureFault::UnknownKey);
        self.with_keys(verify, |fault| *fault == unknown).await
    }

    /// Verifies with the keys that are known, and once more with newer ones where the key is `unknown` among them. Nobody
    /// waits for the provider while keys of it stand: `watch` asks for them before they are old.
    pub(super) async fn with_keys<T, F>(
        &self,
        verify: impl Fn(&KeySet) -> Result<T, F>,
        unknown: impl Fn(&F) -> bool,
    ) -> Result<T, Fault>
    where
        Fault: From<F>,
    {
        let keys = match self.standing_keys() {
            Some(keys) => keys,
            None => {
                let metadata = self.metadata().await?;
                self.keys(&metadata, false).await?
            }
        };
        match verify(&keys) {
            Err(fault) if unknown(&fault) => {
                let metadata = self.metadata().await?;
                let keys = self.keys(&metadata, true).await?;
                Ok(verify(&keys)?)
            }
            verified => Ok(verified?),
        }
    }
}
