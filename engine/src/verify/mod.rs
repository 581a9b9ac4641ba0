//! Policy verbs as pure functions: the matrix of all roles and routes, test cases, coverage, explanations, how bundles differ,
//! decisions made again from their records.
//!
//! They ask the same [`Bundle::decide`](crate::bundle::Bundle::decide) as the pipeline, so what a reviewer
//! reads is what clients get.

mod cases;
mod cedar;
pub mod diff;
mod explain;
mod matrix;
mod proof;
mod replay;
mod subject;
#[cfg(test)]
mod tests;

pub use cases::{TestReport, run_tests, uncovered};
pub use diff::diff;
pub use explain::{explain, explain_on};
pub use matrix::matrix;
pub use proof::Factors;
pub use replay::{Outcome, Replay, Said, replay};
pub use subject::{Answer, Subject, answer, subjects};
