//! The policy index held against Cedar: on Cedar's published corpus, and on whatever a generator thinks of.

pub mod compare;
pub mod corpus;
pub mod generate;
pub mod long_run;
pub mod progress;
