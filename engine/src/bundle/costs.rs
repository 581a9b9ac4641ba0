//! What rows cost, held against the limits that the bundle brings along.

use std::collections::BTreeSet;

use super::loosens::Grants;
use super::{Bundle, BundleFault};
use crate::limit::PER_USER;
use crate::route::{COST_DEFAULT, Declared, Route};

impl Bundle {
    /// The rows of which a request costs more than 1, each with the names of the limits that may count what it costs: of the
    /// principal, and of classes that the row or a grant names.
    #[must_use]
    pub fn dear(&self) -> Vec<(&Route, BTreeSet<&str>)> {
        let mut dear = self.routes().routes().iter().filter(|route| route.cost > COST_DEFAULT).peekable();
        if dear.peek().is_none() {
            return Vec::new();
        }
        let grants = Grants::of(self);
        dear.map(|route| (&**route, counted(self, &grants, route))).collect()
    }
}

/// A request that costs more than the whole of a limit never passes it, however long somebody waits. Limits that are only
/// tried out refuse nobody.
pub(super) fn check(bundle: &Bundle, declared: &[Declared], faults: &mut Vec<BundleFault>) {
    let mut dear = declared.iter().filter(|row| row.route.cost > COST_DEFAULT).peekable();
    if dear.peek().is_none() {
        return;
    }
    let grants = Grants::of(bundle);
    for Declared { route, file, line, .. } in dear {
        let counted = counted(bundle, &grants, route);
        let limits = bundle.limits().named().filter(|(name, _)| counted.contains(*name));
        for (name, limit) in limits.filter(|(_, limit)| limit.refuses() && limit.rate.count < route.cost) {
            let cost = route.cost;
            let message =
                format!("a request costs {cost} and limit `{name}` is {limit}: none could ever pass");
            let remedy = "lower `cost`, or raise the limit in limits.toml to at least as much";
            faults.push(BundleFault::new(file, Some(*line), message, remedy));
        }
    }
}

/// The limits that a request of this row may be counted by and that count what it costs.
fn counted<'b>(bundle: &'b Bundle, grants: &Grants<'b>, route: &'b Route) -> BTreeSet<&'b str> {
    let accept = route.accept;
    let on = grants.on(bundle, &route.action);
    let mut counted: BTreeSet<&str> = on.given.values().map(|class| &***class).collect();
    // An address is counted in the route's class before anybody knows which grant decides.
    if accept.anonymous || on.in_the_routes {
        counted.insert(&route.class);
    }
    if accept.session || accept.api_key || accept.access_token {
        counted.insert(PER_USER);
    }
    counted
}
