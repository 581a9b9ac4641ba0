//! What is left of a limit, and of one that is a ceiling.

use super::*;

#[test]
fn an_operator_sees_what_somebody_has_left_and_gives_it_back_also_around_an_outage() {
    let (upstream, mut redis) = (Upstream::start(), Redis::start());
    let mut production = sharing(&upstream, &redis, "gateways = 2\nper_user = \"10/1h\"");
    let _process = production.start();
    let key = key(&mut production, "caller");
    reaches(&production, "up", "redis");
    assert_eq!(admitted(&production, &key, 3), 3);
    let ask = |verb: &str, words: &[&str]| {
        production.cli(&[&["limits", verb, "service", "caller"], words].concat(), "")
    };
    let (content, said) = ask("show", &[]);
    assert!(content, "{said}");
    let line = said.lines().find(|line| line.contains("per-user (redis)")).unwrap_or(&said);
    assert!(line.contains("7 of 10 left, 10 in 60 min; full again in 18 min"), "{said}");
    assert!(said.contains("refusals (here): 60 of 60 left"), "{said}");
    assert_eq!(admitted(&production, &key, 8), 7, "looking takes nothing");
    let (_, said) = ask("show", &["per-user", "--json"]);
    let told: Value = serde_json::from_str(said.trim()).unwrap_or_else(|_| panic!("{said}"));
    assert_eq!((&told["redis"], &told["limits"][0]["left"]), (&Value::from("up"), &Value::from(0)));
    let (content, said) = ask("reset", &[]);
    assert!(content && said.contains("reset per-user, refusals, step-ups of service"), "{said}");
    assert_eq!(admitted(&production, &key, 8), 8);

    redis.kill();
    reaches(&production, "degraded", "away");
    let (content, said) = ask("show", &["per-user"]);
    assert!(
        content && said.contains("redis is away (") && said.contains("per-user (here): 1 of 5 left"),
        "{said}"
    );
    let (content, said) = ask("reset", &["per-user"]);
    assert!(!content && said.contains("reset it again when it is back"), "{said}");
    redis.restart();
    reaches(&production, "up", "redis");
    let (content, said) = ask("reset", &["per-user"]);
    assert!(content, "{said}");
    assert_eq!(admitted(&production, &key, 12), 10);
    let (content, said) = ask("show", &["per-hour"]);
    assert!(!content && said.contains("there are per-user, refusals, step-ups"), "{said}");
    // Each reset is on record before it is done, and after; also the one that was half done.
    let kinds: Vec<(String, u64)> = production
        .audit()
        .records()
        .iter()
        .filter(|record| record["request"]["path"] == "limits.reset")
        .map(|record| {
            let kind = record["kind"].as_str().unwrap_or_default().to_owned();
            (kind, record["answer"]["status"].as_u64().unwrap_or_default())
        })
        .collect();
    let of = |kind: &str, status| (kind.to_owned(), status);
    let expected = [200, 503, 200].map(|status| [of("opening", 0), of("control", status)]);
    assert_eq!(kinds, expected.as_flattened());
}

#[test]
fn a_ceiling_holds_over_gateways_and_in_an_outage_beside_a_rate() {
    let (upstream, mut redis) = (Upstream::start(), Redis::start());
    let limits = "gateways = 2\nper_user = \"100/1h\"\nclass.standard.rate = \"10/1h\"\nclass.standard.algorithm = \"sliding\"";
    let mut production = sharing(&upstream, &redis, limits);
    let _process = production.start();
    let key = key(&mut production, "caller");
    reaches(&production, "up", "redis");
    assert_eq!(admitted(&production, &key, 12), 10);
    let refused = ask(&production, READ, Some(&key));
    let policy = refused.header("ratelimit-policy");
    assert_eq!((refused.status, policy), (429, Some("\"standard\";q=10;w=3600")), "{:?}", refused.headers);
    // An hour and a twentieth, less what has passed of that twentieth.
    let wait: u64 = refused.header("retry-after").and_then(|wait| wait.parse().ok()).expect("a time");
    assert!((3_590..=3_780).contains(&wait), "{wait}");
    let left = |words: &[&str]| {
        let (content, said) = production.cli(&[&["limits", "show", "service", "caller"], words].concat(), "");
        assert!(content, "{said}");
        said
    };
    assert!(left(&["standard"]).contains("standard (redis): 0 of 10 left"), "{}", left(&["standard"]));
    assert!(
        left(&["per-user"]).contains("90 of 100 left"),
        "what the window refused took nothing of the rate"
    );
    redis.kill();
    reaches(&production, "degraded", "away");
    assert_eq!(admitted(&production, &key, 3), 0, "it is known what redis has said last");
    redis.restart();
    reaches(&production, "up", "redis");
    // Redis has come back with nothing, and nothing was counted meanwhile: what it had lost is lost.
    let (content, said) = production.cli(&["limits", "reset", "service", "caller"], "");
    assert!(content, "{said}");
    redis.kill();
    reaches(&production, "degraded", "away");
    assert_eq!(admitted(&production, &key, 12), 5, "a half is this gateway's");
    redis.restart();
    reaches(&production, "up", "redis");
    assert_eq!(admitted(&production, &key, 3), 0, "and no second window");
}

#[test]
fn whoever_is_let_through_is_told_what_is_left_where_that_is_configured() {
    let (upstream, redis) = (Upstream::start(), Redis::start());
    let limits =
        "per_user = \"3/24h\"\nper_address = \"1000/24h\"\nheaders = \"both\"\nheaders_for = \"all\"";
    for shares in [false, true] {
        let production = if shares {
            sharing(&upstream, &redis, limits)
        } else {
            Production::before(upstream.address()).with_lines(format!("[limits]\n{limits}\n"))
        };
        let mut production = production.limiting_addresses();
        let _process = production.start();
        let key = key(&mut production, "caller");
        if shares {
            reaches(&production, "up", "redis");
        }
        for (of_address, left) in [(999, 2), (998, 1), (997, 0)] {
            let answer = ask(&production, READ, Some(&key));
            let said =
                |name: &str| answer.header(name).unwrap_or_else(|| panic!("{name}: {:?}", answer.headers));
            assert_eq!(answer.status, 200, "{}", answer.text());
            let policy = "\"per-address\";q=1000;w=86400, \"per-user\";q=3;w=86400";
            assert_eq!(said("ratelimit-policy"), policy);
            let state = said("ratelimit");
            assert!(state.starts_with(&format!("\"per-address\";r={of_address};t=")), "{state}");
            assert!(state.contains(&format!(", \"per-user\";r={left};t=")), "{state}");
            assert_eq!(
                (said("x-ratelimit-limit"), said("x-ratelimit-remaining")),
                ("3", left.to_string().as_str())
            );
            assert!(said("x-ratelimit-reset").parse().is_ok_and(|reset: u64| reset <= 86_400));
        }
        // A refusal tells of the limit that refuses, as ever, and a page of ours of the address's.
        let refused = ask(&production, READ, Some(&key));
        assert_eq!(refused.status, 429);
        assert!(refused.header("ratelimit").is_some_and(|state| state.starts_with("\"per-user\";r=0;t=")));
        assert_eq!(refused.all("ratelimit").count(), 1, "{:?}", refused.headers);
        let page = ask(&production, "/.cedargate/login", None);
        assert_eq!(
            page.header("ratelimit-policy"),
            Some("\"per-address\";q=1000;w=86400"),
            "{:?}",
            page.headers
        );
    }
}
