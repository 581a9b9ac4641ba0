use std::collections::BTreeSet;

use super::*;

#[test]
fn reasons_are_sorted_unique_and_say_something() {
    let names: Vec<&str> = Malformed::ALL.iter().map(|(malformed, _)| malformed.reason).collect();
    let sorted: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(names, sorted.into_iter().collect::<Vec<_>>());
    for (malformed, sentence) in Malformed::ALL {
        assert!(
            [400, 403, 408, 414, 417, 421, 426, 431, 501, 505].contains(&malformed.status),
            "{}: {}",
            malformed.reason,
            malformed.status
        );
        assert!(sentence.ends_with('.'), "{sentence}");
        assert_eq!(Refusal::Malformed(malformed.clone()).code(), malformed.reason);
    }
}

#[test]
fn a_rejected_credential_does_not_say_what_is_wrong_with_it() {
    let faults = [
        CredentialFault::SessionEnded,
        CredentialFault::KeyUnknown,
        CredentialFault::BearerUnknown,
        CredentialFault::Conflicting,
        CredentialFault::Suspended,
        CredentialFault::NotAccepted,
    ];
    let answers = faults.map(|fault| Refusal::CredentialRejected(fault).answer());
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    let details: BTreeSet<_> =
        faults.iter().map(|fault| Refusal::CredentialRejected(*fault).detail_for_record()).collect();
    assert_eq!(details.len(), faults.len(), "the record tells them apart");
}

#[test]
fn a_broken_policy_answers_as_a_denying_one_and_the_record_tells_them_apart() {
    let denied = Refusal::Forbidden(Denial { forbidding: Vec::new() });
    assert_eq!(denied.answer(), Refusal::Undecidable.answer());
    assert_ne!(denied.detail_for_record(), Refusal::Undecidable.detail_for_record());
}

#[test]
fn threat_22_a_concealed_refusal_answers_as_an_unrouted_path() {
    let hidden = [
        Refusal::Malformed(Malformed::QUERY_IDENTITY),
        Refusal::Throttled { retry_after_s: 3, limit: None },
        Refusal::Unauthenticated,
        Refusal::CredentialRejected(CredentialFault::Suspended),
        Refusal::CrossSite(CrossSiteFault::Origin),
        Refusal::Forbidden(Denial { forbidding: Vec::new() }),
        Refusal::StepUp(crate::route::StepUp::SECOND_FACTOR),
        Refusal::PersonNeeded(crate::route::StepUp::SECOND_FACTOR),
        Refusal::Undecidable,
        Refusal::Unavailable(Dependency::Sessions),
    ];
    for refusal in hidden {
        assert_eq!(refusal.concealed().answer(), Refusal::Unrouted.answer());
    }
    let told = [
        // A quota is spent, and an upgrade looked at, only after a permit.
        Refusal::QuotaSpent { limit: "user".into(), retry_after_s: 1, rate: None, left: 0 },
        Refusal::Malformed(Malformed::UPGRADE_REFUSED),
        // An unrouted path answers an ambiguous spelling with its name, so another answer would tell.
        Refusal::Malformed(Malformed::PATH_SEMICOLON),
        Refusal::Malformed(Malformed::QUERY_REPEATED),
    ];
    for refusal in told {
        assert_eq!(refusal.clone().concealed(), refusal);
    }
}

#[test]
fn only_what_can_be_waited_for_names_a_time() {
    let check = |refusal: Refusal, retry_after_s| assert_eq!(refusal.answer().retry_after_s, retry_after_s);
    check(Refusal::Throttled { retry_after_s: 9, limit: None }, Some(9));
    check(Refusal::QuotaSpent { limit: "user".into(), retry_after_s: 60, rate: None, left: 0 }, Some(60));
    check(Refusal::Unavailable(Dependency::Sessions), Some(UNAVAILABLE_RETRY_S));
    check(Refusal::Unavailable(Dependency::PasswordHashing), Some(HASHING_RETRY_S));
    check(Refusal::NoUpstream(UpstreamFault::NoneHealthy), Some(UNAVAILABLE_RETRY_S));
    check(Refusal::Unrouted, None);
    check(Refusal::Unauthenticated, None);
}

#[test]
fn a_connection_ends_only_where_the_next_request_cannot_be_found() {
    let closes = |refusal: Refusal| refusal.answer().close;
    assert!(closes(Refusal::Malformed(Malformed::FRAMING_BOTH_LENGTHS)));
    assert!(closes(Refusal::TooLarge { bytes_max: 1 }));
    assert!(closes(Refusal::Faulted));
    assert!(!closes(Refusal::Malformed(Malformed::PATH_DOT_SEGMENT)));
    assert!(!closes(Refusal::Unrouted));
}

#[test]
fn the_table_has_every_reason() {
    let table = table();
    for (malformed, _) in Malformed::ALL {
        assert!(table.contains(&format!("\n{} {}", malformed.status, malformed.reason)));
    }
    assert!(table.contains("401 step_up challenge concealable"));
}
