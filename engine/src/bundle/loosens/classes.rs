//! Which requests grants may count in another class of limits than before, as far as it can be seen without proof.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cedar_policy::{ActionConstraint, Effect, Entity, EntityUid, Policy};

use super::super::{Bundle, PolicyFacts};

/// A grant has requests counted in another class than before, or does so no longer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recounted {
    /// Its `@id`.
    pub grant: Arc<str>,
    /// The class that they were counted in.
    pub before: Arc<str>,
    /// The class that they are counted in now.
    pub after: Arc<str>,
}

impl Bundle {
    /// What may be counted in another class than `previous` counted it in, because of a grant that gives a class: one that is
    /// new, gone or says something else, or that is about other actions, roles or groups than it was. Whether the other
    /// class lets more through is for whoever knows which limits are in force.
    ///
    /// A request that nothing permitted before is not counted in another class, and of what is told here policy may permit
    /// nothing after all: only scopes of actions are looked at.
    #[must_use]
    pub fn recounted(&self, previous: &Self) -> BTreeSet<Recounted> {
        let mut found = BTreeSet::new();
        if self.classes.is_empty() && previous.classes.is_empty() {
            return found;
        }
        let (counted, counts) = (Grants::of(previous), Grants::of(self));
        let moved = Moved::between(previous, self);
        let stays = |id: &str| match (previous.facts.get(id), self.facts.get(id)) {
            (Some(before), Some(after)) => before.text == after.text && !moved.concerns(self, id),
            (Some(_) | None, None) | (None, Some(_)) => false,
        };
        for [(action_before, class_before), (action_after, class_after)] in self.paths(previous) {
            let before = counted.on(previous, &action_before);
            let after = counts.on(self, &action_after);
            let mut other = |grant: &Arc<str>, before: &Arc<str>, after: &Arc<str>| {
                if before != after {
                    let (grant, before, after) = (Arc::clone(grant), Arc::clone(before), Arc::clone(after));
                    found.insert(Recounted { grant, before, after });
                }
            };
            // What a grant without a class permitted was counted in the route's.
            for (id, class) in after.given.iter().filter(|_| before.in_the_routes) {
                if !(before.given.contains_key(id) && stays(id)) {
                    other(id, &class_before, class);
                }
            }
            for (id, class) in &before.given {
                if after.given.contains_key(id) && stays(id) {
                    continue;
                }
                for next in after.given.values() {
                    other(id, class, next);
                }
                if after.in_the_routes {
                    other(id, class, &class_after);
                }
            }
        }
        found
    }

    /// The action and the class of each path that has a row in both bundles, before and now; each combination once.
    fn paths(&self, previous: &Self) -> BTreeSet<[(Arc<str>, Arc<str>); 2]> {
        let rows = previous.routes.routes().iter().chain(self.routes.routes());
        let both = rows.filter_map(|row| {
            let path = row.example_path();
            let [before, after] = [previous, self].map(|bundle| bundle.routes.find_text(&row.method, &path));
            let of = |found: crate::route::RouteMatch| {
                (Arc::clone(&found.route.action), Arc::clone(&found.route.class))
            };
            Some([of(before?), of(after?)])
        });
        both.collect()
    }
}

/// The grants of a bundle by what their scopes say of actions.
pub(in crate::bundle) struct Grants<'b> {
    of_any: Vec<&'b PolicyFacts>,
    naming: BTreeMap<EntityUid, Vec<&'b PolicyFacts>>,
}

/// How grants that may permit an action count it.
pub(in crate::bundle) struct On<'b> {
    /// By those that give a class: their ids, and the class.
    pub(in crate::bundle) given: BTreeMap<&'b Arc<str>, &'b Arc<str>>,
    /// Whether some give none, so that the route's counts.
    pub(in crate::bundle) in_the_routes: bool,
}

impl<'b> Grants<'b> {
    pub(in crate::bundle) fn of(bundle: &'b Bundle) -> Self {
        let mut grants = Self { of_any: Vec::new(), naming: BTreeMap::new() };
        for policy in bundle.policies.policies().filter(|policy| policy.effect() == Effect::Permit) {
            let Some(facts) = bundle.policy(policy.id().as_ref()) else { continue };
            match policy.action_constraint() {
                ActionConstraint::Any => grants.of_any.push(facts),
                ActionConstraint::Eq(action) => grants.naming.entry(action).or_default().push(facts),
                ActionConstraint::In(actions) => {
                    for action in actions {
                        grants.naming.entry(action).or_default().push(facts);
                    }
                }
            }
        }
        grants
    }

    pub(in crate::bundle) fn on(&self, bundle: &Bundle, action: &str) -> On<'b> {
        let action = bundle.vocabulary.actions.get(action);
        let reach = action.into_iter().flat_map(|action| action.ancestors.iter().chain([&action.uid]));
        let naming = reach.filter_map(|uid| self.naming.get(uid)).flatten();
        let mut on = On { given: BTreeMap::new(), in_the_routes: false };
        for facts in self.of_any.iter().chain(naming) {
            match &facts.limit_class {
                Some(class) => drop(on.given.insert(&facts.id, class)),
                None => on.in_the_routes = true,
            }
        }
        on
    }
}

/// What a policy that says the same may yet be about.
struct Moved {
    /// What some role, group, module or action has joined or left.
    joined_or_left: BTreeSet<EntityUid>,
    /// Whether something has other attributes, which conditions may look at.
    attributes: bool,
}

impl Moved {
    fn between(previous: &Bundle, bundle: &Bundle) -> Self {
        let mut moved = Self { joined_or_left: BTreeSet::new(), attributes: false };
        let declared = [previous, bundle].into_iter().flat_map(|of| of.hierarchy.all());
        for uid in declared.map(|entity| entity.uid()).collect::<BTreeSet<_>>() {
            let ancestors = |of: &Bundle| -> BTreeSet<EntityUid> {
                of.hierarchy.ancestors(&uid).into_iter().flatten().cloned().collect()
            };
            let (before, after) = (ancestors(previous), ancestors(bundle));
            moved.joined_or_left.extend(before.symmetric_difference(&after).cloned());
            // What only one of them has, nothing that both decide looks at.
            if let [Some(before), Some(after)] = [previous, bundle].map(|of| of.hierarchy.entity(&uid)) {
                moved.attributes |= attributes(before) != attributes(after);
            }
        }
        let (before, after) = (&previous.vocabulary.actions, &bundle.vocabulary.actions);
        for name in before.keys().chain(after.keys()) {
            let groups = |action: Option<&super::super::Action>| -> BTreeSet<EntityUid> {
                action.into_iter().flat_map(|action| action.ancestors.iter().cloned()).collect()
            };
            let (before, after) = (groups(before.get(name)), groups(after.get(name)));
            moved.joined_or_left.extend(before.symmetric_difference(&after).cloned());
        }
        moved
    }

    fn concerns(&self, bundle: &Bundle, id: &str) -> bool {
        let policy = bundle.policies.policy(&cedar_policy::PolicyId::new(id));
        let names = |policy: &Policy| {
            policy.entity_literals().iter().any(|named| self.joined_or_left.contains(named))
        };
        self.attributes || policy.is_none_or(names)
    }
}

fn attributes(entity: &Entity) -> Option<serde_json::Value> {
    entity.to_json_value().ok()?.get("attrs").cloned()
}
