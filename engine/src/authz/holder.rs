//! What holds attributes: records, entities, and what the gateway knows of a request.

use super::cedar_core::{Attributes, Entity, Literal, Open, PartialValue, Value, ValueKind};
use super::context::{Facts, Name, Supplied};
use super::scene::{Part, Scene, Surroundings};

/// Something with attributes.
#[derive(Clone, Copy)]
pub(super) enum Holder<'s> {
    Record(&'s Attributes),
    /// `None` where nobody has declared the entity.
    Entity(Option<&'s Entity>),
    /// The context, as the gateway supplies it.
    Context(&'s Facts<'s>),
    /// The parameters in it.
    Parameters(&'s Facts<'s>),
}

impl<'s> Holder<'s> {
    pub(super) fn subject(part: Part, scene: &'s Scene<'_>) -> Self {
        Self::Entity(scene.subject(part).entity)
    }

    pub(super) fn context(scene: &'s Scene<'_>) -> Self {
        match scene.surroundings() {
            Surroundings::Given(attributes) => Self::Record(attributes),
            Surroundings::Supplied(facts) => Self::Context(facts),
        }
    }

    /// A value with attributes; `None` where it has none.
    pub(super) fn of(value: &'s Value, scene: &'s Scene<'_>) -> Result<Option<Self>, Open> {
        match value.value_kind() {
            ValueKind::Record(attributes) => Ok(Some(Self::Record(attributes))),
            ValueKind::Lit(Literal::EntityUID(uid)) => Ok(Some(Self::Entity(scene.entity(uid)?))),
            ValueKind::Lit(_) | ValueKind::Set(_) | ValueKind::ExtensionValue(_) => Ok(None),
        }
    }

    pub(super) fn has(self, name: &Name) -> bool {
        match self {
            Self::Record(attributes) => attributes.contains_key(&name.text),
            Self::Entity(entity) => entity.is_some_and(|entity| entity.get(&name.text).is_some()),
            Self::Context(facts) => name.supplied().is_some_and(|supplied| facts.get(supplied).is_some()),
            Self::Parameters(facts) => facts.parameter(&name.text).is_some(),
        }
    }

    /// The attribute of this name; `None` where there is none.
    pub(super) fn get(self, name: &Name) -> Result<Option<&'s Value>, Open> {
        match self {
            Self::Record(attributes) => Ok(attributes.get(&name.text)),
            Self::Entity(entity) => match entity.and_then(|entity| entity.get(&name.text)) {
                Some(PartialValue::Value(value)) => Ok(Some(value)),
                Some(PartialValue::Residual(_)) => Err(Open),
                None => Ok(None),
            },
            Self::Context(facts) => Ok(name.supplied().and_then(|supplied| facts.get(supplied))),
            Self::Parameters(facts) => Ok(facts.parameter(&name.text)),
        }
    }

    /// Some record, where a record of the gateway's is what this name stands for.
    pub(super) fn record_in_the_place_of(self, name: &Name) -> Option<&'s Value> {
        match self {
            Self::Context(facts) if name.supplied() == Some(Supplied::Parameters) => Some(facts.any_record()),
            Self::Record(_) | Self::Entity(_) | Self::Context(_) | Self::Parameters(_) => None,
        }
    }

    /// What this name stands for, where it holds attributes and is found without making a value of it.
    pub(super) fn inner(self, name: &Name) -> Option<Self> {
        match self {
            Self::Context(facts) if name.supplied() == Some(Supplied::Parameters) => {
                Some(Self::Parameters(facts))
            }
            Self::Record(_) | Self::Entity(_) | Self::Context(_) | Self::Parameters(_) => None,
        }
    }
}
