//! A session begins, however its person has signed in.

use bytes::Bytes;
use engine::refusal::{CredentialFault, Dependency, Refusal};
use engine::time::UnixMillis;
use http::HeaderValue;
use http::header::{LOCATION, SET_COOKIE, USER_AGENT};
use storage::StoreError;
use storage::credentials::Person;
use storage::grants::Grant;
use storage::redis::as_one_request;
use storage::sessions::{NewSession, ProviderSession, SessionSecret, SessionView, SignOutHint};
use uuid::Uuid;

use super::return_to::ReturnTo;
use super::sign_in::told;
use super::{At, PageAnswer, Rendered, WHO_AM_I_PATH};
use crate::admin::metrics;
use crate::authn::cookies::{self, Cookie};
use crate::authn::unanswered_by;
use crate::oidc::refresh::Granted;

const SIGNED_OUT_THERE: &str =
    "You were signed out where you sign in, while you signed in here. Please begin again.";

/// Where a session goes back to, if that is an identity provider.
pub(super) struct Elsewhere {
    /// Whom the provider vouches for.
    pub(super) person: Person,
    /// When they proved it there.
    pub(super) authenticated_at: UnixMillis,
    /// When the provider said so, by its clock.
    pub(super) issued: UnixMillis,
    /// The session there, where it has a name.
    pub(super) session: Option<ProviderSession>,
    /// With what it is asked whether that still stands, where it is to be.
    pub(super) granted: Option<Granted>,
    /// What it is shown when they sign out there.
    pub(super) hint: Option<SignOutHint>,
}

impl Elsewhere {
    /// What ties a session to the provider's word.
    fn grant(&self, session: &SessionView) -> Option<Grant> {
        let granted = self.granted.as_ref()?;
        Some(Grant {
            issuer: self.person.origin.issuer().to_owned(),
            subject: self.person.origin.subject().to_owned(),
            refresh_token: granted.refresh_token.to_string(),
            counts_until: granted.counts_until,
            absolute_end: session.absolute_end,
        })
    }

    /// Whether the provider has ended it, while the person was on the way here.
    async fn has_ended(&self, at: &At<'_>) -> Result<bool, StoreError> {
        let sid = self.session.as_ref().map(ProviderSession::sid);
        let (issuer, subject) = (self.person.origin.issuer(), self.person.origin.subject());
        at.parts.providers.endings.has_ended(issuer, subject, sid, self.issued).await
    }
}

/// A session begins, and the one that this browser had before ends: a cookie that somebody planted before the
/// sign-in is worth nothing after it. The answer leads where the person wanted to go.
pub(super) async fn begin(
    at: &At<'_>,
    account: Uuid,
    assurance: u8,
    return_to: Option<&ReturnTo>,
    elsewhere: Option<Elsewhere>,
) -> PageAnswer {
    let agent = at.request.headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
    let new = NewSession {
        account,
        assurance,
        // A password was shown now.
        authenticated_at: elsewhere.as_ref().map_or(at.now, |elsewhere| elsewhere.authenticated_at),
        client: Some(at.request.client),
        user_agent: agent.map(str::to_owned),
        provider: elsewhere.as_ref().and_then(|elsewhere| elsewhere.session.clone()),
        person: elsewhere.as_ref().map(|elsewhere| elsewhere.person.clone()),
        hint: elsewhere.as_ref().and_then(|elsewhere| elsewhere.hint.clone()),
    };
    // None is made where the one before could not be ended: nobody would hold it, and it would take an older one's place.
    let created = async {
        end_presented(at).await?;
        at.parts.sessions.create(new, at.now).await
    };
    let created = match created.await {
        Ok(created) => created,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "a session could not be created");
            return PageAnswer::refused(Refusal::Unavailable(Dependency::Sessions));
        }
    };
    if let Some(grant) = elsewhere.as_ref().and_then(|elsewhere| elsewhere.grant(&created.session))
        && let Err(error) = at.parts.renewals.begin(created.session.id, grant).await
    {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "a session could not be tied to its provider"
        );
        return given_up(at, created.session.id).await;
    }
    // After it is there: a provider's word that comes now finds either the session, or has marked it before.
    match ended_meanwhile(at, elsewhere.as_ref()).await {
        Ok(false) => {}
        Ok(true) => return over_already(at, created.session.id, return_to).await,
        Err(error) => {
            unanswered_by("the store of what providers have ended", &error);
            return given_up(at, created.session.id).await;
        }
    }
    at.parts.metrics.login_ended(metrics::Login::Succeeded);
    let mut answer = leading_to(return_to)
        .noting(format!("login succeeded: account {account} session {}", created.session.id));
    for id in created.displaced {
        answer = answer.noting(format!("session {id} ended: the account had too many"));
    }
    let secret = created.secret.reveal();
    let cookies = [Cookie::Session.set(at.site, &secret, None), Cookie::Form.set(at.site, "", Some(0))];
    for cookie in cookies.into_iter().flatten() {
        answer = answer.with(SET_COOKIE, cookie);
    }
    answer
}

/// A session that was made and is given to nobody: nobody is told its secret, so nobody can use it, ended or not. Its
/// waiting is its own, for what the sign-in had may be used up.
async fn given_up(at: &At<'_>, session: Uuid) -> PageAnswer {
    as_one_request(at.parts.sessions.end(session, at.now)).await.ok();
    PageAnswer::refused(Refusal::Unavailable(Dependency::Sessions))
}

/// Its waiting is its own: the sign-in has displaced other sessions by now, and is not given up for what that has waited.
async fn ended_meanwhile(at: &At<'_>, elsewhere: Option<&Elsewhere>) -> Result<bool, StoreError> {
    match elsewhere {
        Some(elsewhere) => as_one_request(elsewhere.has_ended(at)).await,
        None => Ok(false),
    }
}

/// The provider has signed the person out while they signed in here.
async fn over_already(at: &At<'_>, session: Uuid, return_to: Option<&ReturnTo>) -> PageAnswer {
    if let Err(error) = at.parts.sessions.end(session, at.now).await {
        // Nobody is told its secret, so nobody can use it.
        tracing::error!(error = &error as &dyn std::error::Error, "a session could not be ended");
    }
    at.parts.metrics.login_ended(metrics::Login::Failed);
    let refusal = Refusal::CredentialRejected(CredentialFault::Provider);
    told(at, refusal, SIGNED_OUT_THERE.to_owned(), return_to)
        .noting("login failed: the provider has ended its session already")
}

/// Where the person wanted to go, or to the page that says who they are.
pub(super) fn leading_to(return_to: Option<&ReturnTo>) -> PageAnswer {
    let location = return_to.map_or(HeaderValue::from_static(WHO_AM_I_PATH), ReturnTo::location);
    elsewhere(location)
}

/// A redirect that every browser follows with `GET`.
pub(super) fn elsewhere(location: HeaderValue) -> PageAnswer {
    PageAnswer::new(303, Rendered { headers: Vec::new(), body: Bytes::new() }).with(LOCATION, location)
}

/// The live session whose cookie came along, whoever's it is.
pub(super) async fn presented(at: &At<'_>) -> Result<Option<SessionView>, StoreError> {
    if let Some(session) = at.caller.session {
        return Ok(Some(session.clone()));
    }
    let cookie = cookies::text(&at.request.headers, Cookie::Session.name(at.site));
    match cookie.and_then(SessionSecret::parse) {
        Some(secret) => at.parts.sessions.find(&secret, at.now).await,
        None => Ok(None),
    }
}

async fn end_presented(at: &At<'_>) -> Result<(), StoreError> {
    if let Some(session) = presented(at).await? {
        at.parts.sessions.end(session.id, at.now).await?;
    }
    Ok(())
}
