//! Policy verbs as pure functions: the matrix of all roles and routes, test cases, coverage, explanations.
//!
//! They ask the same [`Bundle::decide`](crate::bundle::Bundle::decide) as the pipeline, so what a reviewer
//! reads is what clients get.

mod cases;
mod cedar;
mod explain;
mod matrix;
mod subject;
#[cfg(test)]
mod tests;

pub use cases::{TestReport, run_tests, uncovered};
pub use explain::explain;
pub use matrix::matrix;
pub use subject::{Answer, Subject, answer, subjects};
