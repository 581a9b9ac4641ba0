//! The audit event: one record a request, no secret by construction, enough to replay the decision.

mod line;
mod names;
mod read;

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use smol_str::SmolStr;
use uuid::Uuid;

use crate::identity::{Principal, PrincipalKind, Scheme};
use crate::refusal::Deciding;
use crate::route::COST_DEFAULT;
use crate::time::UnixMillis;
use crate::trace::Trace;

pub use names::RouteNames;
pub(crate) use read::Reading;
pub use read::{Read, VALUE_BYTES_MAX, VALUES_MAX};

/// Roles, groups and scopes that are written of a principal, of each at most; `cut` says that there were more. An account has
/// a few.
pub const MEMBERSHIPS_MAX: usize = 64;

/// What happened to one request. Serialised as one line of JSON.
///
/// There is no field for cookies, tokens or bodies, so they cannot get here by accident. Of a query there are the names, and
/// in `decision.read` the values of parameters that the route declares and policy has looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditEvent {
    /// When the request line arrived, RFC 3339 in UTC with milliseconds.
    pub time: String,
    /// `request`, `control` (a verb on the control socket), `opening` (before an audited route forwards),
    /// `summary` (early refusals counted together) or `security` (an event that no request carries alone).
    pub kind: EventKind,
    /// Our id of the request (UUID v7), also in the answer's `X-Request-Id`.
    pub request_id: Uuid,
    /// The W3C trace id, 32 hex digits, and our span in it, 16.
    #[serde(flatten)]
    pub trace: Trace,
    /// Who sent it, from where.
    pub client: ClientFacts,
    /// Who was verified, as it was then; absent before `identify`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "principal")]
    pub principal: Option<Arc<Principal>>,
    /// What was asked; absent where no request line could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<AskedFacts>,
    /// The route that was matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteFacts>,
    /// What was decided.
    pub decision: DecisionFacts,
    /// What the client received.
    pub answer: AnswerFacts,
    /// What passed over a WebSocket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<SocketFacts>,
    /// The upstream that was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Arc<str>>,
    /// Microseconds spent in each stage that ran, by stage name.
    pub stages_us: Vec<(&'static str, u64)>,
    /// What is worth an analyst's look: dropped headers, spoofed identities, panics.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl AuditEvent {
    /// An event of which nothing is known yet but what it is: nobody asked for anything, nothing was decided.
    #[must_use]
    pub fn empty(kind: EventKind, time: String, request_id: Uuid) -> Self {
        Self {
            time,
            kind,
            request_id,
            trace: Trace::default(),
            client: ClientFacts::default(),
            principal: None,
            request: None,
            route: None,
            decision: DecisionFacts::default(),
            answer: AnswerFacts::default(),
            socket: None,
            upstream: None,
            stages_us: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A request on the data listener.
    Request,
    /// A verb on the control socket, or direct work on the store by the CLI.
    Control,
    /// An audited request that is about to be forwarded.
    Opening,
    /// Early refusals past their share, counted together.
    Summary,
    /// A security event that belongs to no single request.
    Security,
}

/// The client's side of the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClientFacts {
    /// The client's address: the peer, or what a trusted proxy says. Absent on the control socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The peer of the connection, where it is not the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
    /// `User-Agent`, cut at 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

/// The verified principal, with all that policies may look at of it: there is nobody to be asked for it later.
#[derive(Serialize)]
struct PrincipalFacts<'a> {
    kind: PrincipalKind,
    id: Uuid,
    name: &'a str,
    scheme: Scheme,
    assurance: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential_id: Option<Uuid>,
    authenticated_at: UnixMillis,
    roles: Vec<&'a String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<&'a String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<&'a String>,
    #[serde(skip_serializing_if = "is_false")]
    cut: bool,
    #[serde(skip_serializing_if = "is_false")]
    suspended: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
fn is_false(truth: &bool) -> bool {
    !truth
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
const fn is_default(cost: &u32) -> bool {
    *cost == COST_DEFAULT
}

#[expect(clippy::ref_option, reason = "serde hands references")]
fn principal<S: Serializer>(principal: &Option<Arc<Principal>>, serializer: S) -> Result<S::Ok, S::Error> {
    let facts = principal.as_ref().map(|principal| {
        let lists = [&principal.roles, &principal.groups, &principal.scopes];
        let [roles, groups, scopes] = lists.map(|names| names.iter().take(MEMBERSHIPS_MAX).collect());
        PrincipalFacts {
            kind: principal.kind,
            id: principal.id,
            name: &principal.name,
            scheme: principal.scheme,
            assurance: principal.assurance,
            credential_id: principal.credential_id,
            authenticated_at: principal.authenticated_at,
            roles,
            groups,
            scopes,
            cut: lists.iter().any(|names| names.len() > MEMBERSHIPS_MAX),
            suspended: principal.suspended,
        }
    });
    facts.serialize(serializer)
}

/// The request line, without query values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AskedFacts {
    /// The method, cut at 32 bytes.
    pub method: String,
    /// The host asked for.
    pub host: String,
    /// The canonical path, or the raw one with unprintable bytes escaped when it was refused; cut at 2 KiB. Where the schema
    /// declares a parameter in it `@sensitive`, the route's pattern.
    pub path: String,
    /// Names of the query parameters, in order, at most 32.
    pub query_names: Vec<String>,
}

/// The matched route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteFacts {
    /// What it is called, what it asks for, and of what.
    #[serde(flatten)]
    pub names: Arc<RouteNames>,
    /// Path parameters by name, cut at [`VALUE_BYTES_MAX`]; none in the place of a value that the schema declares `@sensitive`.
    pub parameters: Vec<(SmolStr, Option<String>)>,
    /// The limit class.
    pub class: Arc<str>,
    /// How much of its limits a request takes; absent where it is 1.
    #[serde(skip_serializing_if = "is_default")]
    pub cost: u32,
}

/// What was decided and by what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DecisionFacts {
    /// `permit`, `deny`, `error`, or `none` when no policy was asked.
    pub outcome: Outcome,
    /// The deciding policies, sorted by id.
    pub deciding: Vec<Deciding>,
    /// The classes of limits that deciding policies gave (`@limit_class`); where there are none, the route's class counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Ids of policies whose evaluation failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub erring: Vec<String>,
    /// The digest of the bundle that decided, 64 hex digits.
    pub bundle: Arc<str>,
    /// What policies have looked at in the context.
    #[serde(skip_serializing_if = "Read::is_empty")]
    pub read: Read,
    /// The refusal's code; absent when the request was forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<&'static str>,
    /// The precise reason, for records only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The outcome of a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// At least one policy permits and none forbids.
    Permit,
    /// A policy forbids, or none permits.
    Deny,
    /// A policy could not be evaluated.
    Error,
    /// Refused before any policy was asked.
    #[default]
    None,
}

/// What went back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AnswerFacts {
    /// The status that the client was sent; 0 when it received none.
    pub status: u16,
    /// Body bytes received from the client.
    pub bytes_in: u64,
    /// Body bytes sent to the client.
    pub bytes_out: u64,
    /// Microseconds from the request line to the end of the answer.
    pub total_us: u64,
    /// `complete`, `client_gone`, `upstream_died`, `deadline`, `revoked`, `panic`, `protocol` (refused by the HTTP parser) or
    /// `unserved` (sent ahead over a connection that closed before its turn).
    pub end: End,
}

/// What passed over a WebSocket, and how it was closed. Bytes and duration stand in the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SocketFacts {
    /// Whole messages from the client.
    pub messages_in: u64,
    /// Whole messages to the client.
    pub messages_out: u64,
    /// The code that it was closed with; 1005 for a close frame without one, absent without a close frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close_code: Option<u16>,
    /// Who closed it first.
    pub closed_by: ClosedBy,
}

/// Who closed a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosedBy {
    /// The client, by a close frame or by leaving.
    Client,
    /// The upstream, likewise.
    Upstream,
    /// The gateway.
    Gateway,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The answer was sent whole.
    #[default]
    Complete,
    /// The client left before that.
    ClientGone,
    /// The upstream died under the answer.
    UpstreamDied,
    /// A deadline of the gateway cut it.
    Deadline,
    /// Its session ended, or policy no longer permitted it, while it went on.
    Revoked,
    /// A stage panicked.
    Panic,
    /// The HTTP parser refused the bytes.
    Protocol,
    /// It was sent ahead over a connection that closed with the answer before it.
    Unserved,
}
