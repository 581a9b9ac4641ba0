//! A task list: lists with an owner, and teams that may read or edit them.

use std::str::FromStr as _;

use cedar_policy::PolicySet;

use super::super::random::Random;
use super::store::{Store, any, entity, numbered, several};
use super::{EACH, REQUESTS, SEED, Workload};
use crate::Failure;

const POLICIES: &str = r#"
permit (principal, action in [Action::"create_list", Action::"get_lists"], resource == Application::"tasks");
permit (principal, action, resource is List) when { resource.owner == principal };
permit (principal, action == Action::"get_list", resource is List)
  when { principal in resource.readers || principal in resource.editors };
permit (principal, action in [Action::"update_list", Action::"create_task", Action::"update_task", Action::"delete_task"],
  resource is List) when { principal in resource.editors };
"#;
const ON_LIST: [&str; 6] =
    ["get_list", "get_list", "update_list", "create_task", "update_task", "delete_list"];

/// The workload.
pub(super) fn workload() -> Result<Workload, Failure> {
    let (mut random, mut store) = (Random::seeded(SEED), Store::default());
    let application = super::super::cedar::uid("Application", "tasks")?;
    store.add(application.clone(), &[], [])?;
    for number in 0..EACH {
        let teams = several(&mut random, "Team", EACH, 4)?;
        store.add(numbered("User", number)?, &[], teams)?;
        // Half of the teams are parts of others.
        let above = if number < EACH / 2 { Vec::new() } else { several(&mut random, "Team", EACH / 2, 2)? };
        store.add(numbered("Team", number)?, &[], above)?;
        let attributes = [
            ("owner", entity(any(&mut random, "User", EACH)?)),
            ("readers", entity(any(&mut random, "Team", EACH)?)),
            ("editors", entity(any(&mut random, "Team", EACH)?)),
        ];
        store.add(numbered("List", number)?, &attributes, [application.clone()])?;
    }
    for _ in 0..REQUESTS {
        let user = any(&mut random, "User", EACH)?;
        if random.percent(15) {
            store.ask(user, random.of(&["create_list", "get_lists"]), application.clone(), Vec::new())?;
        } else {
            let list = any(&mut random, "List", EACH)?;
            store.ask(user, random.of(&ON_LIST), list, Vec::new())?;
        }
    }
    Ok(Workload { name: "tinytodo", policies: PolicySet::from_str(POLICIES)?, asked: store.asked()? })
}
