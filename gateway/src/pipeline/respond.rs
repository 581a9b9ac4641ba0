//! Stage 9, respond: every answer gets what every answer has, refusals included.

use engine::limit::{Left, Rate};
use engine::refusal::{Lacking, Refusal};
use engine::route::Route;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use uuid::Uuid;

use crate::config::settings::LimitHeaders;
use crate::pipeline::headers::{HeaderEdits, Names, spelt_id};

/// One year, the least that browsers' preload lists ask for.
const HSTS: &str = "max-age=31536000; includeSubDomains";
/// What a document of an upstream may do where the upstream says nothing itself.
const DOCUMENT_CSP: &str = "object-src 'none'; base-uri 'self'; frame-ancestors 'self'";
/// User-made content: scripts run, but in an origin of their own, so that they are not same-origin with the
/// gateway's pages and cannot register a service worker over them.
const SANDBOX_CSP: &str = "sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads";
/// Our own pages: nothing but their own style sheet and form, in nobody's frame.
const PAGE_CSP: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// What most answers are given, checked when the program is built and not for each of them.
mod values {
    use http::HeaderValue;

    pub(super) static HSTS: HeaderValue = HeaderValue::from_static(super::HSTS);
    pub(super) static FRAMED: HeaderValue = HeaderValue::from_static("SAMEORIGIN");
    pub(super) static NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");
}

/// Headers of an upstream's answer that never reach a client: they tell what runs behind us, or speak for
/// the whole origin that our own pages share.
static REMOVED: Names<19> = Names::new([
    "server",
    "x-powered-by",
    "x-aspnet-version",
    "via",
    "service-worker-allowed",
    "clear-site-data",
    "x-request-id",
    "x-correlation-id",
    "alt-svc",
    "strict-transport-security",
    "public-key-pins",
    "refresh",
    "nel",
    "report-to",
    "reporting-endpoints",
    "accept-ch",
    "content-security-policy-report-only",
    "www-authenticate",
    "proxy-authenticate",
]);

/// What an answer is given where it says nothing of that itself.
static UNLESS_SAID: [(HeaderName, HeaderValue); 5] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(DOCUMENT_CSP)),
    (header::REFERRER_POLICY, HeaderValue::from_static("strict-origin-when-cross-origin")),
    (OPENER_POLICY, HeaderValue::from_static("same-origin")),
    (PERMISSIONS_POLICY, HeaderValue::from_static("interest-cohort=()")),
    (header::CACHE_CONTROL, HeaderValue::from_static("private, no-store")),
];

/// What is known of an answer's place.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Our id of the request.
    pub request_id: Uuid,
    /// Whether the host's public address is `https`.
    pub https: bool,
    /// Whether the answer belongs to somebody known.
    pub known: bool,
    /// The route, where one was found.
    pub route: Option<&'a Route>,
    /// What is told of the limits of a request that was permitted.
    pub limits: &'a [(HeaderName, HeaderValue)],
}

/// What an upstream's answer loses and gains.
#[must_use]
pub fn respond(place: &Place<'_>, answer: &HeaderMap) -> HeaderEdits {
    let mut edits = HeaderEdits::with_room();
    // One walk over its names: looking up each that is asked for costs more.
    let (mut said, mut sets_cookies) = ([false; UNLESS_SAID.len()], false);
    for name in answer.keys() {
        if REMOVED.contains(name) || name.as_str().starts_with("access-control-") {
            edits.remove(name.clone());
        }
        sets_cookies |= *name == header::SET_COOKIE;
        said.iter_mut().zip(&UNLESS_SAID).for_each(|(said, (ours, _))| *said |= name == ours);
    }
    if sets_cookies {
        set_cookies(&mut edits, place, answer);
    }
    everywhere(&mut edits, place);
    for ((name, value), _) in UNLESS_SAID.iter().zip(said).filter(|(_, said)| !said) {
        // What is of nobody may be kept by anybody.
        if place.known || *name != header::CACHE_CONTROL {
            edits.set(name.clone(), value.clone());
        }
    }
    // A value that browsers do not know, such as `ALLOWALL`, would stand in the place of ours and do nothing.
    let framed = answer
        .get(header::X_FRAME_OPTIONS)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"deny"));
    if !framed {
        edits.set(header::X_FRAME_OPTIONS, values::FRAMED.clone());
    }
    if place.route.is_some_and(|route| route.sandbox) {
        // Beside the upstream's own policy: browsers enforce every one of them.
        edits.append(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX_CSP));
    }
    edits
}

/// What an answer that we make ourselves carries besides `said`, which it brings along.
#[must_use]
pub fn own(place: &Place<'_>, said: &[(HeaderName, HeaderValue)]) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    everywhere(&mut edits, place);
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, PAGE_CSP),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CACHE_CONTROL, "no-store"),
        (OPENER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (PERMISSIONS_POLICY, "interest-cohort=()"),
    ] {
        if !said.iter().any(|(said, _)| *said == name) {
            edits.set(name, HeaderValue::from_static(value));
        }
    }
    said.iter().cloned().for_each(|(name, value)| edits.append(name, value));
    edits
}

/// What says which limit is spent: draft-ietf-httpapi-ratelimit-headers-11, and the older names where they are wanted.
/// The window is rounded up to whole seconds, as the draft has no others.
#[must_use]
pub fn limited(refusal: &Refusal, headers: LimitHeaders) -> Vec<(HeaderName, HeaderValue)> {
    let Some(Lacking { limit: name, rate, left, retry_after_s: wait }) =
        refusal.spent().filter(|_| headers != LimitHeaders::None)
    else {
        return Vec::new();
    };
    let window = rate.period_ms.div_ceil(1000);
    // Names are plain words of the configuration, so that none of them needs an escape.
    let policy = format!("\"{name}\";q={};w={window}", rate.count);
    let mut said = vec![
        (HeaderName::from_static("ratelimit-policy"), HeaderValue::try_from(policy).ok()),
        (
            HeaderName::from_static("ratelimit"),
            HeaderValue::try_from(format!("\"{name}\";r={left};t={wait}")).ok(),
        ),
    ];
    if headers == LimitHeaders::Both {
        said.push((HeaderName::from_static("x-ratelimit-limit"), Some(HeaderValue::from(rate.count))));
        said.push((HeaderName::from_static("x-ratelimit-remaining"), Some(HeaderValue::from(left))));
        said.push((HeaderName::from_static("x-ratelimit-reset"), Some(HeaderValue::from(wait))));
    }
    said.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// What says how limits stand, by name, to whom they let through: the same headers, of each limit; of those with the same
/// name, and in the older headers, of the one of which the smallest part is left. `t` is when all of it is there again.
#[must_use]
pub fn left(limits: &[(String, Rate, Left)], headers: LimitHeaders) -> Vec<(HeaderName, HeaderValue)> {
    if headers == LimitHeaders::None {
        return Vec::new();
    }
    let part = |left: &Left, other: &Left| u64::from(left.count) * u64::from(other.of);
    let tighter = |one: &Left, other: &Left| part(one, other) < part(other, one);
    let mut told: Vec<&(String, Rate, Left)> = Vec::with_capacity(limits.len());
    for limit in limits {
        match told.iter_mut().find(|(name, ..)| *name == limit.0) {
            Some(known) if tighter(&limit.2, &known.2) => *known = limit,
            Some(_) => {}
            None => told.push(limit),
        }
    }
    let listed = |item: &dyn Fn(&(String, Rate, Left)) -> String| {
        let items: Vec<String> = told.iter().map(|limit| item(limit)).collect();
        HeaderValue::try_from(items.join(", ")).ok()
    };
    let Some((_, _, least)) =
        told.iter().copied().reduce(|least, limit| if tighter(&limit.2, &least.2) { limit } else { least })
    else {
        return Vec::new();
    };
    let policy =
        listed(&|(name, rate, _)| format!("\"{name}\";q={};w={}", rate.count, rate.period_ms.div_ceil(1000)));
    let state =
        listed(&|(name, _, left)| format!("\"{name}\";r={};t={}", left.count, left.full_ms.div_ceil(1000)));
    let mut said = vec![
        (HeaderName::from_static("ratelimit-policy"), policy),
        (HeaderName::from_static("ratelimit"), state),
    ];
    if headers == LimitHeaders::Both {
        let reset = least.full_ms.div_ceil(1000);
        said.push((HeaderName::from_static("x-ratelimit-limit"), Some(HeaderValue::from(least.of))));
        said.push((HeaderName::from_static("x-ratelimit-remaining"), Some(HeaderValue::from(least.count))));
        said.push((HeaderName::from_static("x-ratelimit-reset"), Some(HeaderValue::from(reset))));
    }
    said.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn everywhere(edits: &mut HeaderEdits, place: &Place<'_>) {
    // In the place of an upstream's own: two accounts under one name would be read as one.
    for (name, value) in place.limits {
        edits.set(name.clone(), value.clone());
    }
    edits.set(REQUEST_ID, spelt_id(place.request_id));
    edits.set(header::X_CONTENT_TYPE_OPTIONS, values::NO_SNIFF.clone());
    if place.https {
        edits.set(header::STRICT_TRANSPORT_SECURITY, values::HSTS.clone());
    }
}

/// Lets through the cookies that the route lists, never one of our names.
fn set_cookies(edits: &mut HeaderEdits, place: &Place<'_>, answer: &HeaderMap) {
    edits.remove(header::SET_COOKIE);
    let Some(route) = place.route else { return };
    for value in answer.get_all(header::SET_COOKIE) {
        let name = cookie_name(value);
        if route.cookies_down.iter().any(|allowed| Some(allowed.as_str()) == name)
            && !name.is_some_and(crate::authn::cookies::is_ours)
        {
            edits.append(header::SET_COOKIE, value.clone());
        }
    }
}

fn cookie_name(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()?.split('=').next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::route;

    fn place(route: &Route) -> Place<'_> {
        Place { request_id: Uuid::nil(), https: true, known: true, route: Some(route), limits: &[] }
    }

    #[test]
    fn who_is_let_through_is_told_of_each_limit_once_and_the_tightest_in_the_older_headers() {
        let limit = |name: &str, of, count, full_ms| {
            let left = Left { count, of, next_ms: 0, full_ms };
            (name.to_owned(), Rate { count: of, period_ms: 3_600_000 }, left)
        };
        let check = |limits: &[(String, Rate, Left)], headers, expected: &[&str]| {
            let said: Vec<String> = left(limits, headers)
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                .collect();
            assert_eq!(said, expected, "{headers:?}");
        };
        let all = [
            limit("auth", 10, 9, 0),
            limit("per-user", 1_000, 740, 936_001),
            limit("auth", 10, 7, 1_080_000),
        ];
        let draft = [
            "ratelimit-policy: \"auth\";q=10;w=3600, \"per-user\";q=1000;w=3600",
            "ratelimit: \"auth\";r=7;t=1080, \"per-user\";r=740;t=937",
        ];
        check(&all, LimitHeaders::Draft, &draft);
        let older = ["x-ratelimit-limit: 10", "x-ratelimit-remaining: 7", "x-ratelimit-reset: 1080"];
        check(
            &all,
            LimitHeaders::Both,
            &[draft, [older[0], older[1]]].concat().into_iter().chain([older[2]]).collect::<Vec<_>>(),
        );
        check(&all, LimitHeaders::None, &[]);
        check(&[], LimitHeaders::Both, &[]);
    }

    #[test]
    fn an_upstream_does_not_speak_of_limits_where_the_gateway_does() {
        let route = route();
        let said = [(HeaderName::from_static("ratelimit"), HeaderValue::from_static("\"llm\";r=1;t=2"))];
        let theirs = headers(&[("ratelimit", "\"theirs\";r=9;t=9")]);
        let found = |place: &Place<'_>| {
            let mut answer = theirs.clone();
            respond(place, &answer.clone()).apply(&mut answer);
            answer.get_all("ratelimit").iter().cloned().collect::<Vec<_>>()
        };
        assert_eq!(found(&Place { limits: &said, ..place(&route) }), [said[0].1.clone()]);
        assert_eq!(found(&place(&route)), [theirs["ratelimit"].clone()]);
    }

    #[test]
    fn a_spent_limit_is_told_by_its_name_its_rate_and_its_time() {
        use engine::refusal::Spent;
        let throttled = Refusal::Throttled {
            retry_after_s: 7,
            limit: Some(Spent {
                limit: "per-address".into(),
                rate: Rate { count: 100, period_ms: 60_000 },
                left: 0,
            }),
        };
        let rate = Some(Rate { count: 3, period_ms: 1_500 });
        let spent = Refusal::QuotaSpent { limit: "llm".into(), retry_after_s: 1, rate, left: 0 };
        let check = |refusal: &Refusal, headers, expected: &[&str]| {
            let said: Vec<String> = limited(refusal, headers)
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                .collect();
            assert_eq!(said, expected, "{refusal:?} {headers:?}");
        };
        let of_address =
            ["ratelimit-policy: \"per-address\";q=100;w=60", "ratelimit: \"per-address\";r=0;t=7"];
        check(&throttled, LimitHeaders::Draft, &of_address);
        check(&throttled, LimitHeaders::None, &[]);
        let both = [
            "ratelimit-policy: \"llm\";q=3;w=2",
            "ratelimit: \"llm\";r=0;t=1",
            "x-ratelimit-limit: 3",
            "x-ratelimit-remaining: 0",
            "x-ratelimit-reset: 1",
        ];
        check(&spent, LimitHeaders::Both, &both);
        // Less than the request costs is not nothing.
        let some = Refusal::QuotaSpent { limit: "llm".into(), retry_after_s: 1, rate, left: 2 };
        let both = [both[0], "ratelimit: \"llm\";r=2;t=1", both[2], "x-ratelimit-remaining: 2", both[4]];
        check(&some, LimitHeaders::Both, &both);
        for silent in [
            Refusal::Throttled { retry_after_s: 7, limit: None },
            Refusal::QuotaSpent { limit: "websockets".into(), retry_after_s: 7, rate: None, left: 0 },
            Refusal::Unrouted,
            // Nobody learns of a route by its limit.
            throttled.clone().concealed(),
        ] {
            check(&silent, LimitHeaders::Both, &[]);
        }
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        headers
    }

    fn check(route: &Route, answer: &[(&str, &str)], name: &str, expected: &[&str]) {
        let mut answer = headers(answer);
        respond(&place(route), &answer.clone()).apply(&mut answer);
        let found: Vec<&str> = answer.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(found, expected, "{name}");
    }

    #[test]
    fn what_an_upstream_says_for_our_origin_is_taken_away() {
        let route = route();
        for name in [
            "server",
            "x-powered-by",
            "via",
            "service-worker-allowed",
            "clear-site-data",
            "alt-svc",
            "access-control-allow-origin",
            "access-control-allow-credentials",
        ] {
            check(&route, &[(name, "anything")], name, &[]);
        }
        check(&route, &[("x-request-id", "theirs")], "x-request-id", &[&Uuid::nil().to_string()]);
    }

    #[test]
    fn cookies_of_an_upstream_pass_by_allow_list_and_never_by_our_names() {
        let mut route = route();
        route.cookies_down =
            vec!["theme".to_owned(), "__Host-cedargate".to_owned(), "cedargate_session".to_owned()];
        let sent = [
            ("set-cookie", "theme=dark; Path=/"),
            ("set-cookie", "session_id=x"),
            ("set-cookie", "__Host-cedargate=stolen; Path=/"),
            ("set-cookie", " cedargate_session =stolen"),
        ];
        check(&route, &sent, "set-cookie", &["theme=dark; Path=/"]);
        route.cookies_down.clear();
        check(&route, &sent, "set-cookie", &[]);
    }

    #[test]
    fn an_upstream_keeps_its_own_policies_and_gets_ours_where_it_has_none() {
        let mut route = route();
        check(
            &route,
            &[("content-security-policy", "default-src 'self'")],
            "content-security-policy",
            &["default-src 'self'"],
        );
        check(&route, &[], "content-security-policy", &[DOCUMENT_CSP]);
        check(&route, &[("cache-control", "public")], "cache-control", &["public"]);
        check(&route, &[], "cache-control", &["private, no-store"]);
        check(&route, &[], "strict-transport-security", &[HSTS]);
        route.sandbox = true;
        check(
            &route,
            &[("content-security-policy", "default-src 'self'")],
            "content-security-policy",
            &["default-src 'self'", SANDBOX_CSP],
        );
    }
}
