//! Test cases: what must be permitted, what must be refused, and by which policy.
//!
//! A file is a JSON array of cases. A case says who asks for what, and the decision:
//!
//! ```json
//! [
//!   { "name": "readers read", "role": ["viewer", "reports_reader"], "on": "GET /api/docs/:id",
//!     "decision": "permit", "reason": ["docs.readers"] },
//!   { "name": "nobody imports", "role": "power_user", "path": "POST /api/docs/import",
//!     "decision": "deny", "reason": ["switch.import"] }
//! ]
//! ```
//!
//! A person has proved who they are with one factor in this moment, unless `proof` says how: `acr` and `amr` as a provider says
//! them, and `age_s`, the seconds since then, or `"unknown"` where nobody says when. On a row with a step-up whose proof is too
//! weak or too old the decision is `step_up`, whatever policies say.
//!
//! Who: `role` (each of a list is asked on its own), or `roles` and `groups` held together; `principal` is `user`
//! unless it says `service`, `operator` or `anonymous`. What: `on` (a route by its name), `path` (a method and a
//! path as a client sends it) or `action` (on every module whose routes have it, or on `module`); each of a list
//! is asked on its own. `reason`, if it is there, is the exact set of deciding ids; `class` the classes of limits that a
//! permitted request is counted in. The shape of Cedar's own
//! `run-tests` is read too: `request` with `principal`, `action`, `resource` and `context`, and `entities`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::cedar::{CedarRequest, ask};
use super::proof::{Factors, Proof};
use super::subject::{Answer, accepts, unproved};
use crate::authz::AuthzRequest;
use crate::bundle::Bundle;
use crate::bundle::example::{EXAMPLE_CLIENT, EXAMPLE_TIME, example_parameters, example_principal};
use crate::identity::{Identity, PrincipalKind};
use crate::path::CanonicalPath;
use crate::route::{Hint, Parameter, Parameters, Route};
use crate::time::UnixMillis;

/// What the cases of one file came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestReport {
    /// Questions that were answered as expected; a case may hold several.
    pub passed: usize,
    /// One sentence for each that was not.
    pub failures: Vec<String>,
    /// Actions that were asked for.
    pub actions: BTreeSet<String>,
}

/// Runs the cases of one file. A case that cannot be asked fails. `factors` says by which words two factors are proved.
///
/// # Errors
/// The file is not a list of cases; says where.
pub fn run_tests(bundle: &Bundle, cases: &str, factors: &Factors) -> Result<TestReport, String> {
    let cases: Vec<Value> = serde_json::from_str(cases).map_err(|error| error.to_string())?;
    let mut report = TestReport::default();
    for (nth, case) in cases.into_iter().enumerate() {
        match serde_json::from_value::<Case>(case) {
            Ok(case) => case.run(bundle, factors, &mut report),
            Err(error) => report.failures.push(format!("case {}: {error}", nth + 1)),
        }
    }
    Ok(report)
}

/// Routes whose action no case asks for, by name.
#[must_use]
pub fn uncovered<'a>(bundle: &'a Bundle, reports: &[TestReport]) -> Vec<&'a str> {
    let asked = |action: &str| reports.iter().any(|report| report.actions.contains(action));
    let routes = bundle.routes().routes().iter();
    routes.filter(|route| !asked(&route.action)).map(|route| &*route.name).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    principal: Kind,
    role: Option<OneOrMany>,
    #[serde(default)]
    roles: BTreeSet<String>,
    #[serde(default)]
    groups: BTreeSet<String>,
    scopes: Option<BTreeSet<String>>,
    assurance: Option<u8>,
    proof: Option<Proof>,
    #[serde(default)]
    suspended: bool,
    on: Option<OneOrMany>,
    path: Option<OneOrMany>,
    action: Option<OneOrMany>,
    module: Option<String>,
    #[serde(default)]
    parameters: BTreeMap<String, String>,
    client: Option<IpAddr>,
    tls: Option<bool>,
    time_ms: Option<u64>,
    request: Option<CedarRequest>,
    entities: Option<Value>,
    decision: Expected,
    reason: Option<BTreeSet<String>>,
    class: Option<OneOrMany>,
    num_errors: Option<usize>,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    #[default]
    User,
    Service,
    Operator,
    Anonymous,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Expected {
    #[serde(alias = "allow", alias = "Allow")]
    Permit,
    #[serde(alias = "Deny")]
    Deny,
    /// The route does not look at such a credential.
    NotAccepted,
    /// No route has the path.
    Unrouted,
    /// The row asks for a stronger or fresher proof.
    StepUp,
    /// A policy fails.
    Undecidable,
}

impl Expected {
    fn word(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Deny => "deny",
            Self::NotAccepted => "not_accepted",
            Self::Unrouted => "unrouted",
            Self::StepUp => "step_up",
            Self::Undecidable => "undecidable",
        }
    }
}

impl OneOrMany {
    fn each(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// What is asked for, found in the bundle.
struct Asked<'a> {
    spelt: String,
    action: &'a str,
    module: &'a str,
    class: &'a str,
    method: &'a str,
    route: Option<&'a Route>,
    parameters: Parameters,
}

impl Case {
    fn run(&self, bundle: &Bundle, factors: &Factors, report: &mut TestReport) {
        if let Some(fault) = self.unprovable() {
            return self.fail(fault, report);
        }
        if let Some(request) = &self.request {
            report.actions.extend(request.action_id());
            let answer = ask(bundle, request, self.entities.as_ref());
            return match answer {
                Ok(answer) => self.judge("its request", answer.word(), answer.ids(), report),
                Err(error) => self.fail(&error, report),
            };
        }
        let identities = self.identities(factors);
        let mut count = 0;
        for asked in self.asked(bundle, report) {
            report.actions.insert(asked.action.to_owned());
            for (who, identity) in &identities {
                count += 1;
                let unproved = asked.route.and_then(|route| unproved(route, identity, self.now()));
                let answer = match (asked.route, unproved) {
                    (Some(route), _) if !accepts(route.accept, identity) => Answer::NotAccepted,
                    (_, Some(asks)) => Answer::StepUp(asks),
                    (_, None) => Answer::from(bundle.decide(&self.request(&asked, identity))),
                };
                let what = format!("{who} on {}", asked.spelt);
                match self.miscounted(bundle, &asked, &answer) {
                    Some(counted) => self.fail(&format!("{what}: {counted}"), report),
                    None => self.judge(&what, answer.word(), answer.ids(), report),
                }
            }
        }
        if count == 0 && !matches!(self.decision, Expected::Unrouted) {
            self.fail("it asks for nothing: add `on`, `path`, `action` or `request`", report);
        }
    }

    /// How a permitted request is counted in other classes than expected.
    fn miscounted(&self, bundle: &Bundle, asked: &Asked<'_>, answer: &Answer) -> Option<String> {
        let expected = self.class.as_ref().filter(|_| matches!(answer, Answer::Permit(_)))?;
        let given = bundle.classes_given(answer.ids().iter().map(String::as_str));
        let mut counted: BTreeSet<&str> = given.into_iter().map(|class| &**class).collect();
        if counted.is_empty() {
            counted.insert(asked.class);
        }
        if expected.each().iter().map(String::as_str).eq(counted.iter().copied()) {
            return None;
        }
        let spelt = |classes: Vec<&str>| classes.join(", ");
        let expected = expected.each().iter().map(String::as_str).collect();
        Some(format!("counted in {}, expected in {}", spelt(counted.into_iter().collect()), spelt(expected)))
    }

    fn request<'a>(&self, asked: &'a Asked<'_>, identity: &'a Identity) -> AuthzRequest<'a> {
        AuthzRequest {
            identity,
            action: asked.action,
            module: asked.module,
            hint: Hint::default(),
            parameters: &asked.parameters,
            class: asked.class,
            method: asked.method,
            client: self.client.unwrap_or(EXAMPLE_CLIENT),
            tls: self.tls.unwrap_or(true),
            now: self.now(),
        }
    }

    fn now(&self) -> UnixMillis {
        self.time_ms.map_or(EXAMPLE_TIME, UnixMillis)
    }

    /// Why the proof that it gives is none.
    fn unprovable(&self) -> Option<&'static str> {
        let proof = self.proof.as_ref()?;
        if self.principal != Kind::User {
            return Some("`proof` is a person's: a key or an operator has none but itself");
        }
        let twice = self.assurance.is_some() && proof.says_factors();
        twice.then_some("it says its assurance twice: keep `assurance`, or `acr` and `amr`")
    }

    fn identities(&self, factors: &Factors) -> Vec<(String, Identity)> {
        let kind = match self.principal {
            Kind::User => PrincipalKind::User,
            Kind::Service => PrincipalKind::Service,
            Kind::Operator => PrincipalKind::Operator,
            Kind::Anonymous => return vec![("anonymous".to_owned(), Identity::Anonymous)],
        };
        let held: Vec<BTreeSet<String>> = match &self.role {
            Some(role) => role.each().iter().map(|role| BTreeSet::from([role.clone()])).collect(),
            None => vec![self.roles.clone()],
        };
        let identity = |roles: BTreeSet<String>| {
            let names = roles.iter().chain(&self.groups).cloned().collect::<Vec<_>>();
            let mut principal = example_principal(kind, roles, self.groups.clone());
            principal.suspended = self.suspended;
            // As long as nothing else is said, they have proved it in the moment of the request.
            principal.authenticated_at = self.now();
            if let Some(proof) = &self.proof {
                proof.give(&mut principal, factors, self.now());
            }
            principal.assurance = self.assurance.unwrap_or(principal.assurance);
            principal.scopes = self.scopes.clone().unwrap_or(principal.scopes);
            let who = if names.is_empty() { "nobody in particular".to_owned() } else { names.join(" + ") };
            (who, Identity::Known(Arc::new(principal)))
        };
        held.into_iter().map(identity).collect()
    }

    fn asked<'a>(&'a self, bundle: &'a Bundle, report: &mut TestReport) -> Vec<Asked<'a>> {
        let mut found = Vec::new();
        for name in self.on.iter().flat_map(OneOrMany::each) {
            match bundle.routes().named(name) {
                Some(route) => found.push(self.on_route(name, route, example_parameters(route))),
                None => self.fail(&format!("there is no route `{name}`"), report),
            }
        }
        for target in self.path.iter().flat_map(OneOrMany::each) {
            self.on_path(bundle, target, &mut found, report);
        }
        for action in self.action.iter().flat_map(OneOrMany::each) {
            found.extend(self.on_action(bundle, action));
        }
        found
    }

    fn on_route<'a>(&'a self, spelt: &str, route: &'a Route, mut parameters: Parameters) -> Asked<'a> {
        parameters.retain(|(name, _)| !self.parameters.contains_key(name.as_str()));
        parameters.extend(self.given());
        Asked {
            spelt: spelt.to_owned(),
            action: &route.action,
            module: &route.module,
            class: &route.class,
            method: route.method.as_str(),
            route: Some(route),
            parameters,
        }
    }

    fn on_path<'a>(
        &'a self,
        bundle: &'a Bundle,
        target: &str,
        found: &mut Vec<Asked<'a>>,
        report: &mut TestReport,
    ) {
        let (method, path) = target.split_once(' ').unwrap_or(("GET", target));
        let (Ok(method), Ok(path)) = (method.parse::<Method>(), CanonicalPath::parse(path.as_bytes())) else {
            return self.fail(&format!("`{target}` is not a method and a path"), report);
        };
        let matched = bundle.routes().find(&method, &path);
        let route = matched.as_ref().and_then(|matched| bundle.routes().named(&matched.route.name));
        match (matched, route) {
            (Some(matched), Some(route)) => found.push(self.on_route(target, route, matched.parameters)),
            _ => self.judge(target, Expected::Unrouted.word(), &[], report),
        }
    }

    /// An action on every module whose routes have it, and on none if none has: a verb of the control API.
    fn on_action<'a>(&'a self, bundle: &'a Bundle, action: &'a str) -> Vec<Asked<'a>> {
        let routes = bundle.routes().routes().iter().filter(|route| route.action.as_ref() == action);
        let mut modules: BTreeSet<&str> = match &self.module {
            Some(module) => BTreeSet::from([module.as_str()]),
            None => routes.map(|route| route.module.as_ref()).collect(),
        };
        if modules.is_empty() {
            modules.insert("cedargate");
        }
        let ask = |module| Asked {
            spelt: format!("{action} in {module}"),
            action,
            module,
            class: "standard",
            method: "GET",
            route: None,
            parameters: self.given().collect(),
        };
        modules.into_iter().map(ask).collect()
    }

    fn given(&self) -> impl Iterator<Item = Parameter> {
        self.parameters.iter().map(|(name, value)| (name.into(), value.into()))
    }

    fn judge(&self, what: &str, answer: &str, ids: &[String], report: &mut TestReport) {
        let expected = self.decision.word();
        let by = if ids.is_empty() { "no policy".to_owned() } else { ids.join(", ") };
        if answer != expected {
            return self.fail(&format!("{what}: {answer} by {by}, expected {expected}"), report);
        }
        let decided: BTreeSet<String> = ids.iter().cloned().collect();
        if let Some(reason) = &self.reason
            && *reason != decided
        {
            let reason = reason.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            return self.fail(&format!("{what}: {answer} by {by}, expected by {reason}"), report);
        }
        let errors = if answer == "undecidable" { ids.len() } else { 0 };
        if self.num_errors.is_some_and(|expected| expected != errors) {
            return self.fail(&format!("{what}: {errors} policies failed"), report);
        }
        report.passed += 1;
    }

    fn fail(&self, why: &str, report: &mut TestReport) {
        report.failures.push(format!("{}: {why}", self.name));
    }
}
