//! Policies in Cedar's own terms, without a bundle: an index that answers as Cedar's `Authorizer` does, at a cost that does
//! not grow with the number of policies.
//!
//! ```sh
//! cargo run -p engine --example index
//! ```

use std::error::Error;
use std::str::FromStr;

use cedar_policy::{Context, Entities, EntityUid, PolicyId, PolicySet, Request};
use engine::authz::PolicyIndex;

const POLICIES: &str = r#"
@id("album") permit (principal in Group::"friends", action == Action::"view", resource in Album::"summer");
@id("private") forbid (principal, action, resource) when { resource.private && resource.owner != principal };
@id("careless") permit (principal, action == Action::"edit", resource) when { resource.editors.contains(principal) };
"#;

const ENTITIES: &str = r#"[
  { "uid": { "type": "User", "id": "ada" }, "attrs": {}, "parents": [{ "type": "Group", "id": "friends" }] },
  { "uid": { "type": "User", "id": "bob" }, "attrs": {}, "parents": [] },
  { "uid": { "type": "Photo", "id": "beach" }, "attrs": { "private": false, "owner": { "__entity": { "type": "User", "id": "bob" } } }, "parents": [{ "type": "Album", "id": "summer" }] },
  { "uid": { "type": "Photo", "id": "diary" }, "attrs": { "private": true, "owner": { "__entity": { "type": "User", "id": "bob" } } }, "parents": [{ "type": "Album", "id": "summer" }] }
]"#;

/// Asks, and says what the policies say.
fn ask(
    index: &PolicyIndex,
    entities: &Entities,
    who: &str,
    action: &str,
    photo: &str,
) -> Result<String, Box<dyn Error>> {
    let uid = |kind: &str, id: &str| -> Result<EntityUid, Box<dyn Error>> {
        Ok(EntityUid::from_str(&format!("{kind}::\"{id}\""))?)
    };
    let request = Request::new(
        uid("User", who)?,
        uid("Action", action)?,
        uid("Photo", photo)?,
        Context::empty(),
        None,
    )?;
    let verdict = index.evaluate(&request, entities);
    // Cedar leaves out what fails. A forbid that fails no longer forbids, so this program, like the gateway, permits
    // nothing where any policy has failed.
    let word = match (verdict.erring.is_empty(), verdict.permits) {
        (false, _) => "undecidable",
        (true, true) => "permit",
        (true, false) => "deny",
    };
    let ids = if verdict.erring.is_empty() { verdict.determining } else { verdict.erring };
    Ok(format!("{who} {action} {photo}: {word} [{}]", ids.iter().collect::<Vec<_>>().join(", ")))
}

fn told() -> Result<Vec<String>, Box<dyn Error>> {
    let parsed = PolicySet::from_str(POLICIES)?;
    // The index tells policies by their ids; those of a text are numbers until they are named.
    let mut policies = PolicySet::new();
    for policy in parsed.policies() {
        let id = policy.annotation("id").unwrap_or_default();
        policies.add(policy.new_id(PolicyId::new(id)))?;
    }
    // Made once, and asked as often as there are requests, from as many threads as there are.
    let index = PolicyIndex::new(&policies);
    let entities = Entities::from_json_str(ENTITIES, None)?;
    let asked = [
        ("ada", "view", "beach"),
        ("ada", "view", "diary"),
        ("bob", "view", "beach"),
        ("ada", "edit", "beach"),
    ];
    asked.into_iter().map(|(who, action, photo)| ask(&index, &entities, who, action, photo)).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    for line in told()? {
        println!("{line}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_index_says_who_decided() {
        assert_eq!(
            super::told().unwrap(),
            [
                "ada view beach: permit [album]",
                "ada view diary: deny [private]",
                "bob view beach: deny []",
                // The photo has no editors: the policy fails, and nothing is permitted.
                "ada edit beach: undecidable [careless]",
            ]
        );
    }
}
