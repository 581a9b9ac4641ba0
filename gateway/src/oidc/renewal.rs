//! Sessions that go on by their provider's word: when it is over, the next request asks for it again.
//!
//! | the provider | the session |
//! |---|---|
//! | answers | goes on, with the roles and groups of the answer |
//! | says `invalid_grant`, or vouches for somebody else | ends, with whatever is open with it |
//! | does not answer, or refuses us | goes on for [`GRACE_MS`] past its word, then waits: 503 until the provider answers |
//!
//! A crowd with one session is one question, which goes on when they leave, because its answer may hold the only token that
//! the provider takes from now on. A provider that is away is asked once in [`AWAY_MS`], for all sessions together.
//!
//! One process has the sessions (see [`storage::grants`] for what sharing them asks for).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use engine::time::UnixMillis;
use storage::StoreError;
use storage::credentials::Accounts;
use storage::grants::{Grant, Grants};
use storage::sessions::Sessions;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::flights::Flights;
use super::id_token::TokenFault;
use super::{Fault, HttpFault, Provider, Providers};
use crate::admin::metrics::{Metrics, Renewal as Counted};

/// How long a session goes on past its provider's word while that cannot be asked: 10 minutes, in milliseconds. Restarts and
/// upgrades of a provider are shorter.
pub const GRACE_MS: u64 = 10 * 60 * 1000;
/// Between two questions while a provider is away: 10 seconds, in milliseconds.
pub const AWAY_MS: u64 = 10_000;
/// Between two questions about one session, however short a provider's word counts: 5 seconds, in milliseconds.
pub const RENEW_EVERY_MS: u64 = 5_000;
/// Questions at once.
const QUESTIONS_MAX: usize = 32;
/// How long a question waits for its turn.
const TURN: Duration = Duration::from_secs(2);
/// All that is asked for one renewal: requests wait for it.
const BUDGET: Duration = Duration::from_secs(5);

/// The sessions that go on by a provider's word.
pub struct Renewals {
    providers: Arc<Providers>,
    sessions: Arc<Sessions>,
    accounts: Accounts,
    metrics: Arc<Metrics>,
    grants: Grants,
    states: RwLock<HashMap<Uuid, Arc<State>>>,
    /// How many there are: without any, no request pays for them.
    count: AtomicUsize,
    flights: Flights<Uuid, Renewed>,
    turns: Semaphore,
}

/// What is known of one of them without asking the store.
#[derive(Default)]
struct State {
    /// From when on something is to be done. 0 for what was never looked at.
    due: AtomicU64,
    /// From when on it does not go on unless that was done.
    held: AtomicU64,
    /// What the store did not take. A provider that hands out new tokens takes no other.
    unsaved: Mutex<Option<Grant>>,
}

/// How a session stands with its provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its provider's word counts, or none is needed.
    Stands,
    /// Its provider has to be asked.
    Due,
    /// Its provider has not answered for too long.
    Held,
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// The session goes on.
    Stands,
    /// It has ended.
    Ended,
    /// Nobody knows; it does not go on for now.
    Held,
}

impl Renewals {
    /// Those that the store knows.
    ///
    /// # Errors
    /// When the store fails.
    pub fn open(
        providers: &Arc<Providers>,
        grants: Grants,
        sessions: &Arc<Sessions>,
        accounts: &Accounts,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let states: HashMap<_, _> =
            grants.sessions()?.into_iter().map(|session| (session, Arc::default())).collect();
        Ok(Self {
            providers: Arc::clone(providers),
            sessions: Arc::clone(sessions),
            accounts: accounts.clone(),
            metrics: Arc::clone(metrics),
            grants,
            count: AtomicUsize::new(states.len()),
            states: RwLock::new(states),
            flights: Flights::default(),
            turns: Semaphore::new(QUESTIONS_MAX),
        })
    }

    /// Ties a session that has just begun to its provider's word.
    ///
    /// # Errors
    /// When the store fails; then nothing ties it, and it should not begin.
    pub async fn begin(&self, session: Uuid, grant: Grant) -> Result<(), StoreError> {
        let state = Arc::new(State::default());
        state.counts_until(grant.counts_until);
        self.grants.put(session, grant).await?;
        let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
        states.insert(session, state);
        self.count.store(states.len(), Ordering::Relaxed);
        Ok(())
    }

    /// How a session stands now. Every request with a session asks this.
    pub fn standing(&self, session: Uuid, now: UnixMillis) -> Standing {
        if self.count.load(Ordering::Relaxed) == 0 {
            return Standing::Stands;
        }
        self.state(session).map_or(Standing::Stands, |state| state.standing(now))
    }

    /// Asks a session's provider, or waits for who does.
    pub async fn renew(self: &Arc<Self>, session: Uuid, now: UnixMillis) -> Renewed {
        let renewals = Arc::clone(self);
        let work = async move { renewals.asked(session, now).await };
        self.flights.of(session, work).await.unwrap_or(Renewed::Held)
    }

    /// Forgets the grants of sessions that are no more. Meant to run once a minute.
    ///
    /// # Errors
    /// When the store fails; the next sweep forgets them.
    pub async fn sweep(&self, now: UnixMillis) -> Result<(), StoreError> {
        // Before the sessions are listed: a session is there before its grant is. What is kept counts and not what is known
        // here: an answer that came after the end was kept, and its session known no more.
        let known = self.grants.sessions()?;
        if known.is_empty() {
            return Ok(());
        }
        let live = self.sessions.list(None, now).await?;
        let live: std::collections::HashSet<Uuid> = live.iter().map(|session| session.id).collect();
        for session in known.into_iter().filter(|session| !live.contains(session)) {
            self.remove(session).await?;
        }
        Ok(())
    }

    /// Forgets the grant of a session that has ended.
    ///
    /// # Errors
    /// When the store fails; a sweep forgets it.
    pub async fn forget(&self, session: Uuid) -> Result<(), StoreError> {
        if self.state(session).is_none() {
            return Ok(());
        }
        self.remove(session).await
    }

    /// The same where its person has ended it: then its provider takes back what it has given, where it offers that. Nobody
    /// waits for it.
    ///
    /// # Errors
    /// When the store fails; a sweep forgets the grant, and nothing is taken back.
    pub async fn give_back(&self, session: Uuid) -> Result<(), StoreError> {
        let Some(state) = self.state(session) else { return Ok(()) };
        let unsaved = state.unsaved.lock().unwrap_or_else(PoisonError::into_inner).take();
        let grant = match unsaved {
            Some(grant) => Some(grant),
            None => self.grants.find(session)?,
        };
        self.remove(session).await?;
        if let Some(grant) = grant {
            self.providers.give_back(grant);
        }
        Ok(())
    }

    async fn remove(&self, session: Uuid) -> Result<(), StoreError> {
        self.grants.remove(session).await?;
        let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
        states.remove(&session);
        self.count.store(states.len(), Ordering::Relaxed);
        Ok(())
    }

    async fn asked(&self, session: Uuid, now: UnixMillis) -> Renewed {
        let Some(state) = self.state(session) else { return Renewed::Stands };
        // Another crowd may have asked while this one came.
        match state.standing(now) {
            Standing::Stands => return Renewed::Stands,
            Standing::Held => return Renewed::Held,
            Standing::Due => {}
        }
        let grant = match self.grant(session, &state).await {
            Ok(grant) => grant,
            Err(error) => return unkept(&state, &error, now),
        };
        let provider = grant.as_ref().and_then(|grant| self.providers.of_issuer(&grant.issuer));
        let (Some(grant), Some(provider)) = (grant, provider.filter(|provider| provider.is_asked_again()))
        else {
            // No longer configured so: the session goes on by itself, as those without a grant.
            return match self.forget(session).await {
                Ok(()) => Renewed::Stands,
                Err(error) => unkept(&state, &error, now),
            };
        };
        if now < grant.counts_until {
            state.counts_until(grant.counts_until);
            return Renewed::Stands;
        }
        if provider.is_away(now) {
            return state.later(&grant, now);
        }
        let asked = match tokio::time::timeout(TURN, self.turns.acquire()).await {
            // Its time begins with its turn: cut short, it would lose the token that it was just given.
            Ok(Ok(_turn)) => {
                tokio::time::timeout(BUDGET, self.ask(session, &state, provider, &grant, now)).await
            }
            Ok(Err(_)) | Err(_) => return state.later(&grant, now),
        };
        let timeout = Fault::Http { what: "its answer to a refresh token", fault: HttpFault::Timeout };
        match asked.unwrap_or(Err(Broken::Fault(timeout))) {
            Ok(()) => {
                self.metrics.session_renewed(Counted::Renewed);
                Renewed::Stands
            }
            Err(Broken::Store(error)) => unkept(&state, &error, now),
            Err(Broken::Fault(fault)) if ends(&fault) => self.end(session, &state, &fault, now).await,
            Err(Broken::Fault(fault)) => {
                self.metrics.session_renewed(Counted::Away);
                tracing::warn!(provider = &**provider.name(), %fault, "a provider could not be asked about a session");
                // What is wrong with the answer about one person says nothing of the others.
                if is_away(&fault) {
                    provider.was_away(now.plus(AWAY_MS));
                }
                state.later(&grant, now)
            }
        }
    }

    /// The new token is kept before anything else of the answer is looked at.
    async fn ask(
        &self,
        session: Uuid,
        state: &State,
        provider: &Provider,
        grant: &Grant,
        now: UnixMillis,
    ) -> Result<(), Broken> {
        let renewal = provider.renewal(&grant.refresh_token).await?;
        let mut grant = grant.clone();
        if let Some(rotated) = renewal.rotated().filter(|rotated| *rotated != grant.refresh_token) {
            rotated.clone_into(&mut grant.refresh_token);
            self.keep(session, state, grant.clone()).await?;
        }
        let said = provider.said_anew(&grant, &renewal, now).await?;
        if let Some(mapped) = said.mapped {
            self.accounts.vouched(mapped.person, now).await?;
        }
        if let Some(hint) = said.hint
            && let Err(error) = self.sessions.replace_hint(session, hint, now).await
        {
            tracing::warn!(%error, "a newer ID token could not be kept: its provider is shown the one before at sign-out");
        }
        grant.counts_until = now.plus(renewal.lifetime_ms().max(RENEW_EVERY_MS));
        let until = grant.counts_until;
        self.keep(session, state, grant).await?;
        state.counts_until(until);
        Ok(())
    }

    async fn end(&self, session: Uuid, state: &State, fault: &Fault, now: UnixMillis) -> Renewed {
        if let Err(error) = self.sessions.end(session, now).await {
            return unkept(state, &error, now);
        }
        self.metrics.session_renewed(Counted::Ended);
        tracing::info!(%session, %fault, "a session has ended: its provider vouches for it no more");
        if let Err(error) = self.forget(session).await {
            tracing::warn!(%error, "the grant of a session that has ended could not be removed; a sweep will");
        }
        Renewed::Ended
    }

    /// A grant as it was kept last, or as it should have been.
    async fn grant(&self, session: Uuid, state: &State) -> Result<Option<Grant>, StoreError> {
        let unsaved = state.unsaved.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match unsaved {
            Some(grant) => {
                self.keep(session, state, grant.clone()).await?;
                Ok(Some(grant))
            }
            None => self.grants.find(session),
        }
    }

    async fn keep(&self, session: Uuid, state: &State, grant: Grant) -> Result<(), StoreError> {
        let kept = self.grants.put(session, grant.clone()).await;
        let unsaved = kept.is_err().then_some(grant);
        *state.unsaved.lock().unwrap_or_else(PoisonError::into_inner) = unsaved;
        kept
    }

    fn state(&self, session: Uuid) -> Option<Arc<State>> {
        let states = self.states.read().unwrap_or_else(PoisonError::into_inner);
        states.get(&session).cloned()
    }
}

impl State {
    fn standing(&self, now: UnixMillis) -> Standing {
        if now.0 >= self.due.load(Ordering::Relaxed) {
            Standing::Due
        } else if now.0 >= self.held.load(Ordering::Relaxed) {
            Standing::Held
        } else {
            Standing::Stands
        }
    }

    fn counts_until(&self, until: UnixMillis) {
        self.held.store(until.plus(GRACE_MS).0, Ordering::Relaxed);
        self.due.store(until.0, Ordering::Relaxed);
    }

    /// Not now: it goes on while the grace lasts, and is asked about again in a while.
    fn later(&self, grant: &Grant, now: UnixMillis) -> Renewed {
        let held = grant.counts_until.plus(GRACE_MS);
        self.held.store(held.0, Ordering::Relaxed);
        self.due.store(now.plus(AWAY_MS).0, Ordering::Relaxed);
        if now < held { Renewed::Stands } else { Renewed::Held }
    }
}

/// Whether the provider answers nobody just now.
fn is_away(fault: &Fault) -> bool {
    match fault {
        Fault::Http { fault: HttpFault::Status(status), .. } => *status >= 500 || *status == 429,
        Fault::Http { fault, .. } => *fault != HttpFault::TooLarge,
        Fault::Metadata(_) | Fault::Keys(_) => true,
        Fault::Refused(_)
        | Fault::TokenResponse
        | Fault::Pushed
        | Fault::Token(_)
        | Fault::AccessToken(_)
        | Fault::LogoutToken(_)
        | Fault::Introspection
        | Fault::Userinfo => false,
    }
}

/// Why there is no new word.
enum Broken {
    Fault(Fault),
    Store(StoreError),
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Whether the provider has said that it vouches for the session no more. All else may be a fault of its configuration or
/// ours, which must not sign a crowd out.
fn ends(fault: &Fault) -> bool {
    match fault {
        Fault::Refused(word) => *word == "invalid_grant",
        Fault::Token(fault) => *fault == TokenFault::OtherSubject,
        Fault::Http { .. }
        | Fault::Metadata(_)
        | Fault::Keys(_)
        | Fault::TokenResponse
        | Fault::Pushed
        | Fault::AccessToken(_)
        | Fault::LogoutToken(_)
        | Fault::Introspection
        | Fault::Userinfo => false,
    }
}

/// Nothing is known without the store, and nobody goes on by that.
fn unkept(state: &State, error: &StoreError, now: UnixMillis) -> Renewed {
    tracing::error!(
        error = error as &dyn std::error::Error,
        "the grant of a session could not be kept or read"
    );
    state.held.store(0, Ordering::Relaxed);
    state.due.store(now.plus(1_000).0, Ordering::Relaxed);
    Renewed::Held
}
