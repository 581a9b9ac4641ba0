//! What a client is told: one exhaustive match, so that a new refusal does not compile without its answer.

use std::borrow::Cow;

use super::{Answer, CredentialFault, CrossSiteFault, Dependency, Malformed, Refusal, UpstreamFault};

/// Seconds after which a program may try again when a part of the gateway is away. Long enough that a crowd
/// of retries does not keep it away, short enough that a person waits.
pub const UNAVAILABLE_RETRY_S: u32 = 5;

/// The same for a full queue of password hashes: it empties within a second.
pub const HASHING_RETRY_S: u32 = 1;

impl Refusal {
    /// The one answer that clients get for this refusal.
    ///
    /// Two choices hide something on purpose. Every [`CredentialFault`] gives the same answer: which part of a
    /// credential failed is worth something only to who is guessing. `Undecidable` answers as `Forbidden`
    /// does, and not with a 500: whether a policy denies or breaks must not be readable from outside, or
    /// inputs that break policies can be searched for; the record tells them apart.
    #[must_use]
    pub fn answer(&self) -> Answer {
        match self {
            Self::Malformed(malformed) => from_malformed(malformed),
            Self::Unrouted => plain(404, "not_found", "There is nothing here", "Check the address."),
            Self::Throttled { retry_after_s } => Answer {
                retry_after_s: Some(*retry_after_s),
                ..plain(
                    429,
                    "throttled",
                    "Too many requests",
                    "Wait for the time that is named, then try again.",
                )
            },
            Self::Unauthenticated => Answer {
                challenge: true,
                ..plain(401, "unauthenticated", "Please sign in", "Sign in, or send a valid credential.")
            },
            Self::CredentialRejected(_) => Answer {
                challenge: true,
                ..plain(
                    401,
                    "credential_rejected",
                    "Your credential is not valid",
                    "Sign in again, or send a valid credential.",
                )
            },
            Self::CrossSite(_) => plain(
                403,
                "cross_site",
                "This request comes from another site",
                "Open the page on this site and try again from there.",
            ),
            Self::Forbidden(_) | Self::Undecidable => plain(
                403,
                "forbidden",
                "You are not allowed to do this",
                "Ask an administrator for access and name the request id.",
            ),
            Self::StepUp => Answer {
                challenge: true,
                ..plain(401, "step_up", "A stronger sign-in is needed", "Sign in again with a second factor.")
            },
            Self::QuotaSpent { retry_after_s, .. } => Answer {
                retry_after_s: Some(*retry_after_s),
                ..plain(
                    429,
                    "quota_spent",
                    "Your quota is used up",
                    "Wait for the time that is named, then try again.",
                )
            },
            Self::TooLarge { .. } => Answer {
                // The rest of the body is not read, so the next request cannot be found.
                close: true,
                ..plain(413, "too_large", "This is too large", "Send less at once.")
            },
            Self::Unavailable(dependency) => from_dependency(*dependency),
            Self::NoUpstream(fault) => from_upstream(*fault),
            Self::Faulted => Answer {
                close: true,
                ..plain(
                    500,
                    "faulted",
                    "Something went wrong here",
                    "Try again; if it happens again, report the request id.",
                )
            },
        }
    }

    /// The stable code of the answer; a malformed request's is its reason.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.answer().code
    }

    /// The precise reason, for records only: it names what [`Refusal::answer`] hides.
    #[must_use]
    pub fn detail_for_record(&self) -> Cow<'static, str> {
        match self {
            Self::Malformed(malformed) => Cow::Borrowed(malformed.sentence()),
            Self::Unrouted => Cow::Borrowed("no route names this method and path"),
            Self::Throttled { retry_after_s } => {
                Cow::Owned(format!("the address asks too often; next in {retry_after_s} s"))
            }
            Self::Unauthenticated => Cow::Borrowed("no credential that the route accepts was presented"),
            Self::CredentialRejected(fault) => Cow::Borrowed(credential_fault(*fault)),
            Self::CrossSite(fault) => Cow::Borrowed(cross_site_fault(*fault)),
            Self::Forbidden(denial) if denial.forbidding.is_empty() => Cow::Borrowed("no policy permits it"),
            Self::Forbidden(denial) => {
                let ids: Vec<&str> = denial.forbidding.iter().map(|deciding| &*deciding.id).collect();
                Cow::Owned(format!("forbidden by {}", ids.join(", ")))
            }
            Self::StepUp => Cow::Borrowed("the session's proof is too weak or too old for this route"),
            Self::Undecidable => Cow::Borrowed("a policy could not be evaluated"),
            Self::QuotaSpent { limit, retry_after_s } => {
                Cow::Owned(format!("limit `{limit}` is spent; next in {retry_after_s} s"))
            }
            Self::TooLarge { bytes_max } => Cow::Owned(format!("the body is larger than {bytes_max} bytes")),
            Self::Unavailable(dependency) => Cow::Borrowed(away(*dependency)),
            Self::NoUpstream(fault) => Cow::Borrowed(upstream_fault(*fault)),
            Self::Faulted => Cow::Borrowed("a stage failed in an unforeseen way"),
        }
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
            | Self::StepUp
            | Self::Undecidable
            | Self::Unavailable(Dependency::Sessions | Dependency::Credentials) => Self::Unrouted,
            told @ (Self::QuotaSpent { .. }
            | Self::TooLarge { .. }
            | Self::Unavailable(
                Dependency::Counters
                | Dependency::AuditLog
                | Dependency::PasswordHashing
                | Dependency::Draining,
            )
            | Self::NoUpstream(_)
            | Self::Faulted) => told,
        }
    }
}

const fn plain(status: u16, code: &'static str, title: &'static str, remedy: &'static str) -> Answer {
    Answer { status, code, title, remedy, detail: None, retry_after_s: None, challenge: false, close: false }
}

fn from_malformed(malformed: &Malformed) -> Answer {
    let (title, remedy) = match malformed.status {
        408 => ("The request came too slowly", "Send it again."),
        414 => ("The address is too long", "Send less in the address."),
        417 => ("This expectation cannot be met", "Send the request without `Expect`."),
        421 => ("This host is not served here", "Check the name in the address."),
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
    let (retry_after_s, close) = match dependency {
        Dependency::Sessions | Dependency::Credentials | Dependency::Counters | Dependency::AuditLog => {
            (UNAVAILABLE_RETRY_S, false)
        }
        Dependency::PasswordHashing => (HASHING_RETRY_S, false),
        // The process is about to end; the next connection reaches its successor.
        Dependency::Draining => (UNAVAILABLE_RETRY_S, true),
    };
    Answer {
        retry_after_s: Some(retry_after_s),
        close,
        ..plain(503, "unavailable", "This is not available right now", "Try again in a few seconds.")
    }
}

const fn from_upstream(fault: UpstreamFault) -> Answer {
    let again = "Try again in a few seconds.";
    match fault {
        UpstreamFault::NoneHealthy => Answer {
            retry_after_s: Some(UNAVAILABLE_RETRY_S),
            ..plain(503, "upstream_unhealthy", "The service behind this address is down", again)
        },
        UpstreamFault::Connect => {
            plain(502, "upstream_unreachable", "The service behind this address cannot be reached", again)
        }
        UpstreamFault::Timeout => {
            plain(504, "upstream_timeout", "The service behind this address did not answer in time", again)
        }
        UpstreamFault::Broken => {
            plain(502, "upstream_broken", "The service behind this address broke off its answer", again)
        }
    }
}

const fn credential_fault(fault: CredentialFault) -> &'static str {
    match fault {
        CredentialFault::SessionEnded => "the session is unknown or has ended",
        CredentialFault::KeyUnknown => "the API key is unknown, ended or malformed",
        CredentialFault::BearerUnknown => "the bearer value has a form that no accepted scheme reads",
        CredentialFault::Conflicting => "two credentials disagree, or one kind was sent twice",
        CredentialFault::Suspended => "the account is suspended",
        CredentialFault::NotAccepted => "the route does not accept this kind of credential",
    }
}

const fn cross_site_fault(fault: CrossSiteFault) -> &'static str {
    match fault {
        CrossSiteFault::FetchSite => "`Sec-Fetch-Site` names another site",
        CrossSiteFault::Origin => "`Origin` is not one of ours",
        CrossSiteFault::Unproven => "neither `Sec-Fetch-Site` nor a usable `Origin` was sent",
        CrossSiteFault::FormToken => "the form's token is missing or wrong",
    }
}

const fn away(dependency: Dependency) -> &'static str {
    match dependency {
        Dependency::Sessions => "the session store is away",
        Dependency::Credentials => "the credential store is away",
        Dependency::Counters => "the counters are away and the limit closes without them",
        Dependency::AuditLog => "the audit log cannot be written and the route must not run without it",
        Dependency::PasswordHashing => "the queue of password hashes is full",
        Dependency::Draining => "the gateway is shutting down",
    }
}

const fn upstream_fault(fault: UpstreamFault) -> &'static str {
    match fault {
        UpstreamFault::NoneHealthy => "every address of the upstream is marked unhealthy",
        UpstreamFault::Connect => "connecting to the upstream or its TLS handshake failed",
        UpstreamFault::Timeout => "the upstream did not answer in time",
        UpstreamFault::Broken => "the upstream closed or broke the protocol before its answer was whole",
    }
}
