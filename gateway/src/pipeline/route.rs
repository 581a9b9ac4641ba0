//! Stage 2, route: the request finds the one route that names it, or is refused.

use std::sync::Arc;

use engine::facts::RequestFacts;
use engine::path::Leniencies;
use engine::refusal::{Malformed, Refusal};
use engine::route::{Route, RouteMatch};

use crate::pipeline::record::Trail;
use crate::snapshot::Snapshot;

/// Finds the route. It says which credentials are acceptable, so it comes before the identity.
///
/// # Errors
/// `Malformed` for a spelling that this route does not allow by name, `Unrouted` where no route names the
/// path, the method or the spelling of a parameter.
pub fn route(
    snapshot: &Snapshot,
    facts: &RequestFacts<'_>,
    trail: &mut Trail,
) -> Result<Arc<RouteMatch>, Refusal> {
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
    let needs = Leniencies { repeated_query: facts.query.repeated().is_some(), ..facts.path.lenient() };
    match needs.refused_by(allowed) {
        Some(fault) => Err(Refusal::Malformed(fault)),
        None => Ok(()),
    }
}

/// Refuses identity in the query, and values that are not what the route declares.
fn query(facts: &RequestFacts<'_>, route: &Route, trail: &mut Trail) -> Result<(), Refusal> {
    if let Some(name) = facts.query.identity_name(&route.identity_names()) {
        trail.detail(format!("query parameter `{name}` says who someone is"));
        return Err(Refusal::Malformed(Malformed::QUERY_IDENTITY));
    }
    if let Some(name) = route.misfit(facts.query) {
        trail.detail(format!("query parameter `{name}` is repeated, or not a value of its type"));
        return Err(Refusal::Malformed(Malformed::QUERY_BAD_VALUE));
    }
    Ok(())
}
