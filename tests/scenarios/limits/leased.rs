//! Limits of which gateways take some ahead.

use super::*;

#[test]
fn what_a_gateway_has_leased_is_spent_without_redis_seen_by_an_operator_and_never_more_than_there_is() {
    let (upstream, mut redis) = (Upstream::start(), Redis::start());
    let limits = "gateways = 2\nper_user = \"100/24h\"\nlease_percent = 10\nlease_idle = \"60s\"";
    let mut gateways = [0, 1].map(|_| sharing(&upstream, &redis, limits));
    let [mut process, _process] = gateways.each_mut().map(|gateway| gateway.start());
    // A service is the same one at both, by its name; its keys are not.
    let keys = gateways.each_mut().map(|gateway| key(gateway, "caller"));
    let [mine, other] = &gateways;
    for gateway in &gateways {
        reaches(gateway, "up", "redis");
    }
    let told = |result: &str| metric(mine, &format!("cedargate_limits_redis_total{{result=\"{result}\"}}"));
    assert_eq!(admitted(mine, &keys[0], 40), 40);
    assert_eq!(told("leased") + told("answered"), 40);
    assert!(told("leased") >= 25, "{} of 40 asked", told("answered"));
    let left = |gateway: &Production| {
        let (content, said) = gateway.cli(&["limits", "show", "service", "caller", "per-user", "--json"], "");
        assert!(content, "{said}");
        let told: Value = serde_json::from_str(said.trim()).unwrap_or_else(|_| panic!("{said}"));
        told["limits"][0]["left"].as_u64().expect("a number")
    };
    assert!((50..60).contains(&left(other)), "what the other holds counts as taken: {}", left(other));
    assert_eq!(left(mine), 60, "what it holds itself does not");
    assert_eq!(left(other), 60, "and has gone back");

    // The first asks, the second takes 1 more, the fourth 2 more and the seventh 4 more.
    assert_eq!(admitted(mine, &keys[0], 7), 7);
    redis.kill();
    reaches(mine, "degraded", "away");
    reaches(other, "degraded", "away");
    // Redis' last word was 51 taken. A half of the other 49 is this gateway's, besides what it holds.
    assert_eq!(admitted(mine, &keys[0], 40), 4 + 24);
    redis.restart();
    for gateway in &gateways {
        reaches(gateway, "up", "redis");
    }
    // It enforced its half, which counts for both.
    assert_eq!(admitted(other, &keys[1], 3), 1);
    assert_eq!(admitted(mine, &keys[0], 3), 0);

    // One that stops gives back what it holds.
    let (content, said) = mine.cli(&["limits", "reset", "service", "caller"], "");
    assert!(content, "{said}");
    assert_eq!(admitted(mine, &keys[0], 40), 40);
    assert!(left(other) < 60, "some of it is held: {}", left(other));
    process.signal(Signal::TERM);
    assert!(process.wait().success());
    assert_eq!(left(other), 60);
}
