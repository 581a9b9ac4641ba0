//! Policies of which Cedar's validator has seen others that are alike.
//!
//! Most policies of a large bundle are grants without a condition: a role, an action, a module. The validator looks at two
//! things of an entity that a scope names, its type, and of an action, or of an entity whose type enumerates its entities,
//! which one it is. Its ids it looks at for characters that are mistaken for others, and for nothing else. So of policies
//! without a condition whose scopes differ in the ids of entities alone one is held against the schema, as long as nothing is
//! wrong with it, and of each of the others only the characters are looked at. What is alike to one that is wrong is judged by
//! itself, and so is told of by itself.

use std::collections::BTreeSet;

use cedar_policy::{
    ActionConstraint, EntityTypeName, EntityUid, Policy, PrincipalConstraint, ResourceConstraint, Schema,
};

use crate::authz::{has_condition, is_enumerated, is_mistakable};

/// What the validator has found nothing wrong with.
pub(super) struct Alike<'s> {
    schema: &'s Schema,
    sound: BTreeSet<Shape>,
}

/// All that the validator looks at of a policy without a condition, but for characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shape {
    principal: Scope,
    actions: Option<(bool, Vec<EntityUid>)>,
    resource: Scope,
}

/// What a scope says of a principal or a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Any,
    Is(EntityTypeName),
    Equal(Named),
    In(Named),
    IsIn(EntityTypeName, Named),
}

/// An entity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    /// Any one of a type.
    Of(EntityTypeName),
    This(EntityUid),
}

impl<'s> Alike<'s> {
    /// Nothing has been judged by this schema.
    pub(super) const fn new(schema: &'s Schema) -> Self {
        Self { schema, sound: BTreeSet::new() }
    }

    /// What is looked at of a policy; `None` where it has to be judged by itself.
    pub(super) fn shape(&self, policy: &Policy) -> Option<Shape> {
        if has_condition(policy) || is_mistakable(policy) {
            return None;
        }
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any => Scope::Any,
            PrincipalConstraint::Is(kind) => Scope::Is(kind),
            PrincipalConstraint::Eq(entity) => Scope::Equal(self.named(entity)),
            PrincipalConstraint::In(entity) => Scope::In(self.named(entity)),
            PrincipalConstraint::IsIn(kind, entity) => Scope::IsIn(kind, self.named(entity)),
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Any => Scope::Any,
            ResourceConstraint::Is(kind) => Scope::Is(kind),
            ResourceConstraint::Eq(entity) => Scope::Equal(self.named(entity)),
            ResourceConstraint::In(entity) => Scope::In(self.named(entity)),
            ResourceConstraint::IsIn(kind, entity) => Scope::IsIn(kind, self.named(entity)),
        };
        let actions = match policy.action_constraint() {
            ActionConstraint::Any => None,
            ActionConstraint::Eq(action) => Some((true, vec![action])),
            ActionConstraint::In(actions) => Some((false, actions)),
        };
        Some(Shape { principal, actions, resource })
    }

    /// Whether one alike has been found sound.
    pub(super) fn knows(&self, shape: &Shape) -> bool {
        self.sound.contains(shape)
    }

    /// Nothing is wrong with what has this shape.
    pub(super) fn is_sound(&mut self, shape: Shape) {
        self.sound.insert(shape);
    }

    fn named(&self, entity: EntityUid) -> Named {
        let kind = entity.type_name();
        if is_enumerated(self.schema, kind) { Named::This(entity) } else { Named::Of(kind.clone()) }
    }
}
