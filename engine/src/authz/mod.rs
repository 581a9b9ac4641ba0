//! The policy decision point.

use std::net::IpAddr;
use std::sync::Arc;

use crate::bundle::{Bundle, BundleId};
use crate::identity::Identity;
use crate::refusal::{Deciding, Denial};
use crate::time::UnixMillis;

/// What policy is asked.
#[derive(Clone, Debug)]
pub struct AuthzRequest<'a> {
    /// Who asks.
    pub identity: &'a Identity,
    /// The Cedar action.
    pub action: &'a str,
    /// The Cedar resource: `Module::"…"`.
    pub module: &'a str,
    /// The resource's parameters by name.
    pub parameters: &'a [(Arc<str>, String)],
    /// The limit class of the route.
    pub class: &'a str,
    /// The HTTP method, or the verb of the control API.
    pub method: &'a str,
    /// The client's address.
    pub client: IpAddr,
    /// Whether the client's connection is encrypted.
    pub tls: bool,
    /// When it is asked.
    pub now: UnixMillis,
}

/// What policy answers.
#[derive(Debug)]
pub enum Decision {
    /// At least one policy permits, none forbids, none failed.
    Permit(Permit),
    /// A policy forbids, or none permits.
    Deny(Denial),
    /// A policy could not be evaluated: nothing is permitted.
    Undecidable {
        /// Ids of the policies that failed, sorted.
        erring: Vec<String>,
    },
}

/// Witness that policy permitted. Only [`Bundle::decide`] makes one.
#[derive(Clone, Debug)]
pub struct Permit {
    identity: Identity,
    deciding: Vec<Deciding>,
    bundle: BundleId,
}

impl Permit {
    /// Who was permitted.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The permitting policies, sorted by id.
    #[must_use]
    pub fn deciding(&self) -> &[Deciding] {
        &self.deciding
    }

    /// The bundle that decided.
    #[must_use]
    pub fn bundle(&self) -> &BundleId {
        &self.bundle
    }
}

impl Bundle {
    /// Decides one request.
    #[must_use]
    pub fn decide(&self, request: &AuthzRequest<'_>) -> Decision {
        drop(request.clone());
        Decision::Undecidable { erring: Vec::new() }
    }
}
