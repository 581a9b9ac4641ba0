//! The harness of the scenarios: the real binary, real sockets, raw bytes, and everything ended by its id.

pub mod attack;
pub mod audit;
pub mod cedar;
pub mod chromium;
pub mod client;
#[cfg(feature = "security_tests")]
pub mod collector;
pub mod disk;
pub mod gateway;
pub mod golden;
pub mod guardrail;
pub mod jwt;
pub mod openid;
pub mod peer;
pub mod policies;
pub mod ports;
pub mod process;
pub mod production;
pub mod redis;
pub mod repository;
pub mod secrets;
pub mod session;
pub mod tls;
pub mod upstream;
pub mod wait;
pub mod websocket;
