//! Speaks to the network and asks the others.
//!
//! A library besides the binary, so that tests reach the stages without a process between.

pub mod admin;
pub mod app;
pub mod aside;
pub mod authn;
pub mod background;
pub mod bundle_dir;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod edge;
pub mod identity;
pub mod in_force;
pub mod live;
pub mod logging;
pub mod memory;
pub mod named;
pub mod oidc;
pub mod pages;
pub mod pipeline;
pub mod proxy;
pub mod random;
pub mod shared_limits;
pub mod shared_sessions;
pub mod shared_store;
pub mod shutdown;
pub mod snapshot;
pub mod telemetry;
pub mod tls;
