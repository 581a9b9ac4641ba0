//! Decides, and touches nothing.
//!
//! Canonical requests, routes, Cedar policies, limits, refusals and the audit event, as pure functions
//! of their arguments: no clock, no randomness, no socket, no environment. The gateway asks; the tests
//! replay. Useful as a library without the proxy.

pub mod asked;
pub mod audit;
pub mod authz;
pub mod bundle;
mod bytes;
pub mod chunked;
pub mod facts;
pub mod headers;
pub mod identity;
pub mod kept;
pub mod limit;
pub mod path;
pub mod query;
pub mod refusal;
pub mod route;
mod shared;
pub mod spelt;
pub mod time;
pub mod trace;
pub mod verify;
pub mod websocket;
pub mod window;

/// The examples in the README are tried like those in the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
