//! A decision made again, from its record alone.
//!
//! The record says who asked, as that was then, what for, and what of the context policy has looked at. A bundle that looks at
//! no more than that decides again as it did; of another one it can be said what it would have decided, unless it looks at
//! something that the record does not hold. Then nothing is said, because a guess would be taken for an answer.

mod question;
mod record;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::bundle::Bundle;
use question::Question;
use record::{Kind, Record};

/// A record, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The id of the request; empty where the line is no record.
    pub request_id: String,
    /// When it was decided, as the record says it.
    pub time: String,
    /// What was asked for: `GET /api/docs/list`.
    pub asked: String,
    /// The digest of the bundle that decided.
    pub bundle: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is decided as it was, by the same policies.
    Same(Said),
    /// It is decided otherwise, or by others.
    Differs {
        /// What was decided.
        was: Said,
        /// What is decided now.
        is: Said,
    },
    /// It was decided, and cannot be decided again.
    NotReplayed {
        /// What is missing.
        why: String,
    },
    /// Policy was not asked: there is nothing to do again.
    NoDecision {
        /// What it is instead.
        why: &'static str,
    },
}

/// What is decided, and by which policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// `permit`, `deny` or `error`; of a bundle that does not get that far, `unrouted` or `not_accepted`.
    pub word: String,
    /// Ids of the policies that decided, or failed.
    pub policies: Vec<String>,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.policies.as_slice() {
            [] => f.write_str(&self.word),
            policies => write!(f, "{} by {}", self.word, policies.join(", ")),
        }
    }
}

/// Decides again what one line of an audit file records.
#[must_use]
pub fn replay(bundle: &Bundle, line: &str) -> Replay {
    let record: Record = match serde_json::from_str(line) {
        Ok(record) => record,
        Err(error) => {
            let outcome = Outcome::NotReplayed { why: format!("the line is no record: {error}") };
            let none = String::new;
            return Replay { request_id: none(), time: none(), asked: none(), bundle: none(), outcome };
        }
    };
    let outcome = again(bundle, &record);
    let asked = record.request.as_ref().map(|asked| format!("{} {}", asked.method, asked.path));
    Replay {
        request_id: record.request_id,
        time: record.time,
        asked: asked.unwrap_or_default(),
        bundle: record.decision.bundle,
        outcome,
    }
}

fn again(bundle: &Bundle, record: &Record) -> Outcome {
    match record.kind {
        Kind::Request | Kind::Control => {}
        Kind::Opening => return Outcome::NoDecision { why: "the request has a record of its own" },
        Kind::Summary => return Outcome::NoDecision { why: "it counts early refusals" },
        Kind::Security => return Outcome::NoDecision { why: "it belongs to no request" },
    }
    if record.decision.outcome == "none" {
        return Outcome::NoDecision { why: "it was refused before policy was asked" };
    }
    let was = record.decision.said();
    if was.policies.iter().any(|id| id.starts_with(BUILT_IN)) {
        return Outcome::NoDecision { why: "the gateway permits it by a rule of its own" };
    }
    if was.policies.iter().any(|id| id == crate::authz::ORACLE) {
        return Outcome::NotReplayed {
            why: "Cedar decided otherwise at the time, and neither was believed".to_owned(),
        };
    }
    let is = match Question::of(bundle, record).and_then(|question| question.ask(bundle)) {
        Ok(is) => is,
        Err(why) => return Outcome::NotReplayed { why },
    };
    if was == is {
        return Outcome::Same(was);
    }
    if was.policies.iter().any(|id| id == crate::authz::REQUEST_FAULT) {
        let why = "the request did not fit the schema, and what did not fit is not in the record".to_owned();
        return Outcome::NotReplayed { why };
    }
    Outcome::Differs { was, is }
}

/// How the ids of rules begin that are no policies.
const BUILT_IN: &str = "cedargate.built_in.";
