//! The only file that names Cedar's inner crate.
//!
//! The public crate evaluates whole policies only, rebuilds the expression of each of them every time, and offers no value
//! or entity that could be shared between requests. The inner crate promises no stable interface, so it is pinned to the
//! very version of the public one. What would notice a change of meaning are the comparisons with Cedar's `Authorizer`:
//! the properties of `index`, Cedar's published corpus, and the oracle in the running gateway.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use cedar_policy::{EntityTypeName, RestrictedExpression, Schema};
#[cfg(test)]
pub(super) use cedar_policy_core::ast::Unknown;
pub(super) use cedar_policy_core::ast::{
    BinaryOp, Context, Entity, EntityType, EntityUID, EntityUIDEntry, Expr, ExprKind, ExtensionFunction,
    Literal, PartialValue, Pattern, Policy, Request, Set, SlotEnv, UnaryOp, Value, ValueKind, Var,
};
use cedar_policy_core::ast::{RepresentableExtensionValue, RestrictedExpr};
pub(super) use cedar_policy_core::entities::Entities;
use cedar_policy_core::entities::{Dereference, NoEntitiesSchema, TCComputation};
pub(super) use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::validator::types::Type;
use cedar_policy_core::validator::{ValidatorEntityTypeKind, ValidatorSchema, confusable_string_checks};

/// Text of Cedar's, cheap to clone: up to 23 bytes stand in place.
pub(super) type Text = smol_str::SmolStr;
/// A record's attributes.
pub(super) type Attributes = std::collections::BTreeMap<Text, Value>;

/// All that Cedar's policies can call.
pub(super) fn extensions() -> &'static Extensions<'static> {
    Extensions::all_available()
}

/// The entity, if the store has it. `Err` where the store leaves open whether there is one.
pub(super) fn entity<'a>(store: &'a Entities, uid: &EntityUID) -> Result<Option<&'a Entity>, Open> {
    match store.entity(uid) {
        Dereference::Data(entity) => Ok(Some(entity)),
        Dereference::NoSuchEntity => Ok(None),
        Dereference::Residual(_) => Err(Open),
    }
}

/// Something is left open for partial evaluation, which only Cedar itself understands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open;

/// The entity that a part of a request names; `None` where it is left open.
pub(super) fn uid(part: &EntityUIDEntry) -> Option<&Arc<EntityUID>> {
    match part {
        EntityUIDEntry::Known { euid, .. } => Some(euid),
        EntityUIDEntry::Unknown { .. } => None,
    }
}

/// An entity as a value.
pub(super) fn reference(uid: &Arc<EntityUID>) -> Value {
    Value::new(Literal::EntityUID(Arc::clone(uid)), None)
}

/// The range of addresses that a value is, of one address or of many.
pub(super) fn network(value: &Value) -> Option<IpNet> {
    let ValueKind::ExtensionValue(value) = value.value_kind() else { return None };
    let expression = Expr::from(RestrictedExpr::from((**value).clone()));
    let ExprKind::ExtensionFunctionApp { fn_name, args } = expression.expr_kind() else { return None };
    let [text] = &***args else { return None };
    if fn_name.to_string() != "ip" {
        return None;
    }
    let ExprKind::Lit(Literal::String(text)) = text.expr_kind() else { return None };
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// How two values of an extension compare, where they do: moments with moments, durations with durations.
///
/// Cedar asks whether the names of their types are the same, and makes both names to find out. A type of Rust has one name
/// there, so the types themselves say it.
pub(super) fn compared(
    left: &RepresentableExtensionValue,
    right: &RepresentableExtensionValue,
) -> Option<Ordering> {
    let (one, other) = (left.value(), right.value());
    let alike = one.as_any().type_id() == other.as_any().type_id();
    (alike && one.supports_operator_overloading()).then(|| left.cmp(right))
}

/// A store of these entities, each with all its ancestors. `None` where two of one name differ.
pub(super) fn store<'a>(entities: impl Iterator<Item = &'a Entity>) -> Option<Entities> {
    let closed = TCComputation::AssumeAlreadyComputed;
    Entities::from_entities(entities.cloned(), None::<&NoEntitiesSchema>, closed, extensions()).ok()
}

/// What an expression without variables is; `None` where it fails.
pub(super) fn value(expression: RestrictedExpression) -> Option<Value> {
    let named = [("value".to_owned(), expression)];
    let context = cedar_policy::Context::from_pairs(named).ok()?;
    let Context::Value(attributes) = AsRef::<Context>::as_ref(&context) else { return None };
    attributes.get("value").cloned()
}

/// The parameters that requests for an action may bring, by its schema: the name, whether it is a number (`None`: neither a
/// number nor text), and whether it is required.
pub(super) fn parameters(schema: &Schema, action: &EntityUID) -> Vec<(Text, Option<bool>, bool)> {
    let schema: &ValidatorSchema = schema.as_ref();
    let Some(Type::Record { attrs, .. }) = schema.context_type(action) else { return Vec::new() };
    let Some(declared) = attrs.get_attr("parameters") else { return Vec::new() };
    let Type::Record { attrs, .. } = &*declared.attr_type else { return Vec::new() };
    let parameters = attrs.iter().map(|(name, declared)| {
        let number = match &*declared.attr_type {
            Type::Long => Some(true),
            Type::String => Some(false),
            Type::Never | Type::Bool(_) | Type::Entity(_) | Type::Set { .. } => None,
            Type::Record { .. } | Type::ExtensionType { .. } => None,
        };
        (name.clone(), number, declared.is_required)
    });
    parameters.collect()
}

/// Whether a policy has a `when` or an `unless`.
pub(crate) fn has_condition(policy: &cedar_policy::Policy) -> bool {
    AsRef::<Policy>::as_ref(policy).non_scope_constraints().is_some()
}

/// Whether the validator warns of characters in a policy that are mistaken for others.
pub(crate) fn is_mistakable(policy: &cedar_policy::Policy) -> bool {
    let policy: &Policy = policy.as_ref();
    confusable_string_checks(std::iter::once(policy.template())).next().is_some()
}

/// Whether the schema says of a type which entities it has, or not all that there is to say of it.
pub(crate) fn is_enumerated(schema: &Schema, kind: &EntityTypeName) -> bool {
    let schema: &ValidatorSchema = schema.as_ref();
    schema.get_entity_type(kind.as_ref()).is_none_or(|kind| match kind.kind {
        ValidatorEntityTypeKind::Standard(_) => false,
        ValidatorEntityTypeKind::Enum(_) | ValidatorEntityTypeKind::External => true,
    })
}
