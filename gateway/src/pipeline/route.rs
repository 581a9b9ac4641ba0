//! Stage 2, route: the request finds the one route that names it, or is refused.

use std::sync::Arc;

use engine::facts::RequestFacts;
use engine::path::Leniencies;
use engine::query::IDENTITY_NAMES;
use engine::refusal::{Malformed, Refusal};
use engine::route::{Route, RouteMatch};

use crate::pipeline::record::Trail;
use crate::snapshot::Snapshot;

/// Finds the route. It says which credentials are acceptable, so it comes before the identity.
///
/// # Errors
/// `Malformed` for a spelling that this route does not allow by name, `Unrouted` where no route names the
/// path, the method or the spelling of a parameter.
pub fn route(snapshot: &Snapshot, facts: &RequestFacts<'_>, trail: &mut Trail) -> Result<Arc<RouteMatch>, Refusal> {
    let bundle = &snapshot.bundle;
    trail.bundle(bundle.id());
    let Some(matched) = bundle.routes().find(facts.method, facts.path) else {
        trail.detail(bundle.routes().explain(facts.method, facts.path));
        // An ambiguous spelling is named whether or not a route stands behind it.
        spelling(facts, Leniencies::default())?;
        return Err(Refusal::Unrouted);
    };
    trail.matched(&matched);
    spelling(facts, matched.route.leniencies)?;
    query(facts, &matched.route, trail)?;
    Ok(Arc::new(matched))
}

/// Refuses spellings that only some routes allow.
fn spelling(facts: &RequestFacts<'_>, allowed: Leniencies) -> Result<(), Refusal> {
    let needs = facts.path.lenient();
    let refused = [
        (needs.encoded_slash && !allowed.encoded_slash, "path.encoded_slash"),
        (needs.semicolon && !allowed.semicolon, "path.semicolon"),
        (needs.encoded_percent && !allowed.encoded_percent, "path.double_encoding"),
        (facts.query.repeated().is_some() && !allowed.repeated_query, "query.repeated_name"),
    ];
    match refused.into_iter().find(|(refused, _)| *refused) {
        Some((_, reason)) => Err(Refusal::Malformed(Malformed { reason, status: 400 })),
        None => Ok(()),
    }
}

/// Refuses identity in the query, and values that are not what the route declares.
fn query(facts: &RequestFacts<'_>, route: &Route, trail: &mut Trail) -> Result<(), Refusal> {
    if let Some(name) = facts.query.identity_name(&route.client_sets) {
        trail.detail(format!("query parameter `{name}` names an identity; one of {IDENTITY_NAMES:?}"));
        return Err(Refusal::Malformed(Malformed { reason: "query.identity_name", status: 400 }));
    }
    for (name, kind) in &route.query {
        let Some(value) = facts.query.value(name) else { continue };
        if !kind.accepts(&value) {
            trail.detail(format!("query parameter `{name}` is not a value of its type"));
            return Err(Refusal::Malformed(Malformed { reason: "query.parameter_type", status: 400 }));
        }
    }
    Ok(())
}
