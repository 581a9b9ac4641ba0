//! A code host: repositories with five roles, each a group that holds the stronger ones, teams in organisations, issues.

use std::str::FromStr as _;

use cedar_policy::{EntityUid, PolicySet};

use super::super::random::Random;
use super::store::{Store, any, entity, numbered, several};
use super::{EACH, REQUESTS, SEED, Workload};
use crate::Failure;

const POLICIES: &str = r#"
permit (principal, action in [Action::"pull", Action::"fork"], resource) when { principal in resource.readers };
permit (principal, action == Action::"assign_issue", resource) when { principal in resource.repository.triagers };
permit (principal, action == Action::"push", resource) when { principal in resource.writers };
permit (principal, action == Action::"edit_issue", resource)
  when { principal in resource.repository.writers };
permit (principal, action in [Action::"edit_issue", Action::"delete_issue"], resource)
  when { principal in resource.repository.readers && principal == resource.reporter };
permit (principal, action == Action::"delete_issue", resource)
  when { principal in resource.repository.maintainers };
permit (principal, action in [Action::"add_reader", Action::"add_writer"], resource)
  when { principal in resource.admins };
"#;
/// Roles, strongest first: who has one has those after it.
const ROLES: [&str; 5] = ["admins", "maintainers", "writers", "triagers", "readers"];
const ON_REPOSITORY: [&str; 4] = ["pull", "fork", "push", "add_reader"];
const ON_ISSUE: [&str; 3] = ["assign_issue", "edit_issue", "delete_issue"];

/// The workload.
pub(super) fn workload() -> Result<Workload, Failure> {
    let (mut random, mut store) = (Random::seeded(SEED), Store::default());
    for number in 0..EACH {
        let role = |role: &str, repository: usize| numbered(role, repository);
        for pair in ROLES.windows(2) {
            let [stronger, weaker] = pair else { continue };
            store.add(role(stronger, number)?, &[], [role(weaker, number)?])?;
        }
        store.add(role("readers", number)?, &[], [])?;
        let mut attributes = Vec::new();
        for name in ROLES {
            attributes.push((name, entity(role(name, number)?)));
        }
        store.add(numbered("Repository", number)?, &attributes, [])?;
        let held = held(&mut random, 2)?;
        store.add(numbered("Team", number)?, &[], held)?;
        let teams = several(&mut random, "Team", EACH, 2)?;
        let held = self::held(&mut random, 4)?;
        store.add(numbered("User", number)?, &[], teams.into_iter().chain(held))?;
        let attributes = [
            ("repository", entity(any(&mut random, "Repository", EACH)?)),
            ("reporter", entity(any(&mut random, "User", EACH)?)),
        ];
        store.add(numbered("Issue", number)?, &attributes, [])?;
    }
    for _ in 0..REQUESTS {
        let (kind, action) = if random.percent(60) {
            ("Repository", random.of(&ON_REPOSITORY))
        } else {
            ("Issue", random.of(&ON_ISSUE))
        };
        let resource = any(&mut random, kind, EACH)?;
        store.ask(any(&mut random, "User", EACH)?, action, resource, Vec::new())?;
    }
    Ok(Workload { name: "github", policies: PolicySet::from_str(POLICIES)?, asked: store.asked()? })
}

fn held(random: &mut Random, count: usize) -> Result<Vec<EntityUid>, Failure> {
    (0..count)
        .map(|_| {
            let role = random.of(&ROLES);
            any(random, role, EACH)
        })
        .collect()
}
