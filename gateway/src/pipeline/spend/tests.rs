//! What a request takes, of which limits.

use engine::bundle;
use engine::limit::{Limit, Rate};
use storage::counters::{MEMORY_BYTES_DEFAULT, WhenAway};

use super::*;
use crate::config::settings::{Limits, LimitsAway, LimitsSliding};
use crate::pipeline::testing;

const SINCE: UnixMillis = UnixMillis(7);

const fn rate(count: u32) -> Rate {
    Rate { count, period_ms: 1_000 }
}

/// A limit of 1 for each address, of 2 for each principal, and of 3 and 4 for two classes.
fn settings() -> Limits {
    Limits {
        per_address: rate(1),
        per_user: rate(2),
        classes: [("auth".into(), rate(3)), ("llm".into(), rate(4))].into(),
        ..Limits::default()
    }
}

fn client() -> IpAddr {
    "192.0.2.7".parse().unwrap()
}

fn address(limit: &str, count: u32) -> Take<'_> {
    Take::new(LimitKey::address(limit, client()), rate(count)).since(SINCE)
}

fn own<'a>(identity: &Identity, limit: &'a str, count: u32) -> Take<'a> {
    let Identity::Known(principal) = identity else { panic!("somebody is known") };
    Take::new(LimitKey::principal(limit, principal.id), rate(count)).since(SINCE)
}

fn matched(class: &str, anonymous: bool) -> RouteMatch {
    costing(1, class, anonymous)
}

fn costing(cost: u32, class: &str, anonymous: bool) -> RouteMatch {
    let mut route = testing::route();
    route.cost = cost;
    route.class = class.into();
    route.accept.anonymous = anonymous;
    RouteMatch { route: Arc::new(route), parameters: Vec::new().into() }
}

/// What is asked of a request: enforced, how many of those are the address's, and shadowed.
#[track_caller]
fn check(
    limits: &InForce,
    (class, anonymous, given): (&str, bool, &[&str]),
    identity: &Identity,
    shared: bool,
    expected: (&[Take<'_>], usize, &[Take<'_>]),
) {
    check_on(limits, &matched(class, anonymous), given, identity, shared, expected);
}

/// The same on this route.
#[track_caller]
fn check_on(
    limits: &InForce,
    matched: &RouteMatch,
    given: &[&str],
    identity: &Identity,
    shared: bool,
    expected: (&[Take<'_>], usize, &[Take<'_>]),
) {
    let given = given.iter().map(|class| Arc::from(*class)).collect::<Vec<_>>();
    let (class, anonymous) = (&matched.route.class, matched.route.accept.anonymous);
    let given: Vec<&Arc<str>> = given.iter().collect();
    let asks = Asks { limits, since: SINCE, given: &given, matched, identity, client: client() };
    let takes = asks.takes(shared);
    let shown = |takes: &[Take<'_>]| takes.iter().map(|take| format!("{take:?}")).collect::<Vec<_>>();
    let (enforced, of_address, shadowed) = expected;
    assert_eq!(
        shown(&takes.enforced),
        shown(enforced),
        "{class} {anonymous} {given:?} {identity:?} {shared}"
    );
    assert_eq!(
        shown(&takes.shadowed),
        shown(shadowed),
        "{class} {anonymous} {given:?} {identity:?} {shared}"
    );
    assert_eq!(takes.of_address, of_address, "{class} {anonymous} {given:?} {identity:?} {shared}");
}

#[test]
fn a_request_takes_what_its_principal_has_and_where_gateways_share_what_its_address_has() {
    let limits = InForce::of(&settings(), &bundle::Limits::default());
    let (id, nobody) = (testing::known(7, 7), Identity::Anonymous);
    let closed = WhenAway::Closed;
    let (all, auth) = (address("per-address", 1), address("auth", 3).when_away(closed));
    let (user, llm) = (own(&id, "per-user", 2), own(&id, "llm", 4));
    let own_auth = own(&id, "auth", 3).when_away(closed);
    check(&limits, ("standard", true, &[]), &nobody, true, (&[all], 1, &[]));
    check(&limits, ("standard", true, &[]), &nobody, false, (&[], 0, &[]));
    check(&limits, ("auth", true, &[]), &nobody, true, (&[all, auth], 2, &[]));
    check(&limits, ("auth", true, &[]), &nobody, false, (&[], 0, &[]));
    check(&limits, ("standard", false, &[]), &id, true, (&[all, user], 1, &[]));
    check(&limits, ("llm", false, &[]), &id, true, (&[all, user, llm], 1, &[]));
    check(&limits, ("llm", false, &[]), &id, false, (&[user, llm], 0, &[]));
    check(&limits, ("auth", true, &[]), &id, true, (&[all, auth, user, own_auth], 2, &[]));
}

#[test]
fn what_a_route_costs_is_taken_of_all_limits_but_the_addresss_own() {
    let limits = InForce::of(&settings(), &bundle::Limits::default());
    let (id, nobody) = (testing::known(7, 7), Identity::Anonymous);
    let all = address("per-address", 1);
    let [user, llm] = [own(&id, "per-user", 2), own(&id, "llm", 4)].map(|take| take.costing(20));
    let nobodys = address("llm", 4).costing(20);
    let dear = costing(20, "llm", false);
    check_on(&limits, &dear, &[], &id, false, (&[user, llm], 0, &[]));
    check_on(&limits, &dear, &[], &id, true, (&[all, user, llm], 1, &[]));
    let open = costing(20, "llm", true);
    check_on(&limits, &open, &[], &nobody, true, (&[all, nobodys], 2, &[]));
    check_on(&limits, &open, &[], &nobody, false, (&[], 0, &[]));
    // In the class that a policy gives, and in one that is only tried out.
    check_on(&limits, &costing(20, "chat", false), &["llm"], &id, false, (&[user, llm], 0, &[]));
    check_on(&limits, &costing(20, "chat", true), &["llm"], &nobody, false, (&[nobodys], 1, &[]));
    let shadow = Limit { rate: rate(6), sliding: false, shadow: true };
    let tried = bundle::Limits { per_user: Some(shadow), ..bundle::Limits::default() };
    let limits = InForce::of(&settings(), &tried);
    check_on(&limits, &dear, &[], &id, false, (&[llm], 0, &[own(&id, "per-user", 6).costing(20)]));
}

#[tokio::test]
async fn whoever_has_too_little_left_is_told_how_much_and_keeps_it() {
    let counters = Counters::memory(MEMORY_BYTES_DEFAULT);
    let id = testing::known(7, 7);
    let now = UnixMillis(1_795_557_600_000);
    let asks = async |cost| {
        let enforced = vec![own(&id, "llm", 50).costing(cost)];
        take(&counters, now, &Takes { enforced, of_address: 0, shadowed: Vec::new() }).await
    };
    let refused =
        |left| Err(Refusal::QuotaSpent { limit: "llm".into(), retry_after_s: 1, rate: Some(rate(50)), left });
    assert_eq!(asks(20).await, Ok(vec![]));
    assert_eq!(asks(20).await, Ok(vec![]));
    assert_eq!(asks(20).await, refused(10));
    assert_eq!(asks(9).await, Ok(vec![]));
    assert_eq!(asks(2).await, refused(1));
    assert_eq!(asks(1).await, Ok(vec![]));
    assert_eq!(asks(1).await, refused(0));
}

#[test]
fn a_class_that_a_policy_gives_counts_instead_of_the_routes() {
    let limits = InForce::of(&settings(), &bundle::Limits::default());
    let (id, nobody) = (testing::known(7, 7), Identity::Anonymous);
    let auth = |take: Take<'static>| take.when_away(WhenAway::Closed);
    let (user, llm) = (own(&id, "per-user", 2), own(&id, "llm", 4));
    check(&limits, ("standard", false, &["llm"]), &id, false, (&[user, llm], 0, &[]));
    check(&limits, ("auth", false, &["llm"]), &id, false, (&[user, llm], 0, &[]));
    // Several are all counted, and the tightest answers.
    let both = [user, auth(own(&id, "auth", 3)), llm];
    check(&limits, ("chat", false, &["auth", "llm"]), &id, false, (&both, 0, &[]));
    // Who is nobody is counted by address, here and in a shared store.
    check(&limits, ("chat", true, &["llm"]), &nobody, false, (&[address("llm", 4)], 1, &[]));
    let both = [address("per-address", 1), address("llm", 4)];
    check(&limits, ("chat", true, &["llm"]), &nobody, true, (&both, 2, &[]));
    // In the class of the route that address was counted already, and is not twice.
    check(&limits, ("llm", true, &["llm"]), &nobody, true, (&both, 2, &[]));
    check(&limits, ("llm", true, &["llm"]), &nobody, false, (&[], 0, &[]));
}

#[test]
fn a_limit_that_is_none_is_not_counted_and_one_that_slides_is_counted_so() {
    let id = testing::known(7, 7);
    let none = Limits { per_address: Rate::NONE, per_user: Rate::NONE, ..settings() };
    let limits = InForce::of(&none, &bundle::Limits::default());
    check(&limits, ("standard", true, &[]), &id, true, (&[], 0, &[]));
    let closed = |take: Take<'static>| take.when_away(WhenAway::Closed);
    let auth = [closed(address("auth", 3)), closed(own(&id, "auth", 3))];
    check(&limits, ("auth", true, &[]), &id, true, (&auth, 1, &[]));
    let sliding = LimitsSliding { per_address: false, per_user: true, classes: ["auth".into()].into() };
    let away = LimitsAway { classes: [("auth".into(), WhenAway::Local)].into(), ..LimitsAway::default() };
    let limits = InForce::of(&Limits { sliding, away, ..settings() }, &bundle::Limits::default());
    let slides =
        |take: Take<'static>| Take::new(take.key.sliding(true), take.rate).when_away(take.away).since(SINCE);
    let expected = [
        address("per-address", 1),
        slides(address("auth", 3)),
        slides(own(&id, "per-user", 2)),
        slides(own(&id, "auth", 3)),
    ];
    check(&limits, ("auth", true, &[]), &id, true, (&expected, 2, &[]));
}

#[test]
fn what_is_only_tried_out_is_taken_beside() {
    let id = testing::known(7, 7);
    let shadow = |count| Limit { rate: rate(count), sliding: false, shadow: true };
    let bundle = bundle::Limits {
        per_address: Some(shadow(5)),
        per_user: Some(shadow(6)),
        classes: [("llm".into(), shadow(7))].into(),
    };
    let limits = InForce::of(&settings(), &bundle);
    let shadowed = [own(&id, "per-user", 6), own(&id, "llm", 7)];
    check(&limits, ("llm", false, &[]), &id, false, (&[], 0, &shadowed));
    let shadowed = [address("per-address", 5), own(&id, "per-user", 6)];
    let auth = own(&id, "auth", 3).when_away(WhenAway::Closed);
    check(&limits, ("auth", false, &[]), &id, true, (&[auth], 0, &shadowed));
}

#[tokio::test]
async fn each_limit_that_is_tried_out_says_for_itself_whether_it_would_have_refused() {
    let counters = Counters::memory(MEMORY_BYTES_DEFAULT);
    let id = testing::known(7, 7);
    let shadowed = vec![own(&id, "one", 1), own(&id, "two", 2)];
    let takes = Takes { enforced: vec![own(&id, "real", 3)], of_address: 0, shadowed };
    let says = async || {
        let tried = take(&counters, UnixMillis(1_795_557_600_000), &takes).await?;
        Ok(tried.into_iter().map(|spent| spent.limit.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(says().await, Ok(vec![]));
    assert_eq!(says().await, Ok(vec!["one".to_owned()]));
    // The one that refuses keeps nothing from being counted by the other.
    assert_eq!(says().await, Ok(vec!["one".to_owned(), "two".to_owned()]));
    let refused =
        Refusal::QuotaSpent { limit: "real".into(), retry_after_s: 1, rate: Some(rate(3)), left: 0 };
    assert_eq!(says().await, Err(refused));
}
