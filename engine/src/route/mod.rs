//! Routes: method and path to target, action and the credentials that are accepted.

mod cost;
mod file;
mod param;
mod pattern;
mod raw;
pub mod spelling;
mod step_up;
mod table;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use http::Method;
use smallvec::SmallVec;
use smol_str::SmolStr;

use crate::audit::RouteNames;
use crate::path::Leniencies;

pub use cost::{COST_DEFAULT, COST_MAX};
pub(crate) use file::{Declared, read_file};
pub use step_up::{ASSURANCE_MAX, MAX_AGE_S_MAX, MAX_AGE_S_MIN, StepUp};
pub use table::RouteTable;

/// The limit classes that a route may always name, besides those that the bundle's `limits.toml` gives a limit. A class that
/// nobody knows would have no limit, so the list is closed.
pub const CLASSES: [&str; 7] = ["admin", "auth", "chat", "files", "llm", "public", "standard"];

/// Routes in one bundle, at most: four times what BotServer mounts.
pub const ROUTES_MAX: usize = 8192;

/// Parameters in one pattern, at most. The deepest pattern of BotServer has four.
pub const PARAMETERS_MAX: usize = 8;

/// Where a bundle has an action and a module ready for decisions. What stands there is compared before it is used, so that
/// the hint of another bundle, or none, costs a search and changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    pub(crate) action: usize,
    pub(crate) module: usize,
}

/// One route, as its file declares it.
#[derive(Clone, Debug)]
pub struct Route {
    /// The route as its file spells it: `GET /api/docs/:id`.
    pub name: Arc<str>,
    /// The method; `GET` answers `HEAD` too.
    pub method: Method,
    /// The path pattern.
    pub pattern: String,
    /// Path parameters in pattern order, with their types; a tail comes last.
    pub parameters: Arc<[(SmolStr, ParamType)]>,
    /// The Cedar resource: `Module::"…"`.
    pub module: Arc<str>,
    /// What records call it.
    pub recorded: Arc<RouteNames>,
    /// Where its bundle has the action and the module ready.
    pub hint: Hint,
    /// Where a permitted request goes.
    pub target: Target,
    /// The Cedar action.
    pub action: Arc<str>,
    /// The credentials that are looked at.
    pub accept: Accept,
    /// How strong and how fresh a caller's proof has to be; `None` asks for nothing beyond a credential that holds.
    pub step_up: Option<StepUp>,
    /// The limit class.
    pub class: Arc<str>,
    /// How much of the limits of its principal and its class a request takes: 1 to [`COST_MAX`].
    pub cost: u32,
    /// Whether a refusal looks like an unrouted path.
    pub conceal: bool,
    /// Whether an opening record must be on disk before the request is forwarded.
    pub audited: bool,
    /// Whether the route is an upgrade to a WebSocket.
    pub websocket: bool,
    /// The bound of the request body in bytes, where it differs from the configured one.
    pub body_bytes_max: Option<u64>,
    /// Seconds from the first byte of a request to the last of its answer; `None` has no such bound.
    pub deadline_s: Option<u32>,
    /// Spellings of the path or query that are otherwise refused.
    pub leniencies: Leniencies,
    /// Whether a BotServer bearer beside a valid session is dropped instead of refused.
    pub legacy_bearer_drop: bool,
    /// Whether answers are user-made content and get `CSP: sandbox`.
    pub sandbox: bool,
    /// Whether `Service-Worker: script` requests are let through.
    pub service_worker: bool,
    /// Identity names that the client may send in the query.
    pub client_sets: Vec<String>,
    /// Query parameters that the gateway sets, whatever the client sends under their names.
    pub sets: Vec<(String, Fact)>,
    /// Query parameters of which only a value passes that an answer has named to this session or key.
    pub named: Vec<String>,
    /// Members of a JSON answer whose values are named to whoever asked.
    pub names: Vec<String>,
    /// Declared query parameters.
    pub query: Arc<[(SmolStr, ParamType)]>,
    /// Cookies that go to the upstream.
    pub cookies_up: Vec<String>,
    /// Cookies that the upstream may set.
    pub cookies_down: Vec<String>,
    /// Headers with an underscore that are let through.
    pub headers_allowed: Vec<String>,
    /// Origins that a `destination` parameter or tail may point to; empty where there is none.
    pub destinations: Vec<String>,
    /// Whether the action is in `Action::"read"`.
    pub read_only: bool,
}

/// Where a permitted request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A configured upstream, by name.
    Upstream(Arc<str>),
    /// One of the gateway's own pages.
    Page(Page),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream(name) => write!(f, "upstream `{name}`"),
            Self::Page(page) => write!(f, "page {page:?}"),
        }
    }
}

/// What the gateway says of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// The principal's id.
    Principal,
}

/// The gateway's own pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Page {
    /// The sign-in form.
    SignIn,
    /// What the form posts to.
    SignInSubmit,
    /// The way to an identity provider.
    OidcStart,
    /// Where an identity provider sends the browser back to.
    OidcCallback,
    /// Where an identity provider says that somebody has signed out there.
    OidcLogout,
    /// A page that asks whether to sign out.
    SignOut,
    /// What that page posts to.
    SignOutSubmit,
    /// Who the caller is, as JSON or as a page.
    WhoAmI,
    /// The public keys by which upstreams verify our Ed25519 identity (JWKS).
    Keys,
    /// The style sheet of the pages.
    Style,
}

/// The credentials that a route looks at. Others that are presented are refused or ignored, never believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Accept {
    /// Nobody in particular.
    pub anonymous: bool,
    /// Our session cookie.
    pub session: bool,
    /// An API key.
    pub api_key: bool,
    /// An access token of an identity provider, where the configuration takes any.
    pub access_token: bool,
}

/// The type of a parameter: exactly one spelling of a value is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ParamType {
    /// Lower-case, hyphenated, 36 characters.
    Uuid,
    /// Decimal without sign or leading zero, at most `i64::MAX`.
    Int,
    /// One to 128 of `A-Z a-z 0-9 . _ -`, not starting with a dot.
    Slug,
    /// Any non-empty text.
    Text,
    /// One of a list.
    Enum(Vec<String>),
}

/// A route that names this request, with its parameters checked and decoded.
#[derive(Clone, Debug)]
pub struct RouteMatch {
    /// The route.
    pub route: Arc<Route>,
    /// Path parameters by name, decoded.
    pub parameters: Parameters,
}

/// A parameter's name and its decoded value. Up to 23 bytes of each, and so most, stand in place: nothing is counted, and
/// nothing but the row itself read, for a request to have them.
pub type Parameter = (SmolStr, SmolStr);

/// The parameters of one request, the few that most have in place.
pub type Parameters = SmallVec<[Parameter; 4]>;
