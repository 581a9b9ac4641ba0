//! What the record says of a refusal, and clients are not told.

use std::borrow::Cow;

use super::{CredentialFault, CrossSiteFault, Dependency, Refusal, UpstreamFault};
use crate::route::StepUp;

impl Refusal {
    /// The precise reason, for records only: it names what [`Refusal::answer`] hides.
    #[must_use]
    pub fn detail_for_record(&self) -> Cow<'static, str> {
        match self {
            Self::Malformed(malformed) => Cow::Borrowed(malformed.sentence()),
            Self::Unrouted => Cow::Borrowed("no route names this method and path"),
            Self::Throttled { retry_after_s, .. } => {
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
            Self::StepUp(StepUp { assurance, max_age_s: None, .. }) => {
                Cow::Owned(format!("the proof is too weak: assurance {assurance} is asked for"))
            }
            Self::StepUp(StepUp { assurance, max_age_s: Some(seconds), .. }) => Cow::Owned(format!(
                "the proof is too weak or too old: assurance {assurance} within {seconds} s is asked for"
            )),
            Self::PersonNeeded(asks) => {
                Cow::Owned(format!("an API key cannot prove what is asked for: {asks}"))
            }
            Self::Undecidable => Cow::Borrowed("a policy could not be evaluated"),
            Self::QuotaSpent { limit, retry_after_s, left: 0, .. } => {
                Cow::Owned(format!("limit `{limit}` is spent; next in {retry_after_s} s"))
            }
            Self::QuotaSpent { limit, retry_after_s, left, .. } => Cow::Owned(format!(
                "limit `{limit}` has {left} left, less than this costs; next in {retry_after_s} s"
            )),
            Self::TooLarge { bytes_max } => Cow::Owned(format!("the body is larger than {bytes_max} bytes")),
            Self::Unavailable(dependency) => Cow::Borrowed(away(*dependency)),
            Self::NoUpstream(fault) => Cow::Borrowed(upstream_fault(*fault)),
            Self::Faulted => Cow::Borrowed("a stage failed in an unforeseen way"),
        }
    }
}

const fn credential_fault(fault: CredentialFault) -> &'static str {
    match fault {
        CredentialFault::SessionEnded => "the session is unknown or has ended",
        CredentialFault::KeyUnknown => "the API key is unknown, ended or malformed",
        CredentialFault::BearerUnknown => "the bearer value has a form that no accepted scheme reads",
        CredentialFault::Token => {
            "the token is none that a configured provider issued for this, or holds no longer"
        }
        CredentialFault::Conflicting => "two credentials disagree, or one kind was sent twice",
        CredentialFault::Suspended => "the account is suspended",
        CredentialFault::NotAccepted => "the route does not accept this kind of credential",
        CredentialFault::Provider => "the identity provider said no, or what it said does not hold",
    }
}

const fn cross_site_fault(fault: CrossSiteFault) -> &'static str {
    match fault {
        CrossSiteFault::FetchSite => "`Sec-Fetch-Site` names another site",
        CrossSiteFault::Origin => "`Origin` is not one of ours",
        CrossSiteFault::Unproven => "neither `Sec-Fetch-Site` nor a usable `Origin` was sent",
        CrossSiteFault::FormToken => "the form's token is missing or wrong",
        CrossSiteFault::Flow => "no sign-in at a provider that this browser has begun lately",
    }
}

const fn away(dependency: Dependency) -> &'static str {
    match dependency {
        Dependency::Sessions => "the session store is away",
        Dependency::Credentials => "the credential store is away",
        Dependency::Counters => "the counters are away and the limit closes without them",
        Dependency::AuditLog => "the audit log cannot be written and the route must not run without it",
        Dependency::PasswordHashing => "the queue of password hashes is full",
        Dependency::IdentityProvider => "the identity provider is away",
        Dependency::Draining => "the gateway is shutting down",
        Dependency::Capacity => "as many requests are under way as may be",
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
