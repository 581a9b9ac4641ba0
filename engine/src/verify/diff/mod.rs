//! How one bundle differs from another, in the terms of its files.
//!
//! What decides is compared, and not how it is written: comments, the order of rows and the file in which a policy stands are
//! no difference.

mod route;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::bundle::Bundle;

/// Something that one of two bundles has and the other has not, or has otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What it is.
    pub kind: Kind,
    /// Its name, as its file spells it.
    pub name: String,
    /// What has become of it.
    pub how: How,
    /// What is said of it: all where one of the bundles does not have it, otherwise what differs.
    pub said: Vec<Said>,
}

/// What the parts of a bundle are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A policy that forbids, by its `@id`.
    Guardrail,
    /// A policy that permits, by its `@id`.
    Grant,
    /// A row of a route file.
    Route,
    /// A limit of `limits.toml`.
    Limit,
    /// An action of the schema, or a group of them.
    Action,
    /// An entity type of the schema.
    Type,
    /// A role, a group, a module or another entity.
    Entity,
    /// What the schema says besides: what is `@sensitive`, and the context of several actions.
    Schema,
}

/// What has become of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The later bundle alone has it.
    Added,
    /// The earlier alone has it.
    Removed,
    /// Both have it, and say other things of it.
    Changed,
}

/// What is said of something under one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Said {
    /// The key.
    pub what: &'static str,
    /// By the earlier bundle; `None` where it says nothing.
    pub before: Option<String>,
    /// By the later.
    pub after: Option<String>,
}

/// What a bundle says of the things of one kind, by their names, each in the order in which it is told.
type Things = BTreeMap<String, Vec<(&'static str, String)>>;
/// How they are found in one.
type Of = fn(&Bundle) -> Things;

/// Every change from one bundle to another, by kind and name.
#[must_use]
pub fn diff(before: &Bundle, after: &Bundle) -> Vec<Change> {
    let kinds: [(Kind, Of); 6] = [
        (Kind::Guardrail, |bundle| policies(bundle, true)),
        (Kind::Grant, |bundle| policies(bundle, false)),
        (Kind::Route, routes),
        (Kind::Limit, limits),
        (Kind::Entity, entities),
        (Kind::Schema, sensitive),
    ];
    let of_kind = |(kind, things): (Kind, Of)| compared(kind, &things(before), &things(after));
    let mut changes: Vec<Change> = kinds.into_iter().flat_map(of_kind).collect();
    changes.extend(schema::changes(before, after).into_iter().flatten());
    changes.sort_by(|one, other| (one.kind, &one.name).cmp(&(other.kind, &other.name)));
    changes
}

const SCHEMA: &str = "schema.cedarschema";

fn compared(kind: Kind, before: &Things, after: &Things) -> Vec<Change> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter_map(|name| {
        let (how, said) = match (before.get(name), after.get(name)) {
            (Some(before), Some(after)) => (How::Changed, differing(before, after)),
            (None, Some(after)) => (How::Added, differing(&[], after)),
            (Some(before), None) => (How::Removed, differing(before, &[])),
            (None, None) => return None,
        };
        let is_same = how == How::Changed && said.is_empty();
        (!is_same).then(|| Change { kind, name: name.clone(), how, said })
    });
    changed.collect()
}

fn differing(before: &[(&'static str, String)], after: &[(&'static str, String)]) -> Vec<Said> {
    let find = |said: &[(&'static str, String)], what: &str| {
        said.iter().find(|(key, _)| *key == what).map(|(_, value)| value.clone())
    };
    let gone = before.iter().filter(|(what, _)| !after.iter().any(|(key, _)| key == what));
    let keys = after.iter().chain(gone).map(|(what, _)| *what);
    let said = keys.map(|what| Said { what, before: find(before, what), after: find(after, what) });
    said.filter(|said| said.before != said.after).collect()
}

fn policies(bundle: &Bundle, forbids: bool) -> Things {
    let of_kind = bundle.policies().filter(|facts| facts.forbids == forbids);
    of_kind.map(|facts| (facts.id.to_string(), vec![("text", facts.text.trim().to_owned())])).collect()
}

fn routes(bundle: &Bundle) -> Things {
    let mut things = Things::new();
    for route in bundle.routes().routes() {
        // Rows of one spelling differ in the types of their parameters.
        let mut name = route.name.to_string();
        for nth in 2.. {
            if !things.contains_key(&name) {
                break;
            }
            name = format!("{} ({nth})", route.name);
        }
        things.insert(name, route::said(route));
    }
    things
}

fn limits(bundle: &Bundle) -> Things {
    let said = |limit: crate::limit::Limit| {
        let algorithm = if limit.sliding { "sliding" } else { "rate" };
        let shadow = limit.shadow.then(|| ("shadow", "true".to_owned()));
        [("rate", limit.rate.to_string()), ("algorithm", algorithm.to_owned())].into_iter().chain(shadow)
    };
    bundle.limits().named().map(|(name, limit)| (name.to_owned(), said(limit).collect())).collect()
}

fn entities(bundle: &Bundle) -> Things {
    let said = |entity: &cedar_policy::Entity| {
        let within = bundle.hierarchy().ancestors(&entity.uid());
        let within = sorted(within.into_iter().flatten().map(ToString::to_string));
        let json = entity.to_json_value().ok();
        let said = |key: &str| {
            let said = json.as_ref().and_then(|json| json.get(key));
            let said = said.filter(|said| said.as_object().is_some_and(|map| !map.is_empty()));
            said.map(ToString::to_string).unwrap_or_default()
        };
        told([("in", within), ("attributes", said("attrs")), ("tags", said("tags"))])
    };
    bundle.hierarchy().all().map(|entity| (entity.uid().to_string(), said(&entity))).collect()
}

fn sensitive(bundle: &Bundle) -> Things {
    let names = bundle.vocabulary().sensitive.iter().cloned();
    [(SCHEMA.to_owned(), told([("@sensitive", sorted(names))]))].into()
}

/// What says nothing is left out.
fn told<const N: usize>(said: [(&'static str, String); N]) -> Vec<(&'static str, String)> {
    said.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

fn sorted(names: impl Iterator<Item = String>) -> String {
    names.collect::<BTreeSet<String>>().into_iter().collect::<Vec<_>>().join(", ")
}
