//! The demo: a gateway with keys and accounts of its own before an upstream that tells what it saw.

pub mod caller;
pub mod standin;
