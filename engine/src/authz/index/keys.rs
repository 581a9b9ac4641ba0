//! The keys of one part of the scope.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::super::cedar_core::{EntityType, EntityUID};
use super::super::scene::Subject;

/// The number of a key.
pub(super) type Key = u32;

/// Keys of one part of the scope, as far as some policy has them.
///
/// Hashed without a secret: these tables grow with the policies alone, never with what requests hold.
#[derive(Debug, Default)]
pub(super) struct Keys {
    count: Key,
    /// That of no constraint, which every request has.
    any: Option<Key>,
    is: FxHashMap<EntityType, Key>,
    entities: FxHashMap<EntityUID, Named>,
}

/// Keys that name one entity, together, so that an ancestor of a request's entity is looked up once.
#[derive(Debug, Default)]
struct Named {
    equal: Option<Key>,
    within: Option<Key>,
    is_in: Vec<(EntityType, Key)>,
}

/// The keys that are true of an entity, ascending.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Held(pub(super) SmallVec<[Key; 16]>);

impl Keys {
    fn next(count: &mut Key) -> Key {
        *count += 1;
        *count
    }

    /// How many there are: none has a higher number.
    pub(super) const fn count(&self) -> Key {
        self.count
    }

    pub(super) fn any(&mut self) -> Key {
        *self.any.get_or_insert_with(|| Self::next(&mut self.count))
    }

    pub(super) fn is(&mut self, kind: &EntityType) -> Key {
        *self.is.entry(kind.clone()).or_insert_with(|| Self::next(&mut self.count))
    }

    pub(super) fn equal(&mut self, entity: &EntityUID) -> Key {
        let named = self.entities.entry(entity.clone()).or_default();
        *named.equal.get_or_insert_with(|| Self::next(&mut self.count))
    }

    pub(super) fn within(&mut self, entity: &EntityUID) -> Key {
        let named = self.entities.entry(entity.clone()).or_default();
        *named.within.get_or_insert_with(|| Self::next(&mut self.count))
    }

    pub(super) fn is_in(&mut self, kind: &EntityType, entity: &EntityUID) -> Key {
        let named = self.entities.entry(entity.clone()).or_default();
        if let Some((_, key)) = named.is_in.iter().find(|(known, _)| known == kind) {
            return *key;
        }
        let key = Self::next(&mut self.count);
        named.is_in.push((kind.clone(), key));
        key
    }

    /// The keys that are true of an entity.
    pub(super) fn of(&self, Subject { uid, entity }: Subject<'_>) -> Held {
        let kind = uid.entity_type();
        let mut keys: SmallVec<_> = self.any.into_iter().collect();
        keys.extend(self.is.get(kind).copied());
        let own = self.entities.get(&**uid);
        keys.extend(own.and_then(|named| named.equal));
        // An entity is in itself, also where nobody has declared it.
        let ancestors = entity.into_iter().flat_map(|entity| entity.ancestors());
        for named in own.into_iter().chain(ancestors.filter_map(|above| self.entities.get(above))) {
            keys.extend(named.within);
            let kinds = named.is_in.iter();
            keys.extend(kinds.filter(|(known, _)| known == kind).map(|(_, key)| *key));
        }
        keys.sort_unstable();
        Held(keys)
    }
}
