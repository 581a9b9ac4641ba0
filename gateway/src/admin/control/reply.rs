//! What the control socket answers.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An answer: one JSON object on one line, `{"done": …}` or `{"refused": {"code": …, "message": …}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It was done; with what it gives.
    Done(Value),
    /// It was not done.
    Refused(Problem),
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// For programs.
    pub code: Code,
    /// For people: what is wrong and what to do about it.
    pub message: String,
}

/// Kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Not a request, or one whose values are not acceptable.
    Invalid,
    /// Policy does not permit it.
    Forbidden,
    /// There is no such account, key or session.
    NotFound,
    /// There is one already, or what was accepted is not what is there.
    Conflict,
    /// A store or the audit log fails.
    Unavailable,
    /// Only a running gateway can do it.
    NotRunning,
}

impl Problem {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl Code {
    /// The status by which the record tells it.
    pub(super) const fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Unavailable => 503,
            Self::NotRunning => 501,
        }
    }

    /// The refusal's code in the record.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Invalid => "control.invalid",
            Self::Forbidden => "forbidden",
            Self::NotFound => "control.not_found",
            Self::Conflict => "control.conflict",
            Self::Unavailable => "unavailable",
            Self::NotRunning => "control.not_running",
        }
    }
}
