//! What a new bundle permits that the previous one did not, as far as it can be seen without proof.

use std::collections::BTreeSet;

use super::{Bundle, Vocabulary};
use crate::route::{Accept, Route, Target};

impl Bundle {
    /// Readable sentences on how this bundle is looser than `previous`; empty when a reload may happen on its
    /// own (threat 17). Grants are not looked at: to change them is what a reload is for, and no grant
    /// overrides a guardrail.
    #[must_use]
    pub fn loosens(&self, previous: &Self) -> Vec<String> {
        let mut found = BTreeSet::new();
        self.guardrails(previous, &mut found);
        self.switches(previous, &mut found);
        // Each path that one of the two bundles names is looked up in both: a row that disappears may leave
        // its path to a broader row, and a new row may take a path from a stricter one.
        for route in previous.routes.routes().iter().chain(self.routes.routes()) {
            let path = route.example_path();
            let after = self.routes.find_text(&route.method, &path);
            let before = previous.routes.find_text(&route.method, &path);
            match (before, after) {
                (Some(before), Some(after)) => self.route(previous, &before.route, &after.route, &mut found),
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

    fn switches(&self, previous: &Self, found: &mut BTreeSet<String>) {
        for (name, before) in &previous.vocabulary.actions {
            let Some(after) = self.vocabulary.actions.get(name) else { continue };
            for switch in before.switches().difference(&after.switches()) {
                found.insert(format!("action `{name}` no longer hangs on kill switch `{switch}`"));
            }
        }
    }

    fn route(&self, previous: &Self, before: &Route, after: &Route, found: &mut BTreeSet<String>) {
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
        let switches_before = switches(&previous.vocabulary, before);
        for switch in switches_before.difference(&switches(&self.vocabulary, after)) {
            say(format!("no longer hangs on kill switch `{switch}`"));
        }
        let dropped = [
            (before.conceal && !after.conceal, "is no longer concealed"),
            (before.audited && !after.audited, "is no longer recorded before it is forwarded"),
            (before.sandbox && !after.sandbox, "no longer sandboxes its answers"),
            (!before.service_worker && after.service_worker, "now serves service workers"),
            (!before.read_only && after.read_only, "now counts as read, which other sites may cause"),
            (!before.websocket && after.websocket, "now upgrades to a WebSocket"),
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
    }
}

fn switches<'a>(vocabulary: &'a Vocabulary, route: &Route) -> BTreeSet<&'a str> {
    let action = vocabulary.actions.get(route.action.as_ref());
    action.map(super::vocabulary::Action::switches).unwrap_or_default()
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
