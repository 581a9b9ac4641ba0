//! What a condition demands of a request, as far as an index can look it up.
//!
//! A condition is left out of a decision where it is sure to be `false` and sure not to fail. Of a row of conditions
//! `a && b && c` Cedar evaluates `a`, then `b`, then `c`, and stops at the first `false`. So the row is `false` where `b` is,
//! if `a` did not fail; what `c` would do does not matter.
//!
//! A *demand* is a list of keys, of which a request must have one, or else the condition is `false` without failing. These
//! steps make demands; each stands beside the code that relies on it:
//!
//! 1. An atom compares what stands at a path (`principal.address.city`) with literals: `==`, `in`, `is`, `contains`, `has`,
//!    or it is a truth value itself. Its keys are the literals, and one for every way in which the atom may fail: nothing
//!    at the path, or a value of the wrong kind. A request without any of them makes the atom `false`.
//! 2. `a || b` is `false` where both are, so its demand is that of `a` and that of `b` together.
//! 3. In a row any one demand will do, together with the keys for all ways in which a part *before* it may fail. Where those
//!    are not known the row ends there: nothing after it may be a key.
//! 4. After `x has y` in a row, `x.y` is there: where it is not, the row was `false` before. So its absence is no key.
//!
//! Nothing rests on types: values are looked at as they are in each request.

use std::sync::Arc;

use super::super::cedar_core::{EntityType, EntityUID, Literal, Open, Value, ValueKind, reference};
use super::super::condition::{Node, Operator};
use super::super::context::Name;
use super::super::holder::Holder;
use super::super::scene::{Part, Scene};

/// Where a path begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Root {
    Subject(Part),
    Context,
}

/// A chain of attributes, as `principal.address.city`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Path {
    pub(super) root: Root,
    pub(super) names: Vec<Name>,
}

impl Path {
    /// What `at` makes of the value at this path; it is given none where evaluating the path fails.
    pub(super) fn look<T>(&self, scene: &Scene<'_>, at: impl FnOnce(Option<&Value>) -> T) -> Result<T, Open> {
        let mut holder = match self.root {
            Root::Context => Holder::context(scene),
            Root::Subject(part) => Holder::subject(part, scene),
        };
        let Some((last, way)) = self.names.split_last() else {
            let root = match self.root {
                Root::Subject(part) => reference(scene.subject(part).uid),
                Root::Context => Value::record_arc(Arc::clone(scene.context()), None),
            };
            return Ok(at(Some(&root)));
        };
        for name in way {
            let next = match holder.inner(name) {
                Some(inner) => Some(inner),
                None => match holder.get(name)? {
                    Some(value) => Holder::of(value, scene)?,
                    None => None,
                },
            };
            let Some(next) = next else { return Ok(at(None)) };
            holder = next;
        }
        // Of a record nothing is asked but that it is one: so none is made of what the request has, nor counts as looked at.
        if let Some(record) = holder.record_in_the_place_of(last) {
            return Ok(at(Some(record)));
        }
        Ok(at(holder.get(last)?))
    }
}

/// What is asked of the value at a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ask {
    /// That there is none: evaluating the path fails.
    Absent,
    /// That there is one.
    Present,
    /// That it is not of this kind.
    Not(Kind),
    Equal(Literal),
    /// That it is a set with this member.
    Contains(Literal),
    /// That it is this entity, or below it.
    Within(Arc<EntityUID>),
    /// That it is an entity of this type.
    Is(EntityType),
}

/// A kind of values that an operator takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Truth,
    Set,
    Entity,
    Text,
    Number,
    /// An entity or a record.
    Holder,
}

/// Number of kinds.
pub(super) const KINDS: usize = 6;

impl Kind {
    pub(super) const ALL: [Self; KINDS] =
        [Self::Truth, Self::Set, Self::Entity, Self::Text, Self::Number, Self::Holder];
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) path: Path,
    pub(super) ask: Ask,
}

/// Keys of which a request must have one, or the condition is false without failing.
pub(super) type Demand = Vec<Key>;

/// All demands of a condition, any one of which will do.
pub(super) fn demands(condition: &Node) -> Vec<Demand> {
    row(condition, &[])
}

/// The demands of a row, of which `present` is known to be there.
fn row(node: &Node, present: &[Path]) -> Vec<Demand> {
    let nodes = if let Node::AllOf(nodes) = node { &**nodes } else { std::slice::from_ref(node) };
    let (mut demands, mut present) = (Vec::new(), present.to_vec());
    // Step 3: the ways in which something before may fail.
    let mut before: Vec<Key> = Vec::new();
    for node in nodes {
        if let Some(mut demand) = demand(node, &present) {
            demand.extend(before.iter().cloned());
            demands.push(demand);
        }
        let Some(failing) = failing(node, &present) else { break };
        before.extend(failing);
        // Step 4.
        present.extend(shown(node));
    }
    demands
}

/// The demand of one part of a row.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is not known here makes no key")]
fn demand(node: &Node, present: &[Path]) -> Option<Demand> {
    match node {
        // Step 2. Each may itself be a row, of which the shortest demand is taken.
        Node::AnyOf(nodes) => {
            let each = nodes.iter().map(|node| row(node, present).into_iter().min_by_key(Vec::len));
            Some(each.collect::<Option<Vec<Demand>>>()?.concat())
        }
        Node::Not(inner) if matches!(**inner, Node::Attribute(..)) => truth(inner, false, present),
        Node::Attribute(..) => truth(node, true, present),
        Node::Has(holder, name) => {
            let mut path = path(holder)?;
            let mut keys = holding(&path, present);
            path.names.push(name.clone());
            keys.push(Key { path, ask: Ask::Present });
            Some(keys)
        }
        Node::Is(subject, kind) => {
            let path = path(subject)?;
            let failing = of_kind(&path, Kind::Entity, present);
            Some(with(failing, path, [Ask::Is(kind.clone())]))
        }
        Node::Two(operator, nodes) => two(*operator, nodes, present),
        _ => None,
    }
}

fn two(operator: Operator, [left, right]: &[Node; 2], present: &[Path]) -> Option<Demand> {
    match operator {
        // Step 1: `==` compares values of any two kinds, so only the path itself can fail.
        Operator::Equal => {
            let (path, literal) = match (path(left), right.literal(), left.literal(), path(right)) {
                (Some(path), Some(literal), _, _) | (_, _, Some(literal), Some(path)) => (path, literal),
                _ => return None,
            };
            Some(with(absent(&path, present), path, [Ask::Equal(literal.clone())]))
        }
        Operator::In => {
            let path = path(left)?;
            let above = entities(right)?;
            Some(with(of_kind(&path, Kind::Entity, present), path, above.into_iter().map(Ask::Within)))
        }
        Operator::Contains => {
            if let (Some(path), Some(literal)) = (path(left), right.literal()) {
                let failing = of_kind(&path, Kind::Set, present);
                return Some(with(failing, path, [Ask::Contains(literal.clone())]));
            }
            let path = path(right)?;
            let members = literals(left)?;
            Some(with(absent(&path, present), path, members.into_iter().map(Ask::Equal)))
        }
        // `path.containsAny([…])`: one of them is in it.
        Operator::ContainsAny => {
            let (path, members) = match (path(left), literals(right)) {
                (Some(path), Some(members)) => (path, members),
                _ => (path(right)?, literals(left)?),
            };
            Some(with(of_kind(&path, Kind::Set, present), path, members.into_iter().map(Ask::Contains)))
        }
        // `path.containsAll([…])`: the first of them is in it, too. Of an empty set everything contains all.
        Operator::ContainsAll => {
            let path = path(left)?;
            let first = literals(right)?.into_iter().next()?;
            Some(with(of_kind(&path, Kind::Set, present), path, [Ask::Contains(first)]))
        }
        Operator::Less | Operator::LessOrEqual | Operator::HasTag => None,
    }
}

/// A truth value at a path.
fn truth(node: &Node, wanted: bool, present: &[Path]) -> Option<Demand> {
    let path = path(node)?;
    Some(with(of_kind(&path, Kind::Truth, present), path, [Ask::Equal(Literal::Bool(wanted))]))
}

/// The ways in which a part of a row may fail; `None` where they are not known.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is not known here makes no key")]
fn failing(node: &Node, present: &[Path]) -> Option<Vec<Key>> {
    match node {
        Node::Constant(_) => truth_constant(node),
        Node::AllOf(nodes) => {
            let (mut keys, mut present) = (Vec::new(), present.to_vec());
            for node in nodes {
                keys.extend(failing(node, &present)?);
                present.extend(shown(node));
            }
            Some(keys)
        }
        Node::AnyOf(nodes) => {
            let each = nodes.iter().map(|node| failing(node, present));
            Some(each.collect::<Option<Vec<_>>>()?.concat())
        }
        Node::Not(inner) => failing(inner, present),
        Node::Attribute(..) => Some(of_kind(&path(node)?, Kind::Truth, present)),
        Node::Has(holder, _) => Some(holding(&path(holder)?, present)),
        Node::HasAll(holder, names) => {
            let mut path = path(holder)?;
            // What is on the way and holds nothing fails; what is not there does not.
            let mut keys = holding(&path, present);
            for name in names.split_last()?.1 {
                path.names.push(name.clone());
                keys.push(Key { path: path.clone(), ask: Ask::Not(Kind::Holder) });
            }
            Some(keys)
        }
        Node::Is(subject, _) => Some(of_kind(&path(subject)?, Kind::Entity, present)),
        Node::Like(text, _) => Some(of_kind(&path(text)?, Kind::Text, present)),
        Node::Two(operator, nodes) => failing_two(*operator, nodes, present),
        _ => None,
    }
}

fn failing_two(operator: Operator, [left, right]: &[Node; 2], present: &[Path]) -> Option<Vec<Key>> {
    let kind = |node: &Node, kind| {
        let Node::Constant(value) = node else { return Some(of_kind(&path(node)?, kind, present)) };
        is(value, kind).then(Vec::new)
    };
    let any = |node: &Node| {
        if matches!(node, Node::Constant(_)) { Some(Vec::new()) } else { Some(absent(&path(node)?, present)) }
    };
    let (left, right) = match operator {
        Operator::Equal => (any(left)?, any(right)?),
        Operator::Less | Operator::LessOrEqual => (kind(left, Kind::Number)?, kind(right, Kind::Number)?),
        Operator::In => {
            entities(right)?;
            (kind(left, Kind::Entity)?, Vec::new())
        }
        Operator::Contains => (kind(left, Kind::Set)?, any(right)?),
        Operator::ContainsAll | Operator::ContainsAny => (kind(left, Kind::Set)?, kind(right, Kind::Set)?),
        Operator::HasTag => (kind(left, Kind::Entity)?, kind(right, Kind::Text)?),
    };
    Some([left, right].concat())
}

/// A constant that is true or false does not fail.
fn truth_constant(node: &Node) -> Option<Vec<Key>> {
    matches!(node.literal()?, Literal::Bool(_)).then(Vec::new)
}

/// Paths that are there wherever this part of a row is true.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is not known here makes no key")]
fn shown(node: &Node) -> Vec<Path> {
    let (holder, names) = match node {
        Node::AllOf(nodes) => return nodes.iter().flat_map(shown).collect(),
        Node::Has(holder, name) => (holder, std::slice::from_ref(name)),
        Node::HasAll(holder, names) => (holder, &**names),
        _ => return Vec::new(),
    };
    let Some(mut path) = path(holder) else { return Vec::new() };
    let mut paths = Vec::new();
    for name in names {
        path.names.push(name.clone());
        paths.push(path.clone());
    }
    paths
}

/// The path that an expression is, where it is one.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is not known here makes no key")]
fn path(node: &Node) -> Option<Path> {
    match node {
        Node::Subject(part) => Some(Path { root: Root::Subject(*part), names: Vec::new() }),
        Node::Context => Some(Path { root: Root::Context, names: Vec::new() }),
        Node::Attribute(holder, name) => {
            let mut path = path(holder)?;
            path.names.push(name.clone());
            Some(path)
        }
        _ => None,
    }
}

/// The key for a path at which there is nothing. What the request itself names is always there.
fn absent(path: &Path, present: &[Path]) -> Vec<Key> {
    if path.names.is_empty() || present.contains(path) {
        return Vec::new();
    }
    vec![Key { path: path.clone(), ask: Ask::Absent }]
}

/// The keys for a path at which there is nothing of this kind.
fn of_kind(path: &Path, kind: Kind, present: &[Path]) -> Vec<Key> {
    let mut keys = absent(path, present);
    let known = path.names.is_empty()
        && match path.root {
            Root::Subject(_) => matches!(kind, Kind::Entity | Kind::Holder),
            Root::Context => kind == Kind::Holder,
        };
    if !known {
        keys.push(Key { path: path.clone(), ask: Ask::Not(kind) });
    }
    keys
}

/// The keys for a path at which there is nothing that could have attributes.
fn holding(path: &Path, present: &[Path]) -> Vec<Key> {
    of_kind(path, Kind::Holder, present)
}

fn with(mut keys: Vec<Key>, path: Path, asks: impl IntoIterator<Item = Ask>) -> Demand {
    keys.extend(asks.into_iter().map(|ask| Key { path: path.clone(), ask }));
    keys
}

/// The entities that a literal on the right of `in` names.
fn entities(node: &Node) -> Option<Vec<Arc<EntityUID>>> {
    let uid = |literal: &Literal| match literal {
        Literal::EntityUID(uid) => Some(Arc::clone(uid)),
        Literal::Bool(_) | Literal::Long(_) | Literal::String(_) => None,
    };
    match node.literal() {
        Some(literal) => Some(vec![uid(literal)?]),
        None => literals(node)?.iter().map(uid).collect(),
    }
}

/// The members of a constant set of literals.
fn literals(node: &Node) -> Option<Vec<Literal>> {
    let Node::Constant(value) = node else { return None };
    let ValueKind::Set(set) = value.value_kind() else { return None };
    let literal = |value: &Value| match value.value_kind() {
        ValueKind::Lit(literal) => Some(literal.clone()),
        ValueKind::Set(_) | ValueKind::Record(_) | ValueKind::ExtensionValue(_) => None,
    };
    set.iter().map(literal).collect()
}

/// Whether a value is of this kind.
pub(super) fn is(value: &Value, kind: Kind) -> bool {
    match value.value_kind() {
        ValueKind::Lit(Literal::Bool(_)) => kind == Kind::Truth,
        ValueKind::Lit(Literal::Long(_)) => kind == Kind::Number,
        ValueKind::Lit(Literal::String(_)) => kind == Kind::Text,
        ValueKind::Lit(Literal::EntityUID(_)) => matches!(kind, Kind::Entity | Kind::Holder),
        ValueKind::Set(_) => kind == Kind::Set,
        ValueKind::Record(_) => kind == Kind::Holder,
        ValueKind::ExtensionValue(_) => false,
    }
}
