//! How things end that are counted by their end.

use super::Metrics;

impl Metrics {
    /// A limit that is only tried out would have refused a request; the name is one of the bundle's.
    pub fn limit_shadowed(&self, limit: &str) {
        self.shadowed.with_label_values(&[limit]).inc();
    }

    /// So many counters of limits were dropped before they had recovered.
    pub fn limits_evicted(&self, count: u64) {
        self.evicted.inc_by(count);
    }
}

/// How a sign-in ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// With a session.
    Succeeded,
    /// With a wrong login or password.
    Failed,
    /// Not tried: too many failures before.
    Held,
    /// Not tried: the queue of password hashes is full.
    Busy,
    /// Not ended: the identity provider did not answer.
    Away,
}

/// What came of an opaque access token that was not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Its provider vouches for it.
    Active,
    /// It does not hold.
    Refused,
    /// Its provider did not answer.
    Away,
    /// Its provider was not asked: too many of its address were none.
    Held,
}

/// What came of asking a provider whether a session still stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It does.
    Renewed,
    /// It has ended.
    Ended,
    /// The provider did not answer, or refused us.
    Away,
}

impl Renewal {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Renewed => "renewed",
            Self::Ended => "ended",
            Self::Away => "away",
        }
    }
}

impl Login {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Held => "held",
            Self::Busy => "busy",
            Self::Away => "away",
        }
    }
}

impl Asked {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Refused => "refused",
            Self::Away => "away",
            Self::Held => "held",
        }
    }
}
