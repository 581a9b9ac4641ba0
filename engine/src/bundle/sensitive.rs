//! What the schema declares `@sensitive`: attributes of the context whose values no record may hold.

use std::collections::BTreeSet;

use serde_json::Value;

use super::BundleFault;
use super::place::Place;

/// The annotation.
const ANNOTATION: &str = "sensitive";

/// The attribute of the context that holds the parameters.
pub(super) const PARAMETERS: &str = "parameters";

/// Attributes of the context that every record has in a field of its own: an annotation would keep nothing out.
const RECORDED: [(&str, &str); 6] = [
    ("assurance", "principal.assurance"),
    ("class", "route.class"),
    ("client", "client.address"),
    ("method", "request.method"),
    ("scopes", "principal.scopes"),
    ("time", "time"),
];

/// Names of the attributes that are declared `@sensitive`, from the schema's JSON form. A name that is declared so in one
/// type is so in all: of the two mistakes, hiding too much is the one that can be undone.
pub(super) fn read(schema: &Value, place: &Place<'_>, faults: &mut Vec<BundleFault>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut misplaced = BTreeSet::new();
    for namespace in schema.as_object().into_iter().flat_map(|namespaces| namespaces.values()) {
        for (part, declared) in namespace.as_object().into_iter().flatten() {
            match part.as_str() {
                "entityTypes" => everywhere(declared, &mut |name, _| {
                    misplaced.insert(name.to_owned());
                }),
                _ => everywhere(declared, &mut |name, is_attribute| {
                    let list = if is_attribute { &mut found } else { &mut misplaced };
                    list.insert(name.to_owned());
                }),
            }
        }
        if is_annotated(namespace) {
            misplaced.insert("namespace".to_owned());
        }
    }
    let mut fault = |name: &str, message: String, remedy: &str| {
        faults.push(place.fault(at(place.text(), name), message, remedy));
    };
    for name in misplaced {
        let message = format!("`@sensitive` on `{name}` keeps nothing out of records");
        fault(&name, message, "write it before an attribute of the context, or of its parameters");
    }
    for (name, field) in RECORDED.into_iter().filter(|(name, _)| found.contains(*name)) {
        let message = format!("`@sensitive` on `{name}` keeps nothing out of records: `{field}` holds it");
        fault(name, message, "take the annotation away");
    }
    found
}

/// Where the annotation of this name stands, as far as a look at the words behind it can tell.
fn at(text: &str, name: &str) -> Option<usize> {
    let places = || text.match_indices("@sensitive");
    let own = places().find(|(at, _)| {
        let rest = text.get(*at..).unwrap_or_default();
        let own = rest.split([',', ';', '{']).next().unwrap_or_default();
        own.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|word| word == name)
    });
    own.or_else(|| places().next()).map(|(at, _)| at)
}

/// Calls for each annotated declaration, with its name and whether it is an attribute of a record.
fn everywhere(declared: &Value, found: &mut impl FnMut(&str, bool)) {
    walk(declared, false, found);
}

fn walk(value: &Value, are_attributes: bool, found: &mut impl FnMut(&str, bool)) {
    match value {
        Value::Object(members) => {
            for (name, member) in members.iter().filter(|(name, _)| *name != "annotations") {
                if is_annotated(member) {
                    found(name, are_attributes);
                }
                walk(member, name == "attributes" && !are_attributes, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, false, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_annotated(declared: &Value) -> bool {
    declared.get("annotations").is_some_and(|annotations| annotations.get(ANNOTATION).is_some())
}

#[cfg(test)]
mod tests {
    use crate::bundle::Bundle;
    use crate::bundle::tests::fixture::{load, sources, spell, with};

    const SCHEMA: &str = "schema.cedarschema";

    fn sensitive(from: &str, to: &str) -> Vec<String> {
        load(&with(SCHEMA, from, to)).vocabulary().sensitive.iter().cloned().collect()
    }

    #[test]
    fn attributes_of_the_context_and_its_parameters_can_be_sensitive() {
        assert!(load(&sources()).vocabulary().sensitive.is_empty());
        assert_eq!(sensitive("page?: Long", "@sensitive page?: Long"), ["page"]);
        assert_eq!(sensitive("page?: Long", "@sensitive(\"whose page\") page?: Long"), ["page"]);
        assert_eq!(sensitive("tls: Bool", "@sensitive tls: Bool"), ["tls"]);
        assert_eq!(sensitive("parameters: Parameters", "@sensitive parameters: Parameters"), ["parameters"]);
        assert_eq!(
            sensitive("{ id?: String, page?: Long", "{ @sensitive id?: String, @sensitive page?: Long"),
            ["id", "page"]
        );
        // An attribute that is called like a keyword of the JSON form.
        assert_eq!(sensitive("page?: Long", "page?: Long, @sensitive attributes?: String"), ["attributes"]);
        // Of a context that stands with its action.
        let site = "action \"site.read\" in [\"read\"] appliesTo { principal: [User, Anonymous], resource: Module, context: Facts };";
        let own = "{ method: String, client: ipaddr, time: datetime, assurance: Long, tls: Bool, class: String, \
                   parameters: { @sensitive path?: String }, scopes: Set<String> }";
        assert_eq!(sensitive(site, &site.replace("Facts", own)), ["path"]);
    }

    #[test]
    fn an_annotation_that_keeps_nothing_out_is_a_fault() {
        for (from, to, told) in [
            (
                "suspended: Bool",
                "@sensitive suspended: Bool",
                "`@sensitive` on `suspended` keeps nothing out",
            ),
            ("entity Module;", "@sensitive entity Module;", "`@sensitive` on `Module` keeps nothing out"),
            (
                "type Parameters",
                "@sensitive type Parameters",
                "`@sensitive` on `Parameters` keeps nothing out",
            ),
            ("action read;", "@sensitive action read;", "`@sensitive` on `read` keeps nothing out"),
            ("client: ipaddr", "@sensitive client: ipaddr", "`client.address` holds it"),
            ("time: datetime", "@sensitive time: datetime", "`time` holds it"),
            ("scopes: Set<String>", "@sensitive scopes: Set<String>", "`principal.scopes` holds it"),
        ] {
            let faults = spell(&Bundle::load(&with(SCHEMA, from, to)).unwrap_err());
            assert!(faults.contains(told) && faults.contains("schema.cedarschema:"), "{to}: {faults}");
        }
    }
}
