//! Entities that many requests name, made ready for an index once.
//!
//! What an entity's ancestors are to the policies is the same at every request, and finding it out takes longer than
//! most decisions do. What was found out belongs to one index and to one part of a request: where it is used for another,
//! it is found out again, so that a mistake costs time and decides nothing.

use std::sync::Arc;

use cedar_policy::{Context, Entities, EntityUid, Request};

use super::super::cedar_core::{self, Entity, EntityUID};
use super::super::scene::{Part, Scene, Subject};
use super::{Held, PolicyIndex, Verdict, unsaid};

/// An entity with its attributes and ancestors as a store had them, ready for one index.
///
/// It does not follow the store: make it anew after a change of the entity or of what is above it.
#[derive(Clone, Debug)]
pub struct Ready<'i> {
    index: &'i PolicyIndex,
    part: Part,
    uid: Arc<EntityUID>,
    entity: Option<Entity>,
    keys: Held,
}

/// A request whose entities are ready.
#[derive(Clone, Copy, Debug)]
pub struct ReadyRequest<'r> {
    /// Who asks.
    pub principal: &'r Ready<'r>,
    /// What is asked.
    pub action: &'r Ready<'r>,
    /// Of what it is asked.
    pub resource: &'r Ready<'r>,
    /// The circumstances.
    pub context: &'r Context,
    /// Where other entities are that attributes name.
    pub entities: &'r Entities,
}

impl PolicyIndex {
    /// An entity that asks. One that the store does not have is nothing but its name. `None` where the store leaves open whether
    /// it has it.
    #[must_use]
    pub fn principal(&self, uid: &EntityUid, entities: &Entities) -> Option<Ready<'_>> {
        self.ready(Part::Principal, uid, entities)
    }

    /// An action; as [`Self::principal`].
    #[must_use]
    pub fn action(&self, uid: &EntityUid, entities: &Entities) -> Option<Ready<'_>> {
        self.ready(Part::Action, uid, entities)
    }

    /// An entity of which something is asked; as [`Self::principal`].
    #[must_use]
    pub fn resource(&self, uid: &EntityUid, entities: &Entities) -> Option<Ready<'_>> {
        self.ready(Part::Resource, uid, entities)
    }

    /// The principal, the action and the resource of a request. `None` where one of them is left open.
    #[must_use]
    pub fn parts(&self, request: &Request, entities: &Entities) -> Option<[Ready<'_>; 3]> {
        Some([
            self.principal(request.principal()?, entities)?,
            self.action(request.action()?, entities)?,
            self.resource(request.resource()?, entities)?,
        ])
    }

    fn ready(&self, part: Part, uid: &EntityUid, entities: &Entities) -> Option<Ready<'_>> {
        let uid: Arc<EntityUID> = Arc::new(AsRef::<EntityUID>::as_ref(uid).clone());
        let entity = cedar_core::entity(entities.as_ref(), &uid).ok()?.cloned();
        let keys = self.keys(part, Subject { uid: &uid, entity: entity.as_ref() });
        Some(Ready { index: self, part, uid, entity, keys })
    }

    /// What [`Self::evaluate`] says of the same request, without finding out again what its entities are to the policies.
    #[must_use]
    pub fn evaluate_ready(&self, request: ReadyRequest<'_>) -> Verdict<'_> {
        let ReadyRequest { principal, action, resource, context, entities } = request;
        let all = [(Part::Principal, principal), (Part::Action, action), (Part::Resource, resource)];
        let is_ours =
            |(part, ready): &(Part, &Ready<'_>)| ready.part == *part && std::ptr::eq(ready.index, self);
        let Ok(scene) =
            Scene::with(all.map(|(_, ready)| ready.subject()), context.as_ref(), entities.as_ref())
        else {
            return unsaid();
        };
        if all.iter().all(is_ours) {
            return self.answer(all.map(|(_, ready)| &ready.keys), &scene);
        }
        let keys = all.map(|(part, ready)| self.keys(part, ready.subject()));
        self.answer(keys.each_ref(), &scene)
    }
}

impl Ready<'_> {
    fn subject(&self) -> Subject<'_> {
        Subject { uid: &self.uid, entity: self.entity.as_ref() }
    }
}
