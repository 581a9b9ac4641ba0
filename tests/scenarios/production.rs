//! `cedargate run`: a configuration, keys and accounts of one's own, TLS, proxies before it, signals.

use std::net::SocketAddr;

use rustix::process::Signal;
use tests::client::{Client, Request, Response};
use tests::guardrail;
use tests::production::{HOST, Production, random_hex};
use tests::session::{LOGIN, WHOAMI, form};
use tests::tls::Certificate;
use tests::upstream::{Behaviour, Upstream};
use tests::wait::{self, PATIENCE};

const READ: &str = "/api/docs/list";
pub(crate) const PASSWORD: &str = "a-long-password-of-27-signs";

pub(crate) fn request(method: &str, target: &str) -> Request {
    Request::new(method, target).with("Host", HOST)
}

pub(crate) fn ask(production: &Production, request: &Request) -> Response {
    Client::connect(production.address()).ask(request).expect("an answer")
}

/// Signs in as a browser behind a proxy that ends TLS does; the cookies that it was given.
pub(crate) fn sign_in(production: &Production, login: &str) -> String {
    let answer = signing_in(production, login);
    assert!(answer.status < 400, "{} {}", answer.status, answer.text());
    for line in answer.all("set-cookie") {
        assert!(
            line.starts_with("__Host-") && line.contains("Secure"),
            "not bound to this host over TLS: {line}"
        );
    }
    cookies(&answer)
}

/// What a gateway answers to whoever signs in there with the right password.
pub(crate) fn signing_in(production: &Production, login: &str) -> Response {
    signing_in_by(login, |request| Some(ask(production, request))).expect("an answer")
}

/// The same where an answer may not come.
pub(crate) fn signing_in_by(login: &str, ask: impl Fn(&Request) -> Option<Response>) -> Option<Response> {
    let page = ask(&request("GET", LOGIN).with("Sec-Fetch-Site", "none"))?;
    let filled = form(&[("login", login), ("password", PASSWORD)], &page.text());
    let post = request("POST", LOGIN)
        .with("Cookie", &cookies(&page))
        .with("Sec-Fetch-Site", "same-origin")
        .with("Origin", &format!("https://{HOST}"))
        .body("application/x-www-form-urlencoded", filled.as_bytes());
    ask(&post)
}

/// What an answer sets, as it is presented.
pub(crate) fn cookies(answer: &Response) -> String {
    let pairs = answer.all("set-cookie").map(|line| line.split(';').next().unwrap_or_default());
    pairs.collect::<Vec<_>>().join("; ")
}

pub(crate) fn add_account(production: &mut Production, login: &str, role: &str) {
    production.secrets.push(PASSWORD.to_owned());
    let (content, said) =
        production.cli(&["account", "add", login, "--role", role], &format!("{PASSWORD}\n"));
    assert!(content, "{said}");
}

/// Gateways with one set of keys and these lines, not yet started. Nobody may see what is secret.
pub(crate) fn alike(count: usize, upstream: SocketAddr, lines: &str, secrets: &[String]) -> Vec<Production> {
    let mut gateways: Vec<Production> = Vec::new();
    for _ in 0..count {
        let mut production = Production::before(upstream).with_lines(lines.to_owned());
        production.secrets.extend(secrets.iter().cloned());
        if let Some(first) = gateways.first() {
            production.environment = first.environment.clone();
        }
        gateways.push(production);
    }
    gateways
}

/// The same, and one person whom all know who share their accounts: the first makes it.
pub(crate) fn sharing(
    count: usize,
    upstream: SocketAddr,
    lines: &str,
    secrets: &[String],
) -> Vec<Production> {
    let mut gateways = alike(count, upstream, lines, secrets);
    person(&mut gateways);
    gateways
}

/// Has the first of these make the account of a person.
pub(crate) fn person(gateways: &mut [Production]) {
    add_account(&mut gateways[0], "ada", "standard_user");
    gateways[1..].iter_mut().for_each(|other| other.secrets.push(PASSWORD.to_owned()));
}

#[test]
fn an_operator_starts_it_adds_people_reloads_and_stops() {
    let upstream = Upstream::start();
    let mut production = Production::before(upstream.address());
    tests::repository::copy(
        &tests::repository::root().join("policies"),
        &production.folder().join("policies"),
    );
    // No gateway runs yet: the command line works on the store itself.
    add_account(&mut production, "ada", "standard_user");
    let mut process = production.start();
    // Now one runs: the same verb goes through its control socket.
    add_account(&mut production, "grace", "viewer");

    let cookie = sign_in(&production, "ada");
    let values = cookie.split("; ").filter_map(|pair| pair.split_once('='));
    production.secrets.extend(values.map(|(_, value)| value.to_owned()).filter(|value| value.len() >= 20));
    let read = request("GET", READ).with("Cookie", &cookie).with("Sec-Fetch-Site", "same-origin");
    let answer = ask(&production, &read);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.header("strict-transport-security").is_some(), "{:?}", answer.headers);
    sign_in(&production, "grace");

    guardrail::add(&production.folder().join("policies"), "docs.read");
    // `run` watches files only when it is told to, and is asked by a signal.
    assert_eq!(ask(&production, &read).status, 200);
    process.signal(Signal::HUP);
    wait::until("the reload", PATIENCE, || (ask(&production, &read).status == 403).then_some(()));

    process.signal(Signal::TERM);
    assert!(process.wait().success(), "{}", process.output());
}

#[test]
fn one_data_directory_serves_one_gateway() {
    let upstream = Upstream::start();
    let production = Production::before(upstream.address());
    let _process = production.start();
    let data = production.folder().join("data");
    let second = Production::default().with_lines(format!("data_dir = {data:?}"));
    // With other keys and other ports, and still refused, at once.
    let (content, said) = second.cli(&["run"], "");
    assert!(!content, "{said}");
}

#[test]
fn tls_is_1_3_unless_somebody_says_otherwise() {
    let upstream = Upstream::start();
    let folder = tempfile::TempDir::new().expect("a folder");
    let certificate = Certificate::make(folder.path(), HOST);
    let files = [("BOTSERVER_TLS_CERT", &certificate.cert), ("BOTSERVER_TLS_KEY", &certificate.key)];
    let mut production = Production::before(upstream.address());
    production.environment.extend(files.map(|(name, file)| (name, file.display().to_string())));
    let _process = production.start();
    let get = request("GET", "/health").with("Connection", "close").to_bytes();
    let answer = certificate.ask(production.address(), HOST, &[&rustls::version::TLS13], &get);
    assert!(answer.as_ref().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")), "{answer:?}");
    let old = certificate.ask(production.address(), HOST, &[&rustls::version::TLS12], &get);
    assert!(old.is_err(), "TLS 1.2 is spoken: {old:?}");
    drop(_process);

    let mut production = Production::before(upstream.address());
    production.environment.extend(files.map(|(name, file)| (name, file.display().to_string())));
    production.environment.push(("BOTSERVER_TLS_MIN_VERSION", "1.2".to_owned()));
    let _process = production.start();
    let old = certificate.ask(production.address(), HOST, &[&rustls::version::TLS12], &get);
    assert!(old.as_ref().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")), "{old:?}");
}

#[test]
fn a_forwarded_address_is_believed_from_a_trusted_proxy_alone() {
    let upstream = Upstream::start();
    let mut production = Production::before(upstream.address());
    let forwarded = request("GET", "/health").with("X-Forwarded-For", "203.0.113.7, 198.51.100.9");
    let process = production.start();
    let answer = ask(&production, &forwarded);
    assert_eq!(production.audit().of(&answer.request_id())["client"]["address"], "127.0.0.1");
    drop(process);
    production.lines = "trusted_proxies = [\"127.0.0.0/8\"]".to_owned();
    let _process = production.start();
    let record = production.audit().of(&ask(&production, &forwarded).request_id());
    // Counted from the right: what is left of the first stranger is the client's own word.
    assert_eq!(record["client"]["address"], "198.51.100.9", "{record:#}");
    assert_eq!(record["client"]["peer"], "127.0.0.1");
}

#[test]
fn a_slow_upstream_is_a_504_and_a_dead_address_is_passed_over() {
    let upstream = Upstream::start();
    let dead = tests::ports::Port::take();
    let mut production = Production::before(upstream.address());
    production.upstream =
        format!("addresses = [\"{}\", \"{}\"]\nread_timeout = \"1s\"", dead.address(), upstream.address());
    let _process = production.start();
    for attempt in 0..6 {
        assert_eq!(ask(&production, &request("GET", "/health")).status, 200, "attempt {attempt}");
    }
    upstream.behave(Behaviour::Silent);
    let answer = ask(&production, &request("GET", "/health"));
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert_eq!(production.audit().of(&answer.request_id())["decision"]["refusal"], "upstream_timeout");
    drop(upstream);
    let statuses = || ask(&production, &request("GET", "/health"));
    let answer =
        wait::until("word that all are down", PATIENCE, || Some(statuses()).filter(|it| it.status == 503));
    assert_eq!(production.audit().of(&answer.request_id())["decision"]["refusal"], "upstream_unhealthy");
}

#[test]
fn a_variable_whose_feature_does_not_exist_stops_the_start_by_its_name() {
    for (name, value) in [
        ("BOTSERVER_REQUIRE_MFA", "true"),
        ("ZITADEL_DOMAIN", "login.example"),
        ("ZITADEL_CLIENT_SECRET", "b8f31c0aa8e94f2d9e7c"),
        ("BOTSERVER_TLS_MIN_VERSION", "1.1"),
        ("BOTSERVER_RATE_LIMIT_PER_IP", "many"),
    ] {
        let mut production = Production::default();
        production.environment.push((name, value.to_owned()));
        let (content, said) = production.cli(&["check-config"], "");
        assert!(!content && said.contains(name), "{name}={value}: {said}");
    }
    let lines = "no_such_key = 1\nupload_bytes_max = \"much\"".to_owned();
    let (content, said) = Production::default().with_lines(lines).cli(&["check-config"], "");
    assert!(
        !content && said.contains("no_such_key") && said.contains("upload_bytes_max"),
        "not all at once: {said}"
    );
}

#[test]
fn an_idle_session_ends_and_a_used_one_does_not_outlive_its_absolute_end() {
    let upstream = Upstream::start();
    let mut production = Production::before(upstream.address());
    production.environment.push(("BOTSERVER_SESSION_TIMEOUT", "2".to_owned()));
    production.lines = "session = { absolute = \"6s\" }".to_owned();
    add_account(&mut production, "ada", "standard_user");
    let _process = production.start();
    let whoami = |cookie: &str| {
        ask(&production, &request("GET", WHOAMI).with("Cookie", cookie).with("Sec-Fetch-Site", "same-origin"))
            .status
    };
    let used = sign_in(&production, "ada");
    let begun = std::time::Instant::now();
    let idle = sign_in(&production, "ada");
    assert_eq!((whoami(&used), whoami(&idle)), (200, 200));
    // Used all the time, it lives past the idle end and no longer than the absolute one.
    let ended = wait::until("the absolute end", PATIENCE, || (whoami(&used) == 401).then(|| begun.elapsed()));
    assert!(ended.as_secs_f64() > 3.5, "it ended after {ended:?}, as if nobody had used it");
    assert_eq!(whoami(&idle), 401, "an idle session lives on");
}

#[test]
fn a_rotated_master_key_opens_what_the_old_one_sealed() {
    let upstream = Upstream::start();
    let mut production = Production::before(upstream.address());
    add_account(&mut production, "ada", "standard_user");
    let process = production.start();
    let cookie = sign_in(&production, "ada");
    drop(process);
    let old = std::mem::replace(&mut production.environment[0].1, random_hex());
    production.environment.push(("BOTSERVER_PREVIOUS_ENCRYPTION_KEYS", old));
    let _process = production.start();
    let whoami = request("GET", WHOAMI).with("Cookie", &cookie).with("Sec-Fetch-Site", "same-origin");
    assert_eq!(ask(&production, &whoami).status, 200, "the session did not survive a rotation of the key");
    sign_in(&production, "ada");
}
