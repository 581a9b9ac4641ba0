//! Signing out: a page that asks, and the form that ends the session at once.

use askama::Template;
use engine::identity::Identity;
use engine::refusal::{CrossSiteFault, Dependency, Refusal};
use http::header::SET_COOKIE;

use super::form::Form;
use super::render::{Frame, page};
use super::{At, PageAnswer};
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
    PageAnswer::new(200, page(&SignOutPage { frame: at.frame(), form }))
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
    if let Err(error) = at.parts.sessions.end(session.id, at.now).await {
        tracing::error!(error = &error as &dyn std::error::Error, "a session could not be ended");
        return PageAnswer::refused(Refusal::Unavailable(Dependency::Sessions));
    }
    let mut answer = PageAnswer::new(200, page(&SignOutPage { frame: at.frame(), form: None }))
        .noting(format!("signed out: session {}", session.id));
    if let Some(cookie) = Cookie::Session.set(at.site, "", Some(0)) {
        answer = answer.with(SET_COOKIE, cookie);
    }
    answer
}

#[derive(Template)]
#[template(path = "sign_out.html")]
struct SignOutPage<'a> {
    frame: Frame<'a>,
    form: Option<SignOutForm<'a>>,
}

struct SignOutForm<'a> {
    name: &'a str,
    token: String,
}
