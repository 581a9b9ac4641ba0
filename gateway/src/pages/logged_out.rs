//! An identity provider says that a person has signed out there, or was signed out (OpenID Connect Back-Channel Logout
//! 1.0, section 2.5): what goes back to that ends here, and whatever is open with it.
//!
//! Nobody's cookie comes along; the token proves who speaks. Section 2.8 leaves two answers: 200 where all of it has ended,
//! and 400.

use engine::refusal::{CredentialFault, Dependency, Refusal};
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use serde_json::json;
use storage::StoreError;
use storage::endings::{Ended, Ending};
use storage::sessions::EndedElsewhere;

use super::form::Form;
use super::render::{self, Rendered};
use super::{At, PageAnswer};
use crate::oidc::Fault;
use crate::oidc::logout_token::{LogoutFault, LogoutToken, Whom};

pub(super) async fn take(at: &At<'_>) -> PageAnswer {
    let form = match Form::parse(&at.request.headers, &at.request.body) {
        Ok(form) => form,
        Err(refusal) => return refused(refusal, None),
    };
    let text = match form.required("logout_token") {
        Ok(text) => text,
        Err(refusal) => return refused(refusal, None),
    };
    let (name, issuer, token) = match at.parts.providers.logout_token(text, at.now).await {
        Ok(verified) => verified,
        Err(fault) => return not_believed(&fault),
    };
    match at.parts.providers.endings.is_taken(&issuer, &token.jti, at.now).await {
        Ok(false) => {}
        Ok(true) => return not_believed(&Fault::LogoutToken(LogoutFault::Replayed)),
        Err(error) => return not_stored(&error),
    }
    match end(at, &issuer, &token).await {
        Ok((sessions, tokens)) => done(&name, &token.whom, sessions, tokens),
        Err(error) => not_stored(&error),
    }
}

fn not_stored(error: &StoreError) -> PageAnswer {
    tracing::error!(error = error as &dyn std::error::Error, "a provider's logout could not be stored");
    refused(Refusal::Unavailable(Dependency::Sessions), None)
}

/// The mark comes first and the name of the message last: whoever signs in at this moment finds the one, and a provider
/// whose word was cut off may say it again.
async fn end(at: &At<'_>, issuer: &str, token: &LogoutToken) -> Result<(usize, usize), StoreError> {
    let (endings, presented) = (&at.parts.providers.endings, &at.parts.providers.presented);
    let what = match &token.whom {
        Whom::Session(session) | Whom::SessionOf(session, _) => {
            Ended::Session(session.sid().to_owned(), token.issued)
        }
        Whom::Person(person) => Ended::Subject(person.subject().to_owned(), token.issued),
    };
    let ending = Ending { issuer: issuer.to_owned(), what };
    // What can be ended is, also where that could not be marked.
    let marked = endings.mark(&ending, at.now).await;
    let elsewhere = match token.whom.clone() {
        Whom::Session(session) => EndedElsewhere::Session(session),
        Whom::SessionOf(session, person) => EndedElsewhere::SessionOf(session, person.account_id()),
        Whom::Person(person) => EndedElsewhere::Account(person.account_id()),
    };
    let sessions = at.parts.sessions.end_elsewhere(elsewhere, at.now).await?;
    let tokens = presented.end(|presented| presented.is_ended_by(&ending));
    if let Err(error) = marked {
        // Whatever is open by them asks again here, and finds what this gateway has marked for itself.
        tokens.iter().for_each(|token| endings.token_is_over(*token));
        return Err(error);
    }
    endings.keep(&ending, &token.jti, token.ends, &tokens, at.now).await?;
    Ok((sessions.len(), tokens.len()))
}

fn done(provider: &str, whom: &Whom, sessions: usize, tokens: usize) -> PageAnswer {
    let whom = match whom {
        Whom::Session(_) => "one of its sessions".to_owned(),
        Whom::SessionOf(_, person) => format!("one of its sessions of account {}", person.account_id()),
        Whom::Person(person) => format!("all of account {}", person.account_id()),
    };
    let empty = Rendered { headers: Vec::new(), body: bytes::Bytes::new() };
    PageAnswer::new(200, empty).with(CACHE_CONTROL, NO_STORE).noting(format!(
        "provider {provider} has ended {whom}: {sessions} sessions and {tokens} tokens ended here"
    ))
}

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// What the provider's own log needs to know is that it was refused; the rule is for our record.
fn not_believed(fault: &Fault) -> PageAnswer {
    let refusal = match fault.tells_of_the_token() {
        true => Refusal::CredentialRejected(CredentialFault::Token),
        false => Refusal::Unavailable(Dependency::IdentityProvider),
    };
    tracing::warn!(%fault, "a back-channel logout was refused");
    refused(refusal, Some(format!("back-channel logout refused: {fault}")))
}

fn refused(refusal: Refusal, note: Option<String>) -> PageAnswer {
    let error = json!({"error": "invalid_request"});
    let rendered = render::json(&error, HeaderValue::from_static("application/json"));
    let mut answer = PageAnswer::new(400, rendered);
    answer.notes.extend(note);
    answer.refusal = Some(refusal);
    answer
}
