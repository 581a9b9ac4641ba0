//! The policy decision point.

mod cedar_core;
mod condition;
mod context;
mod holder;
mod index;
mod oracle;
mod prepared;
mod request;
mod scene;
mod scope;
#[cfg(test)]
mod tests;
mod verdict;

pub(crate) use cedar_core::{has_condition, is_enumerated, is_mistakable};
pub(crate) use condition::NESTING_MAX;
pub use index::{PolicyIndex, Ready, ReadyRequest};
pub use oracle::{Disagreement, ORACLE};
pub(crate) use prepared::Prepared;
pub use scope::SCOPE;
pub use verdict::{PolicyIds, Verdict};

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use cedar_policy::{Entities, EvalResult, Policy, PolicySet, Request};

use crate::audit::Read;
use crate::bundle::{Bundle, BundleId, uid};
use crate::identity::{Identity, Principal, PrincipalKind};
use crate::refusal::{Deciding, Denial};
use crate::route::{Hint, Parameter};
use crate::time::UnixMillis;
use context::Facts;
use index::Said;
use prepared::{Known, KnownAction, KnownPrincipal};
use scene::{Part, Scene};

/// What policy is asked.
#[derive(Clone, Debug)]
pub struct AuthzRequest<'a> {
    /// Who asks.
    pub identity: &'a Identity,
    /// The Cedar action.
    pub action: &'a str,
    /// The Cedar resource: `Module::"…"`.
    pub module: &'a str,
    /// Where the bundle has these two ready: the route's own hint, or the default where there is no route.
    pub hint: Hint,
    /// The resource's parameters by name.
    pub parameters: &'a [Parameter],
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

/// Recorded as erring when the request itself does not fit the schema: a fault of the caller, not of a policy.
pub const REQUEST_FAULT: &str = "cedargate.request";

/// Recorded as erring when the policies need more steps for a request than a decision may take.
pub const BUDGET: &str = "cedargate.budget";

impl Bundle {
    /// Decides one request. Asking again with the same arguments gives the same answer, so re-authorisation of
    /// a long-lived connection is another call.
    #[must_use]
    pub fn decide(&self, request: &AuthzRequest<'_>) -> Decision {
        self.decided(request, |_| ()).0
    }

    /// Decides one request, and tells what of its context policies have looked at: with the principal and the route that is
    /// all it takes to ask again.
    #[must_use]
    pub fn decide_telling(&self, request: &AuthzRequest<'_>) -> (Decision, Read) {
        let (decision, read) = self.decided(request, |facts| facts.read());
        (decision, read.unwrap_or_default())
    }

    /// The same, with the names alone of what was looked at, as a record spells them.
    pub(crate) fn decide_naming(&self, request: &AuthzRequest<'_>) -> (Decision, Vec<String>) {
        let (decision, names) = self.decided(request, |facts| facts.names_read());
        (decision, names.unwrap_or_default())
    }

    /// `tell` is asked where policies were.
    fn decided<T>(
        &self,
        request: &AuthzRequest<'_>,
        tell: impl FnOnce(&Facts<'_>) -> T,
    ) -> (Decision, Option<T>) {
        let (action, principal) = match self.ready(request) {
            Ok(ready) => ready,
            Err(decision) => return (decision, None),
        };
        let (said, told) = match self.prepared().module(request) {
            Some(module) => self.say(request, action, &principal, module, tell),
            None => self.say(request, action, &principal, &self.undeclared(request.module), tell),
        };
        (self.concluded(request, &said), Some(told))
    }

    /// What is known of the action and of who asks; or what is decided without a look at any policy.
    fn ready(&self, request: &AuthzRequest<'_>) -> Result<(&KnownAction, Arc<KnownPrincipal>), Decision> {
        if let Some(denial) = scope::denial(request) {
            return Err(Decision::Deny(denial));
        }
        let unfit = || Decision::Undecidable { erring: vec![REQUEST_FAULT.to_owned()] };
        let Some(action) = self.prepared().action(request) else { return Err(unfit()) };
        // Then no policy can permit it, and it is a plain denial, for example of an anonymous caller who should sign in.
        if !action.reaches(request.identity) {
            return Err(Decision::Deny(Denial { forbidding: Vec::new() }));
        }
        if !action.fits(request) {
            return Err(unfit());
        }
        let principal = self.known(request.identity).map_err(|_| unfit())?;
        Ok((action, principal))
    }

    fn concluded(&self, request: &AuthzRequest<'_>, said: &Said) -> Decision {
        // A policy that was not reached may have forbidden.
        if said.spent {
            return Decision::Undecidable { erring: vec![BUDGET.to_owned()] };
        }
        // Cedar skips a policy that fails: a forbid that fails would no longer forbid. So any failure decides.
        if !said.erring.is_empty() {
            let erring = self.prepared().deciding(&said.erring);
            return Decision::Undecidable {
                erring: erring.iter().map(|policy| policy.id.to_string()).collect(),
            };
        }
        let deciding = self.prepared().deciding(&said.determining);
        if said.permits {
            let identity = request.identity.clone();
            Decision::Permit(Permit { identity, deciding, bundle: self.id().clone() })
        } else {
            Decision::Deny(Denial { forbidding: deciding })
        }
    }

    fn say<T>(
        &self,
        request: &AuthzRequest<'_>,
        action: &KnownAction,
        principal: &KnownPrincipal,
        module: &Known,
        tell: impl FnOnce(&Facts<'_>) -> T,
    ) -> (Said, T) {
        let facts = Facts::of(request, action, principal, self.prepared());
        // Three entities, each with all its ancestors: policies follow attributes no further (the validator's level), so
        // nothing else can be looked at.
        let all = [&principal.known, &action.known, module];
        let scene = Scene::alone(all.map(Known::subject), &facts);
        let said = self.index().say(all.map(|known| &known.keys), &scene);
        (said, tell(&facts))
    }

    fn undeclared(&self, module: &str) -> Known {
        Known::new(self.index(), Part::Resource, &uid(&self.vocabulary().types.module, module), None)
    }

    /// Whether a request fits the schema.
    ///
    /// # Errors
    /// What does not fit, for people.
    pub fn check_request(&self, request: &AuthzRequest<'_>) -> Result<(), String> {
        self.in_cedar(request).map(drop)
    }

    /// The roles that a principal has by this bundle: its own and those of its groups, unknown ones left out.
    #[must_use]
    pub fn effective_roles(&self, principal: &Principal) -> BTreeSet<String> {
        let role = &self.vocabulary().types.role;
        let memberships = self.memberships(principal);
        let roles = memberships.iter().filter(|membership| membership.type_name() == role);
        roles.map(|role| role.id().unescaped().to_owned()).collect()
    }

    /// An attribute of a role, where the entity files give it one and it is text: for example the name under
    /// which an upstream knows the role.
    #[must_use]
    pub fn role_attribute(&self, role: &str, attribute: &str) -> Option<String> {
        let role = uid(&self.vocabulary().types.role, role);
        match self.hierarchy().entity(&role)?.attr(attribute)? {
            Ok(EvalResult::String(text)) => Some(text),
            Ok(_) | Err(_) => None,
        }
    }

    /// Roles and groups of a principal that the bundle does not know, sorted: they take no part in decisions
    /// and belong in the record. `role:` or `group:` stands before each.
    #[must_use]
    pub fn unknown_memberships(&self, principal: &Principal) -> Vec<String> {
        let known = self.prepared();
        // A service is in no group, so every group it claims is unknown.
        let grouped = principal.kind == PrincipalKind::User;
        let groups = principal.groups.iter().filter(|name| !grouped || !known.knows_group(name));
        let roles = principal.roles.iter().filter(|name| !known.knows_role(name));
        let mut unknown: Vec<String> = groups.map(|name| format!("group:{name}")).collect();
        unknown.extend(roles.map(|name| format!("role:{name}")));
        unknown.sort();
        unknown
    }

    /// All policies against one request in Cedar's terms.
    pub(crate) fn evaluate(&self, request: &Request, entities: &Entities) -> Verdict<'_> {
        self.index().evaluate(request, entities)
    }

    /// Whether one policy, of this bundle or not, matches a request.
    pub(crate) fn matches(&self, policy: &Policy, request: &AuthzRequest<'_>) -> bool {
        let (Ok(asked), Ok(alone)) = (self.in_cedar(request), PolicySet::from_policies([policy.clone()]))
        else {
            return false;
        };
        !oracle::evaluate(&alone, &asked.request, &asked.entities).determining.is_empty()
    }
}

pub(crate) fn texts(ids: &PolicyIds<'_>) -> Vec<String> {
    ids.iter().map(str::to_owned).collect()
}
