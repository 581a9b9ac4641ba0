//! Who is asking: one file per credential scheme, and the rules by which their answers become one identity.
//!
//! A scheme answers one of three things: nothing was presented, it was verified, or it was rejected. Only the
//! schemes that the route accepts are asked. Anything presented that does not hold refuses the request, even
//! where another credential does: a request that carries two stories is somebody's attempt at one of them.

mod access_token;
mod api_key;
pub mod bearer;
pub mod cookies;
pub mod cross_site;
pub mod recall;
mod session;
pub mod site;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use engine::facts::RequestFacts;
use engine::identity::{Identity, Principal, Scheme};
use engine::refusal::{CredentialFault, Dependency, Refusal};
use engine::route::{Accept, Route, RouteMatch};
use engine::time::UnixMillis;
use http::HeaderValue;
use http::header::{AUTHORIZATION, HeaderName};
use storage::StoreError;
use storage::credentials::{Accounts, ApiKeys};
use storage::sessions::{SessionSecret, SessionView, Sessions};

use crate::admin::metrics::Metrics;
use crate::oidc::Providers;
use crate::oidc::renewal::{Renewals, Renewed, Standing};
use access_token::AccessTokens;
use bearer::Form;
use cookies::{Cookie, Found};
use recall::Recall;
use site::Sites;

/// The note of a request that presents an identity which only we mint, or one under a symmetric key (threat 8).
pub const OWN_TOKEN_NOTE: &str = "security: token of our own upstream identity presented";
/// The note of a request whose BotServer bearer was dropped beside a session.
pub const LEGACY_BEARER_NOTE: &str = "legacy bearer beside a session dropped";
/// The note of a request whose session cookie does not hold, where nobody needs one.
pub const STALE_SESSION_NOTE: &str = "session cookie that does not hold ignored";

/// The note of a request whose session waits for its provider's word, where nobody needs one.
pub const HELD_SESSION_NOTE: &str = "session whose provider does not answer ignored";

/// The note of a request with several session cookies, none of which is believed, where nobody needs one.
pub const TWO_SESSIONS_NOTE: &str = "several session cookies ignored";

/// Logs that a store does not answer. The outage of a shared one is told once, when it begins; this is every request of it.
pub fn unanswered_by(store: &'static str, error: &StoreError) {
    let told = error as &dyn std::error::Error;
    match error {
        StoreError::Shared(_) => tracing::debug!(error = told, "{store} does not answer"),
        StoreError::Database(_)
        | StoreError::Unseal(_)
        | StoreError::Seal(_)
        | StoreError::Malformed
        | StoreError::Away
        | StoreError::Contested
        | StoreError::Interrupted => tracing::error!(error = told, "{store} does not answer"),
    }
}

/// Asks the credential schemes.
pub struct Authn {
    sites: Arc<Sites>,
    sessions: Arc<Sessions>,
    accounts: Accounts,
    principals: session::Principals,
    keys: ApiKeys,
    tokens: AccessTokens,
    renewals: Arc<Renewals>,
    metrics: Arc<Metrics>,
}

/// Who was verified.
#[derive(Clone, Debug)]
pub struct Identified {
    /// The identity that the request is decided for.
    pub identity: Identity,
    /// The session that gives it, where a cookie does.
    pub session: Option<SessionView>,
    /// What the record should say beside it.
    pub notes: Vec<String>,
}

/// Nobody was verified, or what was presented does not hold.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// What the client is told.
    pub refusal: Refusal,
    /// What the record should say beside it.
    pub notes: Vec<String>,
    /// Whose credential it is, where one holds and the request is refused all the same: the one whose browser
    /// another site has used.
    pub principal: Option<Arc<Principal>>,
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        rejection.refusal
    }
}

/// What one scheme says.
enum Outcome {
    /// Nothing of its kind is there.
    NotPresented,
    /// It holds.
    Verified(Box<Proved>),
    /// It is there and does not hold.
    Rejected(CredentialFault),
}

/// What a verified credential proves.
struct Proved {
    principal: Arc<Principal>,
    session: Option<SessionView>,
}

impl Authn {
    /// Schemes over these stores, for these hosts.
    #[must_use]
    pub fn new(
        sites: &Arc<Sites>,
        sessions: &Arc<Sessions>,
        accounts: &Accounts,
        keys: &ApiKeys,
        (providers, renewals): (&Arc<Providers>, &Arc<Renewals>),
        metrics: &Arc<Metrics>,
    ) -> Self {
        Self {
            sites: sites.clone(),
            sessions: sessions.clone(),
            accounts: accounts.clone(),
            principals: session::Principals::default(),
            keys: keys.clone(),
            tokens: AccessTokens::new(providers.clone(), metrics.clone()),
            renewals: renewals.clone(),
            metrics: metrics.clone(),
        }
    }

    /// Who asks, by the credentials that the route accepts. `recall` is that of the connection.
    ///
    /// # Errors
    /// `Unauthenticated` where a credential is needed and none is there, `CredentialRejected` where one does not
    /// hold or is not accepted, `CrossSite` for a cookie-borne write from elsewhere, `Unavailable` when a store
    /// does not answer.
    pub async fn identify(
        &self,
        now: UnixMillis,
        matched: &RouteMatch,
        facts: &RequestFacts<'_>,
        recall: &Recall,
    ) -> Result<Identified, Rejection> {
        let mut notes = Vec::new();
        let proved = match self.verify(now, &matched.route, facts, recall, &mut notes).await {
            Ok(Some(proved)) => proved,
            Ok(None) => return Ok(Identified { identity: Identity::Anonymous, session: None, notes }),
            Err(refusal) => return Err(Rejection { refusal, notes, principal: None }),
        };
        match self.used(now, &matched.route, facts, proved.session.as_ref()).await {
            Ok(()) => {
                Ok(Identified { identity: Identity::Known(proved.principal), session: proved.session, notes })
            }
            Err(refusal) => Err(Rejection { refusal, notes, principal: Some(proved.principal) }),
        }
    }

    async fn verify(
        &self,
        now: UnixMillis,
        route: &Route,
        facts: &RequestFacts<'_>,
        recall: &Recall,
        notes: &mut Vec<String>,
    ) -> Result<Option<Box<Proved>>, Refusal> {
        let authorization = one(facts, &AUTHORIZATION)?;
        let api_key = one(facts, &api_key::X_API_KEY)?;
        let session = self.session(now, route, facts, recall, notes).await?;
        let signed_in = matches!(session, Outcome::Verified(_));
        let key = self.api_key(now, route, api_key.map(HeaderValue::as_bytes)).await?;
        let bearer = match authorization.map(|value| bearer::classify(value.as_bytes())) {
            None => Outcome::NotPresented,
            Some(Form::ApiKey(text)) => self.api_key(now, route, Some(text.as_bytes())).await?,
            Some(Form::Legacy) if signed_in && route.legacy_bearer_drop => {
                self.metrics.bearer_dropped();
                notes.push(LEGACY_BEARER_NOTE.to_owned());
                Outcome::NotPresented
            }
            Some(Form::Token(text)) => self.access_token(now, route, text, notes).await?,
            Some(Form::Opaque(text)) => self.opaque_token(now, route, (facts.client, text), notes).await?,
            Some(Form::Legacy | Form::Unknown) => Outcome::Rejected(CredentialFault::BearerUnknown),
        };
        let proved = agree(agree(agree(None, session)?, key)?, bearer)?;
        if proved.is_none() && !route.accept.anonymous {
            return Err(Refusal::Unauthenticated);
        }
        Ok(proved)
    }

    async fn session(
        &self,
        now: UnixMillis,
        route: &Route,
        facts: &RequestFacts<'_>,
        recall: &Recall,
        notes: &mut Vec<String>,
    ) -> Result<Outcome, Refusal> {
        let Some(site) = self.sites.find(facts.host) else { return Ok(Outcome::NotPresented) };
        let accept = route.accept;
        let found = cookies::find(facts.headers, Cookie::Session.name(site));
        match found {
            Found::None => Ok(Outcome::NotPresented),
            Found::One(_) | Found::Many if !accept.session && accept.anonymous => Ok(Outcome::NotPresented),
            Found::One(_) | Found::Many if !accept.session => {
                Ok(Outcome::Rejected(CredentialFault::NotAccepted))
            }
            // The sign-in page must show, or whoever was given a second cookie by a sibling site is locked out of it.
            Found::Many if accept.anonymous => {
                notes.push(TWO_SESSIONS_NOTE.to_owned());
                Ok(Outcome::NotPresented)
            }
            Found::Many => Ok(Outcome::Rejected(CredentialFault::Conflicting)),
            Found::One(value) => match self.verify_session(now, recall.secret(value)).await {
                // The sign-in page shows also while a provider is away.
                Err(Refusal::Unavailable(Dependency::IdentityProvider)) if accept.anonymous => {
                    notes.push(HELD_SESSION_NOTE.to_owned());
                    Ok(Outcome::NotPresented)
                }
                Err(refusal) => Err(refusal),
                // A browser keeps the cookie of a session that has ended; a page for everybody shows all the same.
                Ok(Outcome::Rejected(_)) if accept.anonymous => {
                    notes.push(STALE_SESSION_NOTE.to_owned());
                    Ok(Outcome::NotPresented)
                }
                Ok(outcome @ (Outcome::NotPresented | Outcome::Verified(_) | Outcome::Rejected(_))) => {
                    Ok(outcome)
                }
            },
        }
    }

    async fn verify_session(
        &self,
        now: UnixMillis,
        secret: Option<Arc<SessionSecret>>,
    ) -> Result<Outcome, Refusal> {
        let Some(secret) = secret else { return Ok(Outcome::Rejected(CredentialFault::SessionEnded)) };
        let outcome = session::verify(&self.sessions, &self.accounts, &self.principals, now, &secret).await?;
        self.vouched_for(now, outcome).await
    }

    /// Whether the provider that a session goes back to still vouches for it, where it goes on by that.
    async fn vouched_for(&self, now: UnixMillis, outcome: Outcome) -> Result<Outcome, Refusal> {
        let session = match &outcome {
            Outcome::Verified(proved) => proved.session.as_ref().map(|session| session.id),
            Outcome::NotPresented | Outcome::Rejected(_) => None,
        };
        let Some(session) = session else { return Ok(outcome) };
        let renewed = match self.renewals.standing(session, now) {
            Standing::Stands => return Ok(outcome),
            Standing::Held => Renewed::Held,
            // On the heap, because hardly any request comes here.
            Standing::Due => Box::pin(self.renewals.renew(session, now)).await,
        };
        match renewed {
            // Roles and groups may be others now, and the session may have ended meanwhile.
            Renewed::Stands => {
                session::again(&self.sessions, &self.accounts, &self.principals, now, session).await
            }
            Renewed::Ended => Ok(Outcome::Rejected(CredentialFault::SessionEnded)),
            Renewed::Held => Err(Refusal::Unavailable(Dependency::IdentityProvider)),
        }
    }

    async fn api_key(
        &self,
        now: UnixMillis,
        route: &Route,
        value: Option<&[u8]>,
    ) -> Result<Outcome, Refusal> {
        match value {
            None => Ok(Outcome::NotPresented),
            Some(_) if !route.accept.api_key => Ok(Outcome::Rejected(CredentialFault::NotAccepted)),
            Some(value) => api_key::verify(&self.keys, now, value).await,
        }
    }

    async fn access_token(
        &self,
        now: UnixMillis,
        route: &Route,
        text: &str,
        notes: &mut Vec<String>,
    ) -> Result<Outcome, Refusal> {
        let (taken, accepted) = (self.tokens.are_taken(), route.accept.access_token);
        if taken && accepted {
            return self.tokens.verify(&self.accounts, now, text, notes).await;
        }
        if bearer::is_own_upstream_token(text) {
            notes.push(OWN_TOKEN_NOTE.to_owned());
            return Ok(Outcome::Rejected(CredentialFault::BearerUnknown));
        }
        let fault = if taken { CredentialFault::NotAccepted } else { CredentialFault::BearerUnknown };
        Ok(Outcome::Rejected(fault))
    }

    async fn opaque_token(
        &self,
        now: UnixMillis,
        route: &Route,
        presented: (IpAddr, &str),
        notes: &mut Vec<String>,
    ) -> Result<Outcome, Refusal> {
        match (self.tokens.are_asked_about(), route.accept.access_token) {
            (true, true) => self.tokens.verify_opaque(&self.accounts, now, presented, notes).await,
            (true, false) => Ok(Outcome::Rejected(CredentialFault::NotAccepted)),
            (false, _) => Ok(Outcome::Rejected(CredentialFault::BearerUnknown)),
        }
    }

    /// What a session's use asks for: that no other site has sent a write, and that the use is noted.
    async fn used(
        &self,
        now: UnixMillis,
        route: &Route,
        facts: &RequestFacts<'_>,
        session: Option<&SessionView>,
    ) -> Result<(), Refusal> {
        let (Some(session), Some(site)) = (session, self.sites.find(facts.host)) else { return Ok(()) };
        if !route.read_only || facts.upgrade {
            cross_site::check(facts.headers, site, &self.sites).map_err(Refusal::CrossSite)?;
        }
        self.touch(session, now).await;
        Ok(())
    }

    /// Notes that a session is used.
    pub async fn touch(&self, session: &SessionView, now: UnixMillis) {
        if let Err(error) = self.sessions.touch(session, now).await {
            // The session holds all the same; it may end as idle a little earlier.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the use of a session could not be noted"
            );
        }
    }

    /// Until when somebody is believed by a word that has to be asked for again, however long the credential holds.
    #[must_use]
    pub fn told_until(&self, identity: &Identity) -> Option<UnixMillis> {
        match identity {
            Identity::Known(principal) if principal.scheme == Scheme::AccessToken => {
                self.tokens.told_until(principal.credential_id?)
            }
            Identity::Anonymous | Identity::Known(_) => None,
        }
    }

    /// Who it is now that was verified before: the credential by its id, with the account as it is at this moment.
    ///
    /// # Errors
    /// `CredentialRejected` where it no longer holds, `Unauthenticated` where the route no longer takes its kind,
    /// `Unavailable` when a store does not answer.
    pub async fn again(
        &self,
        now: UnixMillis,
        before: &Identity,
        accept: Accept,
    ) -> Result<Identified, Refusal> {
        let nobody = Identified { identity: Identity::Anonymous, session: None, notes: Vec::new() };
        let (scheme, id) = match before {
            Identity::Anonymous if accept.anonymous => return Ok(nobody),
            Identity::Anonymous => return Err(Refusal::Unauthenticated),
            Identity::Known(principal) => (principal.scheme, principal.credential_id),
        };
        let outcome = match (scheme, id) {
            (Scheme::Session, Some(id)) if accept.session => {
                let outcome = session::again(&self.sessions, &self.accounts, &self.principals, now, id);
                self.vouched_for(now, outcome.await?).await?
            }
            (Scheme::ApiKey, Some(id)) if accept.api_key => api_key::again(&self.keys, now, id).await?,
            (Scheme::AccessToken, Some(id)) if accept.access_token => {
                self.tokens.again(&self.accounts, now, id).await?
            }
            (Scheme::Session | Scheme::ApiKey | Scheme::AccessToken | Scheme::ControlSocket, _) => {
                Outcome::NotPresented
            }
        };
        match outcome {
            Outcome::Verified(proved) => Ok(Identified {
                identity: Identity::Known(proved.principal),
                session: proved.session,
                notes: Vec::new(),
            }),
            Outcome::Rejected(fault) => Err(Refusal::CredentialRejected(fault)),
            Outcome::NotPresented => Err(Refusal::Unauthenticated),
        }
    }
}

fn one<'h>(facts: &RequestFacts<'h>, name: &HeaderName) -> Result<Option<&'h HeaderValue>, Refusal> {
    let mut values = facts.headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (first, None) => Ok(first),
        (_, Some(_)) => Err(Refusal::CredentialRejected(CredentialFault::Conflicting)),
    }
}

/// Two credentials hold together only when they are one and the same.
fn agree(known: Option<Box<Proved>>, other: Outcome) -> Result<Option<Box<Proved>>, Refusal> {
    match (known, other) {
        (_, Outcome::Rejected(fault)) => Err(Refusal::CredentialRejected(fault)),
        (known, Outcome::NotPresented) => Ok(known),
        (None, Outcome::Verified(proved)) => Ok(Some(proved)),
        (Some(known), Outcome::Verified(proved)) => {
            let same = known.principal.credential_id.is_some()
                && known.principal.credential_id == proved.principal.credential_id;
            if same {
                Ok(Some(known))
            } else {
                Err(Refusal::CredentialRejected(CredentialFault::Conflicting))
            }
        }
    }
}
