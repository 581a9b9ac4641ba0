//! What a route says that a request of it costs.

use std::fs;

use tests::websocket::HANDSHAKE;

use super::*;

/// A route that costs 1.
const CHEAP: &str = "/api/docs/new";
const SOCKET: &str = "/ws/docs/report";

/// Has a row of the documents' file cost so much.
fn cost(production: &Production, row: &str, cost: u32) {
    let file = production.folder().join("policies/routes/docs.toml");
    let text = fs::read_to_string(&file).expect("the row's file");
    let lines = text.lines().map(|line| match line.strip_suffix(" },") {
        Some(rest) if rest.contains(row) => {
            let rest = rest.split(", cost = ").next().unwrap_or_default();
            format!("{rest}, cost = {cost} }},\n")
        }
        _ => format!("{line}\n"),
    });
    let changed: String = lines.collect();
    assert_ne!(text, changed, "{row}");
    fs::write(file, changed).expect("the row's file");
}

/// Its policies, in which reading the list of documents costs 20.
fn dear(production: &Production) {
    let policies = production.folder().join("policies");
    tests::repository::copy(&tests::repository::root().join("policies"), &policies);
    cost(production, "\"GET /api/docs/list\"", 20);
}

fn statuses(production: &Production, key: &str, targets: &[&str]) -> Vec<u16> {
    targets.iter().map(|target| ask(production, target, Some(key)).status).collect()
}

#[test]
fn a_dear_request_takes_what_it_costs_of_its_limits_and_a_cheap_one_what_is_left() {
    let upstream = Upstream::start();
    let lines = "[limits]\nper_user = \"50/24h\"\nheaders = \"both\"\n".to_owned();
    let mut production = Production::before(upstream.address()).with_lines(lines);
    dear(&production);
    let process = production.start();
    let key = key(&mut production, "caller");
    assert_eq!(statuses(&production, &key, &[READ, CHEAP, READ]), [200; 3]);
    let refused = ask(&production, READ, Some(&key));
    assert_eq!(refused.status, 429, "{}", refused.text());
    // 9 are left, and it costs 20: 11 more are needed, of which one comes back each 1,728 s.
    let wait: u64 = refused.header("retry-after").and_then(|wait| wait.parse().ok()).expect("a time");
    assert!((11 * 1_728 - 60..=11 * 1_728).contains(&wait), "{wait}");
    for (name, value) in [
        ("ratelimit-policy", "\"per-user\";q=50;w=86400".to_owned()),
        ("ratelimit", format!("\"per-user\";r=9;t={wait}")),
        ("x-ratelimit-remaining", "9".to_owned()),
    ] {
        assert_eq!(refused.header(name), Some(value.as_str()), "{name}: {:?}", refused.headers);
    }
    let record = production.audit().of(refused.header("x-request-id").expect("an id"));
    assert_eq!(record["route"]["cost"], 20, "{record:#}");
    assert_eq!(record["decision"]["refusal"], "quota_spent", "{record:#}");
    let detail = format!("limit `per-user` has 9 left, less than this costs; next in {wait} s");
    assert_eq!(record["decision"]["detail"], detail, "{record:#}");
    let (content, said) = production.cli(&["limits", "show", "service", "caller", "per-user"], "");
    assert!(content && said.contains("9 of 50 left"), "{said}");
    // What was refused has taken nothing, a cheap request passes, and its record says nothing of a cost.
    assert_eq!(statuses(&production, &key, &[CHEAP; 8]), [200; 8]);
    let last = ask(&production, CHEAP, Some(&key));
    let record = production.audit().of(last.header("x-request-id").expect("an id"));
    assert_eq!((last.status, &record["route"]["cost"]), (200, &Value::Null), "{record:#}");
    assert_eq!(statuses(&production, &key, &[CHEAP]), [429]);

    // To cost less is a loosening, and to cost more is none.
    cost(&production, "\"GET /api/docs/list\"", 21);
    let (content, said) = production.cli(&["bundle", "reload"], "");
    assert!(content, "{said}");
    cost(&production, "\"GET /api/docs/list\"", 2);
    let (content, said) = production.cli(&["bundle", "reload"], "");
    let says = "route `GET /api/docs/list` costs 2 instead of 21 of its limits";
    assert!(!content && said.contains(says), "{said}");
    // What could never pass is refused by a reload, and keeps a gateway from its start.
    cost(&production, "\"GET /api/docs/list\"", 51);
    let (content, said) = production.cli(&["bundle", "reload"], "");
    let says =
        "route `GET /api/docs/list` costs 51 and limit `per-user` is 50/1d: no request could ever pass";
    assert!(!content && said.contains(says), "{said}");
    drop(process);
    let (content, said) = production.cli(&["check-config"], "");
    assert!(!content && said.contains(says) && said.contains("raise `limits.per_user`"), "{said}");
}

#[test]
fn what_is_refused_or_asked_by_nobody_and_what_becomes_a_websocket_costs_what_it_should() {
    let upstream = Upstream::start();
    let lines = "[limits]\nper_user = \"50/24h\"\nper_address = \"25/24h\"\n".to_owned();
    let mut production = Production::before(upstream.address()).with_lines(lines).limiting_addresses();
    dear(&production);
    cost(&production, "\"GET /ws/docs/:doc_id\"", 20);
    let _process = production.start();
    // Refused before anything is taken, and the address counts requests: 20 of them are 20, and not 400.
    let (content, said) =
        production.cli(&["key", "add", "guest", "--scope", "mail.*", "--role", "viewer"], "");
    assert!(content, "{said}");
    let guest = said.trim().split_once('\n').expect("the key and what it is").0.to_owned();
    production.secrets.push(guest.clone());
    assert_eq!(statuses(&production, &guest, &[READ; 10]), [403; 10]);
    assert_eq!(ask(&production, READ, None).status, 401);
    let show = |subject: &[&str]| {
        let (content, said) = production.cli(&[&["limits", "show"], subject].concat(), "");
        assert!(content, "{said}");
        said
    };
    assert!(show(&["address", "127.0.0.1"]).contains("per-address (here): 14 of 25 left"));
    let guests = show(&["service", "guest"]);
    assert!(guests.contains("per-user (here): 50 of 50 left"), "{guests}");
    // An upgrade takes what its row costs, once.
    let key = key(&mut production, "caller");
    let upgrade = || {
        let request = Request::new("GET", SOCKET).with("Host", HOST).with("X-API-Key", &key);
        let request = HANDSHAKE.iter().fold(request, |request, (name, value)| request.with(name, value));
        Client::connect(production.address()).ask(&request).expect("an answer")
    };
    let taken: Vec<u16> = (0..3).map(|_| upgrade().status).collect();
    assert_eq!(taken.iter().position(|status| *status == 429), Some(2), "{taken:?}");
    let (content, said) = production.cli(&["limits", "show", "service", "caller", "per-user"], "");
    assert!(content && said.contains("10 of 50 left"), "{said}");
}

#[test]
fn gateways_that_share_and_lease_a_limit_let_through_what_its_requests_cost() {
    let (upstream, redis) = (Upstream::start(), Redis::start());
    let limits = "gateways = 2\nper_user = \"400/24h\"\nlease_percent = 10\nlease_idle = \"60s\"";
    let mut gateways = [0, 1].map(|_| sharing(&upstream, &redis, limits));
    gateways.iter().for_each(dear);
    let _processes = gateways.each_mut().map(|gateway| gateway.start());
    let keys = gateways.each_mut().map(|gateway| key(gateway, "caller"));
    let [mine, other] = &gateways;
    for gateway in &gateways {
        reaches(gateway, "up", "redis");
    }
    // The second asks and takes 20 more, of which the third is; the fourth takes 40 more.
    assert_eq!(statuses(mine, &keys[0], &[READ; 6]), [200; 6]);
    let told = |result: &str| metric(mine, &format!("cedargate_limits_redis_total{{result=\"{result}\"}}"));
    assert_eq!((told("answered"), told("leased")), (3, 3));
    let (content, said) = other.cli(&["limits", "show", "service", "caller", "per-user"], "");
    assert!(content && said.contains("280 of 400 left"), "{said}");
    // The other has 14 of them, and then what is less than one costs is left for cheap ones.
    let dear = statuses(other, &keys[1], &[READ; 16]).iter().filter(|status| **status == 200).count();
    assert_eq!(dear, 14);
    assert_eq!(statuses(mine, &keys[0], &[CHEAP, READ]), [429, 429]);
}
