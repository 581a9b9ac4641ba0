//! Which policies can apply to a request, found without looking at the others.
//!
//! Cedar's own `Authorizer` evaluates every policy, so that a decision's cost grows with their number. This index finds
//! the *candidates* of a request by their scopes and evaluates those alone, with the same answer. Why it is the same:
//!
//! 1. A policy applies when `principal scope && action scope && resource scope && conditions` is true. Cedar evaluates
//!    from the left and stops at the first `false`. A scope compares entities by `==`, `in` and `is`, none of which can
//!    fail, whatever the entities are. So a policy whose scope is false yields `false` and no error: to leave it out
//!    changes neither the decision nor the reasons nor the errors.
//! 2. A candidate is found by three keys, one for each part of its scope, and a request has a key exactly where that
//!    part is true for it: `==` by the entity itself, `in` by the entity or one of its ancestors, `is` by its type,
//!    `is … in` by both, no constraint always. `==` and `in` are kept apart, or a policy for one group would apply to
//!    each of its members. So the scope of a candidate is true and is not evaluated again.
//! 3. Ancestors are those of the entities that the request is evaluated with: no two snapshots mix. An entity that is
//!    not among them has none, as in Cedar's evaluation of `in`.
//! 4. Actions and their groups are entities like others, and a list of them is true where one of its members is.
//! 5. The link of a template is indexed by its scope with the slots filled, and evaluated with its slots.
//! 6. All candidates are evaluated, of either effect: a permit may err although a forbid applies, and that counts.
//! 7. Positions follow the order of the ids, so that the answer comes sorted.
//!
//! The one thing that may differ is how deep a condition may nest before Cedar gives up: the scope around it costs a few
//! levels there. Nothing here rests on types, so policies need not be valid by any schema.

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy::{
    ActionConstraint, Effect, Entities, EntityTypeName, EntityUid, Policy, PolicySet, PrincipalConstraint,
    Request, ResourceConstraint,
};

use super::cedar_core::{Applies, Condition, Evaluation};
use super::{REQUEST_FAULT, Verdict};

/// The place of a policy in the order of ids.
type Position = usize;
/// The number of a key.
type Key = usize;

/// A set of policies that answers as Cedar's `Authorizer` does, at a cost that does not grow with the number of policies.
///
/// Takes every set that Cedar accepts, validated or not. The rule of the gateway, that an error refuses, comes on top: see
/// [`Verdict::erring`].
#[derive(Debug)]
pub struct PolicyIndex {
    policies: Vec<Indexed>,
    principals: Keys,
    actions: Keys,
    resources: Keys,
    /// What stands under a principal's and a resource's key: keys of actions with their policies, sorted.
    cells: HashMap<(Key, Key), Vec<(Key, Position)>>,
}

#[derive(Debug)]
struct Indexed {
    id: Arc<str>,
    permits: bool,
    condition: Condition,
}

/// Keys of one part of the scope, as far as some policy has them. The key of no constraint is 0.
#[derive(Debug, Default)]
struct Keys {
    count: Key,
    is: HashMap<EntityTypeName, Key>,
    equal: HashMap<EntityUid, Key>,
    within: HashMap<EntityUid, Key>,
    is_in: HashMap<EntityUid, Vec<(EntityTypeName, Key)>>,
}

impl PolicyIndex {
    /// The index of these policies, links of templates included.
    #[must_use]
    pub fn new(policies: &PolicySet) -> Self {
        let mut sorted: Vec<&Policy> = policies.policies().collect();
        sorted.sort_unstable_by(|one, other| one.id().cmp(other.id()));
        let mut index = Self {
            policies: Vec::with_capacity(sorted.len()),
            principals: Keys::default(),
            actions: Keys::default(),
            resources: Keys::default(),
            cells: HashMap::new(),
        };
        for policy in sorted {
            index.add(policy);
        }
        for cell in index.cells.values_mut() {
            cell.sort_unstable();
            cell.shrink_to_fit();
        }
        index
    }

    fn add(&mut self, policy: &Policy) {
        let position = self.policies.len();
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any => Keys::ANY,
            PrincipalConstraint::Is(kind) => self.principals.is(kind),
            PrincipalConstraint::Eq(entity) => self.principals.equal(entity),
            PrincipalConstraint::In(entity) => self.principals.within(entity),
            PrincipalConstraint::IsIn(kind, entity) => self.principals.is_in(kind, entity),
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Any => Keys::ANY,
            ResourceConstraint::Is(kind) => self.resources.is(kind),
            ResourceConstraint::Eq(entity) => self.resources.equal(entity),
            ResourceConstraint::In(entity) => self.resources.within(entity),
            ResourceConstraint::IsIn(kind, entity) => self.resources.is_in(kind, entity),
        };
        let actions = match policy.action_constraint() {
            ActionConstraint::Any => vec![Keys::ANY],
            ActionConstraint::Eq(action) => vec![self.actions.equal(action)],
            ActionConstraint::In(actions) => {
                actions.into_iter().map(|action| self.actions.within(action)).collect()
            }
        };
        let cell = self.cells.entry((principal, resource)).or_default();
        cell.extend(actions.into_iter().map(|action| (action, position)));
        self.policies.push(Indexed {
            id: Arc::from(AsRef::<str>::as_ref(policy.id())),
            permits: policy.effect() == Effect::Permit,
            condition: Condition::of(policy),
        });
    }

    /// Positions of all policies whose scope is true for the request, ascending, each once. `None` where a part of the
    /// request is left unknown: nothing can be said of that.
    fn candidates(&self, request: &Request, entities: &Entities) -> Option<Vec<Position>> {
        let principals = self.principals.of(request.principal()?, entities);
        let resources = self.resources.of(request.resource()?, entities);
        let actions = self.actions.of(request.action()?, entities);
        let mut found = Vec::new();
        for principal in &principals {
            for resource in &resources {
                let Some(cell) = self.cells.get(&(*principal, *resource)) else { continue };
                for action in &actions {
                    let from = cell.partition_point(|(key, _)| key < action);
                    let here = cell.iter().skip(from).take_while(|(key, _)| key == action);
                    found.extend(here.map(|(_, position)| *position));
                }
            }
        }
        // A policy that lists several actions is found once for each that the request's action is in.
        found.sort_unstable();
        found.dedup();
        Some(found)
    }

    /// What the policies say of a request.
    #[must_use]
    pub fn evaluate(&self, request: &Request, entities: &Entities) -> Verdict {
        let Some(candidates) = self.candidates(request, entities) else {
            return Verdict {
                permits: false,
                determining: Vec::new(),
                erring: vec![Arc::from(REQUEST_FAULT)],
            };
        };
        let evaluation = Evaluation::of(request, entities);
        let (mut permitting, mut forbidding, mut erring) = (Vec::new(), Vec::new(), Vec::new());
        for policy in candidates.into_iter().filter_map(|position| self.policies.get(position)) {
            let heap = match evaluation.applies(&policy.condition) {
                Applies::No => continue,
                Applies::Yes if policy.permits => &mut permitting,
                Applies::Yes => &mut forbidding,
                Applies::Fails => &mut erring,
            };
            heap.push(Arc::clone(&policy.id));
        }
        let permits = forbidding.is_empty() && !permitting.is_empty();
        Verdict { permits, determining: if permits { permitting } else { forbidding }, erring }
    }
}

impl Keys {
    const ANY: Key = 0;

    fn next(count: &mut Key) -> Key {
        *count += 1;
        *count
    }

    fn is(&mut self, kind: EntityTypeName) -> Key {
        *self.is.entry(kind).or_insert_with(|| Self::next(&mut self.count))
    }

    fn equal(&mut self, entity: EntityUid) -> Key {
        *self.equal.entry(entity).or_insert_with(|| Self::next(&mut self.count))
    }

    fn within(&mut self, entity: EntityUid) -> Key {
        *self.within.entry(entity).or_insert_with(|| Self::next(&mut self.count))
    }

    fn is_in(&mut self, kind: EntityTypeName, entity: EntityUid) -> Key {
        let kinds = self.is_in.entry(entity).or_default();
        if let Some((_, key)) = kinds.iter().find(|(known, _)| *known == kind) {
            return *key;
        }
        let key = Self::next(&mut self.count);
        kinds.push((kind, key));
        key
    }

    /// The keys that are true of an entity.
    fn of(&self, entity: &EntityUid, entities: &Entities) -> Vec<Key> {
        let mut keys = vec![Self::ANY];
        keys.extend(self.is.get(entity.type_name()));
        keys.extend(self.equal.get(entity));
        if self.within.is_empty() && self.is_in.is_empty() {
            return keys;
        }
        // An entity is in itself, also where nobody has declared it.
        let ancestors = entities.ancestors(entity).into_iter().flatten();
        for above in std::iter::once(entity).chain(ancestors) {
            keys.extend(self.within.get(above));
            let kinds = self.is_in.get(above).into_iter().flatten();
            keys.extend(kinds.filter(|(kind, _)| kind == entity.type_name()).map(|(_, key)| key));
        }
        keys
    }
}
