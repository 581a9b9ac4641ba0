//! The gateway's own pages: routes like all others, reached with a `Passage` like an upstream.
//!
//! They work without scripts, are never framed, load nothing from elsewhere, and say nothing that an upstream
//! or another site could put into their mouth.

mod begin;
pub mod form;
mod logged_out;
mod oidc;
pub mod render;
pub mod return_to;
mod sign_in;
mod sign_out;
pub mod step_up;
#[cfg(test)]
mod tests;
pub mod token;
mod who_am_i;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use engine::headers::Audience;
use engine::query::CanonicalQuery;
use engine::refusal::Refusal;
use engine::route::Page;
use engine::time::UnixMillis;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;
use storage::credentials::{Accounts, SignIn};
use storage::sessions::Sessions;
use uuid::Uuid;

use crate::admin::metrics::Metrics;
use crate::authn::site::{Site, Sites};
use crate::oidc::Providers;
use crate::oidc::renewal::Renewals;
use crate::pipeline::Passage;
pub use render::{Frame, Rendered, problem, refusal_page};
use token::FormKey;

/// The sign-in page, and what it posts to.
pub const SIGN_IN_PATH: &str = "/.cedargate/login";
/// The way to an identity provider.
pub const OIDC_START_PATH: &str = "/.cedargate/oidc/start";
/// Where an identity provider sends browsers back to.
pub const OIDC_CALLBACK_PATH: &str = "/.cedargate/oidc/callback";
/// Where an identity provider says that somebody has signed out there.
pub const OIDC_LOGOUT_PATH: &str = "/.cedargate/oidc/logout";
/// The page that asks whether to sign out, and what it posts to.
pub const SIGN_OUT_PATH: &str = "/.cedargate/logout";
/// Who the caller is.
pub const WHO_AM_I_PATH: &str = "/.cedargate/whoami";
/// The style sheet of the pages.
pub const STYLE_PATH: &str = "/.cedargate/style.css";

const STYLE: &str = include_str!("../../templates/style.css");
/// How long browsers and upstreams may keep what is public and rarely changes: 5 minutes.
const PUBLIC: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// Answers for the pages.
pub struct Pages {
    parts: PagesParts,
}

/// What the pages are made with.
pub struct PagesParts {
    /// The hosts that we answer to.
    pub sites: Arc<Sites>,
    /// Where sessions begin and end.
    pub sessions: Arc<Sessions>,
    /// Who checks passwords.
    pub sign_in: SignIn,
    /// Where people are found whom a provider vouches for.
    pub accounts: Accounts,
    /// The identity providers.
    pub providers: Arc<Providers>,
    /// The sessions that go on by a provider's word.
    pub renewals: Arc<Renewals>,
    /// The key of form tokens.
    pub form_key: FormKey,
    /// The public keys of our Ed25519 identity, as a JWK set.
    pub keys: Value,
    /// Where sign-ins are counted.
    pub metrics: Arc<Metrics>,
    /// Said at the top of every page, for example that this is a demonstration which others can reach.
    pub notice: Option<String>,
}

/// A request for a page.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// Which page.
    pub page: Page,
    /// The method.
    pub method: Method,
    /// The host asked for, on the allow-list.
    pub host: String,
    /// The client's address.
    pub client: IpAddr,
    /// The headers as sent.
    pub headers: HeaderMap,
    /// The query.
    pub query: CanonicalQuery,
    /// The body, bounded by the caller.
    pub body: Bytes,
    /// Our id of the request.
    pub request_id: Uuid,
    /// Who reads the answer.
    pub audience: Audience,
}

/// What a page answers.
#[derive(Clone, Debug)]
pub struct PageAnswer {
    /// The status.
    pub status: u16,
    /// Headers beside those that every answer gets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body; empty beside a refusal that the caller is to render.
    pub body: Bytes,
    /// What the record should say: never a password, and no login as it was typed, which may be one.
    pub notes: Vec<String>,
    /// Why the request was refused, where it was.
    pub refusal: Option<Refusal>,
}

impl Pages {
    /// Pages of these parts.
    #[must_use]
    pub const fn new(parts: PagesParts) -> Self {
        Self { parts }
    }

    /// What stands at the top of every page.
    #[must_use]
    pub fn notice(&self) -> Option<&str> {
        self.parts.notice.as_deref()
    }

    /// Answers a request that has passed every stage.
    pub async fn answer(&self, now: UnixMillis, passage: &Passage, request: PageRequest) -> PageAnswer {
        let caller = Caller { identity: passage.permit().identity(), session: passage.session() };
        self.answer_caller(now, caller, &request).await
    }

    async fn answer_caller(&self, now: UnixMillis, caller: Caller<'_>, request: &PageRequest) -> PageAnswer {
        // `receive` has checked the host against the same list.
        let Some(site) = self.parts.sites.find(&request.host) else {
            return PageAnswer::refused(Refusal::Faulted);
        };
        let at = At { parts: &self.parts, site, now, caller, request };
        match request.page {
            Page::SignIn => sign_in::show(&at),
            Page::SignInSubmit => sign_in::submit(&at).await,
            Page::OidcStart => oidc::start(&at).await,
            Page::OidcCallback => oidc::callback(&at).await,
            Page::OidcLogout => logged_out::take(&at).await,
            Page::SignOut => sign_out::ask(&at),
            Page::SignOutSubmit => sign_out::submit(&at).await,
            Page::WhoAmI => who_am_i::show(&at),
            Page::Keys => keys(&self.parts.keys),
            Page::Style => style(),
        }
    }
}

/// Who is asking for a page.
#[derive(Clone, Copy)]
struct Caller<'a> {
    identity: &'a engine::identity::Identity,
    session: Option<&'a storage::sessions::SessionView>,
}

/// One request for one page, with all that answers it.
struct At<'a> {
    parts: &'a PagesParts,
    site: &'a Site,
    now: UnixMillis,
    caller: Caller<'a>,
    request: &'a PageRequest,
}

impl At<'_> {
    /// What surrounds a page that is no refusal: its id helps nobody.
    fn frame(&self) -> Frame<'_> {
        Frame { notice: self.parts.notice.as_deref(), request_id: None }
    }
}

impl PageAnswer {
    fn new(status: u16, rendered: Rendered) -> Self {
        Self { status, headers: rendered.headers, body: rendered.body, notes: Vec::new(), refusal: None }
    }

    /// A refusal that the caller renders as it renders every other.
    fn refused(refusal: Refusal) -> Self {
        Self {
            status: refusal.answer().status,
            headers: Vec::new(),
            body: Bytes::new(),
            notes: Vec::new(),
            refusal: Some(refusal),
        }
    }

    fn noting(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    fn with(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

fn keys(keys: &Value) -> PageAnswer {
    let mut rendered = render::json(keys, HeaderValue::from_static("application/jwk-set+json"));
    rendered.headers.retain(|(name, _)| *name != CACHE_CONTROL);
    PageAnswer::new(200, rendered).with(CACHE_CONTROL, PUBLIC)
}

fn style() -> PageAnswer {
    let headers =
        vec![(CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8")), (CACHE_CONTROL, PUBLIC)];
    PageAnswer::new(200, Rendered { headers, body: Bytes::from_static(STYLE.as_bytes()) })
}
