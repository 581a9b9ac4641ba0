//! The rows of THREAT_MODEL.md that no other file of scenarios tries, each by its number.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::client::{Client, Request, Response};
use tests::gateway::{Gateway, Setup};
use tests::jwt;
use tests::production::{Production, random_hex};
use tests::session::Browser;
use tests::upstream::{Behaviour, Upstream};
use tests::wait;

const READ: &str = "/api/docs/list";

fn ask(gateway: &Gateway, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
    let request = Request::new(method, target).with("Host", &gateway.address().to_string());
    let request = headers.iter().fold(request, |request, (name, value)| request.with(name, value));
    Client::connect(gateway.address()).ask(&request).expect("an answer")
}

#[test]
fn threat_04_upstream_content_neither_sets_our_cookies_nor_runs_as_us() {
    let upstream = Upstream::start();
    let gateway = Setup::demo().upstream(&upstream.url()).start();
    let browser = gateway.signed_in("standard_user");
    let session =
        browser.cookies().iter().find(|(name, _)| name.contains("session")).expect("a session").0.clone();
    let planted = [
        ("Content-Type", "text/html"),
        ("Set-Cookie", &format!("{session}=planted; Path=/")),
        ("Set-Cookie", "other=x; Path=/"),
        ("Service-Worker-Allowed", "/"),
        ("Clear-Site-Data", "\"*\""),
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Allow-Credentials", "true"),
    ];
    let planted = planted.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    upstream.behave(Behaviour::Answer(planted, b"<script>1</script>".to_vec()));
    let answer = ask(&gateway, "GET", "/apps/shop/index.html", &[]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    for header in [
        "set-cookie",
        "service-worker-allowed",
        "clear-site-data",
        "access-control-allow-origin",
        "access-control-allow-credentials",
    ] {
        assert!(answer.header(header).is_none(), "{header} passed: {:?}", answer.headers);
    }
    let policy = answer.all("content-security-policy").collect::<Vec<_>>().join("; ");
    assert!(
        policy.contains("sandbox") && !policy.contains("allow-same-origin"),
        "user-made content: {policy}"
    );
    let ours = ask(&gateway, "GET", "/.cedargate/login", &[]);
    let policy = ours.all("content-security-policy").collect::<Vec<_>>().join("; ");
    assert!(policy.contains("frame-ancestors 'none'"), "our pages can be framed: {policy}");
}

#[test]
fn threat_05_an_upstream_that_cannot_be_told_from_another_stops_the_start() {
    let far = "addresses = [\"10.1.2.3:9000\"]";
    for (upstream, good) in [
        ("addresses = [\"127.0.0.1:9000\"]".to_owned(), true),
        (far.to_owned(), false),
        (format!("{far}\ninsecure = \"a private wire\""), true),
        (format!("{far}\ntls = {{ name = \"bots.example\" }}"), true),
        (format!("{far}\ntls = {{}}"), false),
    ] {
        let production = Production::default().with_upstream(upstream);
        let (content, said) = production.cli(&["check-config"], "");
        assert_eq!(content, good, "{}: {said}", production.upstream);
        assert!(good || said.contains("cedargate.toml:"), "no place: {said}");
    }
}

#[test]
fn threat_07_an_upstream_that_does_not_read_our_identity_is_not_ready() {
    // It answers as if it had taken the token for somebody else.
    let upstream = Upstream::start();
    let anybody =
        json!({"user_id": "11111111-1111-4111-8111-111111111111", "authenticated": true}).to_string();
    upstream.behave(Behaviour::Answer(
        vec![("Content-Type".into(), "application/json".into())],
        anybody.into_bytes(),
    ));
    let gateway = Setup::demo().upstream(&upstream.url()).start();
    let ready = |gateway: &Gateway| {
        let request = Request::new("GET", "/readyz").with("Host", &gateway.admin().to_string());
        Client::connect(gateway.admin()).ask(&request).expect("an answer")
    };
    let asked = upstream.wait("the probe", |received| received.target.starts_with("/api/auth/me"));
    let (_, claims) = jwt::read(jwt::bearer(asked.header("authorization").expect("a minted identity")));
    assert!(claims["exp"].as_u64().expect("an end") - claims["iat"].as_u64().expect("a beginning") <= 60);
    wait::until("not ready", wait::PATIENCE, || (ready(&gateway).status == 503).then_some(()));
    drop(gateway);

    let gateway = Setup::demo().start();
    assert_eq!(gateway.gets_ready()["ready"], true, "before the stand-in");
}

#[test]
fn threat_08_an_identity_that_we_signed_does_not_come_back_as_a_credential() {
    let gateway = Setup::demo().start();
    let answer = ask(&gateway, "GET", READ, &[("X-API-Key", gateway.api_key())]);
    let token = answer.json()["headers"]["authorization"].as_str().expect("an identity").to_owned();
    for headers in [vec![("Authorization", token.as_str())], vec![("X-API-Key", jwt::bearer(&token))]] {
        let replayed = ask(&gateway, "GET", READ, &headers);
        assert_eq!(replayed.status, 401);
        let record = gateway.audit().of(&replayed.request_id());
        assert!(record["principal"].is_null(), "{record:#}");
        assert_eq!(record["decision"]["refusal"], "credential_rejected", "{record:#}");
    }
}

#[test]
fn threat_09_a_principal_is_neither_its_login_nor_anybody_elses_id() {
    let gateway = Setup::demo().start();
    let subject = |answer: &Response| {
        let header = answer.json()["headers"]["authorization"].as_str().expect("an identity").to_owned();
        jwt::read(jwt::bearer(&header)).1["sub"].as_str().expect("a subject").to_owned()
    };
    let service = subject(&ask(&gateway, "GET", READ, &[("X-API-Key", gateway.api_key())]));
    let mut first = gateway.signed_in("standard_user");
    let mut again = gateway.signed_in("standard_user");
    let mut other = gateway.signed_in("global_admin");
    let person = subject(&first.get(READ));
    assert_eq!(person, subject(&again.get(READ)), "one person has one id in every session");
    assert_ne!(person, subject(&other.get(READ)));
    assert_ne!(person, service);
    for id in [&person, &service] {
        assert_eq!(id.as_bytes()[14], b'5', "{id} is no UUIDv5");
    }
}

#[test]
fn threat_12_a_public_url_in_clear_off_loopback_stops_the_start() {
    let mut production = Production::default();
    production.public_url = "http://gateway.example".to_owned();
    let (content, said) = production.cli(&["check-config"], "");
    assert!(!content && said.contains("http://gateway.example"), "{said}");
    let lines = "allowed_origins = [\"http://intranet.example\"]".to_owned();
    let (content, said) = Production::default().with_lines(lines).cli(&["check-config"], "");
    assert!(!content && said.contains("http://intranet.example"), "{said}");
}

#[test]
fn threat_13_run_takes_no_key_that_is_missing_guessable_or_used_twice() {
    let (content, said) = Production::default().cli(&["check-config"], "");
    assert!(content, "{said}");
    for (index, value) in [
        (0, String::new()),
        (0, "deadbeef".repeat(8)),
        (0, random_hex()[..32].to_owned()),
        (1, "[256-bit hex string]".to_owned()),
        (2, "dev-secret-key-change-in-production-minimum-32-chars".to_owned()),
    ] {
        let mut production = Production::default();
        production.environment[index].1 = value;
        for verb in ["check-config", "run"] {
            let (content, said) = production.cli(&[verb], "");
            assert!(
                !content && said.contains(production.environment[index].0),
                "{verb}, {:?}: {said}",
                production.environment[index]
            );
        }
    }
    let mut production = Production::default();
    production.environment[1].1 = production.environment[0].1.clone();
    let (content, said) = production.cli(&["check-config"], "");
    assert!(!content && said.contains(production.environment[1].0), "two keys that are equal: {said}");
}

#[test]
fn threat_16_a_demo_neither_leaves_loopback_nor_becomes_production() {
    let said = Setup::demo().argument("--listen=0.0.0.0:0").try_start().expect_err("off loopback");
    assert!(said.contains("--expose-demo") || said.contains("--listen"), "{said}");
    let said =
        Setup::demo().upstream("http://10.1.2.3:9000").try_start().expect_err("an upstream off loopback");
    assert!(said.contains("--expose-demo"), "{said}");

    let gateway = Setup::demo().start();
    let mode = fs::metadata(gateway.directory().join("demo.json")).expect("demo.json").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let first = gateway.account("global_admin").password.clone();
    let directory = gateway.kill();
    let lines = format!("data_dir = {:?}", directory.path());
    let (content, said) = Production::default().with_lines(lines).cli(&["run"], "");
    assert!(!content && said.contains("demo"), "run took the demo's store: {said}");
    let other = Setup::demo().start();
    assert_ne!(other.account("global_admin").password, first, "two demos share a password");
}

#[test]
fn threat_18_the_cli_does_not_take_a_hung_gateway_for_none() {
    let gateway = Setup::demo().start();
    gateway.signal(Signal::STOP);
    let begun = std::time::Instant::now();
    let (status, said) = gateway
        .cli_told(&["account", "add", "intruder", "--role", "global_admin"], "a-long-password-of-27\n");
    gateway.signal(Signal::CONT);
    assert!(!status.success(), "the store of a hung gateway was edited: {said}");
    assert!(begun.elapsed() < Duration::from_secs(60), "the CLI hangs with it");
    let (status, said) = gateway.cli(&["account", "list"]);
    assert!(status.success() && !said.contains("intruder"), "{said}");
}

#[test]
fn threat_18_a_verb_on_the_socket_is_decided_and_recorded() {
    let gateway = Setup::demo().start();
    let before = gateway.audit().records().len();
    let (status, said) = gateway.cli(&["session", "list"]);
    assert!(status.success(), "{said}");
    let record = gateway.audit().wait_after(before, "the verb", |record| record["kind"] == "control");
    assert_eq!(record["decision"]["outcome"], "permit", "{record:#}");
    assert_eq!(record["principal"]["kind"], "operator", "{record:#}");
}

#[test]
fn threat_19_the_admin_listener_answers_its_own_name_and_only_reads() {
    let gateway = Setup::demo().start();
    let ask = |method: &str, target: &str, host: &str| {
        let request = Request::new(method, target).with("Host", host);
        Client::connect(gateway.admin()).ask(&request).expect("an answer").status
    };
    let own = gateway.admin().to_string();
    assert_eq!(ask("GET", "/livez", &own), 200);
    assert_eq!(ask("GET", "/metrics", &own), 200);
    assert!(ask("GET", "/metrics", "evil.example") >= 400, "a page that rebinds its name reads our metrics");
    assert!(ask("POST", "/livez", &own) >= 400);
    assert!(ask("GET", "/.cedargate/login", &own) >= 400);
    // And the other way: the data listener tells neither.
    for target in ["/livez", "/readyz", "/metrics"] {
        let request = Request::new("GET", target).with("Host", &gateway.address().to_string());
        assert_eq!(
            Client::connect(gateway.address()).ask(&request).expect("an answer").status,
            404,
            "{target}"
        );
    }
}

#[test]
fn threat_20_a_flood_of_refusals_leaves_a_summary_and_not_a_record_each() {
    let gateway = Setup::demo().environment("BOTSERVER_RATE_LIMIT_PER_IP", "50").start();
    let address = gateway.address();
    let enough = AtomicBool::new(false);
    // More than the share of records that early refusals have: a thousand at once, then a hundred a second.
    let answers: u64 = std::thread::scope(|scope| {
        let floods: Vec<_> = (0..4).map(|_| scope.spawn(|| flood(address, &enough))).collect();
        gateway.audit().wait_after(0, "a summary", |record| record["kind"] == "summary");
        enough.store(true, Ordering::SeqCst);
        floods.into_iter().map(|flood| flood.join().expect("no flood panics")).sum()
    });
    let records = gateway.audit().records();
    let single = records.iter().filter(|record| record["kind"] == "request").count();
    assert!((single as u64) < answers, "{single} records of {answers} refusals");
    let throttled = records.iter().any(|record| record["decision"]["refusal"] == "throttled");
    assert!(throttled, "nobody was throttled");
}

/// Asks for nothing as fast as it can, at most so often that the test ends in any case.
fn flood(address: std::net::SocketAddr, enough: &AtomicBool) -> u64 {
    let request = Request::new("GET", "/no/such/route").with("Host", &address.to_string());
    let mut client = Client::connect(address);
    let mut answers = 0;
    for _ in 0..20_000 {
        if enough.load(Ordering::SeqCst) {
            break;
        }
        match client.ask(&request) {
            Ok(_) => answers += 1,
            Err(_) => client = Client::connect(address),
        }
    }
    answers
}

#[test]
fn threat_21_an_audited_write_is_on_disk_before_it_is_forwarded() {
    let upstream = Upstream::start();
    upstream.behave(Behaviour::Silent);
    let gateway = Setup::demo().upstream(&upstream.url()).start();
    let cookie = gateway.signed_in("global_admin").cookie_header();
    let address = gateway.address();
    let request = Request::new("POST", "/api/users/provision")
        .with("Host", &address.to_string())
        .with("Cookie", &cookie)
        .with("Sec-Fetch-Site", "same-origin")
        .body("application/json", b"{}");
    let mut client = Client::connect(address);
    client.send(&request.to_bytes());
    let received = upstream.wait("the write", |received| received.target == "/api/users/provision");
    // The upstream has it and answers nothing: what stands in the file now stood there before it was sent.
    let id = received.header("x-request-id").expect("our id").to_owned();
    let opened = |record: &&Value| record["kind"] == "opening" && record["request_id"] == id.as_str();
    assert!(
        gateway.audit().records().iter().any(|record| opened(&record)),
        "no opening record when it was forwarded"
    );
    drop(client);
    gateway.audit().of(&id);
}

#[test]
fn threat_22_a_concealed_route_answers_as_an_unrouted_one() {
    let gateway = Setup::demo().start();
    let concealed = "/api/rbac/roles";
    let unrouted = "/api/rbac/rulez";
    let account = gateway.signed_in("standard_user");
    let cookie = account.cookie_header();
    let key = gateway.api_key().to_owned();
    let callers: [(&str, Vec<(&str, &str)>); 5] = [
        ("nobody", vec![]),
        ("a person without the right", vec![("Cookie", &cookie), ("Sec-Fetch-Site", "same-origin")]),
        ("a service without the right", vec![("X-API-Key", &key)]),
        ("a wrong credential", vec![("X-API-Key", "cgk_wrong")]),
        (
            "a browser",
            vec![("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")],
        ),
    ];
    for (caller, headers) in callers {
        for method in ["GET", "HEAD", "POST", "DELETE"] {
            let [one, other] = [concealed, unrouted].map(|target| told(&gateway, method, target, &headers));
            assert_eq!(one, other, "{caller}, {method}");
        }
    }
}

/// An answer with what differs from request to request taken out: its id, its trace and its time.
fn told(
    gateway: &Gateway,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> (u16, Vec<(String, String)>, String) {
    let answer = ask(gateway, method, target, headers);
    let id = answer.request_id();
    let varying = ["x-request-id", "date", "traceparent", "traceresponse"];
    let headers =
        answer.headers.iter().filter(|(name, _)| !varying.contains(&name.to_ascii_lowercase().as_str()));
    (answer.status, headers.cloned().collect(), answer.text().replace(&id, "").replace(target, ""))
}

#[test]
fn a_global_administrator_sees_what_is_concealed() {
    let gateway = Setup::demo().start();
    let mut browser: Browser = gateway.signed_in("global_admin");
    assert_eq!(browser.get("/api/rbac/roles").status, 200);
}
