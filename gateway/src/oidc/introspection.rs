//! Opaque access tokens: what one is, its provider alone can say, and is asked (RFC 7662).
//!
//! An answer counts for [`TOLD_MS`] at most, also for what is open by it, so an end that the provider tells nobody of is seen
//! that late; one that it tells, or that somebody else's question brings to light, ends the token at once, like every other. A crowd with one token is one question, and what was no token a moment
//! ago is none without asking. A provider that does not answer makes no token hold and none invalid.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::time::UnixMillis;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::access_token::{self, AccessFault};
use super::claims::{self, Mapped};
use super::discovery::MetadataFault;
use super::flights::Flights;
use super::guesses::Guesses;
use super::jose::Object;
use super::presented::{Digest, Token};
use super::{Fault, HttpFault, Provider, Providers};

/// How long an answer counts: 30 seconds, in milliseconds.
pub const TOLD_MS: u64 = 30_000;
/// How long a token that does not hold is refused without asking: 10 seconds, in milliseconds.
pub const REFUSED_MS: u64 = 10_000;
/// Tokens that were refused lately, with half a megabyte. Where there are more, they are asked about again.
pub const REFUSED_MAX: usize = 8_192;
/// Questions to a provider at once.
pub const QUESTIONS_MAX: usize = 32;
/// How long a question waits for its turn.
const TURN: Duration = Duration::from_secs(2);

const WHAT: &str = "the introspection endpoint";

/// What is being asked, and what was said lately of what is no token.
pub struct Introspections {
    flights: Flights<Digest, Answer>,
    refused: Mutex<HashMap<Digest, (UnixMillis, AccessFault)>>,
    guesses: Guesses,
    turns: Semaphore,
}

/// A token, with what the record should say beside it.
type Answer = Result<(Arc<Token>, Vec<String>), NotTold>;

/// Why nothing is known of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTold {
    /// It does not hold, or its provider cannot be asked.
    Fault(Fault),
    /// Its provider was not asked: too many tokens that came from there were none.
    Guessing {
        /// After how many seconds it may be.
        retry_after_s: u32,
    },
}

impl From<AccessFault> for NotTold {
    fn from(fault: AccessFault) -> Self {
        Self::Fault(fault.into())
    }
}

impl Default for Introspections {
    fn default() -> Self {
        Self {
            flights: Flights::default(),
            refused: Mutex::default(),
            guesses: Guesses::default(),
            turns: Semaphore::new(QUESTIONS_MAX),
        }
    }
}

impl Introspections {
    fn refusal(&self, digest: &Digest, now: UnixMillis) -> Option<AccessFault> {
        self.refused().get(digest).filter(|(until, _)| now < *until).map(|(_, fault)| *fault)
    }

    fn refuse(&self, digest: Digest, fault: AccessFault, now: UnixMillis) {
        let mut refused = self.refused();
        if refused.len() >= REFUSED_MAX {
            refused.retain(|_, (until, _)| now < *until);
        }
        if refused.len() < REFUSED_MAX {
            refused.insert(digest, (now.plus(REFUSED_MS), fault));
        }
    }

    /// Whether an address has guessed too often.
    fn allowed(&self, from: Option<IpAddr>, now: UnixMillis) -> Result<(), NotTold> {
        match from.and_then(|from| self.guesses.wait_ms(from, now)) {
            None => Ok(()),
            Some(wait) => {
                let retry_after_s = u32::try_from(wait.div_ceil(1000)).unwrap_or(u32::MAX);
                Err(NotTold::Guessing { retry_after_s })
            }
        }
    }

    /// No change under this lock can be left half done by a panic.
    fn refused(&self) -> MutexGuard<'_, HashMap<Digest, (UnixMillis, AccessFault)>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Providers {
    /// Whether any provider is asked about opaque tokens.
    #[must_use]
    pub fn are_asked_about_tokens(&self) -> bool {
        self.asked_about_tokens().is_some()
    }

    fn asked_about_tokens(&self) -> Option<&Arc<Provider>> {
        self.all.iter().find(|provider| provider.settings.is_asked_about_tokens())
    }

    /// Asks about an opaque token and keeps what is said of it; `from` is the address that presents it, `None` where it was
    /// believed before and something rests on it.
    ///
    /// # Errors
    /// It does not hold, its provider cannot be asked, or is not because of `from`.
    pub async fn introspected(
        self: &Arc<Self>,
        text: &str,
        from: Option<IpAddr>,
        now: UnixMillis,
    ) -> Result<(Arc<Token>, Vec<String>), NotTold> {
        let digest = Digest::of(text);
        let asked = &self.introspections;
        if let Some(fault) = asked.refusal(&digest, now) {
            return Err(fault.into());
        }
        asked.allowed(from, now)?;
        let (providers, text) = (Arc::clone(self), Zeroizing::new(text.to_owned()));
        let work = async move { providers.ask_about(text, digest, from, now).await };
        let broken = Fault::Http { what: WHAT, fault: HttpFault::Broken };
        asked.flights.of(digest, work).await.unwrap_or(Err(NotTold::Fault(broken)))
    }

    async fn ask_about(
        &self,
        text: Zeroizing<String>,
        digest: Digest,
        from: Option<IpAddr>,
        now: UnixMillis,
    ) -> Answer {
        let asked = &self.introspections;
        let turn = tokio::time::timeout(TURN, asked.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(NotTold::Fault(Fault::Http { what: WHAT, fault: HttpFault::Timeout }));
        };
        // Others may have brought it, or used up what their address may, while this waited.
        let before = self.presented.find(&digest).map(|(token, _)| token);
        if let Some(token) = before.as_ref().filter(|token| token.stands(now)) {
            return Ok((Arc::clone(token), Vec::new()));
        }
        asked.allowed(from, now)?;
        let provider = self.asked_about_tokens().ok_or(AccessFault::Issuer)?;
        match provider.introspect(text, now).await {
            Ok((token, notes)) => {
                // Whoever rests on it keeps resting on the same where nothing has changed.
                if let Some(before) = before.filter(|before| before.renewed(&token)) {
                    return Ok((before, Vec::new()));
                }
                let token = Arc::new(token);
                self.presented.put(digest, Arc::clone(&token), now);
                Ok((token, notes))
            }
            Err(Fault::AccessToken(fault)) => {
                asked.refuse(digest, fault, now);
                if let Some(from) = from {
                    asked.guesses.count(from, now);
                }
                self.presented.remove(digest.id());
                // What is open by it is not asked about before its time otherwise. A guess is nobody's.
                if before.is_some() {
                    self.endings.token_is_over(digest.id());
                }
                Err(fault.into())
            }
            Err(fault) => {
                tracing::warn!(provider = &**provider.name(), %fault, "a provider could not be asked about a token");
                Err(NotTold::Fault(fault))
            }
        }
    }
}

impl Provider {
    /// Asks about a token that nobody was given, to see whether the provider answers us.
    pub(super) async fn introspects_nothing(self: &Arc<Self>) -> Result<(), Fault> {
        let text = Zeroizing::new("a-token-that-nobody-was-given".to_owned());
        self.introspect(text, crate::clock::now()).await.map(drop)
    }

    /// What the provider says of a token that nobody else can read.
    pub(super) async fn introspect(
        self: &Arc<Self>,
        text: Zeroizing<String>,
        now: UnixMillis,
    ) -> Result<(Token, Vec<String>), Fault> {
        let settings = self.settings.access_tokens.as_ref().ok_or(AccessFault::Issuer)?;
        let metadata = self.metadata().await?;
        let unsupported = MetadataFault::Unsupported("introspection, which `api_introspection` asks for");
        let url = metadata.introspection_endpoint.as_ref().ok_or(unsupported)?;
        // It says what kind is meant, so that a provider with a list for each looks into that first.
        let fields = vec![("token", text.as_str()), ("token_type_hint", "access_token")];
        let what = WHAT;
        let answer =
            self.as_client(&metadata, url, fields).await.map_err(|fault| Fault::Http { what, fault })?;
        if answer.status != 200 {
            return Err(Fault::Http { what, fault: HttpFault::Status(answer.status) });
        }
        let Object(said) = serde_json::from_slice(&answer.body).map_err(|_| Fault::Introspection)?;
        if !said.get("active").is_some_and(serde_json::Value::is_boolean) {
            return Err(Fault::Introspection);
        }
        let token = access_token::told(&said, &self.settings.issuer, settings, now)?;
        let Mapped { person, assurance, notes } = claims::map(&self.settings, token.origin.clone(), &said);
        let until = now.plus(TOLD_MS);
        Ok((Token::told(self, text, (person, assurance), token, until), notes))
    }
}
