//! Clients that are slow, silent or many: what they hold ends, is recorded, and is nobody else's harm.

use std::time::Duration;

use serde_json::Value;
use tests::client::{Client, Request};
use tests::process::Process;
use tests::production::{HOST, Production};
use tests::upstream::{Behaviour, Upstream};
use tests::wait::{self, PATIENCE};

/// Slow clients at once.
const SLOW: usize = 20;
/// A route that is open to everybody and goes to the upstream.
const OPEN: &str = "/health";

/// A gateway whose patience is short, so that a test need not have much.
fn started(upstream: &Upstream, connections: &str) -> (Production, Process) {
    let lines = format!("[connections]\n{connections}\n");
    let production = Production::before(upstream.address()).with_lines(lines);
    let process = production.start();
    (production, process)
}

fn request(method: &str, target: &str, agent: &str) -> Request {
    Request::new(method, target).with("Host", HOST).with("User-Agent", agent)
}

/// Whether somebody who behaves is served.
fn served(production: &Production) {
    let answer = Client::connect(production.address()).ask(&request("GET", OPEN, "behaves"));
    assert_eq!(answer.expect("an answer").status, 200);
}

fn records(production: &Production, count: usize, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let found = || production.audit().records().into_iter().filter(&wanted).collect::<Vec<_>>();
    wait::until("the records of what was cut", PATIENCE, || (found().len() >= count).then_some(()));
    found()
}

/// Sends a byte again and again until the gateway has had enough; what it said.
fn dribble(mut client: Client, byte: u8) -> String {
    let mut said = Vec::new();
    wait::until("the end of a client that dribbles", PATIENCE, || {
        client.send(&[byte]);
        // What has come until then is kept by the client.
        let rest = client.rest(Duration::from_millis(50))?;
        said.extend(rest);
        Some(())
    });
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn heads_that_dribble_are_cut_while_others_are_served() {
    let upstream = Upstream::start();
    let (production, _process) = started(&upstream, "head = \"1s\"");
    let slow: Vec<_> = (0..SLOW)
        .map(|_| {
            let mut client = Client::connect(production.address());
            client.send(b"GET /dribbles HTTP/1.1\r\nX-A: ");
            std::thread::spawn(move || dribble(client, b'a'))
        })
        .collect();
    served(&production);
    for client in slow {
        client.join().expect("it ends");
        served(&production);
    }
    let cut = records(&production, SLOW, |record| record["request"]["path"] == "/dribbles");
    assert_eq!(cut.len(), SLOW);
    assert!(cut.iter().all(|record| record["answer"]["end"] == "deadline"), "{cut:#?}");
}

#[test]
fn bodies_that_dribble_are_told_and_cut_while_others_are_served() {
    let upstream = Upstream::start();
    let (production, _process) = started(&upstream, "body_grace = \"1s\"\nbody_rate_min = 1000000");
    let slow: Vec<_> = (0..SLOW)
        .map(|_| {
            let mut client = Client::connect(production.address());
            let upload = request("POST", "/api/client-errors", "dribbles").with("Content-Length", "60000");
            client.send(&upload.to_bytes());
            std::thread::spawn(move || dribble(client, b'a'))
        })
        .collect();
    served(&production);
    for client in slow {
        let said = client.join().expect("it ends");
        assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
        served(&production);
    }
    let cut = records(&production, SLOW, |record| record["client"]["user_agent"] == "dribbles");
    assert_eq!(cut.len(), SLOW);
    for record in &cut {
        assert_eq!(record["decision"]["refusal"], "body.too_slow", "{record:#}");
        assert_eq!(record["answer"]["end"], "deadline", "{record:#}");
    }
    let whole =
        |received: &tests::upstream::Received| received.target == "/api/client-errors" && received.complete;
    assert!(!upstream.received().iter().any(whole), "a body that was cut arrived whole");
}

#[test]
fn readers_that_never_read_are_cut_while_others_are_served() {
    let upstream = Upstream::start();
    // More than what the buffers between two sockets hold.
    upstream.behave(Behaviour::Answer(Vec::new(), vec![b'x'; 32 * 1024 * 1024]));
    let (production, _process) = started(&upstream, "stall = \"1s\"");
    let slow: Vec<_> = (0..4)
        .map(|_| {
            let mut client = Client::connect(production.address());
            client.send(&request("GET", OPEN, "never-reads").to_bytes());
            client
        })
        .collect();
    let cut = records(&production, slow.len(), |record| record["client"]["user_agent"] == "never-reads");
    assert_eq!(cut.len(), slow.len());
    assert!(cut.iter().all(|record| record["answer"]["end"] == "deadline"), "{cut:#?}");
    upstream.behave(Behaviour::Answer(Vec::new(), b"ok".to_vec()));
    served(&production);
    drop(slow);
}

#[test]
fn who_sends_ahead_and_never_reads_is_cut() {
    let upstream = Upstream::start();
    upstream.behave(Behaviour::Answer(Vec::new(), vec![b'x'; 256 * 1024]));
    let (production, _process) = started(&upstream, "stall = \"1s\"");
    let mut client = Client::connect(production.address());
    let many = request("GET", OPEN, "sends-ahead").to_bytes().repeat(200);
    // Until the gateway takes no more: its answers have nowhere to go.
    wait::until("the end of who never reads", PATIENCE, || client.try_send(&many).is_err().then_some(()));
    served(&production);
    let cut = |record: &Value| {
        record["client"]["user_agent"] == "sends-ahead" && record["answer"]["end"] == "deadline"
    };
    assert_eq!(records(&production, 1, cut).len(), 1, "the one whose answer was not taken");
}

#[test]
fn a_route_with_a_deadline_is_answered_in_time_or_cut() {
    let upstream = Upstream::start();
    let production = Production::before(upstream.address());
    let policies = production.folder().join("policies");
    tests::repository::copy(&tests::repository::root().join("policies"), &policies);
    let file = policies.join("routes/main.toml");
    let routes = std::fs::read_to_string(&file).expect("routes");
    let open = routes.lines().find(|line| line.contains("\"GET /health\"")).expect("the open route");
    let timed = open.replace(" },", ", deadline_s = 1 },");
    assert_ne!(open, timed);
    std::fs::write(&file, routes.replace(open, &timed)).expect("routes with a deadline");
    let _process = production.start();
    served(&production);

    upstream.behave(Behaviour::Silent);
    let answer =
        Client::connect(production.address()).ask(&request("GET", OPEN, "waits")).expect("an answer");
    assert_eq!(answer.status, 504, "{}", answer.text());
    let record = production.audit().of(&answer.request_id());
    assert_eq!(record["decision"]["refusal"], "upstream_timeout", "{record:#}");
    assert_eq!(record["answer"]["end"], "deadline", "{record:#}");

    upstream.behave(Behaviour::StallInBody);
    let mut client = Client::connect(production.address());
    client.send(&request("GET", OPEN, "half").to_bytes());
    assert!(
        client.rest(PATIENCE).is_some_and(|said| said.ends_with(b"0123456789")),
        "the beginning, and the end"
    );
    let record = records(&production, 1, |record| record["client"]["user_agent"] == "half").remove(0);
    assert_eq!(record["answer"]["end"], "deadline", "{record:#}");
}

#[test]
fn connections_over_a_cap_are_told_counted_and_closed() {
    let upstream = Upstream::start();
    for (caps, status, cap) in
        [("max = 8\nper_address_max = 4", 429, "address"), ("max = 4\nper_address_max = 4", 503, "all")]
    {
        let (production, process) = started(&upstream, caps);
        let mut held: Vec<_> = (0..4).map(|_| Client::connect(production.address())).collect();
        // Those that were accepted answer; so they hold their slots before the next one comes.
        for client in &mut held {
            assert_eq!(client.ask(&request("GET", OPEN, "held")).expect("an answer").status, 200);
        }
        for _ in 0..10 {
            let mut over = Client::connect(production.address());
            let answer = over.receive().expect("an answer");
            assert_eq!(answer.status, status, "{}", answer.text());
            assert_eq!(answer.header("retry-after"), Some("1"));
            assert_eq!(over.rest(PATIENCE), Some(Vec::new()), "it is closed");
        }
        let asked = Request::new("GET", "/metrics").with("Host", &production.admin().to_string());
        let metrics = Client::connect(production.admin()).ask(&asked).expect("metrics").text();
        assert!(
            metrics.contains(&format!("cedargate_refused_connections_total{{cap=\"{cap}\"}} 10")),
            "{metrics}"
        );
        assert!(metrics.contains("cedargate_connections 4"), "{metrics}");
        // The held ones go on, and what they leave is free again.
        let answer = held[0].ask(&request("GET", OPEN, "held")).expect("an answer");
        production.audit().of(&answer.request_id());
        assert_eq!(production.audit().records().len(), 5, "who was turned away has asked nothing");
        drop(held);
        wait::until("a free slot", PATIENCE, || {
            let answer = Client::connect(production.address()).ask(&request("GET", OPEN, "after")).ok()?;
            (answer.status == 200).then_some(())
        });
        let log = process.output();
        assert_eq!(log.matches("are turned away").count(), 1, "a line for each: {log}");
    }
}

#[test]
fn a_trusted_proxy_carries_many_and_each_of_its_clients_few() {
    let upstream = Upstream::start();
    let caps = "[connections]\nper_address_max = 1\nrequests_max = 2\nrequests_per_address_max = 1";
    let lines = format!("trusted_proxies = [\"127.0.0.1\"]\n{caps}\n");
    let production = Production::before(upstream.address()).with_lines(lines);
    let _process = production.start();
    upstream.behave(Behaviour::Silent);
    let ask = |client: &str, agent: &str| {
        let mut connection = Client::connect(production.address());
        connection.send(&request("GET", OPEN, agent).with("X-Forwarded-For", client).to_bytes());
        connection
    };
    let first = ask("192.0.2.1", "waits/1");
    upstream.wait("the first", |received| received.header("user-agent") == Some("waits/1"));
    let refused = ask("192.0.2.1", "over/address").receive().expect("an answer");
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    assert_eq!(production.audit().of(&refused.request_id())["decision"]["refusal"], "throttled");
    let second = ask("192.0.2.2", "waits/2");
    upstream.wait("the second", |received| received.header("user-agent") == Some("waits/2"));
    let refused = ask("192.0.2.3", "over/all").receive().expect("an answer");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(production.audit().of(&refused.request_id())["decision"]["refusal"], "unavailable");
    drop((first, second));
    upstream.behave(Behaviour::Answer(Vec::new(), b"ok".to_vec()));
    wait::until("a free slot", PATIENCE, || {
        (ask("192.0.2.1", "after").receive().ok()?.status == 200).then_some(())
    });
}

#[test]
fn a_connection_is_kept_for_its_bound_and_no_longer() {
    let upstream = Upstream::start();
    let (production, _process) = started(&upstream, "idle = \"1s\"");
    let mut silent = Client::connect(production.address());
    assert_eq!(silent.rest(PATIENCE), Some(Vec::new()), "a connection that says nothing");
    let mut kept = Client::connect(production.address());
    assert_eq!(kept.ask(&request("GET", OPEN, "kept")).expect("an answer").status, 200);
    assert_eq!(kept.rest(PATIENCE), Some(Vec::new()), "a connection that says no more");
    served(&production);
    let kept = records(&production, 2, |record| record["kind"] == "request");
    assert_eq!(kept.len(), 2, "silence is no request: {kept:#?}");
}

#[test]
fn a_connection_carries_a_thousand_requests() {
    let upstream = Upstream::start();
    let (production, _process) = started(&upstream, "");
    let mut client = Client::connect(production.address());
    let mut carried = 0;
    let closed = loop {
        let answer = client.ask(&request("GET", "/no/such", "many")).expect("an answer");
        carried += 1;
        if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            break client.rest(PATIENCE);
        }
    };
    assert_eq!(closed, Some(Vec::new()));
    assert!((999..=1001).contains(&carried), "{carried}");
}

#[test]
fn a_connection_without_a_request_is_counted_and_one_that_has_asked_is_none() {
    let upstream = Upstream::start();
    let (production, _process) = started(&upstream, "");
    let counted = || {
        let asked = Request::new("GET", "/metrics").with("Host", &production.admin().to_string());
        let metrics = Client::connect(production.admin()).ask(&asked).expect("metrics").text();
        let value = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name} in {metrics}")).to_owned()
        };
        (value("cedargate_connections"), value("cedargate_empty_connections_total"))
    };
    for _ in 0..3 {
        let mut client = Client::connect(production.address());
        for _ in 0..2 {
            assert_eq!(client.ask(&request("GET", OPEN, "keeps")).expect("an answer").status, 200);
        }
    }
    drop([Client::connect(production.address()), Client::connect(production.address())]);
    let ended = || {
        Some(counted())
            .filter(|(open, empty)| open == "0" && empty.parse::<u32>().is_ok_and(|empty| empty >= 2))
    };
    assert_eq!(wait::until("the end of all connections", PATIENCE, ended).1, "2");
}
