//! Signing out: a page that asks, and the form that ends the session at once.

use askama::Template;
use engine::identity::Identity;
use engine::refusal::{CrossSiteFault, Dependency, Refusal};
use http::header::SET_COOKIE;
use storage::redis::as_one_request;
use storage::sessions::{SessionView, SignOutHint};

use super::form::Form;
use super::render::{Frame, page};
use super::{At, PageAnswer, SIGN_IN_PATH};
use crate::authn::cookies::Cookie;

/// The page that asks. A link to it from elsewhere ends nothing.
pub(super) fn ask(at: &At<'_>) -> PageAnswer {
    let form = match (at.caller.identity, at.caller.session) {
        (Identity::Known(principal), Some(session)) => Some(SignOutForm {
            name: &principal.name,
            token: at.parts.form_key.sign_out(at.site.origin(), session.id),
        }),
        (Identity::Anonymous | Identity::Known(_), _) => None,
    };
    PageAnswer::new(200, page(&SignOutPage { frame: at.frame(), form, elsewhere: None }))
}

/// Ends the session that the cookie names.
pub(super) async fn submit(at: &At<'_>) -> PageAnswer {
    let fields = match Form::parse(&at.request.headers, &at.request.body) {
        Ok(fields) => fields,
        Err(refusal) => return PageAnswer::refused(refusal),
    };
    let Some(session) = at.caller.session else {
        return PageAnswer::refused(Refusal::Unauthenticated);
    };
    let token = fields.optional("token").unwrap_or_default();
    if !at.parts.form_key.is_sign_out(at.site.origin(), session.id, token) {
        return PageAnswer::refused(Refusal::CrossSite(CrossSiteFault::FormToken));
    }
    // It goes with the session, so it is read before. Its waiting is its own: what it waits is not taken off the end's.
    let hint = as_one_request(at.parts.sessions.hint(session.id, at.now)).await;
    if let Err(error) = at.parts.sessions.end(session.id, at.now).await {
        tracing::error!(error = &error as &dyn std::error::Error, "a session could not be ended");
        return PageAnswer::refused(Refusal::Unavailable(Dependency::Sessions));
    }
    if let Err(error) = at.parts.renewals.give_back(session.id).await {
        tracing::warn!(%error, "the grant of a session that has ended could not be removed; a sweep will");
    }
    let hint = hint.unwrap_or_else(|error| {
        tracing::warn!(%error, "what a provider is shown at sign-out could not be read: it will ask the person");
        None
    });
    let elsewhere = elsewhere(at, session, hint.as_ref()).await;
    let mut answer = PageAnswer::new(200, page(&SignOutPage { frame: at.frame(), form: None, elsewhere }))
        .noting(format!("signed out: session {}", session.id));
    if let Some(cookie) = Cookie::Session.set(at.site, "", Some(0)) {
        answer = answer.with(SET_COOKIE, cookie);
    }
    answer
}

/// Where the person signs out of the provider that vouched for them: signed in there, they come back with one click. A
/// provider that is away has no such place; our session has ended by then.
async fn elsewhere<'a>(
    at: &At<'a>,
    session: &SessionView,
    hint: Option<&SignOutHint>,
) -> Option<Elsewhere<'a>> {
    let account = at.parts.accounts.find(session.account).await.ok()??;
    let provider = at.parts.providers.of_issuer(account.origin.as_ref()?.issuer())?;
    let back = format!("{}{SIGN_IN_PATH}", at.site.origin());
    let address = provider.end_session(&back, hint).await?;
    Some(Elsewhere { title: provider.title(), address: address.into() })
}

#[derive(Template)]
#[template(path = "sign_out.html")]
struct SignOutPage<'a> {
    frame: Frame<'a>,
    form: Option<SignOutForm<'a>>,
    elsewhere: Option<Elsewhere<'a>>,
}

/// The provider that still has a session of the person.
struct Elsewhere<'a> {
    title: &'a str,
    address: String,
}

struct SignOutForm<'a> {
    name: &'a str,
    token: String,
}
