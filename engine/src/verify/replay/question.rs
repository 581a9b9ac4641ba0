//! The question that a record answers, asked of a bundle.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::Method;
use serde_json::Value;
use smol_str::SmolStr;

use super::Said;
use super::record::{Asked, Kind, Record, Row};
use crate::audit::VALUE_BYTES_MAX;
use crate::authz::{AuthzRequest, Decision};
use crate::bundle::Bundle;
use crate::identity::Identity;
use crate::path::CanonicalPath;
use crate::route::{Hint, ParamType, Parameters, Route};
use crate::time::UnixMillis;

/// Bytes of a path, and names of a query, that a record holds at most: past that they may be cut.
const PATH_BYTES_MAX: usize = 2_048;
const QUERY_NAMES_MAX: usize = 32;

/// Why a value is not known.
type Missing = BTreeMap<String, &'static str>;

const REDACTED: &str = "is redacted in the record";
const CUT: &str = "is cut in the record";
const ABSENT: &str = "is not in the record";

/// A question, with what of it is not known. What is not known has some value that fits, and no answer counts for which
/// policy has looked at it.
pub(super) enum Question {
    /// Policy is asked.
    Asked(Box<Known>),
    /// The bundle does not get as far as asking policy.
    Refused(&'static str),
}

pub(super) struct Known {
    identity: Identity,
    action: String,
    module: String,
    class: String,
    method: String,
    parameters: Parameters,
    client: IpAddr,
    tls: bool,
    now: UnixMillis,
    missing: Missing,
    /// Whether there may have been parameters of which the record does not even have the names.
    unnamed: bool,
}

impl Question {
    /// The question of a record, by the routes of this bundle.
    ///
    /// # Errors
    /// What is missing, for people.
    pub(super) fn of(bundle: &Bundle, record: &Record) -> Result<Self, String> {
        let (Some(asked), Some(row)) = (&record.request, &record.route) else {
            return Err("the record has no request or no route".to_owned());
        };
        let identity = record.identity()?;
        let mut known = Known::of(record, asked, row, identity)?;
        if record.kind == Kind::Control {
            return Ok(Self::Asked(Box::new(known)));
        }
        let Some((route, path)) = routed(bundle, asked, row)? else { return Ok(Self::Refused("unrouted")) };
        if !route.accept.takes(&known.identity) {
            return Ok(Self::Refused("not_accepted"));
        }
        known.action = route.action.to_string();
        known.module = route.module.to_string();
        known.class = route.class.to_string();
        for (name, value) in path {
            known.parameter(record, &route, &name, value);
        }
        let named = |name: &str| asked.query_names.iter().any(|named| named == name);
        for (name, _) in route.query.iter().filter(|(name, _)| named(name)) {
            known.parameter(record, &route, name, Err(ABSENT));
        }
        let full = asked.query_names.len() >= QUERY_NAMES_MAX;
        known.unnamed = full && route.query.iter().any(|(name, _)| !named(name));
        Ok(Self::Asked(Box::new(known)))
    }

    /// What the bundle says.
    ///
    /// # Errors
    /// Policy looks at something that is not known.
    pub(super) fn ask(&self, bundle: &Bundle) -> Result<Said, String> {
        match self {
            Self::Asked(known) => known.ask(bundle),
            Self::Refused(word) => Ok(Said { word: (*word).to_owned(), policies: Vec::new() }),
        }
    }
}

/// A parameter of a path: its value, or why it is not known.
type FromPath = (SmolStr, Result<String, &'static str>);

/// A route, and the parameters of its path.
type Routed = (Arc<Route>, Vec<FromPath>);

/// The route that the request has in this bundle, with the path's parameters; `None` where it has none.
fn routed(bundle: &Bundle, asked: &Asked, row: &Row) -> Result<Option<Routed>, String> {
    let withheld = row.parameters.iter().any(|(_, value)| value.is_none());
    if !withheld && asked.path.len() < PATH_BYTES_MAX {
        let path = CanonicalPath::parse(asked.path.as_bytes());
        let (Ok(path), Ok(method)) = (path, asked.method.parse::<Method>()) else {
            return Err(format!("`{} {}` is no request line", asked.method, asked.path));
        };
        let found = bundle.routes().find(&method, &path);
        return Ok(found.map(|found| {
            let parameters = found.parameters.into_iter().map(|(name, value)| (name, Ok(value.to_string())));
            (found.route, parameters.collect())
        }));
    }
    // The path is not whole, so the row is found by its name.
    let Some(route) = bundle.routes().named(&row.name) else {
        return Err(format!("its path is not whole in the record, and no route is called `{}`", row.name));
    };
    let parameters = route.parameters.iter().map(|(name, _)| {
        let told = row.parameters.iter().find(|(told, _)| **told == **name).map(|(_, value)| value);
        let value = match told {
            Some(Some(value)) if !may_be_cut(value) => Ok(value.clone()),
            Some(Some(_)) => Err(CUT),
            Some(None) => Err(REDACTED),
            None => Err(ABSENT),
        };
        (name.clone(), value)
    });
    Ok(Some((Arc::clone(route), parameters.collect())))
}

/// Values are cut at a character, the longest of which has four bytes.
fn may_be_cut(value: &str) -> bool {
    value.len() > VALUE_BYTES_MAX - 4
}

impl Known {
    /// What the record says whatever the route is.
    fn of(record: &Record, asked: &Asked, row: &Row, identity: Identity) -> Result<Self, String> {
        let mut missing = Missing::new();
        let is_control = record.kind == Kind::Control;
        let read = |name: &str| record.decision.read.get(name);
        // What is asked on the control socket is asked from this machine.
        let here = is_control.then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let client = here.or(record.client.address);
        if client.is_none() {
            missing.insert("context.client".to_owned(), ABSENT);
        }
        let tls = match read("context.tls") {
            Some(Value::Bool(tls)) => *tls,
            told => {
                if !is_control {
                    missing.insert("context.tls".to_owned(), why(told));
                }
                is_control
            }
        };
        // To the second that policy saw, where it looked; otherwise that of the record, which began with the request.
        let time = read("context.time").and_then(Value::as_str).unwrap_or(&record.time);
        let now = UnixMillis::from_rfc3339(time).ok_or_else(|| format!("`{time}` is no time of a record"))?;
        let module = row.resource.strip_prefix("Module::\"").and_then(|rest| rest.strip_suffix('"'));
        let module = module.ok_or_else(|| format!("`{}` is no module", row.resource))?;
        Ok(Self {
            identity,
            action: row.action.clone(),
            module: module.to_owned(),
            class: row.class.clone(),
            // A verb's name stands in the place of the path.
            method: if is_control { asked.path.clone() } else { asked.method.clone() },
            parameters: Parameters::new(),
            client: client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            tls,
            now,
            missing,
            unnamed: false,
        })
    }

    /// A parameter that the request had: its value from the path, or from what policy has looked at.
    fn parameter(
        &mut self,
        record: &Record,
        route: &Route,
        name: &SmolStr,
        value: Result<String, &'static str>,
    ) {
        let spelt = format!("context.parameters.{name}");
        let value = match (value, record.decision.read.get(&spelt)) {
            (Ok(value), _) => Ok(value),
            (Err(_), Some(Value::String(value))) => Ok(value.clone()),
            (Err(reason), None) => Err(reason),
            (Err(_), told) => Err(why(told)),
        };
        let value = value.unwrap_or_else(|reason| {
            self.missing.insert(spelt, reason);
            let typed = route.parameters.iter().chain(&*route.query);
            let kind = typed.into_iter().find(|(known, _)| known == name).map(|(_, kind)| kind);
            kind.map_or_else(String::new, ParamType::example)
        });
        self.parameters.push((name.clone(), value.into()));
    }

    fn ask(&self, bundle: &Bundle) -> Result<Said, String> {
        let (decision, read) = bundle.decide_naming(&AuthzRequest {
            identity: &self.identity,
            action: &self.action,
            module: &self.module,
            hint: Hint::default(),
            parameters: &self.parameters,
            class: &self.class,
            method: &self.method,
            client: self.client,
            tls: self.tls,
            now: self.now,
        });
        if let Some((name, reason)) = read.iter().find_map(|name| Some((name, self.missing.get(name)?))) {
            return Err(format!("policy looks at `{name}`, which {reason}"));
        }
        if self.unnamed {
            return Err("the request had more query parameters than a record has names of".to_owned());
        }
        let ids =
            |deciding: &[crate::refusal::Deciding]| deciding.iter().map(|by| by.id.to_string()).collect();
        let (word, policies) = match &decision {
            Decision::Permit(permit) => ("permit", ids(permit.deciding())),
            Decision::Deny(denial) => ("deny", ids(&denial.forbidding)),
            Decision::Undecidable { erring } => ("error", erring.clone()),
        };
        Ok(Said { word: word.to_owned(), policies })
    }
}

/// Why what the record says of it is no value.
fn why(told: Option<&Value>) -> &'static str {
    match told {
        Some(Value::Object(told)) if told.contains_key("redacted") => REDACTED,
        Some(Value::Object(told)) if told.contains_key("cut") => CUT,
        Some(_) | None => ABSENT,
    }
}
