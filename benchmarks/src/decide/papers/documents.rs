//! Document sharing: access lists for viewing, modifying and managing, private documents, and users who block others.

use std::str::FromStr as _;

use cedar_policy::{PolicySet, RestrictedExpression};

use super::super::random::Random;
use super::store::{Store, any, entity, numbered, several};
use super::{EACH, REQUESTS, SEED, Workload};
use crate::Failure;

const POLICIES: &str = r#"
permit (principal, action, resource is Document) when { principal == resource.owner };
permit (principal, action == Action::"view", resource is Document) when { principal in resource.viewers };
permit (principal, action in [Action::"view", Action::"modify"], resource is Document)
  when { principal in resource.modifiers };
permit (principal, action in [Action::"view", Action::"modify", Action::"manage"], resource is Document)
  when { principal in resource.managers };
permit (principal, action == Action::"view", resource is Document)
  when { resource.public == "view" || resource.public == "edit" };
permit (principal, action == Action::"modify", resource is Document) when { resource.public == "edit" };
forbid (principal, action, resource is Document) when { resource.private && principal != resource.owner };
forbid (principal, action, resource is Document)
  when { principal has blocked && resource.owner in principal.blocked };
forbid (principal, action, resource is Document)
  when { resource.owner has blocked && principal in resource.owner.blocked };
forbid (principal, action, resource) unless { context.authenticated };
"#;

/// The workload.
pub(super) fn workload() -> Result<Workload, Failure> {
    let (mut random, mut store) = (Random::seeded(SEED), Store::default());
    for number in 0..EACH {
        // Being in a group of somebody's blocked people is being blocked.
        let above = several(&mut random, "Group", EACH, 4)?;
        let blocking = several(&mut random, "Blocked", EACH, 2)?;
        let blocked = [("blocked", entity(numbered("Blocked", number)?))];
        let attributes = if random.percent(40) { &blocked[..] } else { &[] };
        store.add(numbered("User", number)?, attributes, above.into_iter().chain(blocking))?;
        store.add(numbered("Group", number)?, &[], [])?;
        store.add(numbered("Blocked", number)?, &[], [])?;
        let attributes = [
            ("owner", entity(any(&mut random, "User", EACH)?)),
            ("viewers", entity(any(&mut random, "Group", EACH)?)),
            ("modifiers", entity(any(&mut random, "Group", EACH)?)),
            ("managers", entity(any(&mut random, "Group", EACH)?)),
            ("private", RestrictedExpression::new_bool(random.percent(20))),
            (
                "public",
                RestrictedExpression::new_string(random.of(&["none", "none", "view", "edit"]).to_owned()),
            ),
        ];
        store.add(numbered("Document", number)?, &attributes, [])?;
    }
    for _ in 0..REQUESTS {
        let authenticated = RestrictedExpression::new_bool(random.percent(95));
        let action = random.of(&["view", "view", "modify", "manage", "delete"]);
        let document = any(&mut random, "Document", EACH)?;
        let context = vec![("authenticated".to_owned(), authenticated)];
        store.ask(any(&mut random, "User", EACH)?, action, document, context)?;
    }
    Ok(Workload { name: "documents", policies: PolicySet::from_str(POLICIES)?, asked: store.asked()? })
}
