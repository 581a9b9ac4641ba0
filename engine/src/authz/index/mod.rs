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
//! 6. Where many policies share one scope, those are left out whose condition is sure to be `false` without failing:
//!    `atoms` says when it is. For the others it changes nothing, for the reason in 1.
//! 7. A pair of principal and resource may hold policies without their actions beside it, where its set of actions has a
//!    bit for each key: then it meets a request's set exactly where a key is in both.
//! 8. All candidates are evaluated, of either effect: a permit may err although a forbid applies, and that counts.
//! 9. Positions follow the order of the ids, so that the answer comes sorted.
//!
//! The one thing that may differ is how deep a condition may nest before Cedar gives up: the scope around it costs a few
//! levels there. Nothing here rests on types, so policies need not be valid by any schema.

mod atoms;
mod bucket;
mod checks;
#[cfg(test)]
mod demand_tests;
mod keys;
mod pairs;
mod ready;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use cedar_policy::{
    ActionConstraint, Effect, Entities, Policy, PolicySet, PrincipalConstraint, Request, ResourceConstraint,
};
use smallvec::SmallVec;

use super::condition::{Applies, Condition};
use super::scene::{Part, Scene};
use super::{PolicyIds, REQUEST_FAULT, Verdict};
use checks::{Looks, Paths};
pub(super) use keys::Held;
use keys::{Key, Keys};
pub use ready::{Ready, ReadyRequest};
use table::{Places, Table};

/// The place of a policy in the order of ids.
pub(super) type Position = u32;

/// Those of policies that say the same of a request, ascending. Few requests have more of these than stand in place.
pub(super) type Positions = SmallVec<[Position; 8]>;

/// A policy's position, beside what tells how it counts: few candidates have to be read for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Placed(u32);

/// Candidates. Few requests have more than these in place.
type Found = SmallVec<[Placed; 64]>;

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
    table: Table,
    paths: Paths,
    /// More policies than there are places: then nothing is said.
    overfull: bool,
}

#[derive(Debug)]
struct Indexed {
    id: Arc<str>,
    condition: Condition,
}

impl Placed {
    const PERMITS: u32 = 1;
    const CONDITIONAL: u32 = 2;
    const BITS: u32 = 2;

    /// `None` past a thousand million policies.
    fn new(position: Position, permits: bool, conditional: bool) -> Option<Self> {
        let bits = u32::from(permits) * Self::PERMITS + u32::from(conditional) * Self::CONDITIONAL;
        Some(Self(position.checked_mul(1 << Self::BITS)? | bits))
    }

    fn position(self) -> Position {
        self.0 >> Self::BITS
    }

    fn permits(self) -> bool {
        self.0 & Self::PERMITS != 0
    }

    fn is_conditional(self) -> bool {
        self.0 & Self::CONDITIONAL != 0
    }
}

/// Keys of a principal, an action and a resource.
pub(super) type HeldKeys<'a> = [&'a Held; 3];

/// What the policies say, by position, ascending.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) permits: bool,
    pub(super) determining: Positions,
    pub(super) erring: Positions,
    /// There were more policies, and no steps left for them.
    pub(super) spent: bool,
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
            table: Table::default(),
            paths: Paths::default(),
            overfull: false,
        };
        let mut places = Places::new();
        for (position, policy) in (0..).zip(sorted) {
            let condition = Condition::of(policy.as_ref());
            let permits = policy.effect() == Effect::Permit;
            let Some(placed) = Placed::new(position, permits, !condition.is_absent()) else {
                index.overfull = true;
                break;
            };
            let (cell, actions) = index.scope(policy);
            let places = places.entry(cell).or_default();
            places.extend(actions.into_iter().map(|action| (action, placed)));
            let id = Arc::from(AsRef::<str>::as_ref(policy.id()));
            index.policies.push(Indexed { id, condition });
        }
        let mut paths = Paths::default();
        let condition = |placed: Placed| index.indexed(placed.position())?.condition.compiled();
        index.table = Table::of(places, index.actions.count(), condition, &mut paths);
        index.overfull |= index.table.is_overfull();
        index.paths = paths;
        index
    }

    /// The keys of a policy's scope: those of resource and principal, and those of its actions.
    fn scope(&mut self, policy: &Policy) -> ((Key, Key), Vec<Key>) {
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any => self.principals.any(),
            PrincipalConstraint::Is(kind) => self.principals.is(kind.as_ref()),
            PrincipalConstraint::Eq(entity) => self.principals.equal(entity.as_ref()),
            PrincipalConstraint::In(entity) => self.principals.within(entity.as_ref()),
            PrincipalConstraint::IsIn(kind, entity) => self.principals.is_in(kind.as_ref(), entity.as_ref()),
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Any => self.resources.any(),
            ResourceConstraint::Is(kind) => self.resources.is(kind.as_ref()),
            ResourceConstraint::Eq(entity) => self.resources.equal(entity.as_ref()),
            ResourceConstraint::In(entity) => self.resources.within(entity.as_ref()),
            ResourceConstraint::IsIn(kind, entity) => self.resources.is_in(kind.as_ref(), entity.as_ref()),
        };
        let actions = match policy.action_constraint() {
            ActionConstraint::Any => vec![self.actions.any()],
            ActionConstraint::Eq(action) => vec![self.actions.equal(action.as_ref())],
            ActionConstraint::In(actions) => {
                actions.iter().map(|action| self.actions.within(action.as_ref())).collect()
            }
        };
        ((resource, principal), actions)
    }

    fn indexed(&self, position: Position) -> Option<&Indexed> {
        self.policies.get(usize::try_from(position).ok()?)
    }

    /// The ids of all policies, by position.
    pub(super) fn ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.policies.iter().map(|policy| &policy.id)
    }

    pub(super) fn id(&self, position: Position) -> Option<&Arc<str>> {
        self.indexed(position).map(|policy| &policy.id)
    }

    /// Ids of the policies whose conditions nest so deeply that Cedar has to evaluate them.
    pub(crate) fn foreign(&self) -> impl Iterator<Item = &Arc<str>> {
        self.policies.iter().filter(|policy| policy.condition.is_foreign()).map(|policy| &policy.id)
    }

    /// The keys that one part of a scene has in the scopes of these policies.
    pub(super) fn keys(&self, part: Part, subject: super::scene::Subject<'_>) -> Held {
        match part {
            Part::Principal => self.principals.of(subject),
            Part::Action => self.actions.of(subject),
            Part::Resource => self.resources.of(subject),
        }
    }

    /// All policies that can apply to the request, ascending, each once.
    fn candidates(&self, keys: HeldKeys<'_>, scene: &Scene<'_>) -> Found {
        let (mut found, mut looks) = (Found::new(), Looks::new(&self.paths, scene));
        self.table.candidates(keys, scene, &mut looks, &mut found);
        // A policy that lists several actions may be found once for each that the request's action is in.
        found.sort_unstable();
        found.dedup();
        found
    }

    /// What the policies say of a scene whose parts have these keys.
    pub(super) fn say(&self, keys: HeldKeys<'_>, scene: &Scene<'_>) -> Said {
        let (mut permitting, mut forbidding) = (SmallVec::new(), SmallVec::new());
        let (mut erring, mut spent) = (SmallVec::new(), self.overfull);
        for placed in self.candidates(keys, scene) {
            if spent || scene.spend(1).is_err() {
                spent = true;
                break;
            }
            let position = placed.position();
            match self.applies(placed, scene) {
                Applies::No => {}
                Applies::Yes if placed.permits() => permitting.push(position),
                Applies::Yes => forbidding.push(position),
                Applies::Fails => erring.push(position),
                Applies::Spent => spent = true,
            }
        }
        let permits = forbidding.is_empty() && !permitting.is_empty();
        Said { permits, determining: if permits { permitting } else { forbidding }, erring, spent }
    }

    /// Whether a policy applies whose scope is true. One without a condition does, and is not read for that.
    fn applies(&self, placed: Placed, scene: &Scene<'_>) -> Applies {
        if !placed.is_conditional() {
            return Applies::Yes;
        }
        self.indexed(placed.position()).map_or(Applies::Fails, |policy| policy.condition.applies(scene))
    }

    /// What the policies say of a request.
    #[must_use]
    pub fn evaluate(&self, request: &Request, entities: &Entities) -> Verdict<'_> {
        let Ok(scene) = Scene::of(request.as_ref(), entities.as_ref()) else {
            // Nothing can be said where a part of the request is left open.
            return unsaid();
        };
        let keys =
            [Part::Principal, Part::Action, Part::Resource].map(|part| self.keys(part, *scene.subject(part)));
        self.answer(keys.each_ref(), &scene)
    }

    fn answer(&self, keys: HeldKeys<'_>, scene: &Scene<'_>) -> Verdict<'_> {
        let said = self.say(keys, scene);
        if said.spent {
            return unsaid();
        }
        let Said { permits, determining, erring, .. } = said;
        Verdict {
            permits,
            determining: PolicyIds::placed(self, determining),
            erring: PolicyIds::placed(self, erring),
        }
    }
}

/// Where nothing can be said.
fn unsaid() -> Verdict<'static> {
    let fault = std::iter::once(Arc::from(REQUEST_FAULT));
    Verdict { permits: false, determining: PolicyIds::default(), erring: fault.collect() }
}
