//! The rules of Cedar's operators, over borrowed values. What fails in Cedar fails here, whatever it would be called there.

use std::cmp::Ordering;
use std::ops::Deref;
use std::sync::Arc;

use smallvec::SmallVec;

use super::super::cedar_core::{
    Attributes, Entity, EntityUID, Literal, Open, PartialValue, Set, Text, Value, ValueKind, compared,
    reference,
};
use super::super::context::Name;
use super::super::holder::Holder;
use super::super::scene::{Scene, Spent, Surroundings};
use super::{Arithmetic, Node, Operator};

/// Why there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Fault {
    /// The evaluation fails.
    Fails,
    /// Something is left open, and Cedar itself has to say.
    Open,
    /// The steps of the decision are spent.
    Spent,
}

impl From<Open> for Fault {
    fn from(_: Open) -> Self {
        Self::Open
    }
}

impl From<Spent> for Fault {
    fn from(_: Spent) -> Self {
        Self::Spent
    }
}

/// A value: one that the request or the policy holds, or a new one.
pub(in super::super) enum Seen<'s> {
    Held(&'s Value),
    Made(Value),
}

impl Deref for Seen<'_> {
    type Target = Value;

    fn deref(&self) -> &Value {
        match self {
            Self::Held(value) => value,
            Self::Made(value) => value,
        }
    }
}

impl Seen<'_> {
    fn into_value(self) -> Value {
        match self {
            Self::Held(value) => value.clone(),
            Self::Made(value) => value,
        }
    }
}

impl Node {
    /// Whether it is true; what is neither true nor false fails.
    pub(super) fn truth(&self, scene: &Scene<'_>) -> Result<bool, Fault> {
        scene.spend(1)?;
        match self {
            Self::AllOf(nodes) => all_of(nodes, scene),
            Self::AnyOf(nodes) => any_of(nodes, scene),
            Self::Not(node) => node.truth(scene).map(|truth| !truth),
            Self::If(nodes) => branch(nodes, scene)?.truth(scene),
            Self::IsEmpty(node) => Ok(set(&*node.value(scene)?)?.is_empty()),
            Self::Has(node, name) => has(node, name, scene),
            Self::HasAll(node, names) => has_all(node, names, scene),
            Self::Like(node, pattern) => {
                let value = node.value(scene)?;
                let text = text(&value)?;
                // At worst it compares every character with every part of the pattern.
                scene.spend(text.len().saturating_mul(pattern.get_elems().len()) / 8)?;
                Ok(pattern.wildcard_match(text))
            }
            Self::Is(node, kind) => {
                if let Self::Subject(part) = &**node {
                    return Ok(scene.subject(*part).uid.entity_type() == kind);
                }
                Ok(uid(&*node.value(scene)?)?.entity_type() == kind)
            }
            Self::Two(operator, nodes) => two(*operator, nodes, scene),
            Self::ClientIn(range, call) => match scene.surroundings() {
                Surroundings::Supplied(facts) => Ok(range.contains(&facts.client())),
                Surroundings::Given(_) => call.truth(scene),
            },
            Self::Constant(_) | Self::Subject(_) | Self::Context | Self::Fails => truth(&*self.value(scene)?),
            Self::Attribute(..) | Self::Tag(_) | Self::Call(..) => truth(&*self.value(scene)?),
            // Neither true nor false, once it has been seen not to fail.
            Self::Negated(_) | Self::Arithmetic(..) | Self::Set(_) | Self::Record(_) => {
                truth(&*self.value(scene)?)
            }
        }
    }

    /// Its value.
    pub(in super::super) fn value<'s>(&'s self, scene: &'s Scene<'_>) -> Result<Seen<'s>, Fault> {
        scene.spend(1)?;
        match self {
            Self::Constant(value) => Ok(Seen::Held(value)),
            Self::Subject(part) => Ok(Seen::Made(reference(scene.subject(*part).uid))),
            Self::Context => Ok(Seen::Made(Value::record_arc(Arc::clone(scene.context()), None))),
            Self::Fails => Err(Fault::Fails),
            Self::If(nodes) => branch(nodes, scene)?.value(scene),
            Self::Negated(node) => {
                let negated = long(&*node.value(scene)?)?.checked_neg().ok_or(Fault::Fails)?;
                Ok(Seen::Made(Value::new(negated, None)))
            }
            Self::Attribute(node, name) => attribute(node, name, scene),
            Self::Arithmetic(arithmetic, nodes) => {
                let [left, right] = &**nodes;
                let (left, right) = (left.value(scene)?, right.value(scene)?);
                Ok(Seen::Made(Value::new(number(*arithmetic, &left, &right)?, None)))
            }
            Self::Tag(nodes) => {
                let [left, right] = &**nodes;
                let (left, right) = (left.value(scene)?, right.value(scene)?);
                tag(&left, &right, scene).map(Seen::Held)
            }
            Self::Set(nodes) => {
                let values = nodes.iter().map(|node| Ok(node.value(scene)?.into_value()));
                Ok(Seen::Made(Value::set(values.collect::<Result<Vec<_>, Fault>>()?, None)))
            }
            Self::Record(nodes) => {
                let value =
                    |(name, node): &'s (Text, Self)| Ok((name.clone(), node.value(scene)?.into_value()));
                let attributes: Attributes = nodes.iter().map(value).collect::<Result<_, Fault>>()?;
                Ok(Seen::Made(Value::record_arc(Arc::new(attributes), None)))
            }
            Self::Call(function, nodes) => {
                let values = nodes.iter().map(|node| Ok(node.value(scene)?.into_value()));
                match function.0.call(&values.collect::<Result<SmallVec<[_; 2]>, Fault>>()?) {
                    Ok(PartialValue::Value(value)) => Ok(Seen::Made(value)),
                    Ok(PartialValue::Residual(_)) => Err(Fault::Open),
                    Err(_) => Err(Fault::Fails),
                }
            }
            Self::AllOf(_) | Self::AnyOf(_) | Self::Not(_) | Self::IsEmpty(_) => self.made_truth(scene),
            Self::Has(..) | Self::HasAll(..) | Self::Like(..) | Self::Is(..) | Self::Two(..) => {
                self.made_truth(scene)
            }
            Self::ClientIn(..) => self.made_truth(scene),
        }
    }

    fn made_truth(&self, scene: &Scene<'_>) -> Result<Seen<'_>, Fault> {
        Ok(Seen::Made(Value::new(self.truth(scene)?, None)))
    }
}

fn all_of(nodes: &[Node], scene: &Scene<'_>) -> Result<bool, Fault> {
    for node in nodes {
        if !node.truth(scene)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn any_of(nodes: &[Node], scene: &Scene<'_>) -> Result<bool, Fault> {
    for node in nodes {
        if node.truth(scene)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn branch<'s>([test, then, otherwise]: &'s [Node; 3], scene: &Scene<'_>) -> Result<&'s Node, Fault> {
    Ok(if test.truth(scene)? { then } else { otherwise })
}

/// The holder that an expression stands for, where it is one that a request itself has, without a copy.
fn own<'s>(node: &Node, scene: &'s Scene<'_>) -> Option<Holder<'s>> {
    if let Node::Subject(part) = node {
        return Some(Holder::subject(*part, scene));
    }
    if matches!(node, Node::Context) {
        return Some(Holder::context(scene));
    }
    let Node::Attribute(node, name) = node else { return None };
    if matches!(**node, Node::Context) { Holder::context(scene).inner(name) } else { None }
}

fn attribute<'s>(node: &'s Node, name: &Name, scene: &'s Scene<'_>) -> Result<Seen<'s>, Fault> {
    if let Some(holder) = own(node, scene) {
        return holder.get(name)?.map(Seen::Held).ok_or(Fault::Fails);
    }
    match node.value(scene)? {
        Seen::Held(value) => {
            let holder = Holder::of(value, scene)?.ok_or(Fault::Fails)?;
            holder.get(name)?.map(Seen::Held).ok_or(Fault::Fails)
        }
        Seen::Made(value) => {
            let holder = Holder::of(&value, scene)?.ok_or(Fault::Fails)?;
            holder.get(name)?.cloned().map(Seen::Made).ok_or(Fault::Fails)
        }
    }
}

fn has(node: &Node, name: &Name, scene: &Scene<'_>) -> Result<bool, Fault> {
    if let Some(holder) = own(node, scene) {
        return Ok(holder.has(name));
    }
    let value = node.value(scene)?;
    Ok(Holder::of(&value, scene)?.ok_or(Fault::Fails)?.has(name))
}

/// `has a.b.c`. An attribute on the way that holds no attributes fails, one that is not there is a plain no.
fn has_all(node: &Node, names: &[Name], scene: &Scene<'_>) -> Result<bool, Fault> {
    let value;
    let mut holder = match own(node, scene) {
        Some(holder) => holder,
        None => {
            value = node.value(scene)?;
            Holder::of(&value, scene)?.ok_or(Fault::Fails)?
        }
    };
    let Some((last, way)) = names.split_last() else { return Ok(true) };
    for name in way {
        holder = match holder.inner(name) {
            Some(inner) => inner,
            None => match holder.get(name)? {
                Some(next) => Holder::of(next, scene)?.ok_or(Fault::Fails)?,
                None => return Ok(false),
            },
        };
    }
    // The last one is only looked for: it may be left open and is there all the same.
    Ok(holder.has(last))
}

fn two(operator: Operator, [left, right]: &[Node; 2], scene: &Scene<'_>) -> Result<bool, Fault> {
    if let (Operator::Equal, Node::Subject(part), Node::Constant(value)) = (operator, left, right) {
        return Ok(names(value, scene.subject(*part).uid));
    }
    if let (Operator::In, Node::Subject(part)) = (operator, left) {
        let subject = scene.subject(*part);
        let right = right.value(scene)?;
        scene.spend(size(&right))?;
        return within(subject.uid, subject.entity, &right);
    }
    // Both are evaluated before either is looked at.
    let (left, right) = (left.value(scene)?, right.value(scene)?);
    scene.spend(size(&left).min(size(&right)))?;
    match operator {
        Operator::Equal => Ok(*left == *right),
        Operator::Less => less(&left, &right, false),
        Operator::LessOrEqual => less(&left, &right, true),
        Operator::In => {
            scene.spend(size(&right))?;
            let uid = uid(&left)?;
            within(uid, scene.entity(uid)?, &right)
        }
        Operator::Contains => Ok(set(&left)?.contains(&right)),
        Operator::ContainsAll => Ok(set(&right)?.is_subset(set(&left)?)),
        Operator::ContainsAny => Ok(!set(&left)?.is_disjoint(set(&right)?)),
        Operator::HasTag => {
            let entity = scene.entity(uid(&left)?)?;
            let name = text(&right)?;
            Ok(entity.is_some_and(|entity| entity.get_tag(name).is_some()))
        }
    }
}

/// Values that comparing it may look at.
fn size(value: &Value) -> usize {
    match value.value_kind() {
        ValueKind::Set(set) => set.len(),
        ValueKind::Record(attributes) => attributes.len(),
        ValueKind::Lit(_) | ValueKind::ExtensionValue(_) => 0,
    }
}

/// Whether the value is a reference to this entity.
fn names(value: &Value, uid: &EntityUID) -> bool {
    matches!(value.value_kind(), ValueKind::Lit(Literal::EntityUID(named)) if **named == *uid)
}

/// Numbers, moments and durations compare with their like, and with nothing else.
fn less(left: &Value, right: &Value, equal: bool) -> Result<bool, Fault> {
    let ordering = match (left.value_kind(), right.value_kind()) {
        (ValueKind::Lit(Literal::Long(left)), ValueKind::Lit(Literal::Long(right))) => Some(left.cmp(right)),
        (ValueKind::ExtensionValue(left), ValueKind::ExtensionValue(right)) => compared(left, right),
        (ValueKind::Lit(_) | ValueKind::Set(_) | ValueKind::Record(_) | ValueKind::ExtensionValue(_), _) => {
            None
        }
    };
    let ordering = ordering.ok_or(Fault::Fails)?;
    Ok(ordering == Ordering::Less || equal && ordering == Ordering::Equal)
}

fn number(arithmetic: Arithmetic, left: &Value, right: &Value) -> Result<i64, Fault> {
    let (left, right) = (long(left)?, long(right)?);
    let number = match arithmetic {
        Arithmetic::Add => left.checked_add(right),
        Arithmetic::Subtract => left.checked_sub(right),
        Arithmetic::Multiply => left.checked_mul(right),
    };
    number.ok_or(Fault::Fails)
}

fn tag<'s>(holder: &Value, name: &Value, scene: &'s Scene<'_>) -> Result<&'s Value, Fault> {
    let (uid, name) = (uid(holder)?, text(name)?);
    match scene.entity(uid)?.and_then(|entity| entity.get_tag(name)) {
        Some(PartialValue::Value(value)) => Ok(value),
        Some(PartialValue::Residual(_)) => Err(Fault::Open),
        None => Err(Fault::Fails),
    }
}

/// `in`: the entity itself or one of its ancestors. A set on the right has to hold entities alone.
fn within(uid: &EntityUID, entity: Option<&Entity>, right: &Value) -> Result<bool, Fault> {
    let below =
        |above: &EntityUID| uid == above || entity.is_some_and(|entity| entity.is_descendant_of(above));
    match right.value_kind() {
        ValueKind::Lit(Literal::EntityUID(above)) => Ok(below(above)),
        ValueKind::Set(set) => {
            let mut found = false;
            for value in set.iter() {
                let ValueKind::Lit(Literal::EntityUID(above)) = value.value_kind() else {
                    return Err(Fault::Fails);
                };
                found = found || below(above);
            }
            Ok(found)
        }
        ValueKind::Lit(_) | ValueKind::Record(_) | ValueKind::ExtensionValue(_) => Err(Fault::Fails),
    }
}

pub(super) fn truth(value: &Value) -> Result<bool, Fault> {
    if let ValueKind::Lit(Literal::Bool(truth)) = value.value_kind() { Ok(*truth) } else { Err(Fault::Fails) }
}

fn long(value: &Value) -> Result<i64, Fault> {
    if let ValueKind::Lit(Literal::Long(number)) = value.value_kind() {
        Ok(*number)
    } else {
        Err(Fault::Fails)
    }
}

fn text(value: &Value) -> Result<&Text, Fault> {
    if let ValueKind::Lit(Literal::String(text)) = value.value_kind() { Ok(text) } else { Err(Fault::Fails) }
}

fn uid(value: &Value) -> Result<&EntityUID, Fault> {
    if let ValueKind::Lit(Literal::EntityUID(uid)) = value.value_kind() { Ok(uid) } else { Err(Fault::Fails) }
}

fn set(value: &Value) -> Result<&Set, Fault> {
    if let ValueKind::Set(set) = value.value_kind() { Ok(set) } else { Err(Fault::Fails) }
}
