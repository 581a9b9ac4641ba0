//! How somebody in a test case, or in an explanation, has proved who they are.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::identity::Principal;
use crate::time::UnixMillis;

/// By which words a provider says that two factors were proved. Those of a bundle's tests, because each provider has its own
/// and a bundle has to hold for several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Factors {
    /// Values of `acr`.
    pub acr: BTreeSet<String>,
    /// Values of `amr`.
    pub amr: BTreeSet<String>,
}

impl Default for Factors {
    /// What holds of a provider of which nothing else is said (RFC 8176).
    fn default() -> Self {
        Self { acr: BTreeSet::new(), amr: BTreeSet::from(["mfa".to_owned()]) }
    }
}

impl Factors {
    /// The assurance of who is said to have been authenticated so: by whole names, one of them is enough.
    #[must_use]
    pub fn assurance<'a>(&self, acr: Option<&str>, mut amr: impl Iterator<Item = &'a str>) -> u8 {
        let by_acr = acr.is_some_and(|acr| self.acr.contains(acr));
        if by_acr || amr.any(|method| self.amr.contains(method)) { 2 } else { 1 }
    }
}

/// What a case says of a person's proof.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Proof {
    acr: Option<String>,
    #[serde(default)]
    amr: Vec<String>,
    age_s: Option<Age>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "`age_s` is seconds, or \"unknown\"")]
enum Age {
    Seconds(u64),
    Said(Unknown),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Unknown {
    Unknown,
}

impl Proof {
    /// Whether it says by what the person was authenticated.
    pub(super) fn says_factors(&self) -> bool {
        self.acr.is_some() || !self.amr.is_empty()
    }

    /// Gives it to a person.
    pub(super) fn give(&self, principal: &mut Principal, factors: &Factors, now: UnixMillis) {
        principal.assurance = factors.assurance(self.acr.as_deref(), self.amr.iter().map(String::as_str));
        principal.authenticated_at = match self.age_s {
            None => now,
            Some(Age::Seconds(seconds)) => UnixMillis(now.0.saturating_sub(seconds.saturating_mul(1_000))),
            Some(Age::Said(Unknown::Unknown)) => UnixMillis(0),
        };
    }
}
