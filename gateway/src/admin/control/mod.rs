//! The control API: the verbs that change a running gateway, over a Unix socket that only its owner reaches.
//!
//! One JSON object on a line asks, one on a line answers. Each verb is decided by the bundle for the operator
//! that the kernel names, and leaves a record. The command line asks here, and works on the store itself, by the
//! same [`execute()`], only where it holds the store's lock.

mod client;
mod execute;
mod line;
mod reply;
mod server;
#[cfg(test)]
mod tests;
mod verb;
mod work;

pub use client::{Client, ClientError};
pub use execute::{Backend, Counted, Operator, execute};
pub use line::LineError;
pub use reply::{Code, Problem, Reply};
pub use server::{BindError, SOCKET_NAME, Server};
pub use verb::{Hidden, LimitsOf, Verb};
