//! What a new bundle permits that the previous one did not, as far as it can be seen without proof.

mod classes;
mod route;

use std::collections::BTreeSet;

use cedar_policy::{Effect, EntityUid, Policy};

use super::vocabulary::{Action, SWITCH};
use super::{Bundle, uid};
use crate::route::Route;

pub(super) use classes::Grants;
pub use classes::Recounted;

impl Bundle {
    /// Readable sentences on how this bundle is looser than `previous`; empty when a reload may happen on its
    /// own (threat 17). What grants permit is not looked at: to change that is what a reload is for, and no grant
    /// overrides a guardrail. By which limits they have it counted is: [`Bundle::recounted`].
    #[must_use]
    pub fn loosens(&self, previous: &Self) -> Vec<String> {
        let mut found = BTreeSet::new();
        self.guardrails(previous, &mut found);
        for name in previous.vocabulary.sensitive.difference(&self.vocabulary.sensitive) {
            found.insert(format!("`{name}` is no longer @sensitive: records would hold its values"));
        }
        // A guardrail reaches no further than the names in it: who leaves a role, or what leaves an action group,
        // that a guardrail names, may have left the guardrail.
        let named = named(self).chain(named(previous)).collect();
        self.moved_groups(previous, &named, &mut found);
        self.renamed_roles(previous, &mut found);
        self.moved_actions(previous, &named, &mut found);
        // Each path that one of the two bundles names is looked up in both: a row that disappears may leave
        // its path to a broader row, and a new row may take a path from a stricter one.
        for route in previous.routes.routes().iter().chain(self.routes.routes()) {
            let path = route.example_path();
            let after = self.routes.find_text(&route.method, &path);
            let before = previous.routes.find_text(&route.method, &path);
            match (before, after) {
                (Some(before), Some(after)) => {
                    self.moved_route(previous, &before.route, &after.route, &named, &mut found)
                }
                (None, Some(after)) if after.route.accept.anonymous => {
                    found
                        .insert(format!("route `{}` is new and accepts anonymous callers", after.route.name));
                }
                (None, Some(_)) | (Some(_) | None, None) => {}
            }
        }
        found.into_iter().collect()
    }

    fn guardrails(&self, previous: &Self, found: &mut BTreeSet<String>) {
        for before in previous.policies().filter(|facts| facts.forbids) {
            match self.policy(&before.id) {
                None => {
                    found.insert(format!("guardrail `{}` is gone", before.id));
                }
                Some(after) if after.text != before.text => {
                    found.insert(format!("guardrail `{}` says something else", before.id));
                }
                Some(_) => {}
            }
        }
    }

    fn moved_groups(&self, previous: &Self, named: &BTreeSet<EntityUid>, found: &mut BTreeSet<String>) {
        for group in previous.groups().intersection(&self.groups()) {
            let ancestors = |bundle: &Self| -> BTreeSet<EntityUid> {
                let group = uid(&bundle.vocabulary.types.group, group);
                bundle.hierarchy.ancestors(&group).into_iter().flatten().cloned().collect()
            };
            moved(&ancestors(previous), &ancestors(self), named, |how, role| {
                found.insert(format!("group `{group}` {how} role `{role}`, which a guardrail names"));
            });
        }
    }

    /// An upstream knows a role by an attribute of it: another value there can make an administrator of a guest, and
    /// no policy of ours is asked about it.
    fn renamed_roles(&self, previous: &Self, found: &mut BTreeSet<String>) {
        for role in previous.roles().intersection(&self.roles()) {
            let attributes = |bundle: &Self| {
                let role = bundle.hierarchy.entity(&uid(&bundle.vocabulary.types.role, role))?;
                role.to_json_value().ok()?.get("attrs").cloned()
            };
            if attributes(previous) != attributes(self) {
                found.insert(format!("role `{role}` has other attributes, and upstreams know it by them"));
            }
        }
    }

    fn moved_actions(&self, previous: &Self, named: &BTreeSet<EntityUid>, found: &mut BTreeSet<String>) {
        for (name, before) in &previous.vocabulary.actions {
            let Some(after) = self.vocabulary.actions.get(name) else { continue };
            regrouped(&format!("action `{name}`"), before, after, named, found);
        }
    }

    fn moved_route(
        &self,
        previous: &Self,
        before: &Route,
        after: &Route,
        named: &BTreeSet<EntityUid>,
        found: &mut BTreeSet<String>,
    ) {
        let what = format!("route `{}`", after.name);
        found.extend(route::changes(before, after).into_iter().map(|change| format!("{what} {change}")));
        let before = previous.vocabulary.actions.get(before.action.as_ref());
        let after = self.vocabulary.actions.get(after.action.as_ref());
        if let (Some(before), Some(after)) = (before, after) {
            regrouped(&what, before, after, named, found);
        }
    }
}

/// Entities and actions that guardrails name.
fn named(bundle: &Bundle) -> impl Iterator<Item = EntityUid> {
    let guardrails = bundle.policies.policies().filter(|policy| policy.effect() == Effect::Forbid);
    guardrails.flat_map(Policy::entity_literals)
}

const LEFT: &str = "is no longer in";
const JOINED: &str = "is now in";

/// What was left and what was joined, of what guardrails name. Joining counts as well: a guardrail may say
/// "unless".
fn moved(
    before: &BTreeSet<EntityUid>,
    after: &BTreeSet<EntityUid>,
    named: &BTreeSet<EntityUid>,
    mut say: impl FnMut(&str, &str),
) {
    for left in before.difference(after).filter(|uid| named.contains(*uid)) {
        say(LEFT, left.id().unescaped());
    }
    for joined in after.difference(before).filter(|uid| named.contains(*uid)) {
        say(JOINED, joined.id().unescaped());
    }
}

fn regrouped(
    what: &str,
    before: &Action,
    after: &Action,
    named: &BTreeSet<EntityUid>,
    found: &mut BTreeSet<String>,
) {
    let reach = |action: &Action| -> BTreeSet<EntityUid> {
        action.ancestors.iter().cloned().chain([action.uid.clone()]).collect()
    };
    moved(&reach(before), &reach(after), named, |how, group| {
        let is_switch = group.starts_with(SWITCH);
        let kind = if is_switch { "kill switch" } else { "action group" };
        // To throw a kill switch must be possible at once.
        if !(is_switch && how == JOINED) {
            found.insert(format!("{what} {how} {kind} `{group}`, which a guardrail names"));
        }
    });
}
