//! Confirming more of a session that is there already: a stronger or a more recent proof of the same person (RFC 9470).
//!
//! Nothing leads there by itself: whoever is refused for it is shown a page with the way. So there is no circle, whatever a
//! provider answers, and what a person has sent is not sent again without them.

use engine::query::CanonicalQuery;
use engine::refusal::{CredentialFault, CrossSiteFault, Dependency, Refusal};
use engine::route::{ASSURANCE_MAX, MAX_AGE_S_MAX, MAX_AGE_S_MIN, StepUp};
use http::HeaderValue;

use super::begin::{elsewhere, leading_to, presented};
use super::return_to::{ReturnTo, sign_in_address};
use super::sign_in::told;
use super::{At, OIDC_START_PATH, PageAnswer};
use crate::admin::metrics::Login;
use crate::authn::unanswered_by;
use crate::oidc::flow::{Flow, Raise};
use crate::oidc::{Provider, Vouched};

const GONE: &str =
    "The session that you wanted to confirm has ended, or is none of this browser. Please sign in.";
const LOCAL_OLD: &str = "This asks for a recent sign-in. Please sign in again.";
const LOCAL_WEAK: &str = "This asks for a second factor, which an account of this site does not have. Sign in at a provider that \
                          asks you for one, or ask whoever runs this site.";

/// The address that leads to where a person proves what is asked for.
#[must_use]
pub fn address(asks: &StepUp, return_to: Option<&ReturnTo>) -> String {
    let max_age = asks.max_age_s.map(|seconds| format!("&max_age={seconds}")).unwrap_or_default();
    let return_to = return_to.map(|to| format!("&{}", to.parameter())).unwrap_or_default();
    format!("{OIDC_START_PATH}?assurance={}{max_age}{return_to}", asks.assurance)
}

/// What an address like that asks for; `None` for a sign-in that is none. Who asks for less than a route does is refused
/// there again.
pub(super) fn asked(query: &CanonicalQuery) -> Option<StepUp> {
    let number = |name: &str| query.value(name).and_then(|text| text.parse::<u32>().ok());
    let assurance = u8::try_from(number("assurance")?).ok()?;
    let max_age_s = number("max_age").map(|seconds| seconds.clamp(MAX_AGE_S_MIN, MAX_AGE_S_MAX));
    let assurance = assurance.clamp(1, ASSURANCE_MAX);
    Some(StepUp { assurance, max_age_s, services: false })
}

/// The provider that has to confirm the session of this browser, and what it has to confirm.
pub(super) async fn way<'a>(
    at: &At<'a>,
    asks: StepUp,
    return_to: Option<&ReturnTo>,
) -> Result<(&'a Provider, Raise), PageAnswer> {
    let Some(session) = at.caller.session else {
        let address = HeaderValue::from_str(&sign_in_address(return_to));
        return Err(address.map_or_else(|_| leading_to(None), elsewhere));
    };
    let account = at.parts.accounts.find(session.account).await.map_err(|error| {
        unanswered_by("the account store", &error);
        PageAnswer::refused(Refusal::Unavailable(Dependency::Credentials))
    })?;
    let origin = account.as_ref().and_then(|account| account.origin.as_ref());
    match origin.and_then(|origin| at.parts.providers.of_issuer(origin.issuer())) {
        Some(provider) => {
            // What the session has proved already it keeps: a fresh word for less would take it away.
            let assurance = asks.assurance.max(session.assurance.min(ASSURANCE_MAX));
            Ok((provider, Raise { session: session.id, asks: StepUp { assurance, ..asks } }))
        }
        None => {
            let problem = if asks.assurance > 1 { LOCAL_WEAK } else { LOCAL_OLD };
            Err(told(at, Refusal::StepUp(asks), problem.to_owned(), return_to))
        }
    }
}

/// Why what a provider vouches for does not confirm the session that was to be confirmed, which then stays as it is
/// (threat 10); `None` where it does.
pub(super) async fn unmet(
    at: &At<'_>,
    provider: &Provider,
    flow: &Flow,
    vouched: &Vouched,
) -> Option<PageAnswer> {
    let Raise { session, asks } = flow.raise()?;
    let failed = |refusal, problem: String, note: String| {
        at.parts.metrics.login_ended(Login::Failed);
        let answer = told(at, refusal, problem, flow.return_to());
        Some(answer.noting(format!("step-up failed: provider {}: {note}", provider.name())))
    };
    let before = match presented(at).await {
        Ok(before) => before.filter(|before| before.id == *session),
        Err(error) => {
            unanswered_by("the session store", &error);
            return Some(PageAnswer::refused(Refusal::Unavailable(Dependency::Sessions)));
        }
    };
    let Some(before) = before else {
        let note = format!("session {session} has ended, or is none of this browser");
        return failed(Refusal::CrossSite(CrossSiteFault::Flow), GONE.to_owned(), note);
    };
    let (mapped, title) = (&vouched.mapped, provider.title());
    if mapped.person.origin.account_id() != before.account {
        let problem = format!(
            "{title} has confirmed somebody else than who is signed in here. Sign out first to change."
        );
        let note = format!("security: it vouches for somebody else than account {}", before.account);
        return failed(Refusal::CredentialRejected(CredentialFault::Provider), problem, note);
    }
    if asks.is_met(mapped.assurance, vouched.authenticated_at, at.now) {
        return None;
    }
    let what = if mapped.assurance < asks.assurance { "a second factor" } else { "a recent sign-in" };
    let problem = format!(
        "{title} has not confirmed {what}, which this asks for. You are signed in as before. Tell whoever runs this site if \
         that stays so."
    );
    let age = match vouched.authenticated_at.0 {
        0 => "no `auth_time`".to_owned(),
        at_time => format!("`auth_time` {} s ago", at.now.0.saturating_sub(at_time) / 1000),
    };
    let asked = Refusal::StepUp(*asks).detail_for_record().into_owned();
    failed(
        Refusal::StepUp(*asks),
        problem,
        format!("it says assurance {} and {age}: {asked}", mapped.assurance),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_address_asks_for_is_read_back_within_its_bounds() {
        let check = |query: &str, expected: Option<(u8, Option<u32>)>| {
            let query = CanonicalQuery::parse(Some(query.as_bytes())).unwrap();
            let found = asked(&query).map(|asks| (asks.assurance, asks.max_age_s));
            assert_eq!(found, expected, "{query:?}");
        };
        check("provider=x", None);
        check("assurance=2", Some((2, None)));
        check("assurance=1&max_age=300", Some((1, Some(300))));
        check("max_age=300", None);
        check("assurance=", None);
        check("assurance=256", None);
        check("assurance=-1", None);
        check("assurance=9&max_age=1", Some((2, Some(MAX_AGE_S_MIN))));
        check("assurance=0&max_age=4294967295", Some((1, Some(MAX_AGE_S_MAX))));
        check("assurance=2&max_age=4294967296", Some((2, None)));
        let to = ReturnTo::parse("/x?y=1");
        for (assurance, max_age_s) in [(1, Some(30)), (2, None), (2, Some(86_400))] {
            let asks = StepUp { assurance, max_age_s, services: false };
            let address = address(&asks, to.as_ref());
            let (path, query) = address.split_once('?').unwrap();
            assert_eq!(path, OIDC_START_PATH);
            let query = CanonicalQuery::parse(Some(query.as_bytes())).unwrap();
            assert_eq!(asked(&query), Some(asks));
            assert_eq!(query.value("return_to").as_deref(), Some("/x?y=1"));
        }
    }
}
