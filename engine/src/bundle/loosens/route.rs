//! How one row is looser than another that had its path.

use crate::path::Leniencies;
use crate::route::{Accept, Route, StepUp};

/// What to say of the later row, without its name.
pub(super) fn changes(before: &Route, after: &Route) -> Vec<String> {
    let mut said = moves(before, after);
    said.extend(credentials(before.accept, after.accept));
    said.extend(StepUp::looser(before.step_up.as_ref(), after.step_up.as_ref()));
    said.extend(flags(before, after).map(str::to_owned));
    said.extend(lists(before, after));
    said.extend(leniencies(before.leniencies, after.leniencies));
    said.extend(spellings(before, after));
    said
}

/// Where it goes, and under whose rules and limits.
fn moves(before: &Route, after: &Route) -> Vec<String> {
    let mut said = Vec::new();
    if before.target != after.target {
        said.push(format!("goes to {} instead of {}", after.target, before.target));
    }
    if before.module != after.module {
        said.push(format!("belongs to module `{}` instead of `{}`", after.module, before.module));
    }
    if before.class != after.class {
        said.push(format!("is counted as `{}` instead of `{}`", after.class, before.class));
    }
    if after.cost < before.cost {
        said.push(format!("costs {} instead of {} of its limits", after.cost, before.cost));
    }
    if let Some(bound) = before.body_bytes_max
        && after.body_bytes_max.is_none_or(|later| later > bound)
    {
        said.push(format!("takes bodies of more than {bound} bytes"));
    }
    if let Some(deadline) = before.deadline_s
        && after.deadline_s.is_none_or(|later| later > deadline)
    {
        said.push(format!("may take longer than {deadline} s"));
    }
    said
}

fn credentials(before: Accept, after: Accept) -> impl Iterator<Item = String> {
    let kinds = [
        (!before.anonymous && after.anonymous, "anonymous callers"),
        (!before.session && after.session, "sessions"),
        (!before.api_key && after.api_key, "API keys"),
        (!before.access_token && after.access_token, "access tokens"),
    ];
    set(kinds).map(|kind| format!("now accepts {kind}"))
}

fn flags(before: &Route, after: &Route) -> impl Iterator<Item = &'static str> {
    set([
        (before.conceal && !after.conceal, "is no longer concealed"),
        (before.audited && !after.audited, "is no longer recorded before it is forwarded"),
        (before.sandbox && !after.sandbox, "no longer sandboxes its answers"),
        (!before.service_worker && after.service_worker, "now serves service workers"),
        (!before.read_only && after.read_only, "now counts as read, which other sites may cause"),
        (!before.websocket && after.websocket, "now upgrades to a WebSocket"),
        (!before.legacy_bearer_drop && after.legacy_bearer_drop, "now drops foreign bearers"),
        (!before.destinations.is_empty() && after.destinations.is_empty(), "no longer lists destinations"),
    ])
}

fn lists(before: &Route, after: &Route) -> impl Iterator<Item = String> {
    let lists = [
        ("client_sets", &before.client_sets, &after.client_sets),
        ("named", &before.named, &after.named),
        ("names", &before.names, &after.names),
        ("cookies_up", &before.cookies_up, &after.cookies_up),
        ("cookies_down", &before.cookies_down, &after.cookies_down),
        ("headers_allowed", &before.headers_allowed, &after.headers_allowed),
        ("destinations", &before.destinations, &after.destinations),
    ];
    lists.into_iter().flat_map(|(list, before, after)| {
        let added = after.iter().filter(move |name| !before.contains(name));
        added.map(move |name| format!("now has `{name}` in {list}"))
    })
}

fn leniencies(before: Leniencies, after: Leniencies) -> impl Iterator<Item = String> {
    let kinds = [
        (!before.encoded_slash && after.encoded_slash, "encoded_slash"),
        (!before.semicolon && after.semicolon, "semicolon"),
        (!before.encoded_percent && after.encoded_percent, "encoded_percent"),
        (!before.url_in_tail && after.url_in_tail, "url_in_tail"),
        (!before.repeated_query && after.repeated_query, "repeated_query"),
    ];
    set(kinds).map(|leniency| format!("now has `{leniency}` in leniencies"))
}

/// Which values its parameters have: a type says which spellings policy, limits and upstream can meet (threat 3).
fn spellings(before: &Route, after: &Route) -> Option<String> {
    let types = |route: &Route| route.parameters.iter().map(|(_, kind)| kind.clone()).collect::<Vec<_>>();
    let lost = before.query.iter().find(|declared| !after.query.contains(declared));
    match lost {
        Some((name, _)) => Some(format!("reads query parameter `{name}` differently")),
        None if types(before) != types(after) => Some("takes other values of its parameters".to_owned()),
        None => None,
    }
}

fn set<const N: usize>(flags: [(bool, &'static str); N]) -> impl Iterator<Item = &'static str> {
    flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag)
}
