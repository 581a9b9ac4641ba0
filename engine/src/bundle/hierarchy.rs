//! Roles, groups and modules, as the entity files declare them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use cedar_policy::{Entities, Entity, EntityId, EntityTypeName, EntityUid, Schema};
use serde_json::Value;

use super::BundleFault;
use super::place::Place;
use super::vocabulary::Vocabulary;

/// Entities in one bundle, at most: far above what roles, groups and modules need; people are not entities here.
const ENTITIES_MAX: usize = 10_000;

/// What the entity files declare.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    entities: Entities,
}

impl Hierarchy {
    pub(super) fn empty() -> Self {
        Self { entities: Entities::empty() }
    }

    /// Reads all entity files as one hierarchy.
    pub(super) fn read<'a>(
        files: impl Iterator<Item = (&'a str, &'a str)>,
        schema: &Schema,
        faults: &mut Vec<BundleFault>,
    ) -> Self {
        let mut read = Reading { schema, found: BTreeMap::new(), faults };
        let mut last = "entities/";
        for (file, text) in files {
            last = file;
            read.file(&Place::new(file, text));
        }
        read.parents();
        let Reading { found, faults, .. } = read;
        if found.len() > ENTITIES_MAX {
            let message = format!("{} entities, at most {ENTITIES_MAX}", found.len());
            faults.push(BundleFault::new(
                last,
                None,
                message,
                "people and services belong to the stores, not here",
            ));
        }
        let entities = found.into_values().map(|declared| declared.entity);
        match Entities::from_entities(entities, Some(schema)) {
            Ok(entities) => Self { entities },
            Err(error) => {
                faults.push(BundleFault::new(
                    last,
                    None,
                    error.to_string(),
                    "correct the entity, or the schema",
                ));
                Self::empty()
            }
        }
    }

    /// Whether a policy may name this entity: it is declared, it is an action (the validator judges those), or
    /// it is a principal, which the stores know.
    pub(super) fn knows(&self, uid: &EntityUid) -> bool {
        let declared_elsewhere = ["User", "Service", "Operator", "Anonymous", "Action"];
        declared_elsewhere.contains(&uid.type_name().basename()) || self.entities.get(uid).is_some()
    }

    /// The entity, if it is declared.
    pub(crate) fn entity(&self, uid: &EntityUid) -> Option<&Entity> {
        self.entities.get(uid)
    }

    /// All ancestors of a declared entity; `None` if it is not declared.
    pub(crate) fn ancestors(&self, uid: &EntityUid) -> Option<impl Iterator<Item = &EntityUid> + use<'_>> {
        self.entities.ancestors(uid)
    }

    /// All declared entities.
    pub(crate) fn all(&self) -> impl Iterator<Item = Entity> {
        self.entities.iter().filter(|entity| entity.uid().type_name().basename() != "Action").cloned()
    }

    /// Ids of all declared entities of a type, sorted.
    pub(crate) fn ids(&self, type_name: &EntityTypeName) -> BTreeSet<String> {
        let of_type = self.entities.iter().map(Entity::uid);
        let of_type = of_type.filter(|uid| uid.type_name() == type_name);
        of_type.map(|uid| uid.id().unescaped().to_owned()).collect()
    }
}

struct Declared {
    entity: Entity,
    parents: HashSet<EntityUid>,
    file: String,
    line: Option<usize>,
}

struct Reading<'a> {
    schema: &'a Schema,
    found: BTreeMap<EntityUid, Declared>,
    faults: &'a mut Vec<BundleFault>,
}

impl Reading<'_> {
    fn file(&mut self, place: &Place<'_>) {
        let values = match serde_json::from_str::<Value>(place.text()) {
            Ok(Value::Array(values)) => values,
            Ok(_) => {
                self.faults.push(place.fault(
                    None,
                    "not a JSON array",
                    "write a list of Cedar entities: `[{ \"uid\": …, \"attrs\": {}, \"parents\": [] }]`",
                ));
                return;
            }
            Err(error) => {
                let fault =
                    BundleFault::new(place.file(), Some(error.line()), error.to_string(), "correct the JSON");
                self.faults.push(fault);
                return;
            }
        };
        // Each entity has one key `uid`, so that the nth of them tells the nth entity's line.
        let mut lines = place.lines_of("\"uid\"");
        for value in values {
            self.entity(place, lines.next(), value);
        }
    }

    fn entity(&mut self, place: &Place<'_>, line: Option<usize>, value: Value) {
        let mut fault = |message: String, remedy: &str| {
            self.faults.push(BundleFault::new(place.file(), line, message, remedy));
        };
        let entity = match Entity::from_json_value(value, Some(self.schema)) {
            Ok(entity) => entity,
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                let message = source.unwrap_or_else(|| error.to_string());
                return fault(message, "correct the entity, or the schema");
            }
        };
        let uid = entity.uid();
        if Vocabulary::is_principal(uid.type_name()) {
            return fault(
                format!("`{uid}` is a principal"),
                "people, services and operators come from the stores: remove it",
            );
        }
        if let Some(first) = self.found.get(&uid) {
            return fault(format!("`{uid}` is declared in {} already", first.file), "declare it once");
        }
        let (_, _, parents) = entity.clone().into_inner();
        let file = place.file().to_owned();
        self.found.insert(uid, Declared { entity, parents, file, line });
    }

    /// A parent that is not declared would silently grant or forbid nothing.
    fn parents(&mut self) {
        for (uid, declared) in &self.found {
            for parent in declared.parents.iter().filter(|parent| !self.found.contains_key(*parent)) {
                let message = format!("`{uid}` is in `{parent}`, which is not declared");
                let remedy = "declare the parent, or correct its name";
                self.faults.push(BundleFault::new(&declared.file, declared.line, message, remedy));
            }
        }
    }
}

/// An id of a type, without parsing text.
pub(crate) fn uid(type_name: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(type_name.clone(), EntityId::new(id))
}
