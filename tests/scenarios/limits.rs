//! Limits that hold across gateways, and when the store that they share is gone.

mod bundled;
mod costs;
mod flood;
mod leased;
mod left;

use rustix::process::Signal;
use serde_json::Value;
use tests::client::{Client, Request, Response};
use tests::production::{HOST, Production};
use tests::redis::{Break, Redis};
use tests::upstream::Upstream;
use tests::wait::{self, PATIENCE};

const READ: &str = "/api/docs/list";

/// A gateway that shares limits in this Redis. Its budget is one that no busy machine exceeds by itself.
fn sharing(upstream: &Upstream, redis: &Redis, limits: &str) -> Production {
    sharing_within(upstream, redis, limits, "400ms")
}

fn sharing_within(upstream: &Upstream, redis: &Redis, limits: &str, budget: &str) -> Production {
    let lines = format!("[limits]\n{limits}\n{}budget = \"{budget}\"\n", redis.lines());
    let mut production = Production::before(upstream.address()).with_lines(lines);
    production.secrets.push(redis.password().to_owned());
    production
}

/// A key of a service that nobody has asked with.
pub(crate) fn key(production: &mut Production, name: &str) -> String {
    let (content, said) =
        production.cli(&["key", "add", name, "--scope", "docs.*", "--role", "standard_user"], "");
    assert!(content, "{said}");
    // The key stands alone on standard output, what it is on standard error.
    let (key, _) = said.trim().split_once('\n').expect("the key and what it is");
    production.secrets.push(key.to_owned());
    key.to_owned()
}

pub(crate) fn ask(production: &Production, target: &str, key: Option<&str>) -> Response {
    let request = Request::new("GET", target).with("Host", HOST);
    let request = match key {
        Some(key) => request.with("X-API-Key", key),
        None => request,
    };
    Client::connect(production.address()).ask(&request).expect("every request is answered")
}

/// How many of so many requests are let through; the others are told when to come again.
fn admitted(production: &Production, key: &str, asked: usize) -> usize {
    let answers: Vec<Response> = (0..asked).map(|_| ask(production, READ, Some(key))).collect();
    for answer in &answers {
        assert!(matches!(answer.status, 200 | 429), "{}: {}", answer.status, answer.text());
        assert_eq!(answer.header("retry-after").is_some(), answer.status == 429, "{:?}", answer.headers);
    }
    answers.iter().filter(|answer| answer.status == 200).count()
}

pub(crate) fn told_by_admin(production: &Production, target: &str) -> Response {
    let request = Request::new("GET", target).with("Host", &production.admin().to_string());
    Client::connect(production.admin()).ask(&request).expect("an answer")
}

/// Waits until the part of readiness says so. That it is ready never depends on it.
pub(crate) fn reaches(production: &Production, state: &str, detail: &str) {
    wait::until(&format!("{state}: {detail}"), PATIENCE, || {
        let answer = told_by_admin(production, "/readyz");
        let told = answer.json();
        let part = &told["parts"]["limits"];
        let said = part["detail"].as_str().unwrap_or_default();
        (part["state"] == state && said.contains(detail)).then_some(())
    });
}

/// The events of the store: whether it went away, and what was noted.
fn events(production: &Production) -> Vec<(bool, String)> {
    let about = |record: &Value| {
        let note = record["notes"][0].as_str().unwrap_or_default();
        let ours = record["kind"] == "security" && note.starts_with("limits are counted");
        ours.then(|| (record["decision"]["refusal"] == "limits_away", note.to_owned()))
    };
    production.audit().records().iter().filter_map(about).collect()
}

pub(crate) fn metric(production: &Production, name: &str) -> u64 {
    let text = told_by_admin(production, "/metrics").text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok());
    let value = value.unwrap_or_else(|| panic!("{name} is not in {text}"));
    format!("{value:.0}").parse().expect("a count")
}

/// Requests that have waited for this store of theirs for longer than a tenth of a second.
pub(crate) fn waited_longer(production: &Production, store: &str) -> u64 {
    let name = format!("cedargate_{store}_redis_seconds");
    metric(production, &format!("{name}_count")) - metric(production, &format!("{name}_bucket{{le=\"0.1\"}}"))
}

#[test]
fn three_gateways_admit_what_one_would() {
    admit_together("", 0);
}

#[test]
fn three_gateways_with_leases_admit_no_more_and_no_less_than_what_others_hold() {
    admit_together("\nlease_percent = 5\nlease_idle = \"60s\"", 2 * 50);
}

/// Asks three gateways for more than their limit. All that it has is let through, but for what others may hold when one
/// refuses.
fn admit_together(leases: &str, held: u64) {
    const BURST: u64 = 1_000;
    const CLIENTS: usize = 200;
    /// More would have a busy machine exceed the budget, and then it is not Redis that counts.
    const AT_ONCE: usize = 20;
    let (upstream, redis) = (Upstream::start(), Redis::start());
    // Each gateway by itself would let its address ask as often.
    let gateways: Vec<Production> = (0..3)
        .map(|_| {
            let lines = format!("gateways = 3\nper_address = \"1000/1m\"{leases}");
            sharing_within(&upstream, &redis, &lines, "1s").limiting_addresses()
        })
        .collect();
    let _processes: Vec<_> = gateways.iter().map(Production::start).collect();
    for gateway in &gateways {
        reaches(gateway, "up", "redis");
    }
    let before_first = redis.time_us();
    let first = ask(&gateways[0], "/health", None);
    let after_first = redis.time_us();
    assert_eq!(first.status, 200, "{}", first.text());
    let gateways = &gateways;
    let count: u64 = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..AT_ONCE)
            .map(|first| {
                scope.spawn(move || {
                    let address = |number: usize| gateways[number % 3].address();
                    let clients = (first..CLIENTS).step_by(AT_ONCE);
                    let mut clients: Vec<Client> =
                        clients.map(|number| Client::connect(address(number))).collect();
                    let request = Request::new("GET", "/health").with("Host", HOST);
                    let mut let_through = 0;
                    for _ in 0..8 {
                        for client in &mut clients {
                            let answer = client.ask(&request).expect("every request is answered");
                            let_through += u64::from(answer.status == 200);
                        }
                    }
                    let_through
                })
            })
            .collect();
        asking.into_iter().map(|asked| asked.join().expect("it asks to the end")).sum()
    });
    // What has come back meanwhile is taken as well, until one is refused: then all of it was.
    let mut admitted = 1 + count;
    let (before_last, after_last) = loop {
        let before = redis.time_us();
        let status = ask(&gateways[1], "/health", None).status;
        if status == 429 {
            break (before, redis.time_us());
        }
        assert_eq!(status, 200);
        admitted += 1;
    };
    for gateway in gateways {
        assert_eq!(events(gateway), [], "nothing was away");
        for result in ["late", "failed", "away", "crowded"] {
            let name = format!("cedargate_limits_redis_total{{result=\"{result}\"}}");
            assert_eq!(metric(gateway, &name), 0, "{result}: it was not redis that counted");
        }
    }
    let grown = |microseconds: u64| BURST + microseconds * BURST / 60_000_000;
    let (least, most) = (grown(before_last - after_first), grown(after_last - before_first));
    // One more or less: a millisecond is the finest that the store counts in.
    assert!((least - 1 - held..=most + 1).contains(&admitted), "{least} to {most}, held {held}: {admitted}");
}

/// What breaks the store, and what is said of it then.
const FAULTS: [(Break, &str); 9] = [
    (Break::Killed, ""),
    (Break::Stopped, ""),
    (Break::Asleep, ""),
    (Break::Paused, "budget"),
    (Break::ReadOnly, "READONLY"),
    (Break::Full, "OOM"),
    (Break::OtherPassword, "password"),
    (Break::Forbidden("set"), "the error ERR"),
    (Break::BlackHole, "reached"),
];

#[test]
fn whatever_becomes_of_redis_limits_hold_every_request_is_answered_and_nobody_has_a_second_quota() {
    let (upstream, mut redis) = (Upstream::start(), Redis::stopped());
    let mut production = sharing(&upstream, &redis, "gateways = 2\nper_user = \"10/1h\"");
    let _process = production.start();
    let keys: Vec<String> =
        (0..=FAULTS.len()).map(|number| key(&mut production, &format!("caller-{number}"))).collect();

    // It starts without its store, and enforces its part: a half.
    reaches(&production, "degraded", "refuses connections");
    assert_eq!(admitted(&production, &keys[0], 12), 5, "before the first start");
    redis.restart();
    reaches(&production, "up", "redis");
    assert_eq!(admitted(&production, &keys[0], 3), 0, "before the first start, and back");

    for (number, (fault, detail)) in (1..).zip(FAULTS) {
        redis.breaks(fault);
        assert_eq!(admitted(&production, &keys[number], 12), 5, "{fault:?}");
        reaches(&production, "degraded", detail);
        assert_eq!(metric(&production, "cedargate_limits_redis_up"), 0, "{fault:?}");
        redis.mends(fault);
        reaches(&production, "up", "redis");
        assert_eq!(admitted(&production, &keys[number], 3), 0, "{fault:?}, and back");
        // One event when it began and one when it ended.
        let events = wait::until("the last event", PATIENCE, || {
            let events = events(&production);
            (events.len() >= 2 * (number + 1)).then_some(events)
        });
        let kinds: Vec<bool> = events.iter().map(|(begins, _)| *begins).collect();
        assert_eq!(kinds, [true, false].repeat(number + 1), "{fault:?}: {events:#?}");
    }
    assert!(metric(&production, "cedargate_limits_redis_total{result=\"answered\"}") > 0);
    // Who was given no answer has waited until the budget was nearly over.
    let late = metric(&production, "cedargate_limits_redis_total{result=\"late\"}");
    let longer = waited_longer(&production, "limits");
    assert!(late > 0 && longer >= late, "{late} late, {longer} waited for longer than 0.1 s");
}

#[test]
fn a_slow_redis_is_gone_without_and_its_answers_to_others_are_nobodys() {
    let (upstream, mut redis) = (Upstream::start(), Redis::start().behind_a_passage());
    let mut production = sharing(&upstream, &redis, "gateways = 2\nper_user = \"10/1h\"");
    let _process = production.start();
    let keys = ["one", "other"].map(|name| key(&mut production, name));
    reaches(&production, "up", "redis");
    assert_eq!(admitted(&production, &keys[0], 12), 10);
    redis.breaks(Break::Slow);
    // The refusal of the first comes when the second waits for an answer of its own.
    assert_eq!(admitted(&production, &keys[0], 1), 0);
    assert_eq!(admitted(&production, &keys[1], 12), 5);
    reaches(&production, "degraded", "");
    redis.mends(Break::Slow);
    reaches(&production, "up", "redis");
    assert_eq!(admitted(&production, &keys[1], 3), 0, "and back");
}

#[test]
fn a_redis_that_is_killed_under_load_loses_no_request_and_gives_no_second_quota() {
    const CALLERS: usize = 6;
    let (upstream, mut redis) = (Upstream::start(), Redis::start());
    let mut production = sharing(&upstream, &redis, "per_user = \"90/1h\"");
    let _process = production.start();
    let key = key(&mut production, "caller");
    reaches(&production, "up", "redis");
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let let_through: usize = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| {
                    let one = |_| {
                        asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        admitted(&production, &key, 1)
                    };
                    (0..40).map(one).sum::<usize>()
                })
            })
            .collect();
        let so_many = |count: usize| {
            wait::until("requests", PATIENCE, || {
                (asked.load(std::sync::atomic::Ordering::Relaxed) >= count).then_some(())
            });
        };
        so_many(30);
        redis.kill();
        so_many(100);
        redis.restart();
        asking.into_iter().map(|asked| asked.join().expect("it asks to the end")).sum()
    });
    // What was under way when it was killed may be counted once for two.
    assert!((90 - CALLERS..=90 + CALLERS).contains(&let_through), "{let_through}");
    reaches(&production, "up", "redis");
    assert_eq!(admitted(&production, &key, 3), 0);
}

#[test]
fn a_hanging_redis_is_waited_for_three_times_in_all() {
    let (upstream, redis) = (Upstream::start(), Redis::start());
    let mut production = sharing(&upstream, &redis, "per_user = \"1000/1h\"");
    let _process = production.start();
    let key = key(&mut production, "caller");
    reaches(&production, "up", "redis");
    redis.signal(Signal::STOP);
    assert_eq!(admitted(&production, &key, 200), 200);
    let told =
        |result: &str| metric(&production, &format!("cedargate_limits_redis_total{{result=\"{result}\"}}"));
    // Trials of its own are late as well, and count.
    let late = told("late");
    assert!(late <= 3, "{late}");
    assert_eq!(late + told("away") + told("answered"), 200);
    assert_eq!(metric(&production, "cedargate_limits_redis_seconds_count"), late + told("answered"));
    redis.signal(Signal::CONT);
    reaches(&production, "up", "redis");
}

#[test]
fn sign_ins_are_closed_while_redis_is_away_and_open_again_with_it() {
    let (upstream, mut redis) = (Upstream::start(), Redis::start());
    let production = sharing(&upstream, &redis, "class.auth.rate = \"1000/1m\"");
    let _process = production.start();
    reaches(&production, "up", "redis");
    let status = || ask(&production, "/.cedargate/login", None).status;
    assert_eq!(status(), 200);
    redis.kill();
    reaches(&production, "degraded", "away");
    let closed = ask(&production, "/.cedargate/login", None);
    assert_eq!(closed.status, 503, "{}", closed.text());
    assert!(closed.header("retry-after").is_some(), "{:?}", closed.headers);
    assert_eq!(ask(&production, "/health", None).status, 200, "what is not closed is served");
    redis.restart();
    reaches(&production, "up", "redis");
    assert_eq!(status(), 200);
}

#[test]
fn threat_14_over_tls_a_redis_is_who_its_certificate_says() {
    let upstream = Upstream::start();
    for (name, state, detail) in
        [("localhost", "up", "redis"), ("another.example", "degraded", "its TLS does not hold")]
    {
        let redis = Redis::encrypted(name);
        let mut production = sharing(&upstream, &redis, "per_user = \"10/1h\"");
        let _process = production.start();
        let key = key(&mut production, "caller");
        reaches(&production, state, detail);
        assert_eq!(admitted(&production, &key, 12), 10, "{name}");
        let asked = redis.say(&["KEYS", "cedargate:*per-user"]);
        assert_eq!(asked.starts_with("*1"), state == "up", "{name}: {asked}");
    }
}

#[test]
fn whoever_is_refused_is_told_which_limit_it_was() {
    let upstream = Upstream::start();
    let lines = "[limits]\nper_user = \"2/1h\"\nheaders = \"both\"\n".to_owned();
    let mut production = Production::before(upstream.address()).with_lines(lines).limiting_addresses();
    let _process = production.start();
    let key = key(&mut production, "caller");
    let answers: Vec<Response> = (0..3).map(|_| ask(&production, READ, Some(&key))).collect();
    for let_through in &answers[..2] {
        assert_eq!(let_through.status, 200);
        assert_eq!(let_through.header("ratelimit"), None);
    }
    let wait = answers[2].header("retry-after").expect("a time").to_owned();
    for (name, value) in [
        ("ratelimit-policy", "\"per-user\";q=2;w=3600".to_owned()),
        ("ratelimit", format!("\"per-user\";r=0;t={wait}")),
        ("x-ratelimit-limit", "2".to_owned()),
        ("x-ratelimit-remaining", "0".to_owned()),
        ("x-ratelimit-reset", wait.clone()),
    ] {
        assert_eq!(answers[2].header(name), Some(value.as_str()), "{name}: {:?}", answers[2].headers);
    }
    // The address has a limit of its own, of which a malformed flood is told as well.
    let mut last = ask(&production, "/health", None);
    for _ in 0..120 {
        let mut client = Client::connect(production.address());
        client.send(b"GET / HTTP/1.1\r\nHost : nobody\r\n\r\n");
        last = client.receive().expect("an answer");
    }
    assert_eq!(last.status, 429, "{}", last.text());
    assert_eq!(last.header("ratelimit-policy"), Some("\"per-address\";q=100;w=60"));
}
