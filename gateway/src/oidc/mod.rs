//! Signing in at OpenID providers: the protocol, without the pages.
//!
//! | file | holds |
//! |---|---|
//! | `discovery`, `keys`, `kept` | what a provider says of itself, fetched once for everybody |
//! | `flow` | a sign-in under way, sealed into a cookie |
//! | `exchange`, `assertion` | code to tokens to claims, and who we are |
//! | `jose`, `times`, `id_token`, `access_token`, `logout_token` | what must hold of a token; pure |
//! | `presented` | access tokens that callers present, verified once while they hold |
//! | `introspection`, `guesses` | what a provider says of opaque ones, and how often somebody may guess |
//! | `refresh`, `renewal` | sessions that go on by their provider's word |
//! | `revocation` | what a provider takes back when its person signs out |
//! | `flights` | what a crowd waits for is done once |
//! | `claims` | from what a provider says to who somebody is here; pure |
//! | `check` | what can be asked of a provider before anybody signs in there |
//! | `watch` | keeps what is fetched fresh, and tells the health |
//!
//! The tokens that we are given for a code are used here and forgotten, but for two that are sealed in the store: a refresh
//! token where sessions go on by the provider's word, and the ID token where the provider has a place to sign out, which is
//! shown it there, by way of the browser and once the session has ended. Of a caller's token nothing is kept but its
//! digest and what it says, and in memory an opaque one, to ask about it again. Nothing else of either reaches a browser, and
//! nothing a record or an upstream.

pub mod access_token;
mod assertion;
pub mod check;
mod claims;
pub mod discovery;
mod exchange;
mod flights;
pub mod flow;
mod guesses;
mod http;
pub mod id_token;
pub mod introspection;
pub mod jose;
mod kept;
pub mod keys;
pub mod logout_token;
pub mod presented;
pub mod refresh;
pub mod renewal;
mod revocation;
#[cfg(test)]
pub(crate) mod tests;
pub mod times;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::route::MAX_AGE_S_MAX;
use engine::time::UnixMillis;
use reqwest::Url;
use storage::Keyring;
use storage::endings::Endings;
use storage::sessions::SignOutHint;

use crate::clock;
use crate::config::providers::Provider as Settings;
use access_token::AccessFault;
pub use claims::Mapped;
use discovery::{Metadata, MetadataFault};
pub use exchange::Vouched;
use flow::Flow;
use http::Http;
pub use http::{ClientError, HttpFault};
use id_token::TokenFault;
use introspection::Introspections;
use jose::Jws;
use kept::Kept;
use keys::{KeySet, KeysFault};
use logout_token::LogoutFault;
use presented::Presented;
pub use watch::watch;

/// The configured providers, in the order of the sign-in page.
pub struct Providers {
    all: Vec<Arc<Provider>>,
    /// Seals the flows of browsers.
    pub keyring: Keyring,
    /// What they have ended lately.
    pub endings: Endings,
    /// The access tokens that callers have presented.
    pub presented: Presented,
    introspections: Introspections,
}

/// A provider, with what is known of it.
pub struct Provider {
    settings: Settings,
    http: Http,
    metadata: Kept<Metadata, Fault>,
    keys: Kept<KeySet, Fault>,
    /// Until when it is not asked about sessions, because it did not answer.
    away_until: AtomicU64,
}

/// Why a provider vouches for nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It does not answer.
    #[error("{what}: {fault}")]
    Http {
        /// What was asked for.
        what: &'static str,
        /// Why there is no answer.
        #[source]
        fault: HttpFault,
    },
    /// Its metadata is not taken.
    #[error(transparent)]
    Metadata(#[from] MetadataFault),
    /// Its keys are not taken.
    #[error(transparent)]
    Keys(#[from] KeysFault),
    /// It refuses us or the code: one of OAuth's words.
    #[error("the provider says `{0}` to our client")]
    Refused(&'static str),
    /// What it answered is no token response.
    #[error("the token endpoint's answer is not read")]
    TokenResponse,
    /// What it answered to a pushed request is no name of one.
    #[error("the answer to a pushed request is not read")]
    Pushed,
    /// Its ID token does not hold.
    #[error(transparent)]
    Token(#[from] TokenFault),
    /// An access token does not hold.
    #[error(transparent)]
    AccessToken(#[from] AccessFault),
    /// A logout token does not hold.
    #[error(transparent)]
    LogoutToken(#[from] LogoutFault),
    /// What it answers about an opaque token is not read.
    #[error("the introspection endpoint's answer is not read")]
    Introspection,
    /// Its userinfo is of somebody else, or no object.
    #[error("userinfo is not read, or is of somebody else than the ID token")]
    Userinfo,
}

impl Fault {
    /// Whether it says something of a token, and not of a provider that cannot be asked about it.
    #[must_use]
    pub fn tells_of_the_token(&self) -> bool {
        match self {
            Self::AccessToken(_) | Self::LogoutToken(_) | Self::Token(_) => true,
            Self::Http { .. }
            | Self::Metadata(_)
            | Self::Keys(_)
            | Self::Refused(_)
            | Self::TokenResponse
            | Self::Pushed
            | Self::Introspection
            | Self::Userinfo => false,
        }
    }

    /// Whether it is worth trying again in a moment: the provider is away, and nothing that it said is wrong.
    #[must_use]
    pub fn is_away(&self) -> bool {
        match self {
            Self::Http { .. } => true,
            Self::Metadata(_)
            | Self::Keys(_)
            | Self::Refused(_)
            | Self::TokenResponse
            | Self::Pushed
            | Self::Token(_)
            | Self::AccessToken(_)
            | Self::LogoutToken(_)
            | Self::Introspection
            | Self::Userinfo => false,
        }
    }
}

impl Providers {
    /// Providers of these settings, none of which is asked anything yet.
    ///
    /// # Errors
    /// A provider's certificate file cannot be used.
    pub fn new(settings: &[Settings], keyring: Keyring, endings: Endings) -> Result<Self, ClientError> {
        let all = settings.iter().map(|settings| Provider::new(settings.clone()).map(Arc::new));
        let all = all.collect::<Result<_, _>>()?;
        let (presented, introspections) = (Presented::default(), Introspections::default());
        Ok(Self { all, keyring, endings, presented, introspections })
    }

    /// All, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.all.iter()
    }

    /// The provider of a name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Provider> {
        self.all.iter().find(|provider| &*provider.settings.name == name).map(AsRef::as_ref)
    }

    /// The provider that vouches for people of this issuer.
    #[must_use]
    pub fn of_issuer(&self, issuer: &str) -> Option<&Provider> {
        self.all.iter().find(|provider| provider.settings.issuer == issuer).map(AsRef::as_ref)
    }
}

#[cfg(test)]
impl Providers {
    /// Providers that need not be asked: they have these keys from now on.
    pub(crate) fn with_keys(settings: &[Settings], jwks: &str) -> Self {
        let providers = Self::alone(settings);
        providers.all.iter().for_each(|provider| provider.have(jwks));
        providers
    }

    /// Providers with a store of their own.
    pub(crate) fn alone(settings: &[Settings]) -> Self {
        crate::tls::install_provider(crate::config::settings::TlsVersion::V1_3).unwrap();
        let keyring = Keyring::from_master(&[7; 32]);
        let endings = Endings::open(storage::Store::in_memory(&keyring).unwrap()).unwrap();
        Self::new(settings, keyring, endings).unwrap()
    }

    /// Changes the keys of all.
    pub(crate) fn rotate(&self, jwks: &str) {
        self.all.iter().for_each(|provider| provider.have(jwks));
    }
}

#[cfg(test)]
impl Provider {
    fn have(&self, jwks: &str) {
        self.keys.set(KeySet::parse(jwks.as_bytes()).unwrap(), clock::instant());
    }
}

impl Provider {
    fn new(settings: Settings) -> Result<Self, ClientError> {
        let http = Http::new(&settings)?;
        let away_until = AtomicU64::new(0);
        Ok(Self { settings, http, metadata: Kept::new(), keys: Kept::new(), away_until })
    }

    /// Whether it did not answer a moment ago.
    fn is_away(&self, now: UnixMillis) -> bool {
        now.0 < self.away_until.load(Ordering::Relaxed)
    }

    fn was_away(&self, until: UnixMillis) {
        self.away_until.store(until.0, Ordering::Relaxed);
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.settings.name
    }

    /// What its button says.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.settings.title
    }

    /// Its issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// It is away, or what it says is not taken; what it said within a day is used on.
    pub async fn metadata(&self) -> Result<Arc<Metadata>, Fault> {
        let fetch = async || {
            let what = "its metadata";
            // The configuration has read it as a URL.
            let address = discovery::address(&self.settings.issuer);
            let url = Url::parse(&address).map_err(|_| MetadataFault::Address("issuer"))?;
            let bytes = self.http.get(&url, None).await.map_err(|fault| Fault::Http { what, fault })?;
            Ok(Metadata::parse(&bytes, &self.settings.issuer)?)
        };
        self.metadata.fresh(clock::instant(), fetch).await
    }

    /// Its keys; `anew` where one was missing in those that are kept.
    async fn keys(&self, metadata: &Metadata, anew: bool) -> Result<Arc<KeySet>, Fault> {
        let fetch = async || {
            let what = "its keys";
            let bytes = self.http.get(&metadata.jwks_uri, None).await;
            Ok(KeySet::parse(&bytes.map_err(|fault| Fault::Http { what, fault })?)?)
        };
        let now = clock::instant();
        if anew { self.keys.renewed(now, fetch).await } else { self.keys.fresh(now, fetch).await }
    }

    /// Its keys, as they were told last, without asking: `None` where they never were, or a day ago.
    fn standing_keys(&self) -> Option<Arc<KeySet>> {
        self.keys.standing(clock::instant())
    }

    /// Where a person signs out of the provider as well (OpenID Connect RP-Initiated Logout 1.0), where it has such a place
    /// and has told of it. It is shown the ID token that it gave, so that it need not ask the person whether they mean it; one
    /// that it could not recognise any more would be a fault to it, and is left out.
    pub async fn end_session(&self, return_uri: &str, hint: Option<&SignOutHint>) -> Option<Url> {
        let metadata = self.metadata().await.ok()?;
        let mut url = metadata.end_session_endpoint.clone()?;
        url.query_pairs_mut()
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("post_logout_redirect_uri", return_uri);
        if let Some(hint) = hint
            && let Ok(keys) = self.keys(&metadata, false).await
            && Jws::parse(hint.reveal()).is_ok_and(|jws| keys.verify(&jws).is_ok())
        {
            url.query_pairs_mut().append_pair("id_token_hint", hint.reveal());
        }
        Some(url)
    }

    /// Where a browser would go that may be shown nothing, for a sign-in that nobody finishes.
    async fn silent_authorization(&self, metadata: &Metadata, redirect_uri: &str) -> Result<Url, Fault> {
        let flow = Flow::begin(clock::now(), &crate::random::bytes(), self.name(), None);
        self.authorization_at(metadata, &flow, redirect_uri, &["none"]).await
    }

    /// Where a browser goes to sign in.
    ///
    /// # Errors
    /// It is away, or what it says of itself is not taken.
    pub async fn authorization(&self, flow: &Flow, redirect_uri: &str) -> Result<Url, Fault> {
        let metadata = self.metadata().await?;
        let mut prompt: Vec<&str> = Vec::new();
        // Whom nothing but `amr` says to have proved two factors cannot be asked for by name.
        if asks_for_two(flow) && self.settings.second_factor.acr.is_empty() {
            prompt.push("login");
        }
        prompt.extend(self.settings.consent.then_some("consent"));
        self.authorization_at(&metadata, flow, redirect_uri, &prompt).await
    }

    /// Where the provider takes pushed requests, the browser carries the name of one: nobody on the way reads or changes what
    /// is asked. There is no second way beside it, or whoever disturbs the first could choose.
    async fn authorization_at(
        &self,
        metadata: &Metadata,
        flow: &Flow,
        redirect_uri: &str,
        prompt: &[&str],
    ) -> Result<Url, Fault> {
        let (scopes, state, nonce) = (self.settings.scopes.join(" "), flow.state(), flow.nonce());
        let (id, challenge) = (self.settings.client_id.as_str(), flow.challenge());
        let mut fields = vec![
            ("response_type", "code"),
            ("client_id", id),
            ("redirect_uri", redirect_uri),
            ("scope", &scopes),
            ("state", &state),
            ("nonce", &nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let (prompt, acr) = (prompt.join(" "), self.settings.second_factor.acr.join(" "));
        // Also where any age would do: a provider says when it has asked its person to whoever asks for an age alone (OpenID
        // Connect Core 1.0, section 3.1.2.1), and a session of no known age would be too old for the next route.
        let max_age = flow.raise().map(|raise| raise.asks.max_age_s.unwrap_or(MAX_AGE_S_MAX).to_string());
        fields.extend((!prompt.is_empty()).then_some(("prompt", &*prompt)));
        fields.extend((asks_for_two(flow) && !acr.is_empty()).then_some(("acr_values", &*acr)));
        fields.extend(max_age.as_deref().map(|seconds| ("max_age", seconds)));
        let mut url = metadata.authorization_endpoint.clone();
        match &metadata.pushed_endpoint {
            Some(endpoint) if self.settings.pushed => {
                let name = self.pushed(metadata, endpoint, fields).await?;
                url.query_pairs_mut().append_pair("client_id", id).append_pair("request_uri", &name);
            }
            Some(_) if metadata.pushes_required => {
                let unsupported = "a sign-in that was not pushed: take `pushed_requests = false` out";
                return Err(MetadataFault::Unsupported(unsupported).into());
            }
            Some(_) | None => {
                url.query_pairs_mut().extend_pairs(fields);
            }
        }
        Ok(url)
    }
}

/// Whether a flow is to confirm a second factor.
fn asks_for_two(flow: &Flow) -> bool {
    flow.raise().is_some_and(|raise| raise.asks.assurance > 1)
}
