//! Entities and requests, written down shortly.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::{Context, Entities, Entity, EntityUid, Request, RestrictedExpression};

use super::super::cedar::{Asked, uid};
use super::super::random::Random;
use crate::Failure;

/// Entities while a world is drawn, and the requests for them.
#[derive(Default)]
pub(in super::super) struct Store {
    entities: Vec<Entity>,
    requests: Vec<Request>,
}

impl Store {
    /// Adds an entity.
    pub(in super::super) fn add(
        &mut self,
        own: EntityUid,
        attributes: &[(&str, RestrictedExpression)],
        parents: impl IntoIterator<Item = EntityUid>,
    ) -> Result<(), Failure> {
        let attributes: HashMap<String, RestrictedExpression> =
            attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        self.entities.push(Entity::new(own, attributes, parents.into_iter().collect::<HashSet<_>>())?);
        Ok(())
    }

    /// Adds a request.
    pub(in super::super) fn ask(
        &mut self,
        principal: EntityUid,
        action: &str,
        resource: EntityUid,
        context: Vec<(String, RestrictedExpression)>,
    ) -> Result<(), Failure> {
        let context = Context::from_pairs(context)?;
        self.requests.push(Request::new(principal, uid("Action", action)?, resource, context, None)?);
        Ok(())
    }

    /// The requests, all with the same entities.
    pub(in super::super) fn asked(self) -> Result<Vec<Asked>, Failure> {
        let entities = Arc::new(Entities::from_entities(self.entities, None)?);
        let with = |request| Asked { request, entities: Arc::clone(&entities) };
        Ok(self.requests.into_iter().map(with).collect())
    }
}

/// The numbered entity of a kind: `User::"7"`.
pub(in super::super) fn numbered(kind: &str, number: usize) -> Result<EntityUid, Failure> {
    uid(kind, &number.to_string())
}

/// One of so many of a kind.
pub(in super::super) fn any(random: &mut Random, kind: &str, of: usize) -> Result<EntityUid, Failure> {
    numbered(kind, random.below(of))
}

/// So many of a kind, some of them perhaps the same.
pub(in super::super) fn several(
    random: &mut Random,
    kind: &str,
    of: usize,
    count: usize,
) -> Result<Vec<EntityUid>, Failure> {
    (0..count).map(|_| any(random, kind, of)).collect()
}

/// An attribute that is an entity.
pub(in super::super) fn entity(it: EntityUid) -> RestrictedExpression {
    RestrictedExpression::new_entity_uid(it)
}
