//! Every way to say no, and the one answer that each of them gives.
//!
//! A refusal is a value, not an error: nothing broke. What broke is mapped to a refusal explicitly.

mod answer;
mod malformed;
mod record;
mod table;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::identity::{Principal, PrincipalKind};
use crate::limit::Rate;
use crate::route::StepUp;

pub use answer::{CAPACITY_RETRY_S, HASHING_RETRY_S, UNAVAILABLE_RETRY_S};
pub use table::table;

/// Every way in which a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request is ambiguous, malformed or over a bound; the reason is named.
    Malformed(Malformed),
    /// No route names this method and path.
    Unrouted,
    /// This address asks too often; nothing else was looked at.
    Throttled {
        /// Seconds until the next request is admitted.
        retry_after_s: u32,
        /// The limit that answered, where the configuration has one.
        limit: Option<Spent>,
    },
    /// The route needs a credential and none was presented.
    Unauthenticated,
    /// A credential was presented and does not hold.
    CredentialRejected(CredentialFault),
    /// A cookie-borne write from another site.
    CrossSite(CrossSiteFault),
    /// Policy says no.
    Forbidden(Denial),
    /// The route asks for a stronger or fresher proof than this person has given.
    StepUp(StepUp),
    /// The same of an API key, which cannot prove more than it is.
    PersonNeeded(StepUp),
    /// A policy could not be evaluated, so nothing is permitted.
    Undecidable,
    /// The principal's quota is spent.
    QuotaSpent {
        /// Which limit answered, by its name in the configuration.
        limit: Arc<str>,
        /// Seconds until the next request is admitted.
        retry_after_s: u32,
        /// What the limit is, where it is one of a rate.
        rate: Option<Rate>,
        /// How much of it is left, which is less than the request costs.
        left: u32,
    },
    /// The body is larger than the route allows.
    TooLarge {
        /// The bound, in bytes.
        bytes_max: u64,
    },
    /// A part of the gateway that this request needs is away or full.
    Unavailable(Dependency),
    /// No upstream answered.
    NoUpstream(UpstreamFault),
    /// A stage failed in a way that we did not foresee.
    Faulted,
}

impl Refusal {
    /// The refusal of a proof that does not do: whoever can confirm who they are is told so, and a key that it cannot.
    #[must_use]
    pub const fn unproved(asks: StepUp, principal: &Principal) -> Self {
        match principal.kind {
            PrincipalKind::Service => Self::PersonNeeded(asks),
            PrincipalKind::User | PrincipalKind::Operator => Self::StepUp(asks),
        }
    }
}

/// A limit that is spent, as clients are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Its name in the configuration.
    pub limit: Arc<str>,
    /// What it is.
    pub rate: Rate,
    /// How much of it is left, which is less than the request costs.
    pub left: u32,
}

/// The same of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lacking<'a> {
    /// The limit's name in the configuration.
    pub limit: &'a str,
    /// What it is.
    pub rate: Rate,
    /// How much of it is left, which is less than the request costs.
    pub left: u32,
    /// Seconds until the same request is admitted.
    pub retry_after_s: u32,
}

/// What is wrong with a request that never reached a decision. The name is what clients and records see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Stable name, for example `path.dot_segment`.
    pub reason: &'static str,
    /// The status that fits best: 400, 403, 408, 414, 417, 421, 426, 431, 501 or 505.
    pub status: u16,
}

/// Why a presented credential does not hold. Clients see one uniform answer; the record names this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialFault {
    /// The session is unknown or has ended.
    SessionEnded,
    /// The API key is unknown, ended or malformed.
    KeyUnknown,
    /// A bearer value of a form that no accepted scheme reads.
    BearerUnknown,
    /// An access token that no provider of ours issued, that is not for us, or that holds no longer.
    Token,
    /// Two credentials of ours that disagree, or one of a kind twice.
    Conflicting,
    /// The account is suspended.
    Suspended,
    /// A kind of credential that this route does not accept.
    NotAccepted,
    /// An identity provider turned the person away, or what it said of them does not hold.
    Provider,
}

/// Why a cookie-borne write was taken for a cross-site request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrossSiteFault {
    /// `Sec-Fetch-Site` names another site.
    FetchSite,
    /// `Origin` is not one of ours.
    Origin,
    /// Neither header is there, or `Origin` is `null`.
    Unproven,
    /// The token of one of our own forms is missing or wrong.
    FormToken,
    /// An answer of an identity provider that this browser did not ask for, or not lately.
    Flow,
}

/// A policy that decided, with what its author says of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Deciding {
    /// The policy's `@id`.
    pub id: Arc<str>,
    /// The policy's `@reason`.
    pub reason: Arc<str>,
}

/// Policy said no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The forbidding policies; empty when nothing permitted.
    pub forbidding: Vec<Deciding>,
}

/// A part of the gateway that can be away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependency {
    /// The session store.
    Sessions,
    /// The credential store.
    Credentials,
    /// The counters of a limit that is configured to close without them.
    Counters,
    /// The audit log, on a route that must not run without it.
    AuditLog,
    /// The queue of password hashes is full.
    PasswordHashing,
    /// The identity provider that somebody signs in at, or whose keys are needed for a token.
    IdentityProvider,
    /// The gateway is shutting down.
    Draining,
    /// As many requests or connections are under way as may be.
    Capacity,
}

/// Why no upstream answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFault {
    /// Every address is marked unhealthy, or none is configured.
    NoneHealthy,
    /// Connecting or the TLS handshake failed.
    Connect,
    /// It did not answer in time.
    Timeout,
    /// It closed or broke the protocol before the answer was whole.
    Broken,
}

/// What a client is told. One per refusal, made by one exhaustive match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Stable code, the last part of the problem's `type`.
    pub code: &'static str,
    /// One line for people.
    pub title: &'static str,
    /// What the person or program can do about it.
    pub remedy: &'static str,
    /// A detail that may leave: a malformed request's reason, never inner error text.
    pub detail: Option<&'static str>,
    /// `Retry-After`, in seconds.
    pub retry_after_s: Option<u32>,
    /// Whether `WWW-Authenticate` goes with it.
    pub challenge: bool,
    /// Whether the connection cannot be trusted to be in step any more.
    pub close: bool,
}
