//! How the gateway is watched and operated: health and metrics on a listener of their own, and the control
//! socket for the verbs that change something.

pub mod control;
pub mod health;
pub mod listener;
pub mod metrics;
