//! Stage 2, route: the request finds the one route that names it, or is refused.

use std::sync::Arc;

use engine::facts::RequestFacts;
use engine::refusal::Refusal;
use engine::route::{RouteMatch, spelling};

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
        spelling::unrouted(facts.path, facts.query).map_err(Refusal::Malformed)?;
        return Err(Refusal::Unrouted);
    };
    trail.matched(&matched, bundle);
    matched.route.takes(facts.path, facts.query).map_err(|misspelt| {
        misspelt.detail.into_iter().for_each(|detail| trail.detail(detail));
        Refusal::Malformed(misspelt.fault)
    })?;
    Ok(Arc::new(matched))
}
