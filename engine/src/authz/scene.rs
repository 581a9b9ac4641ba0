//! What a request looks like to conditions and to the index: who, what and where, each with its entity, and the context.

use std::cell::Cell;
use std::sync::Arc;

use super::cedar_core::{
    self, Attributes, Context, Entities, Entity, EntityUID, EntityUIDEntry, Evaluator, Expr, Open, Request,
    SlotEnv, Value,
};
use super::context::Facts;

/// An entity that a request names, with what is known of it.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) uid: &'a Arc<EntityUID>,
    /// `None` where nobody has declared it: then it has no attributes, and is in itself alone.
    pub(super) entity: Option<&'a Entity>,
}

/// A part of the request that names an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    Principal,
    Action,
    Resource,
}

/// One request as policies see it. Nothing of it changes, so whatever is read of it may be kept while it lasts.
pub(super) struct Scene<'a> {
    principal: Subject<'a>,
    action: Subject<'a>,
    resource: Subject<'a>,
    surroundings: Surroundings<'a>,
    /// All other entities. `None`: there are no others.
    others: Option<&'a Entities>,
    /// What evaluation may still cost.
    steps: Cell<u64>,
}

/// The context.
pub(super) enum Surroundings<'a> {
    /// As whoever asks gives it.
    Given(Arc<Attributes>),
    /// As the gateway supplies it.
    Supplied(&'a Facts<'a>),
}

/// Steps that all conditions of one decision may take together. A step is an operator, a value that it looks at, or eight
/// characters that `like` compares: tens of nanoseconds, so that no request holds a worker longer than some milliseconds,
/// whatever the policies are and whatever it brings.
pub(super) const STEPS_MAX: u64 = 200_000;

/// The steps of a scene are spent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent;

impl<'a> Scene<'a> {
    /// A request whose policies can look at these three entities and no further.
    pub(super) fn alone([principal, action, resource]: [Subject<'a>; 3], facts: &'a Facts<'a>) -> Self {
        let (surroundings, steps) = (Surroundings::Supplied(facts), Cell::new(STEPS_MAX));
        Self { principal, action, resource, surroundings, others: None, steps }
    }

    /// A request in Cedar's own form.
    ///
    /// # Errors
    /// A part of the request is left open.
    pub(super) fn of(request: &'a Request, entities: &'a Entities) -> Result<Self, Open> {
        let subject = |part: &'a EntityUIDEntry| {
            let uid = cedar_core::uid(part).ok_or(Open)?;
            Ok(Subject { uid, entity: cedar_core::entity(entities, uid)? })
        };
        let subjects =
            [subject(request.principal())?, subject(request.action())?, subject(request.resource())?];
        Self::with(subjects, request.context().ok_or(Open)?, entities)
    }

    /// The same, of entities that are known already.
    ///
    /// # Errors
    /// The context is left open.
    pub(super) fn with(
        [principal, action, resource]: [Subject<'a>; 3],
        context: &Context,
        entities: &'a Entities,
    ) -> Result<Self, Open> {
        let surroundings = match context {
            Context::Value(attributes) => Surroundings::Given(Arc::clone(attributes)),
            Context::RestrictedResidual(_) => return Err(Open),
        };
        Ok(Self {
            principal,
            action,
            resource,
            surroundings,
            others: Some(entities),
            // Cedar has no such bound, and whoever asks in its terms expects its answer.
            steps: Cell::new(u64::MAX),
        })
    }

    pub(super) fn subject(&self, part: Part) -> &Subject<'a> {
        match part {
            Part::Principal => &self.principal,
            Part::Action => &self.action,
            Part::Resource => &self.resource,
        }
    }

    /// Takes steps.
    pub(super) fn spend(&self, steps: usize) -> Result<(), Spent> {
        let steps = u64::try_from(steps).unwrap_or(u64::MAX);
        let left = self.steps.get().checked_sub(steps).ok_or(Spent)?;
        self.steps.set(left);
        Ok(())
    }

    pub(super) fn surroundings(&self) -> &Surroundings<'a> {
        &self.surroundings
    }

    /// The context as a record of its own.
    pub(super) fn context(&self) -> &Arc<Attributes> {
        match &self.surroundings {
            Surroundings::Given(attributes) => attributes,
            Surroundings::Supplied(facts) => facts.whole(),
        }
    }

    /// The entity that an attribute names.
    pub(super) fn entity(&self, uid: &EntityUID) -> Result<Option<&'a Entity>, Open> {
        if let Some(others) = self.others {
            return cedar_core::entity(others, uid);
        }
        let subjects = [&self.principal, &self.action, &self.resource];
        Ok(subjects.into_iter().find(|subject| **subject.uid == *uid).and_then(|subject| subject.entity))
    }

    /// What Cedar's own evaluator makes of an expression; `None` where it fails.
    pub(super) fn ask_cedar(&self, expression: &Expr, slots: &SlotEnv) -> Option<Value> {
        let entry =
            |subject: &Subject<'_>| EntityUIDEntry::Known { euid: Arc::clone(subject.uid), loc: None };
        let [principal, action, resource] = [&self.principal, &self.action, &self.resource];
        let context = Context::Value(Arc::clone(self.context()));
        let request = Request::new_unchecked(entry(principal), entry(action), entry(resource), Some(context));
        let evaluate = |entities: &Entities| {
            Evaluator::new(request, entities, cedar_core::extensions()).interpret(expression, slots).ok()
        };
        match self.others {
            Some(entities) => evaluate(entities),
            None => {
                let known = [principal, action, resource].into_iter().filter_map(|subject| subject.entity);
                evaluate(&cedar_core::store(known)?)
            }
        }
    }
}
