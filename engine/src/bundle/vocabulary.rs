//! What the schema declares, in the terms that decisions need.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::str::FromStr;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{
    CedarSchemaError, Entity, EntityTypeName, EntityUid, ParseErrors, Schema, SchemaFragment,
};
use serde_json::Value;

use super::BundleFault;
use super::place::Place;
use super::sensitive;
use super::sources::SCHEMA;
use crate::identity::{Identity, PrincipalKind};

/// The prefix of the action groups that are kill switches.
pub(super) const SWITCH: &str = "switch.";

/// Attributes of principals that the gateway can supply.
pub(crate) const PRINCIPAL_ATTRIBUTES: [&str; 3] = ["authenticated_at", "name", "suspended"];

/// The schema with what decisions look up in it.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    pub(crate) schema: Schema,
    pub(crate) types: Types,
    pub(crate) actions: BTreeMap<String, Action>,
    /// Attributes by entity type, as the schema declares them.
    attributes: BTreeMap<String, BTreeSet<String>>,
    /// Attributes of the context whose values no record may hold.
    pub(crate) sensitive: BTreeSet<String>,
    /// The schema as it was read.
    text: Box<str>,
}

/// Names of the entity types that the gateway knows by name.
#[derive(Debug)]
pub(crate) struct Types {
    pub(crate) user: EntityTypeName,
    pub(crate) service: EntityTypeName,
    pub(crate) operator: EntityTypeName,
    pub(crate) anonymous: EntityTypeName,
    pub(crate) role: EntityTypeName,
    pub(crate) group: EntityTypeName,
    pub(crate) module: EntityTypeName,
}

/// One action.
#[derive(Debug)]
pub(crate) struct Action {
    pub(crate) uid: EntityUid,
    /// The action with all its groups, ready for a decision's slice.
    pub(crate) entity: Entity,
    /// All groups that it is in.
    pub(crate) ancestors: HashSet<EntityUid>,
    pub(crate) principals: HashSet<EntityTypeName>,
    pub(crate) on_module: bool,
}

impl Types {
    fn parse() -> Result<Self, Box<ParseErrors>> {
        let name = |text| EntityTypeName::from_str(text).map_err(Box::new);
        Ok(Self {
            user: name("User")?,
            service: name("Service")?,
            operator: name("Operator")?,
            anonymous: name("Anonymous")?,
            role: name("Role")?,
            group: name("Group")?,
            module: name("Module")?,
        })
    }
}

impl Action {
    /// `Some(true)` for read, `Some(false)` for write, `None` if it is not in exactly one of the two.
    pub(crate) fn read_only(&self) -> Option<bool> {
        match (self.is_in("read"), self.is_in("write")) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            (true, true) | (false, false) => None,
        }
    }

    fn is_in(&self, group: &str) -> bool {
        self.ancestors.iter().any(|ancestor| ancestor.id().unescaped() == group)
    }
}

impl Vocabulary {
    /// Reads the schema, or says what is wrong with it.
    pub(super) fn read(text: &str, faults: &mut Vec<BundleFault>) -> Option<Self> {
        let place = Place::new(SCHEMA, text);
        let schema = match Schema::from_cedarschema_str(text) {
            Ok((schema, warnings)) => {
                for warning in warnings {
                    let at =
                        DetailedError::from(&warning).source_locations.first().map(|label| label.loc.start);
                    faults.push(place.fault(
                        at,
                        warning.to_string(),
                        "a name that hides another is a mistake: rename it",
                    ));
                }
                schema
            }
            Err(error) => {
                faults.push(schema_fault(&place, &error));
                return None;
            }
        };
        let mut fault = |message: String| faults.push(place.fault(None, message, "correct the schema"));
        let types = Types::parse().map_err(|error| fault(error.to_string())).ok()?;
        let actions = actions(&schema, &types).map_err(&mut fault).ok()?;
        let json = in_json(text).map_err(&mut fault).ok()?;
        let attributes = attributes(&json);
        let sensitive = sensitive::read(&json, &place, faults);
        let vocabulary = Self { schema, types, actions, attributes, sensitive, text: text.into() };
        vocabulary.principals(&place, faults);
        Some(vocabulary)
    }

    /// Attributes of an entity type.
    pub(crate) fn attributes(&self, type_name: &EntityTypeName) -> impl Iterator<Item = &str> {
        let declared = self.attributes.get(type_name.basename());
        declared.into_iter().flatten().map(String::as_str)
    }

    /// All that the schema declares, in its JSON form. Made anew each time: only who compares bundles needs it.
    pub(crate) fn declared(&self) -> Value {
        // It was read before, so that it reads again.
        in_json(&self.text).unwrap_or_default()
    }

    /// Whether entities of this type come from stores and sockets, never from entity files.
    pub(crate) fn is_principal(type_name: &EntityTypeName) -> bool {
        ["User", "Service", "Operator", "Anonymous"].contains(&type_name.basename())
    }

    /// The entity type of an identity.
    pub(crate) fn type_of(&self, identity: &Identity) -> &EntityTypeName {
        match identity {
            Identity::Anonymous => &self.types.anonymous,
            Identity::Known(principal) => match principal.kind {
                PrincipalKind::User => &self.types.user,
                PrincipalKind::Service => &self.types.service,
                PrincipalKind::Operator => &self.types.operator,
            },
        }
    }

    fn principals(&self, place: &Place<'_>, faults: &mut Vec<BundleFault>) {
        for (type_name, supplied) in [
            (&self.types.user, &PRINCIPAL_ATTRIBUTES[..]),
            (&self.types.service, &PRINCIPAL_ATTRIBUTES),
            (&self.types.operator, &PRINCIPAL_ATTRIBUTES),
            (&self.types.anonymous, &[]),
        ] {
            for attribute in self.attributes(type_name).filter(|name| !supplied.contains(name)) {
                let message = format!("nobody supplies `{attribute}` of {type_name}");
                let remedy =
                    format!("the gateway supplies {}: remove the attribute", PRINCIPAL_ATTRIBUTES.join(", "));
                let at = place.text().find(attribute);
                faults.push(place.fault(at, message, remedy));
            }
        }
    }
}

fn actions(schema: &Schema, types: &Types) -> Result<BTreeMap<String, Action>, String> {
    let hierarchy = schema.action_entities().map_err(|error| error.to_string())?;
    let mut actions = BTreeMap::new();
    for uid in schema.actions() {
        let groups: HashSet<EntityUid> = hierarchy.ancestors(uid).into_iter().flatten().cloned().collect();
        let principals = schema.principals_for_action(uid).into_iter().flatten().cloned().collect();
        let mut resources = schema.resources_for_action(uid).into_iter().flatten();
        let action = Action {
            uid: uid.clone(),
            entity: Entity::new_no_attrs(uid.clone(), groups.clone()),
            ancestors: groups,
            principals,
            on_module: resources.any(|resource| *resource == types.module),
        };
        let name = uid.id().unescaped().to_owned();
        // Rows name an action by its id alone: which of two is asked for would be left to chance.
        if let Some(other) = actions.insert(name, action) {
            let mut both = [uid.to_string(), other.uid.to_string()];
            both.sort_unstable();
            return Err(format!("{} have one id, and rows name actions by their ids", both.join(" and ")));
        }
    }
    Ok(actions)
}

/// The schema in its JSON form, which lists what Cedar's `Schema` does not tell.
fn in_json(text: &str) -> Result<Value, String> {
    let (fragment, _) = SchemaFragment::from_cedarschema_str(text).map_err(|error| error.to_string())?;
    fragment.to_json_value().map_err(|error| error.to_string())
}

/// The attributes of entity types.
fn attributes(json: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let Some(Value::Object(types)) = json.pointer("//entityTypes") else {
        return BTreeMap::new();
    };
    let attributes = types.iter().map(|(name, declared)| {
        let shape = declared.pointer("/shape/attributes").and_then(Value::as_object);
        (name.clone(), shape.into_iter().flat_map(|shape| shape.keys().cloned()).collect())
    });
    attributes.collect()
}

fn schema_fault(place: &Place<'_>, error: &CedarSchemaError) -> BundleFault {
    let detail = DetailedError::from(error);
    let at = detail.source_locations.first().map(|label| label.loc.start);
    let remedy = detail.help.unwrap_or_else(|| "correct the schema".to_owned());
    place.fault(at, detail.message, remedy)
}
