//! Stage 8, forward: whoever holds a passage reaches its target.

use std::sync::Arc;

use engine::identity::{Identity, Principal};
use engine::query::CanonicalQuery;
use engine::refusal::{Malformed, Refusal};
use engine::route::{RouteMatch, Target};

use crate::named::Named;
use crate::pipeline::Passage;
use crate::pipeline::receive::Received;

/// Where a passage leads, after the last conditions that the route sets.
///
/// # Errors
/// `Malformed` for an upgrade where the route has none, anything but a handshake of WebSocket where it is
/// one, a service worker's script that the route does not
/// serve, or a click link whose destination is not on the route's list.
pub fn forward<'a>(passage: &'a Passage, received: &Received) -> Result<&'a Target, Refusal> {
    let route = &passage.matched().route;
    let refuse = |fault| Err(Refusal::Malformed(fault));
    if route.websocket && !received.websocket {
        return refuse(Malformed::UPGRADE_REQUIRED);
    }
    if received.upgrade && !route.websocket {
        return refuse(Malformed::UPGRADE_REFUSED);
    }
    if received.service_worker && !route.service_worker {
        return refuse(Malformed::SERVICE_WORKER_REFUSED);
    }
    if let Some(destination) = destination(passage.matched(), &received.query)
        && !is_listed(&destination, &route.destinations)
    {
        return refuse(Malformed::QUERY_BAD_VALUE);
    }
    Ok(&route.target)
}

/// Refuses a value that no answer has named to this session or key: whoever knew another's would take part in it.
///
/// # Errors
/// `Malformed` with 403.
pub fn named(named: &Named, passage: &Passage, received: &Received) -> Result<(), Refusal> {
    let credential = speaks_for(passage).and_then(|principal| principal.credential_id);
    for name in &passage.matched().route.named {
        if let Some(value) = received.query.value(name)
            && !credential.is_some_and(|credential| named.is_named(credential, name, &value))
        {
            return Err(Refusal::Malformed(Malformed::QUERY_UNNAMED));
        }
    }
    Ok(())
}

/// The address that a click link leads to.
fn destination(matched: &RouteMatch, query: &CanonicalQuery) -> Option<String> {
    let in_path = matched.parameters.iter().find(|(name, _)| &**name == "destination");
    match in_path {
        Some((_, value)) => Some(value.to_string()),
        None if matched.route.destinations.is_empty() => None,
        None => {
            let names = ["destination", "url", "redirect"];
            names.iter().find_map(|name| query.value(name)).map(std::borrow::Cow::into_owned)
        }
    }
}

/// A destination is listed when it begins with a listed origin and that origin ends there: a listed
/// `https://example.com` must not let `https://example.com.evil` through.
fn is_listed(destination: &str, listed: &[String]) -> bool {
    listed.iter().any(|origin| {
        destination
            .strip_prefix(origin.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
    })
}

/// Who a passage speaks for, when somebody is known.
#[must_use]
pub fn speaks_for(passage: &Passage) -> Option<&Arc<Principal>> {
    match passage.permit().identity() {
        Identity::Anonymous => None,
        Identity::Known(principal) => Some(principal),
    }
}

#[cfg(test)]
mod tests {
    use super::is_listed;

    #[test]
    fn a_destination_is_listed_only_up_to_the_end_of_its_origin() {
        let listed = ["https://example.com".to_owned()];
        let check = |destination: &str, expected| {
            assert_eq!(is_listed(destination, &listed), expected, "{destination}")
        };
        check("https://example.com", true);
        check("https://example.com/a?b", true);
        check("https://example.com?b", true);
        for evil in [
            "https://example.com.evil.test",
            "https://example.com@evil.test",
            "https://example.com:8443/",
            "https://example.com\\evil.test",
            "http://example.com/",
            "HTTPS://EXAMPLE.COM/",
            "//example.com/",
            "",
        ] {
            check(evil, false);
        }
    }
}
