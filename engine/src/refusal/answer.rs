//! What a client is told: one exhaustive match, so that a new refusal does not compile without its answer.

use super::{Answer, Dependency, Lacking, Malformed, Refusal, Spent, UpstreamFault};

/// Seconds after which a program may try again when a part of the gateway is away. Long enough that a crowd
/// of retries does not keep it away, short enough that a person waits.
pub const UNAVAILABLE_RETRY_S: u32 = 5;

/// The same for a full queue of password hashes: it empties within a second.
pub const HASHING_RETRY_S: u32 = 1;

/// The same where too much is under way at once: most requests end within a second.
pub const CAPACITY_RETRY_S: u32 = 1;

impl Refusal {
    /// The one answer that clients get for this refusal.
    ///
    /// Two choices hide something on purpose. Every [`super::CredentialFault`] gives the same answer: which part of a
    /// credential failed is worth something only to who is guessing. `Undecidable` answers as `Forbidden`
    /// does, and not with a 500: whether a policy denies or breaks must not be readable from outside, or
    /// inputs that break policies can be searched for; the record tells them apart.
    #[must_use]
    pub fn answer(&self) -> Answer {
        match self {
            Self::Malformed(malformed) => from_malformed(malformed),
            Self::Unrouted => plain(404, "not_found", "There is nothing here", "Check the address."),
            Self::Throttled { retry_after_s, .. } => {
                plain(429, "throttled", "Too many requests", WAIT).after(*retry_after_s)
            }
            Self::Unauthenticated => {
                plain(401, "unauthenticated", "Please sign in", "Sign in, or send a valid credential.")
                    .challenging()
            }
            Self::CredentialRejected(_) => {
                let remedy = "Sign in again, or send a valid credential. If that does not help, delete this site's cookies.";
                plain(401, "credential_rejected", "Your credential is not valid", remedy).challenging()
            }
            Self::CrossSite(_) => {
                let remedy = "Open the page on this site and try again from there.";
                plain(403, "cross_site", "This request comes from another site", remedy)
            }
            Self::Forbidden(_) | Self::Undecidable => {
                let remedy = "Ask an administrator for access and name the request id.";
                plain(403, "forbidden", "You are not allowed to do this", remedy)
            }
            Self::StepUp(_) => {
                let remedy = "Confirm who you are, with a second factor if you are asked for one. Nothing was done yet: what you have sent was not passed on, and is not sent again by itself.";
                plain(401, "step_up", "A stronger or more recent sign-in is needed", remedy).challenging()
            }
            Self::PersonNeeded(_) => {
                let remedy = "An API key cannot confirm who it is. Let a person do this, or ask whoever keeps the policies to let keys pass here.";
                plain(403, "person_needed", "An API key is not enough for this", remedy)
            }
            Self::QuotaSpent { retry_after_s, .. } => {
                plain(429, "quota_spent", "Your quota is used up", WAIT).after(*retry_after_s)
            }
            // The rest of the body is not read, so the next request cannot be found.
            Self::TooLarge { .. } => {
                plain(413, "too_large", "This is too large", "Send less at once.").closing()
            }
            Self::Unavailable(dependency) => from_dependency(*dependency),
            Self::NoUpstream(fault) => from_upstream(*fault),
            Self::Faulted => {
                let remedy = "Try again; if it happens again, report the request id.";
                plain(500, "faulted", "Something went wrong here", remedy).closing()
            }
        }
    }

    /// The limit that is spent; where a limit of a rate refuses.
    #[must_use]
    pub fn spent(&self) -> Option<Lacking<'_>> {
        match self {
            Self::Throttled { retry_after_s, limit: Some(Spent { limit, rate, left }) }
            | Self::QuotaSpent { limit, rate: Some(rate), left, retry_after_s } => {
                Some(Lacking { limit, rate: *rate, left: *left, retry_after_s: *retry_after_s })
            }
            Self::Throttled { limit: None, .. }
            | Self::QuotaSpent { rate: None, .. }
            | Self::Malformed(_)
            | Self::Unrouted
            | Self::Unauthenticated
            | Self::CredentialRejected(_)
            | Self::CrossSite(_)
            | Self::Forbidden(_)
            | Self::StepUp(_)
            | Self::PersonNeeded(_)
            | Self::Undecidable
            | Self::TooLarge { .. }
            | Self::Unavailable(_)
            | Self::NoUpstream(_)
            | Self::Faulted => None,
        }
    }

    /// The stable code of the answer; a malformed request's is its reason.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.answer().code
    }

    /// What a caller is told who may not learn that the route exists: the answer of an unrouted path, byte for
    /// byte (threat 22).
    ///
    /// Everything that only a matched route can refuse with before a permit is concealed, limits of its class
    /// and its rules for the query among it. What follows a permit is told as it is, and so is what every path
    /// answers alike (an ambiguous spelling, draining, a fault of ours).
    #[must_use]
    pub fn concealed(self) -> Self {
        match self {
            Self::Malformed(malformed) if !malformed.tells_of_a_route() => Self::Malformed(malformed),
            Self::Malformed(_)
            | Self::Unrouted
            | Self::Throttled { .. }
            | Self::Unauthenticated
            | Self::CredentialRejected(_)
            | Self::CrossSite(_)
            | Self::Forbidden(_)
            | Self::StepUp(_)
            | Self::PersonNeeded(_)
            | Self::Undecidable
            | Self::Unavailable(
                Dependency::Sessions | Dependency::Credentials | Dependency::IdentityProvider,
            ) => Self::Unrouted,
            told @ (Self::QuotaSpent { .. }
            | Self::TooLarge { .. }
            | Self::Unavailable(
                Dependency::Counters
                | Dependency::AuditLog
                | Dependency::PasswordHashing
                | Dependency::Draining
                | Dependency::Capacity,
            )
            | Self::NoUpstream(_)
            | Self::Faulted) => told,
        }
    }
}

const WAIT: &str = "Wait for the time that is named, then try again.";

impl Answer {
    const fn after(self, retry_after_s: u32) -> Self {
        Self { retry_after_s: Some(retry_after_s), ..self }
    }

    const fn challenging(self) -> Self {
        Self { challenge: true, ..self }
    }

    const fn closing(self) -> Self {
        Self { close: true, ..self }
    }
}

const fn plain(status: u16, code: &'static str, title: &'static str, remedy: &'static str) -> Answer {
    Answer { status, code, title, remedy, detail: None, retry_after_s: None, challenge: false, close: false }
}

fn from_malformed(malformed: &Malformed) -> Answer {
    let (title, remedy) = match malformed.status {
        403 => ("This was not given to you", "Ask for a value of your own first."),
        408 => ("The request came too slowly", "Send it again."),
        414 => ("The address is too long", "Send less in the address."),
        417 => ("This expectation cannot be met", "Send the request without `Expect`."),
        421 => ("This host is not served here", "Check the name in the address."),
        426 => ("This is a WebSocket", "Open it as one."),
        431 => ("The headers are too large", "Delete this site's cookies or send fewer headers."),
        501 => ("This is not supported", "Send the request in another way."),
        505 => ("This version of HTTP is not supported", "Use HTTP/1.1."),
        _ => ("The request is malformed", "Correct what is named and send it again."),
    };
    Answer {
        detail: Some(malformed.sentence()),
        close: malformed.breaks_framing(),
        ..plain(malformed.status, malformed.reason, title, remedy)
    }
}

const fn from_dependency(dependency: Dependency) -> Answer {
    let away = plain(503, "unavailable", "This is not available right now", AGAIN);
    match dependency {
        Dependency::Sessions
        | Dependency::Credentials
        | Dependency::Counters
        | Dependency::AuditLog
        | Dependency::IdentityProvider => away.after(UNAVAILABLE_RETRY_S),
        Dependency::PasswordHashing => away.after(HASHING_RETRY_S),
        Dependency::Capacity => away.after(CAPACITY_RETRY_S),
        // The process is about to end; the next connection reaches its successor.
        Dependency::Draining => away.after(UNAVAILABLE_RETRY_S).closing(),
    }
}

const AGAIN: &str = "Try again in a few seconds.";

const fn from_upstream(fault: UpstreamFault) -> Answer {
    match fault {
        UpstreamFault::NoneHealthy => {
            plain(503, "upstream_unhealthy", "The service behind this address is down", AGAIN)
                .after(UNAVAILABLE_RETRY_S)
        }
        UpstreamFault::Connect => {
            plain(502, "upstream_unreachable", "The service behind this address cannot be reached", AGAIN)
        }
        UpstreamFault::Timeout => {
            plain(504, "upstream_timeout", "The service behind this address did not answer in time", AGAIN)
        }
        UpstreamFault::Broken => {
            plain(502, "upstream_broken", "The service behind this address broke off its answer", AGAIN)
        }
    }
}
