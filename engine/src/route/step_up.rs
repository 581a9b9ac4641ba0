//! What a route asks of a caller's proof, beside what policies say (RFC 9470).

use std::fmt;

use crate::identity::{Principal, PrincipalKind};
use crate::time::UnixMillis;

/// Seconds of the shortest `max_age_s`: a person who has just proved who they are has to come back within it.
pub const MAX_AGE_S_MIN: u32 = 30;
/// Seconds of the longest: a day, as a session lasts at most where nothing else is said.
pub const MAX_AGE_S_MAX: u32 = 86_400;
/// The strongest proof that a route may ask for: two factors, as providers say it.
pub const ASSURANCE_MAX: u8 = 2;

/// How far the clock of whoever says when a person was authenticated may be from ours: a minute, in milliseconds.
const LEEWAY_MS: u64 = 60_000;

/// How strong and how fresh a caller's proof has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepUp {
    /// The assurance, at least: 1 for any proof, 2 for two factors.
    pub assurance: u8,
    /// For how many seconds after it was given the proof is taken; `None` takes it for as long as its credential lives.
    pub max_age_s: Option<u32>,
    /// Whether services pass, which cannot prove themselves in any other way than by their key.
    pub services: bool,
}

impl StepUp {
    /// Two factors of every person, at any age, and nothing of services.
    pub const SECOND_FACTOR: Self = Self { assurance: ASSURANCE_MAX, max_age_s: None, services: true };

    /// Whether a caller's proof is strong and fresh enough. Where nobody says when it was given, it is never fresh.
    #[must_use]
    pub fn is_met_by(&self, principal: &Principal, now: UnixMillis) -> bool {
        match principal.kind {
            PrincipalKind::User => self.is_met(principal.assurance, principal.authenticated_at, now),
            PrincipalKind::Service => self.services,
            // Whoever holds the control socket is asked by the kernel.
            PrincipalKind::Operator => true,
        }
    }

    /// The same of a proof that is nobody's credential yet.
    #[must_use]
    pub fn is_met(&self, assurance: u8, authenticated_at: UnixMillis, now: UnixMillis) -> bool {
        let fresh = self.max_age_s.is_none_or(|seconds| {
            now.since(authenticated_at) <= u64::from(seconds).saturating_mul(1000).saturating_add(LEEWAY_MS)
        });
        assurance >= self.assurance && fresh
    }

    /// The weakest and oldest proof of a person that would do, given to one that does not.
    #[must_use]
    pub fn met_by(&self, principal: &Principal, now: UnixMillis) -> Principal {
        let fresh = self.is_met(u8::MAX, principal.authenticated_at, now);
        let authenticated_at = if fresh { principal.authenticated_at } else { now };
        Principal {
            assurance: principal.assurance.max(self.assurance),
            authenticated_at,
            ..principal.clone()
        }
    }

    /// What both ask for together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            assurance: self.assurance.max(other.assurance),
            max_age_s: self.max_age_s.into_iter().chain(other.max_age_s).min(),
            services: self.services && other.services,
        }
    }

    /// How this asks for less than another did, for people.
    pub(crate) fn looser(before: Option<&Self>, after: Option<&Self>) -> Vec<String> {
        let Some(before) = before else { return Vec::new() };
        let Some(after) = after else {
            return vec!["no longer asks for a step-up".to_owned()];
        };
        let mut said = Vec::new();
        if after.assurance < before.assurance {
            said.push(format!("asks for assurance {} instead of {}", after.assurance, before.assurance));
        }
        if let Some(bound) = before.max_age_s
            && after.max_age_s.is_none_or(|later| later > bound)
        {
            said.push(format!("takes proofs that are older than {bound} s"));
        }
        if after.services && !before.services {
            said.push("lets services pass without a step-up".to_owned());
        }
        said
    }
}

/// For people: `two factors within 300 s; API keys are refused`.
impl fmt::Display for StepUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.assurance > 1 { "two factors" } else { "any proof" })?;
        if let Some(seconds) = self.max_age_s {
            write!(f, " within {seconds} s")?;
        }
        f.write_str(if self.services { "; API keys pass" } else { "; API keys are refused" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::identity::LOCAL_ISSUER;

    const NOW: UnixMillis = UnixMillis(1_795_557_600_000);

    fn caller(kind: PrincipalKind, assurance: u8, age_ms: u64) -> Principal {
        Principal {
            assurance,
            ..Principal::named(kind, LOCAL_ISSUER, "ada", UnixMillis(NOW.0.saturating_sub(age_ms)))
        }
    }

    #[test]
    fn who_meets_what() {
        use PrincipalKind::{Operator, Service, User};
        let any = StepUp { assurance: 1, max_age_s: None, services: false };
        let strong = StepUp { assurance: 2, ..any };
        let fresh = StepUp { max_age_s: Some(300), ..any };
        let never = NOW.0;
        for (asks, kind, assurance, age_ms, met) in [
            (any, User, 1, never, true),
            (strong, User, 1, 0, false),
            (strong, User, 2, never, true),
            (strong, User, 3, 0, true),
            (fresh, User, 1, 0, true),
            (fresh, User, 1, 360_000, true),
            (fresh, User, 1, 360_001, false),
            (fresh, User, 3, 360_001, false),
            // Nobody says when.
            (fresh, User, 3, never, false),
            (strong, Service, 3, 0, false),
            (StepUp { services: true, ..strong }, Service, 1, never, true),
            (StepUp { services: true, ..strong }, User, 1, 0, false),
            (StepUp { max_age_s: Some(300), ..strong }, Operator, 1, never, true),
            (StepUp::SECOND_FACTOR, User, 1, 0, false),
            (StepUp::SECOND_FACTOR, User, 2, never, true),
            (StepUp::SECOND_FACTOR, Service, 1, 0, true),
        ] {
            let caller = caller(kind, assurance, age_ms);
            assert_eq!(asks.is_met_by(&caller, NOW), met, "{asks:?} {kind:?} {assurance} {age_ms}");
        }
        // A clock that is ahead of ours makes nothing old.
        assert!(fresh.is_met(1, NOW.plus(30_000), NOW));
    }

    #[test]
    fn what_is_asked_is_said_to_people() {
        let check = |asks: StepUp, said: &str| assert_eq!(asks.to_string(), said);
        check(StepUp::SECOND_FACTOR, "two factors; API keys pass");
        let fresh = StepUp { assurance: 1, max_age_s: Some(300), services: false };
        check(fresh, "any proof within 300 s; API keys are refused");
        check(StepUp { assurance: 2, ..fresh }, "two factors within 300 s; API keys are refused");
    }

    fn asks() -> impl Strategy<Value = StepUp> {
        (1_u8..=2, proptest::option::of(MAX_AGE_S_MIN..=MAX_AGE_S_MAX), any::<bool>())
            .prop_map(|(assurance, max_age_s, services)| StepUp { assurance, max_age_s, services })
    }

    proptest! {
        /// The proof that is said to do does, for every person; and nothing of one that does is changed.
        #[test]
        fn the_proof_that_would_do_does(asks in asks(), assurance in 1_u8..=3, age in 0_u64..100_000_000) {
            let person = caller(PrincipalKind::User, assurance, age);
            let proved = asks.met_by(&person, NOW);
            prop_assert!(asks.is_met_by(&proved, NOW));
            prop_assert_eq!(proved == person, asks.is_met_by(&person, NOW));
        }

        /// Who meets both meets each, and the other way round; and nothing is looser than both together but either of them.
        #[test]
        fn together_is_each(one in asks(), other in asks(), kind in 0_usize..2, assurance in 1_u8..=3, age in 0_u64..100_000_000) {
            let kind = if kind == 0 { PrincipalKind::User } else { PrincipalKind::Service };
            let caller = caller(kind, assurance, age);
            let both = one.and(other);
            prop_assert_eq!(
                both.is_met_by(&caller, NOW),
                one.is_met_by(&caller, NOW) && other.is_met_by(&caller, NOW)
            );
            prop_assert!(StepUp::looser(Some(&one), Some(&both)).is_empty());
            prop_assert_eq!(StepUp::looser(Some(&both), Some(&one)).is_empty(), both == one);
        }

        /// What is not said to be looser lets nobody pass who did not pass before.
        #[test]
        fn what_is_looser_is_said(before in asks(), after in asks(), service: bool, assurance in 1_u8..=3, age in 0_u64..100_000_000) {
            let kind = if service { PrincipalKind::Service } else { PrincipalKind::User };
            let caller = caller(kind, assurance, age);
            if StepUp::looser(Some(&before), Some(&after)).is_empty() && after.is_met_by(&caller, NOW) {
                prop_assert!(before.is_met_by(&caller, NOW));
            }
            prop_assert_eq!(StepUp::looser(Some(&before), None).len(), 1);
            prop_assert!(StepUp::looser(None, Some(&after)).is_empty());
        }
    }
}
