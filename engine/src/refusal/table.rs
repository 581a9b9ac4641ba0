//! The golden table: every refusal, what the client is told and what the record says.

use std::fmt::Write as _;

use crate::route::StepUp;

use super::{
    CredentialFault, CrossSiteFault, Deciding, Denial, Dependency, Malformed, Refusal, UpstreamFault,
};

/// Every refusal with its answer, one a line, as text for a golden file that reviewers read.
#[must_use]
pub fn table() -> String {
    let mut text = String::from(
        "# Every refusal: status, code, what goes with it, then what the client is told and what the record says.\n",
    );
    for refusal in every() {
        let answer = refusal.answer();
        let mut marks = String::new();
        if let Some(seconds) = answer.retry_after_s {
            push(&mut marks, format_args!(" retry-after={seconds}"));
        }
        if answer.challenge {
            marks.push_str(" challenge");
        }
        if answer.close {
            marks.push_str(" close");
        }
        if matches!(refusal.clone().concealed(), Refusal::Unrouted) {
            marks.push_str(" concealable");
        }
        push(&mut text, format_args!("\n{} {}{marks}\n", answer.status, answer.code));
        push(&mut text, format_args!("  client: {}. {}", answer.title, answer.remedy));
        if let Some(detail) = answer.detail {
            push(&mut text, format_args!(" {detail}"));
        }
        push(&mut text, format_args!("\n  record: {}\n", refusal.detail_for_record()));
    }
    text
}

/// One of each refusal.
fn every() -> Vec<Refusal> {
    let deciding = Deciding { id: "guardrail.example".into(), reason: "an example".into() };
    let mut every: Vec<Refusal> =
        Malformed::ALL.iter().map(|(malformed, _)| Refusal::Malformed(malformed.clone())).collect();
    every.extend([
        Refusal::Unrouted,
        Refusal::Throttled { retry_after_s: 7, limit: None },
        Refusal::Unauthenticated,
    ]);
    every.extend(
        [
            CredentialFault::SessionEnded,
            CredentialFault::KeyUnknown,
            CredentialFault::BearerUnknown,
            CredentialFault::Token,
            CredentialFault::Conflicting,
            CredentialFault::Suspended,
            CredentialFault::NotAccepted,
            CredentialFault::Provider,
        ]
        .map(Refusal::CredentialRejected),
    );
    every.extend(
        [
            CrossSiteFault::FetchSite,
            CrossSiteFault::Origin,
            CrossSiteFault::Unproven,
            CrossSiteFault::FormToken,
            CrossSiteFault::Flow,
        ]
        .map(Refusal::CrossSite),
    );
    every.extend([
        Refusal::Forbidden(Denial { forbidding: Vec::new() }),
        Refusal::Forbidden(Denial { forbidding: vec![deciding] }),
        Refusal::StepUp(StepUp::SECOND_FACTOR),
        Refusal::StepUp(StepUp { max_age_s: Some(300), ..StepUp::SECOND_FACTOR }),
        Refusal::PersonNeeded(StepUp { services: false, ..StepUp::SECOND_FACTOR }),
        Refusal::Undecidable,
        Refusal::QuotaSpent { limit: "user".into(), retry_after_s: 7, rate: None, left: 0 },
        Refusal::TooLarge { bytes_max: 1024 },
    ]);
    every.extend(
        [
            Dependency::Sessions,
            Dependency::Credentials,
            Dependency::Counters,
            Dependency::AuditLog,
            Dependency::PasswordHashing,
            Dependency::IdentityProvider,
            Dependency::Draining,
            Dependency::Capacity,
        ]
        .map(Refusal::Unavailable),
    );
    every.extend(
        [UpstreamFault::NoneHealthy, UpstreamFault::Connect, UpstreamFault::Timeout, UpstreamFault::Broken]
            .map(Refusal::NoUpstream),
    );
    every.push(Refusal::Faulted);
    every
}

/// Writing to a string cannot fail.
fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line).ok();
}
