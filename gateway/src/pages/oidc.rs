//! Signing in at an identity provider: the way there, and the way back.
//!
//! What this browser keeps of a sign-in under way is sealed in a cookie of its own (`oidc::flow`). Whoever comes back
//! without it, too late or twice is led on where their session still holds, and told to begin anew where it does not.

use engine::headers::Audience;
use engine::refusal::{CredentialFault, CrossSiteFault, Dependency, Refusal};
use http::HeaderValue;
use http::header::SET_COOKIE;

use super::begin::{Elsewhere, begin, elsewhere, leading_to, presented};
use super::return_to::{ReturnTo, sign_in_address};
use super::sign_in::told;
use super::step_up;
use super::{At, OIDC_CALLBACK_PATH, OIDC_START_PATH, PageAnswer};
use crate::admin::metrics::Login;
use crate::authn::{cookies, unanswered_by};
use crate::oidc::flow::{FLOW_LIFETIME_MS, Flow, FlowId, let_go};
use crate::oidc::id_token::TokenFault;
use crate::oidc::{Fault, Mapped, Provider, Vouched};
use crate::random;

const NO_SUCH: &str = "There is no such way to sign in here. Please choose one of these.";
const OVER: &str = "This sign-in was begun in another browser, took more than ten minutes, or is done already. Please \
                    begin again.";
const SUSPENDED: &str = "This account is suspended. Ask whoever runs this site.";

/// Bytes of a code: those of Entra ID have some 2 KB.
const CODE_BYTES_MAX: usize = 4096;

/// A provider, as the sign-in page offers it.
pub(super) struct Way<'a> {
    pub(super) title: &'a str,
    pub(super) address: String,
}

/// The providers to choose from.
pub(super) fn ways<'a>(at: &At<'a>, return_to: Option<&ReturnTo>) -> Vec<Way<'a>> {
    let return_to = return_to.map(|to| format!("&{}", to.parameter())).unwrap_or_default();
    let address = |name: &str| format!("{OIDC_START_PATH}?provider={name}{return_to}");
    let way = |provider: &'a std::sync::Arc<Provider>| Way {
        title: provider.title(),
        address: address(provider.name()),
    };
    at.parts.providers.iter().map(way).collect()
}

/// Sends the browser to a provider.
pub(super) async fn start(at: &At<'_>) -> PageAnswer {
    // A script cannot sign anybody in, and would only fill the browser with flows.
    if at.request.audience == Audience::Program {
        return PageAnswer::refused(Refusal::Unauthenticated);
    }
    let query = &at.request.query;
    let return_to = query.value("return_to").and_then(|text| ReturnTo::parse(&text));
    let from = at.request.headers.get("sec-fetch-site");
    if from.is_some_and(|site| site != "same-origin" && site != "none") {
        // A link of another site begins nothing: the page asks the person first.
        let address = HeaderValue::from_str(&sign_in_address(return_to.as_ref()));
        return address.map_or_else(|_| leading_to(None), elsewhere);
    }
    let (provider, raise) = match step_up::asked(query) {
        Some(asks) => match step_up::way(at, asks, return_to.as_ref()).await {
            Ok((provider, raise)) => (provider, Some(raise)),
            Err(answer) => return answer,
        },
        None => match query.value("provider").and_then(|name| at.parts.providers.find(&name)) {
            Some(provider) => (provider, None),
            None => return told(at, Refusal::Unrouted, NO_SUCH.to_owned(), return_to.as_ref()),
        },
    };
    let flow = Flow::begin(at.now, &random::bytes(), provider.name(), return_to).raising(raise);
    let url = match provider.authorization(&flow, &redirect_uri(at)).await {
        Ok(url) => url,
        Err(fault) => return failed(at, provider, &flow, &fault),
    };
    let sealed = flow.seal(&at.parts.providers.keyring, at.site.origin());
    let kept = sealed.and_then(|sealed| {
        let gone = gone(at, sealed.len());
        let name = cookies::flow_name(at.site, flow.id().as_str());
        Some((cookies::set(&name, at.site, &sealed, Some(FLOW_LIFETIME_MS / 1000))?, gone))
    });
    let (Some((cookie, gone)), Ok(location)) = (kept, HeaderValue::from_str(url.as_str())) else {
        return PageAnswer::refused(Refusal::Faulted);
    };
    let begun = if raise.is_some() { "step-up" } else { "login" };
    let answer = elsewhere(location)
        .with(SET_COOKIE, cookie)
        .noting(format!("{begun} begun: provider {}", provider.name()));
    gone.iter().fold(answer, |answer, id| without(at, answer, id))
}

/// Takes what a provider sent the browser back with.
pub(super) async fn callback(at: &At<'_>) -> PageAnswer {
    let query = &at.request.query;
    let state = query.value("state").unwrap_or_default();
    let Some(flow) = own(at, &state) else { return over(at, None).await };
    if flow.is_over(at.now) || !flow.is_state(&state) {
        return without(at, over(at, Some(&flow)).await, flow.id().as_str());
    }
    let Some(provider) = at.parts.providers.find(flow.provider()) else {
        let answer = told(at, Refusal::Unrouted, NO_SUCH.to_owned(), flow.return_to());
        return without(at, answer, flow.id().as_str());
    };
    let metadata = match provider.metadata().await {
        Ok(metadata) => metadata,
        // Nothing is spent: loading the page again tries again.
        Err(fault) => return failed(at, provider, &flow, &fault),
    };
    let issuer = query.value("iss");
    let answer = match issuer {
        // Another provider's answer: its code would be shown to this one (RFC 9207, section 2.4).
        Some(issuer) if issuer != provider.issuer() => mixed_up(at, provider, &flow, "names another issuer"),
        None if metadata.names_issuer => mixed_up(at, provider, &flow, "names no issuer"),
        Some(_) | None => match (query.value("error"), query.value("code")) {
            (Some(error), _) => refused(at, provider, &flow, &error),
            (None, Some(code)) if (1..=CODE_BYTES_MAX).contains(&code.len()) => {
                match provider.vouched(at.now, &flow, &code, &redirect_uri(at)).await {
                    Ok(vouched) => signed_in(at, provider, &flow, vouched).await,
                    Err(fault) if fault.is_away() => return failed(at, provider, &flow, &fault),
                    Err(fault) => failed(at, provider, &flow, &fault),
                }
            }
            (None, _) => mixed_up(at, provider, &flow, "holds neither code nor error"),
        },
    };
    without(at, answer, flow.id().as_str())
}

/// The one address that providers send browsers back to: by the configured public address, never by a header.
fn redirect_uri(at: &At<'_>) -> String {
    format!("{}{OIDC_CALLBACK_PATH}", at.site.origin())
}

/// The flow of this browser that a `state` belongs to.
fn own(at: &At<'_>, state: &str) -> Option<Flow> {
    let id = FlowId::of_state(state)?;
    let mut named = cookies::flows(&at.request.headers, at.site).filter(|(name, _)| *name == id.as_str());
    // Of two, one was planted.
    let (Some((_, value)), None) = (named.next(), named.next()) else { return None };
    Flow::open(&at.parts.providers.keyring, at.site.origin(), &id, value)
}

/// The flows that make room for one more: those that do not open or are over, and then the oldest.
fn gone(at: &At<'_>, bytes: usize) -> Vec<String> {
    let mut live = Vec::new();
    let mut gone = Vec::new();
    for (name, value) in cookies::flows(&at.request.headers, at.site) {
        let Some(id) = FlowId::parse(name) else { continue };
        match Flow::open(&at.parts.providers.keyring, at.site.origin(), &id, value) {
            Some(flow) if !flow.is_over(at.now) => live.push((flow.begun(), id, value.len())),
            Some(_) | None => gone.push(id),
        }
    }
    gone.extend(let_go(live, bytes));
    gone.iter().map(|id| id.as_str().to_owned()).collect()
}

/// The answer, which also takes a flow's cookie away.
fn without(at: &At<'_>, answer: PageAnswer, id: &str) -> PageAnswer {
    match cookies::set(&cookies::flow_name(at.site, id), at.site, "", Some(0)) {
        // A refusal that the caller renders has no headers of its own; the cookie ends by itself.
        Some(cookie) if !answer.body.is_empty() || answer.refusal.is_none() => {
            answer.with(SET_COOKIE, cookie)
        }
        Some(_) | None => answer,
    }
}

/// A person whom the provider has vouched for: an account, and a session of it.
async fn signed_in(at: &At<'_>, provider: &Provider, flow: &Flow, vouched: Vouched) -> PageAnswer {
    if let Some(answer) = step_up::unmet(at, provider, flow, &vouched).await {
        return answer;
    }
    let Vouched { mapped, authenticated_at, issued, session, granted, hint } = vouched;
    let Mapped { person, assurance, mut notes } = mapped;
    if provider.is_asked_again() && granted.is_none() {
        notes.push(format!(
            "provider {} gave no refresh token: the session goes on by itself",
            provider.name()
        ));
    }
    let account = match at.parts.accounts.vouched(person.clone(), at.now).await {
        Ok(account) => account,
        Err(error) => {
            unanswered_by("the account store", &error);
            return PageAnswer::refused(Refusal::Unavailable(Dependency::Credentials));
        }
    };
    let answer = if account.suspended {
        at.parts.metrics.login_ended(Login::Failed);
        let refusal = Refusal::CredentialRejected(CredentialFault::Suspended);
        told(at, refusal, SUSPENDED.to_owned(), flow.return_to()).noting(format!(
            "login failed: provider {}: account {} is suspended",
            provider.name(),
            account.id
        ))
    } else {
        let elsewhere = Elsewhere { person, authenticated_at, issued, session, granted, hint };
        begin(at, account.id, assurance, flow.return_to(), Some(elsewhere))
            .await
            .noting(format!("provider {}, assurance {assurance}", provider.name()))
    };
    notes.into_iter().fold(answer, PageAnswer::noting)
}

/// A sign-in that is none of this browser, or is over. A session that still holds wins.
async fn over(at: &At<'_>, flow: Option<&Flow>) -> PageAnswer {
    let return_to = flow.and_then(Flow::return_to);
    match presented(at).await {
        Ok(Some(_)) => leading_to(return_to).noting("login not begun here or over; the session holds"),
        Ok(None) => {
            at.parts.metrics.login_ended(Login::Failed);
            told(at, Refusal::CrossSite(CrossSiteFault::Flow), OVER.to_owned(), return_to)
        }
        Err(error) => {
            unanswered_by("the session store", &error);
            PageAnswer::refused(Refusal::Unavailable(Dependency::Sessions))
        }
    }
}

/// An answer that no provider of ours gives to this question.
fn mixed_up(at: &At<'_>, provider: &Provider, flow: &Flow, why: &str) -> PageAnswer {
    at.parts.metrics.login_ended(Login::Failed);
    tracing::warn!(provider = &**provider.name(), "an answer that {why} was refused");
    let problem = format!("The answer does not come from {}. Please begin again.", provider.title());
    told(at, Refusal::CrossSite(CrossSiteFault::Flow), problem, flow.return_to())
        .noting(format!("security: login failed: provider {}: the answer {why}", provider.name()))
}

/// The provider has turned the person or us away, by one of the words of RFC 6749, section 4.1.2.1, or of OpenID Connect
/// Core 1.0, section 3.1.2.6. Another word is not repeated.
fn refused(at: &At<'_>, provider: &Provider, flow: &Flow, error: &str) -> PageAnswer {
    let title = provider.title();
    let as_before = if flow.raise().is_some() { " You are signed in as before." } else { "" };
    let (word, problem, away) = match error {
        "access_denied" => {
            ("access_denied", format!("{title} has not let you in, or you have declined."), false)
        }
        "temporarily_unavailable" | "server_error" => {
            let problem =
                format!("{title} has trouble of its own at this moment. Please try again in a minute.");
            ("server_error or temporarily_unavailable", problem, true)
        }
        "login_required" | "interaction_required" | "consent_required" | "account_selection_required" => (
            "it needs the person",
            format!("{title} needs you to do something there. Please try again."),
            false,
        ),
        "unmet_authentication_requirements" => (
            "it cannot prove what was asked for",
            format!("{title} cannot confirm what this asks for, such as a second factor.{as_before}"),
            false,
        ),
        "invalid_request" | "invalid_scope" | "unauthorized_client" | "unsupported_response_type" => {
            let problem = format!(
                "{title} does not let this site sign people in. Tell whoever runs this site; the record says why."
            );
            ("it refuses our request: check client, redirect address and scopes there", problem, false)
        }
        _ => ("an unknown error", format!("{title} answered with an error. Please try again."), false),
    };
    let (ended, refusal) = if away {
        (Login::Away, Refusal::Unavailable(Dependency::IdentityProvider))
    } else {
        (Login::Failed, Refusal::CredentialRejected(CredentialFault::Provider))
    };
    at.parts.metrics.login_ended(ended);
    told(at, refusal, problem, flow.return_to())
        .noting(format!("login failed: provider {}: {word}", provider.name()))
}

/// The provider is away, or what it says does not hold.
fn failed(at: &At<'_>, provider: &Provider, flow: &Flow, fault: &Fault) -> PageAnswer {
    let title = provider.title();
    let (ended, refusal, problem) = match fault {
        _ if fault.is_away() => {
            let problem = format!("{title} does not answer at this moment. Please try again in a minute.");
            (Login::Away, Refusal::Unavailable(Dependency::IdentityProvider), problem)
        }
        Fault::Token(TokenFault::Expired | TokenFault::NotYet) => {
            let problem =
                format!("The clocks of {title} and of this site differ. Tell whoever runs this site.");
            (Login::Failed, Refusal::CredentialRejected(CredentialFault::Provider), problem)
        }
        Fault::Refused("invalid_grant") => {
            let problem = format!("{title} says that this sign-in is over. Please begin again.");
            (Login::Failed, Refusal::CredentialRejected(CredentialFault::Provider), problem)
        }
        Fault::Http { .. }
        | Fault::Metadata(_)
        | Fault::Keys(_)
        | Fault::Refused(_)
        | Fault::TokenResponse
        | Fault::Pushed
        | Fault::Token(_)
        | Fault::AccessToken(_)
        | Fault::LogoutToken(_)
        | Fault::Introspection
        | Fault::Userinfo => {
            let problem = format!(
                "What {title} says cannot be used here. Tell whoever runs this site; the record says why."
            );
            (Login::Failed, Refusal::CredentialRejected(CredentialFault::Provider), problem)
        }
    };
    at.parts.metrics.login_ended(ended);
    tracing::warn!(provider = &**provider.name(), %fault, "nobody could sign in at a provider");
    told(at, refusal, problem, flow.return_to()).noting(format!(
        "login failed: provider {}: {}",
        provider.name(),
        fault
    ))
}
