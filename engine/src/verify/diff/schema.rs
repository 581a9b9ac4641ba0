//! What a schema declares, and how one differs from another.
//!
//! By what was parsed: how it is written and said, in which order, and which names types have that stand for records, is no
//! difference. All actions of a bundle may look at one context, so that what changes in it is told once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Change, How, Kind, Said, differing, sorted, told};
use crate::bundle::Bundle;

/// What is said of a schema.
pub(super) struct Declared {
    types: Parts,
    actions: Parts,
}

type Parts = BTreeMap<String, Part>;
/// By the way to each, such as `parameters.page`: whether it must be there, and its type.
type Attributes = BTreeMap<String, (bool, String)>;

/// An entity type or an action.
struct Part {
    said: Vec<(&'static str, String)>,
    /// An entity's attributes, or an action's context; an action that nobody may ask for has none.
    attributes: Option<Attributes>,
    /// The same as the schema spells it.
    spelt: String,
}

/// What has become of one.
struct Compared {
    how: How,
    said: Vec<Said>,
    /// What differs in the attributes, where both bundles have some.
    differences: Vec<Said>,
}

const ATTRIBUTES: &str = "attributes";
const CONTEXT: &str = "context";

/// Every change of the schema from one bundle to another, but for what is `@sensitive`: of its actions and its entity types,
/// and of what several actions look at.
pub(super) fn changes(before: &Bundle, after: &Bundle) -> [Vec<Change>; 3] {
    let [before, after] = [before, after].map(|bundle| Declared::of(&bundle.vocabulary().declared()));
    let has_context = |part: Option<&Part>| part.is_some_and(|part| part.attributes.is_some());
    let in_both = after
        .actions
        .iter()
        .filter(|(name, part)| has_context(Some(part)) && has_context(before.actions.get(*name)));
    let mut actions = compared(&before.actions, &after.actions, CONTEXT);
    let shared = shared(&mut actions, in_both.count());
    let types = compared(&before.types, &after.types, ATTRIBUTES);
    [told_of(Kind::Action, actions), told_of(Kind::Type, types), shared]
}

fn told_of(kind: Kind, compared: BTreeMap<String, Compared>) -> Vec<Change> {
    let change = |(name, Compared { how, mut said, differences })| {
        said.extend(differences);
        Change { kind, name, how, said }
    };
    let is_said = |change: &Change| change.how != How::Changed || !change.said.is_empty();
    compared.into_iter().map(change).filter(is_said).collect()
}

fn compared(before: &Parts, after: &Parts, what: &'static str) -> BTreeMap<String, Compared> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let of = |name: &String| {
        let parts = [before.get(name), after.get(name)];
        let how = match parts {
            [Some(_), Some(_)] => How::Changed,
            [None, _] => How::Added,
            [_, None] => How::Removed,
        };
        let attributes = parts.map(|part| part.and_then(|part| part.attributes.as_ref()));
        let differences = match attributes {
            [Some(before), Some(after)] => differences(before, after, what),
            [None, _] | [_, None] => Vec::new(),
        };
        // As a whole where only one of them has any.
        let is_whole = attributes.iter().flatten().count() == 1;
        let [before, after] = parts.map(|part| {
            let whole = part.filter(|part| is_whole && !part.spelt.is_empty());
            let said = part.into_iter().flat_map(|part| part.said.iter().cloned());
            said.chain(whole.map(|part| (what, part.spelt.clone()))).collect::<Vec<_>>()
        });
        Compared { how, said: differing(&before, &after), differences }
    };
    names.into_iter().map(|name| (name.clone(), of(name))).collect()
}

fn differences(before: &Attributes, after: &Attributes, what: &'static str) -> Vec<Said> {
    let ways: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let side = |attributes: &Attributes, way: &String| attributes.get(way).map(|of| spelt(way, of));
    let said = ways.into_iter().map(|way| Said { what, before: side(before, way), after: side(after, way) });
    said.filter(|said| said.before != said.after).collect()
}

/// Takes out what differs alike in several actions, of `all` that have a context in both, and tells it once with their names.
fn shared(actions: &mut BTreeMap<String, Compared>, all: usize) -> Vec<Change> {
    let mut alike: Vec<(Vec<Said>, Vec<String>)> = Vec::new();
    for (name, compared) in actions.iter().filter(|(_, compared)| !compared.differences.is_empty()) {
        match alike.iter_mut().find(|(said, _)| *said == compared.differences) {
            Some((_, names)) => names.push(name.clone()),
            None => alike.push((compared.differences.clone(), vec![name.clone()])),
        }
    }
    alike.retain(|(_, names)| names.len() > 1);
    let told = alike.into_iter().map(|(said, names)| {
        for name in &names {
            actions.entry(name.clone()).and_modify(|compared| compared.differences.clear());
        }
        let whose = if names.len() == all { "every action".to_owned() } else { names.join(", ") };
        Change { kind: Kind::Schema, name: format!("context of {whose}"), how: How::Changed, said }
    });
    told.collect()
}

impl Declared {
    /// What a schema declares, from its JSON form.
    fn of(json: &Value) -> Self {
        let schema = Schema { json };
        let parts = |part: &str, one: &dyn Fn(&str, &str, &Value) -> (String, Part)| {
            let spaces = json.as_object().into_iter().flatten();
            let declared = spaces.flat_map(|(space, declared)| {
                let members = declared.get(part).and_then(Value::as_object).into_iter().flatten();
                members.map(move |(name, declared)| one(space, name, declared))
            });
            declared.collect()
        };
        Self {
            types: parts("entityTypes", &|space, name, declared| schema.entity_type(space, name, declared)),
            actions: parts("actions", &|space, name, declared| schema.action(space, name, declared)),
        }
    }
}

/// A type with the names that stand for others put away.
enum Shape {
    Record(BTreeMap<String, (bool, Self)>),
    Set(Box<Self>),
    Named(String),
}

/// A schema in its JSON form.
#[derive(Clone, Copy)]
struct Schema<'a> {
    json: &'a Value,
}

impl Schema<'_> {
    fn entity_type(self, space: &str, name: &str, declared: &Value) -> (String, Part) {
        let within = self.names(space, declared.get("memberOfTypes"));
        let tags = declared.get("tags").map(|tags| self.shape(space, tags).to_string()).unwrap_or_default();
        let only = declared.get("enum").map(Value::to_string).unwrap_or_default();
        let mut attributes = Attributes::new();
        if let Some(shape) = declared.get("shape") {
            flattened("", &self.shape(space, shape), &mut attributes);
        }
        let said = told([("in", within), ("tags", tags), ("only", only)]);
        let spelt = attributes.iter().map(|(way, of)| spelt(way, of)).collect::<Vec<_>>().join(", ");
        (absolute(space, name), Part { said, attributes: Some(attributes), spelt })
    }

    fn action(self, space: &str, name: &str, declared: &Value) -> (String, Part) {
        let mut groups = BTreeSet::new();
        self.groups(space, declared, &mut groups);
        // A group is spelt as what nobody may ask for.
        let is_asked = |applies: &&Value| {
            applies
                .get("principalTypes")
                .and_then(Value::as_array)
                .is_some_and(|principals| !principals.is_empty())
        };
        let applies = declared.get("appliesTo").filter(is_asked);
        let names = |key| self.names(space, applies.and_then(|applies| applies.get(key)));
        let said = told([
            ("in", sorted(groups.into_iter())),
            ("principals", names("principalTypes")),
            ("resource", names("resourceTypes")),
        ]);
        let mut attributes = Attributes::new();
        let context = applies.and_then(|applies| applies.get("context"));
        let mut spelt = String::new();
        if let Some(context) = context {
            flattened("", &self.shape(space, context), &mut attributes);
            let name = context.get("name").and_then(Value::as_str);
            spelt = name.map_or_else(|| self.shape(space, context).to_string(), str::to_owned);
        }
        (action(space, name), Part { said, attributes: applies.map(|_| attributes), spelt })
    }

    /// All groups that an action is in, by whatever way.
    fn groups(self, space: &str, declared: &Value, found: &mut BTreeSet<String>) {
        for group in declared.get("memberOf").and_then(Value::as_array).into_iter().flatten() {
            let of = |key| group.get(key).and_then(Value::as_str);
            let Some(id) = of("id") else { continue };
            // `Namespace::Action`, where it is not its own.
            let space = match of("type") {
                Some(named) => named.strip_suffix("Action").map_or("", |space| space.trim_end_matches("::")),
                None => space,
            };
            if found.insert(action(space, id)) {
                let group = self.json.get(space).and_then(|space| space.get("actions")?.get(id));
                group.into_iter().for_each(|group| self.groups(space, group, found));
            }
        }
    }

    /// Names of entity types, as one text.
    fn names(self, space: &str, list: Option<&Value>) -> String {
        let names = list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        sorted(names.map(|name| self.type_name(space, name)))
    }

    /// What a name means where it stands: a type of its own namespace, or as it is written.
    fn type_name(self, space: &str, name: &str) -> String {
        let own = self.json.get(space).and_then(|space| space.get("entityTypes")?.get(name));
        if own.is_some() { absolute(space, name) } else { name.trim_start_matches("__cedar::").to_owned() }
    }

    /// What a name stands for, with the namespace in which that is written.
    fn common<'s>(&'s self, space: &'s str, name: &'s str) -> Option<(&'s str, &'s Value)> {
        let (of, base) = name.rsplit_once("::").map_or((None, name), |(of, base)| (Some(of), base));
        let found = |space: &'s str| Some((space, self.json.get(space)?.get("commonTypes")?.get(base)?));
        of.map_or_else(|| found(space).or_else(|| found("")), found)
    }

    fn shape(self, space: &str, declared: &Value) -> Shape {
        let of = |key| declared.get(key).and_then(Value::as_str);
        let kind = of("type").unwrap_or_default();
        match (kind, of("name")) {
            ("Record", _) => {
                let members = declared.get(ATTRIBUTES).and_then(Value::as_object).into_iter().flatten();
                let member = |(name, declared): (&String, &Value)| {
                    let is_required = declared.get("required").and_then(Value::as_bool).unwrap_or(true);
                    (name.clone(), (is_required, self.shape(space, declared)))
                };
                Shape::Record(members.map(member).collect())
            }
            ("Set", _) => {
                let element = declared.get("element").unwrap_or(&Value::Null);
                Shape::Set(Box::new(self.shape(space, element)))
            }
            ("Entity", Some(name)) => Shape::Named(self.type_name(space, name)),
            (_, Some(name)) => self.named(space, name),
            (name, None) => self.named(space, name),
        }
    }

    fn named(self, space: &str, name: &str) -> Shape {
        match self.common(space, name) {
            // Cedar takes no type that stands for itself, so that this ends.
            Some((space, declared)) => self.shape(space, declared),
            None => Shape::Named(self.type_name(space, name)),
        }
    }
}

/// Every attribute with the way to it. What is in a record stands beside it.
fn flattened(way: &str, shape: &Shape, into: &mut Attributes) {
    let Shape::Record(members) = shape else { return };
    for (name, (is_required, shape)) in members {
        let name = attribute(name);
        let way = if way.is_empty() { name } else { format!("{way}.{name}") };
        let of = if matches!(shape, Shape::Record(_)) { "record".to_owned() } else { shape.to_string() };
        flattened(&way, shape, into);
        into.insert(way, (*is_required, of));
    }
}

fn spelt(way: &str, (is_required, of): &(bool, String)) -> String {
    format!("{way}{}: {of}", if *is_required { "" } else { "?" })
}

/// As the schema spells it, so that a name with a dot in it is no way.
fn attribute(name: &str) -> String {
    let is_plain = name.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
    if is_plain && !name.is_empty() { name.to_owned() } else { format!("{name:?}") }
}

fn absolute(space: &str, name: &str) -> String {
    if space.is_empty() { name.to_owned() } else { format!("{space}::{name}") }
}

fn action(space: &str, id: &str) -> String {
    if space.is_empty() { id.to_owned() } else { format!("{space}::Action::{id:?}") }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Set(element) => write!(f, "Set<{element}>"),
            Self::Record(members) => {
                let member = |(name, (is_required, shape)): (&String, &(bool, Self))| {
                    spelt(&attribute(name), &(*is_required, shape.to_string()))
                };
                write!(f, "{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(", "))
            }
        }
    }
}
