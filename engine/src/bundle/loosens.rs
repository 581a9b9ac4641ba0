//! What a new bundle permits that the previous one did not, as far as it can be seen without proof.

use std::collections::BTreeSet;

use cedar_policy::{Effect, EntityUid, Policy};

use super::vocabulary::{Action, SWITCH};
use super::{Bundle, uid};
use crate::route::{Accept, Route, Target};

impl Bundle {
    /// Readable sentences on how this bundle is looser than `previous`; empty when a reload may happen on its
    /// own (threat 17). Grants are not looked at: to change them is what a reload is for, and no grant
    /// overrides a guardrail.
    #[must_use]
    pub fn loosens(&self, previous: &Self) -> Vec<String> {
        let mut found = BTreeSet::new();
        self.guardrails(previous, &mut found);
        // A guardrail reaches no further than the names in it: who leaves a role, or what leaves an action group,
        // that a guardrail names, may have left the guardrail.
        let named = named(self).chain(named(previous)).collect();
        self.moved_groups(previous, &named, &mut found);
        self.moved_actions(previous, &named, &mut found);
        // Each path that one of the two bundles names is looked up in both: a row that disappears may leave
        // its path to a broader row, and a new row may take a path from a stricter one.
        for route in previous.routes.routes().iter().chain(self.routes.routes()) {
            let path = route.example_path();
            let after = self.routes.find_text(&route.method, &path);
            let before = previous.routes.find_text(&route.method, &path);
            match (before, after) {
                (Some(before), Some(after)) => {
                    self.route(previous, &before.route, &after.route, &named, &mut found)
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

    fn moved_actions(&self, previous: &Self, named: &BTreeSet<EntityUid>, found: &mut BTreeSet<String>) {
        for (name, before) in &previous.vocabulary.actions {
            let Some(after) = self.vocabulary.actions.get(name) else { continue };
            regrouped(&format!("action `{name}`"), Some(before), Some(after), named, found);
        }
    }

    fn route(
        &self,
        previous: &Self,
        before: &Route,
        after: &Route,
        named: &BTreeSet<EntityUid>,
        found: &mut BTreeSet<String>,
    ) {
        let name = &after.name;
        let mut say = |what: String| {
            found.insert(format!("route `{name}` {what}"));
        };
        for credential in widened(before.accept, after.accept) {
            say(format!("now accepts {credential}"));
        }
        if before.target != after.target {
            say(format!("goes to {} instead of {}", spell(&after.target), spell(&before.target)));
        }
        if before.module != after.module {
            say(format!("belongs to module `{}` instead of `{}`", after.module, before.module));
        }
        if before.class != after.class {
            say(format!("is counted as `{}` instead of `{}`", after.class, before.class));
        }
        let dropped = [
            (before.conceal && !after.conceal, "is no longer concealed"),
            (before.audited && !after.audited, "is no longer recorded before it is forwarded"),
            (before.sandbox && !after.sandbox, "no longer sandboxes its answers"),
            (!before.service_worker && after.service_worker, "now serves service workers"),
            (!before.read_only && after.read_only, "now counts as read, which other sites may cause"),
            (!before.websocket && after.websocket, "now upgrades to a WebSocket"),
            (!before.legacy_bearer_drop && after.legacy_bearer_drop, "now drops foreign bearers"),
        ];
        for (_, what) in dropped.into_iter().filter(|(loosened, _)| *loosened) {
            say(what.to_owned());
        }
        let lists = [
            ("client_sets", &before.client_sets, &after.client_sets),
            ("cookies_up", &before.cookies_up, &after.cookies_up),
            ("cookies_down", &before.cookies_down, &after.cookies_down),
            ("headers_allowed", &before.headers_allowed, &after.headers_allowed),
            ("destinations", &before.destinations, &after.destinations),
        ];
        for (list, before, after) in lists {
            for added in after.iter().filter(|name| !before.contains(name)) {
                say(format!("now has `{added}` in {list}"));
            }
        }
        let (action_before, action_after) = (&before.action, &after.action);
        let (before, after) = (before.leniencies, after.leniencies);
        let leniencies = [
            (!before.encoded_slash && after.encoded_slash, "encoded_slash"),
            (!before.semicolon && after.semicolon, "semicolon"),
            (!before.encoded_percent && after.encoded_percent, "encoded_percent"),
            (!before.repeated_query && after.repeated_query, "repeated_query"),
        ];
        for (_, leniency) in leniencies.into_iter().filter(|(widened, _)| *widened) {
            say(format!("now has `{leniency}` in leniencies"));
        }
        let before = previous.vocabulary.actions.get(action_before.as_ref());
        let after = self.vocabulary.actions.get(action_after.as_ref());
        regrouped(&format!("route `{name}`"), before, after, named, found);
    }
}

/// Entities and actions that guardrails name.
fn named(bundle: &Bundle) -> impl Iterator<Item = EntityUid> {
    let guardrails = bundle.policies.policies().filter(|policy| policy.effect() == Effect::Forbid);
    guardrails.flat_map(Policy::entity_literals)
}

/// What was left and what was joined, of what guardrails name. Joining counts as well: a guardrail may say
/// "unless".
fn moved(
    before: &BTreeSet<EntityUid>,
    after: &BTreeSet<EntityUid>,
    named: &BTreeSet<EntityUid>,
    mut say: impl FnMut(&str, &str),
) {
    for left in before.difference(after).filter(|uid| named.contains(*uid)) {
        say("is no longer in", left.id().unescaped());
    }
    for joined in after.difference(before).filter(|uid| named.contains(*uid)) {
        say("is now in", joined.id().unescaped());
    }
}

fn regrouped(
    what: &str,
    before: Option<&Action>,
    after: Option<&Action>,
    named: &BTreeSet<EntityUid>,
    found: &mut BTreeSet<String>,
) {
    let (Some(before), Some(after)) = (before, after) else { return };
    let reach = |action: &Action| -> BTreeSet<EntityUid> {
        action.ancestors.iter().cloned().chain([action.uid.clone()]).collect()
    };
    moved(&reach(before), &reach(after), named, |how, group| {
        let kind = if group.starts_with(SWITCH) { "kill switch" } else { "action group" };
        found.insert(format!("{what} {how} {kind} `{group}`, which a guardrail names"));
    });
}

fn widened(before: Accept, after: Accept) -> impl Iterator<Item = &'static str> {
    let kinds = [
        (!before.anonymous && after.anonymous, "anonymous callers"),
        (!before.session && after.session, "sessions"),
        (!before.api_key && after.api_key, "API keys"),
    ];
    kinds.into_iter().filter(|(widened, _)| *widened).map(|(_, kind)| kind)
}

fn spell(target: &Target) -> String {
    match target {
        Target::Upstream(name) => format!("upstream `{name}`"),
        Target::Page(page) => format!("page {page:?}"),
    }
}
