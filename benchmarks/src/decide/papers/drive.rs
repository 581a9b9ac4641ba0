//! A cloud drive: documents in folders, shared by what a user may view, owned, or public.

use std::str::FromStr as _;

use cedar_policy::{EntityUid, PolicyId, PolicySet, RestrictedExpression, SlotId};

use super::super::random::Random;
use super::store::{Store, any, entity, numbered, several};
use super::{EACH, REQUESTS, SEED, Workload};
use crate::Failure;

const POLICIES: &str = r#"
permit (principal, action == Action::"read", resource) when { resource in principal.views };
permit (principal, action in [Action::"read", Action::"write", Action::"share"], resource)
  when { resource in principal.owns };
permit (principal, action == Action::"read", resource is Document) when { resource.public };
permit (principal, action in [Action::"new_document", Action::"new_folder"], resource)
  when { resource == principal.drive };
"#;
const LINKED: &str = r#"
@id("share") permit (principal in ?principal, action == Action::"read", resource in ?resource);
@id("own") permit (principal == ?principal, action in [Action::"read", Action::"write", Action::"share"],
  resource in ?resource);
@id("public") permit (principal, action == Action::"read", resource is Document) when { resource.public };
"#;
const ACTIONS: [&str; 6] = ["read", "read", "read", "write", "share", "new_document"];

/// The drive whose shares are in attributes and hierarchy.
pub(super) fn workload() -> Result<Workload, Failure> {
    let (store, _) = world()?;
    Ok(Workload { name: "gdrive", policies: PolicySet::from_str(POLICIES)?, asked: store.asked()? })
}

/// The drive with a link for each share and each owned folder.
pub(super) fn linked() -> Result<Workload, Failure> {
    let (store, shares) = world()?;
    let mut policies = PolicySet::new();
    let read = PolicySet::from_str(LINKED)?;
    for template in read.templates() {
        let id = template.annotation("id").ok_or("a template without an id")?;
        policies.add_template(template.new_id(PolicyId::new(id)))?;
    }
    for policy in read.policies() {
        policies.add(policy.new_id(PolicyId::new("public")))?;
    }
    for (number, (template, principal, resource)) in shares.into_iter().enumerate() {
        let slots = [(SlotId::principal(), principal), (SlotId::resource(), resource)].into_iter().collect();
        policies.link(PolicyId::new(template), PolicyId::new(format!("{template}-{number}")), slots)?;
    }
    Ok(Workload { name: "gdrive_links", policies, asked: store.asked()? })
}

/// Template, principal and resource of a share.
type Share = (&'static str, EntityUid, EntityUid);

fn world() -> Result<(Store, Vec<Share>), Failure> {
    let (mut random, mut store, mut shares) = (Random::seeded(SEED), Store::default(), Vec::new());
    for number in 0..EACH {
        let groups = several(&mut random, "Group", EACH, 3)?;
        let drive = numbered("Drive", number)?;
        let attributes = [
            ("views", entity(numbered("View", number)?)),
            ("owns", entity(drive.clone())),
            ("drive", entity(drive.clone())),
        ];
        let own = numbered("User", number)?;
        store.add(own.clone(), &attributes, groups)?;
        shares.push(("own", own, drive));
        store.add(numbered("Group", number)?, &[], [])?;
        // Two levels of folders under the drives; a view is above what it shows.
        let above = if number < EACH / 2 {
            any(&mut random, "Drive", EACH)?
        } else {
            any(&mut random, "Folder", EACH / 2)?
        };
        let views = several(&mut random, "View", EACH, 3)?;
        store.add(numbered("Folder", number)?, &[], views.into_iter().chain([above]))?;
        let folder = any(&mut random, "Folder", EACH)?;
        let views = several(&mut random, "View", EACH, 3)?;
        let public = RestrictedExpression::new_bool(random.percent(10));
        store.add(numbered("Document", number)?, &[("public", public)], views.into_iter().chain([folder]))?;
        for kind in ["Folder", "Document"] {
            for _ in 0..10 {
                let share = (any(&mut random, "Group", EACH)?, any(&mut random, kind, EACH)?);
                shares.push(("share", share.0, share.1));
            }
        }
    }
    for _ in 0..REQUESTS {
        let action = random.of(&ACTIONS);
        let kind = if action == "new_document" { "Drive" } else { random.of(&["Document", "Folder"]) };
        // Creating is asked for one's own drive more often than not.
        let user = random.below(EACH);
        let resource = if kind == "Drive" && random.percent(70) {
            numbered(kind, user)?
        } else {
            any(&mut random, kind, EACH)?
        };
        store.ask(numbered("User", user)?, action, resource, Vec::new())?;
    }
    Ok((store, shares))
}
