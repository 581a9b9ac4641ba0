//! Signing in with a login and a password.
//!
//! The answer to a wrong password, an unknown login and a suspended account is one and the same; how many tries
//! are left depends on the tries alone. The form carries a token bound to a signed cookie of this browser, so
//! that no other site signs somebody in as somebody else.

use askama::Template;
use engine::headers::Audience;
use engine::identity::Identity;
use engine::refusal::{CrossSiteFault, Dependency, Refusal};
use http::HeaderValue;
use http::header::{ORIGIN, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE};
use storage::Secret;
use storage::credentials::{Account, DEVICE_COOKIE_AGE_MAX_MS, Login, SignInAttempt, SignInOutcome};

use super::begin::begin;
use super::form::Form;
use super::render::{Frame, page, wait_in_words};
use super::return_to::ReturnTo;
use super::token::{FORM_LIFETIME_MS, Shown};
use super::{At, PageAnswer, oidc};
use crate::admin::metrics;
use crate::authn::cookies::{self, Cookie};
use crate::authn::{cross_site, unanswered_by};
use crate::random;

const WRONG: &str = "That login and password do not go together.";
const WRONG_WARNED: &str = "That login and password do not go together. After more failures you will have to wait \
                            before each further try.";
const STALE_FORM: &str = "This form was open for too long, or your browser sent no cookie. Please try again.";

/// The form.
pub(super) fn show(at: &At<'_>) -> PageAnswer {
    let return_to = at.request.query.value("return_to").and_then(|text| ReturnTo::parse(&text));
    form(at, 200, &Shape { return_to: return_to.as_ref(), ..Shape::default() })
}

/// What the form posts.
pub(super) async fn submit(at: &At<'_>) -> PageAnswer {
    let fields = match Form::parse(&at.request.headers, &at.request.body) {
        Ok(fields) => fields,
        Err(refusal) => return PageAnswer::refused(refusal),
    };
    let (login, password) = match (fields.required("login"), fields.required("password")) {
        (Ok(login), Ok(password)) => (login, password),
        (Err(refusal), _) | (_, Err(refusal)) => return PageAnswer::refused(refusal),
    };
    let return_to = fields.optional("return_to").and_then(ReturnTo::parse);
    let shape = Shape { login, return_to: return_to.as_ref(), ..Shape::default() };
    if let Err(fault) = is_ours(at, fields.optional("token").unwrap_or_default()) {
        return again(at, Refusal::CrossSite(fault), STALE_FORM.to_owned(), shape);
    }
    let attempt = SignInAttempt {
        login,
        password: Secret::new(password.to_owned()),
        device_cookie: cookies::text(&at.request.headers, Cookie::Device.name(at.site)),
        client: at.request.client,
    };
    match at.parts.sign_in.attempt(attempt, at.now).await {
        Ok(SignInOutcome::Accepted { account, device_cookie }) => {
            signed_in(at, &account, &device_cookie, return_to.as_ref()).await
        }
        Ok(refused) => turned_away(at, refused, login, shape),
        Err(error) => {
            unanswered_by("the account store", &error);
            PageAnswer::refused(Refusal::Unavailable(Dependency::Credentials))
        }
    }
}

/// Whether the form that is posted is one that this browser was shown.
fn is_ours(at: &At<'_>, token: &str) -> Result<(), CrossSiteFault> {
    match cross_site::check(&at.request.headers, at.site, &at.parts.sites) {
        // A program that is no browser sends neither header; the token below says whether it was shown the form.
        Err(CrossSiteFault::Unproven) if !at.request.headers.contains_key(ORIGIN) => {}
        judged => judged?,
    }
    let key = &at.parts.form_key;
    let origin = at.site.origin();
    let shown = cookies::text(&at.request.headers, Cookie::Form.name(at.site))
        .and_then(|cookie| key.open(origin, at.now, cookie));
    match shown {
        Some(shown) if key.is_sign_in(origin, &shown, token) => Ok(()),
        Some(_) | None => Err(CrossSiteFault::FormToken),
    }
}

/// A session begins, and this browser is known from now on.
async fn signed_in(
    at: &At<'_>,
    account: &Account,
    device_cookie: &str,
    return_to: Option<&ReturnTo>,
) -> PageAnswer {
    let answer = begin(at, account.id, 1, return_to, None).await;
    if answer.refusal.is_some() {
        return answer;
    }
    match Cookie::Device.set(at.site, device_cookie, Some(DEVICE_COOKIE_AGE_MAX_MS / 1000)) {
        Some(cookie) => answer.with(SET_COOKIE, cookie),
        None => answer,
    }
}

/// Every way in which a sign-in ends without a session.
fn turned_away(at: &At<'_>, outcome: SignInOutcome, login: &str, shape: Shape<'_>) -> PageAnswer {
    let (result, refusal, problem, said) = match outcome {
        SignInOutcome::Rejected { warned } => {
            let problem = if warned { WRONG_WARNED } else { WRONG };
            (metrics::Login::Failed, Refusal::Unauthenticated, problem.to_owned(), "failed")
        }
        SignInOutcome::Suspended { account: _ } => (
            metrics::Login::Failed,
            Refusal::Unauthenticated,
            WRONG.to_owned(),
            "failed, the account is suspended",
        ),
        SignInOutcome::Slow { retry_after_ms } => held(retry_after_ms, "slowed down"),
        SignInOutcome::Locked { until } => held(until.since(at.now), "locked"),
        SignInOutcome::Busy { .. } => {
            let problem = "Too many people are signing in at this moment. Please try again.".to_owned();
            (metrics::Login::Busy, Refusal::Unavailable(Dependency::PasswordHashing), problem, "busy")
        }
        // Its account has signed in: `submit` has answered.
        SignInOutcome::Accepted { .. } => return PageAnswer::refused(Refusal::Faulted),
    };
    at.parts.metrics.login_ended(result);
    again(at, refusal, problem, shape).noting(format!("login {said}: account {}", account_of(login)))
}

fn held(wait_ms: u64, said: &'static str) -> (metrics::Login, Refusal, String, &'static str) {
    let retry_after_s = u32::try_from(wait_ms.div_ceil(1000)).unwrap_or(u32::MAX).max(1);
    let problem =
        format!("Too many failed tries for this login. Try again in {}.", wait_in_words(retry_after_s));
    (metrics::Login::Held, Refusal::Throttled { retry_after_s, limit: None }, problem, said)
}

/// The id that an account of this login has, whether or not there is one: the login as typed may be a password.
fn account_of(login: &str) -> String {
    match Login::parse(login) {
        Ok(login) => login.account_id().to_string(),
        Err(_) => "none".to_owned(),
    }
}

/// The form once more, with what was wrong; a program gets the refusal alone.
fn again(at: &At<'_>, refusal: Refusal, problem: String, shape: Shape<'_>) -> PageAnswer {
    if at.request.audience == Audience::Program {
        return PageAnswer::refused(refusal);
    }
    let told = refusal.answer();
    let mut answer = form(at, told.status, &Shape { problem: Some(problem), ..shape });
    if let Some(seconds) = told.retry_after_s {
        answer = answer.with(RETRY_AFTER, seconds);
    }
    if told.challenge {
        answer = answer.with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"cedargate\""));
    }
    answer.refusal = Some(refusal);
    answer
}

/// The form, with what a provider's answer has come to; whoever reports it may name the request.
pub(super) fn told(
    at: &At<'_>,
    refusal: Refusal,
    problem: String,
    return_to: Option<&ReturnTo>,
) -> PageAnswer {
    again(at, refusal, problem, Shape { return_to, reported: true, ..Shape::default() })
}

/// What differs between one showing of the form and another.
#[derive(Default)]
struct Shape<'a> {
    login: &'a str,
    return_to: Option<&'a ReturnTo>,
    problem: Option<String>,
    /// Whether the request's id is shown.
    reported: bool,
}

/// Shows the form. A browser that was shown one keeps its cookie while half its time is left, so that a second
/// tab does not spoil the first.
fn form(at: &At<'_>, status: u16, shape: &Shape<'_>) -> PageAnswer {
    let key = &at.parts.form_key;
    let origin = at.site.origin();
    let known = cookies::text(&at.request.headers, Cookie::Form.name(at.site))
        .and_then(|cookie| key.open(origin, at.now.plus(FORM_LIFETIME_MS / 2), cookie));
    let shown = known.unwrap_or_else(|| Shown::now(at.now, random::bytes()));
    let template = SignInPage {
        frame: Frame { request_id: shape.reported.then_some(at.request.request_id), ..at.frame() },
        ways: oidc::ways(at, shape.return_to),
        problem: shape.problem.as_deref(),
        wrong: shape.problem.is_some() && !shape.reported,
        login: shape.login,
        token: key.sign_in(origin, &shown),
        return_to: shape.return_to.map(ReturnTo::as_str),
        signed_in_as: match at.caller.identity {
            Identity::Anonymous => None,
            Identity::Known(principal) => Some(&principal.name),
        },
    };
    let mut answer = PageAnswer::new(status, page(&template));
    if known.is_none()
        && let Some(cookie) =
            Cookie::Form.set(at.site, &key.cookie(origin, &shown), Some(FORM_LIFETIME_MS / 1000))
    {
        answer = answer.with(SET_COOKIE, cookie);
    }
    answer
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'a> {
    frame: Frame<'a>,
    ways: Vec<oidc::Way<'a>>,
    problem: Option<&'a str>,
    /// Whether the problem is with what was typed.
    wrong: bool,
    login: &'a str,
    token: String,
    return_to: Option<&'a str>,
    signed_in_as: Option<&'a String>,
}
