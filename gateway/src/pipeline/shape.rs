//! Stage 7, shape: the request's headers become what the upstream may see.
//!
//! Nothing by which the client names itself goes through: its credentials, its cookies, every identity and
//! forwarding header. What goes instead is ours: the signed identity, the request id, honest forwarding.

use engine::headers;
use engine::route::{Fact, Route};
use engine::spelt;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::pipeline::Passage;
use crate::pipeline::forward::speaks_for;
use crate::pipeline::headers::{HeaderEdits, spelt_id};
use crate::pipeline::receive::Received;
use crate::pipeline::record::Trail;
use crate::pipeline::trace::traceparent;

/// Credentials. What speaks of the hop between client and gateway alone is left out by whoever writes the request.
static CREDENTIALS: [HeaderName; 4] = [
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::COOKIE,
    HeaderName::from_static("x-api-key"),
];

/// What the upstream is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shaped {
    /// The target, serialised from the canonical form and never copied from the wire.
    pub target: String,
    /// The changes to the headers.
    pub edits: HeaderEdits,
}

/// Shapes a request. `identity` is the header of the signed identity, when there is one to tell.
#[must_use]
pub fn shape(
    passage: &Passage,
    received: &Received,
    headers: &HeaderMap,
    identity: Option<HeaderValue>,
    trail: &Trail,
) -> Shaped {
    let route = &passage.matched().route;
    let mut edits = HeaderEdits::with_room();
    for name in &received.dropped {
        if !headers::survives(name.as_str(), &route.headers_allowed) {
            edits.remove(name.clone());
        }
    }
    for name in headers::nominated(headers) {
        edits.remove(name);
    }
    for name in &CREDENTIALS {
        edits.remove(name.clone());
    }
    if let Some(cookies) = cookies(headers, route) {
        edits.set(header::COOKIE, cookies);
    }
    if let Some(identity) = identity {
        edits.set(header::AUTHORIZATION, identity);
    }
    forwarding(&mut edits, received, trail);
    if !route.names.is_empty() {
        // Its answer is read here.
        edits.remove(header::ACCEPT_ENCODING);
    }
    Shaped { target: target(passage, received), edits }
}

fn target(passage: &Passage, received: &Received) -> String {
    let sets = sets(passage);
    let query = if sets.is_empty() {
        received.query.as_str().into()
    } else {
        std::borrow::Cow::from(received.query.with_set(&sets))
    };
    if query.is_empty() {
        received.path.as_str().to_owned()
    } else {
        format!("{}?{query}", received.path.as_str())
    }
}

/// The query parameters that we set: of nobody there is nothing to say, and nothing of what was sent stays.
fn sets(passage: &Passage) -> Vec<(&str, String)> {
    let principal = speaks_for(passage).map_or_else(String::new, |principal| principal.id.to_string());
    let sets = passage.matched().route.sets.iter();
    sets.map(|(name, fact)| match fact {
        Fact::Principal => (name.as_str(), principal.clone()),
    })
    .collect()
}

fn forwarding(edits: &mut HeaderEdits, received: &Received, trail: &Trail) {
    const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
    const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");
    const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
    const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
    const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
    let mut client = String::with_capacity(16);
    spelt::address(&mut client, received.client);
    edits.set(REQUEST_ID, spelt_id(trail.request_id));
    edits.set(TRACE_PARENT, traceparent(&trail.trace));
    if let Ok(client) = HeaderValue::try_from(client) {
        edits.set(FORWARDED_FOR, client.clone());
        edits.set(REAL_IP, client);
    }
    static HTTPS: HeaderValue = HeaderValue::from_static("https");
    static HTTP: HeaderValue = HeaderValue::from_static("http");
    edits.set(FORWARDED_PROTO, if received.tls { HTTPS.clone() } else { HTTP.clone() });
    edits.set(FORWARDED_HOST, received.host.as_str());
    if !trail.trace.is_continued() {
        edits.remove(TRACE_STATE);
    }
}

/// The cookies that the route lets through. Ours is never among them, whatever a route file says: it would
/// hand the session to the upstream.
fn cookies(headers: &HeaderMap, route: &Route) -> Option<String> {
    if route.cookies_up.is_empty() {
        return None;
    }
    let kept: Vec<&str> = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .map(str::trim)
        .filter(|pair| {
            let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
            route.cookies_up.iter().any(|allowed| allowed == name) && !crate::authn::cookies::is_ours(name)
        })
        .collect();
    (!kept.is_empty()).then(|| kept.join("; "))
}
