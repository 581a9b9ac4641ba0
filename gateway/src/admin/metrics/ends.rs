//! How things end that are counted by their end.

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
