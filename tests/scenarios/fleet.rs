//! Gateways that share sessions in a Redis: who signs in at one is known at all, and who is signed out is signed out.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tests::client::{Client, Request, Response};
use tests::openid::{CLIENT_ID, OpenId};
use tests::process::Process;
use tests::production::{HOST, Production};
use tests::redis::{Break, Redis};
use tests::session::{Browser, LOGOUT, WHOAMI, form};
use tests::wait::{self, PATIENCE};
use tests::websocket::{PeerServer, RawSocket};

use crate::limits::{metric, told_by_admin, waited_longer};
use crate::openid::{CALLBACK, private_secret, sign_in as openid_sign_in};
use crate::production::{ask, request, sharing, sign_in};

const WS: &str = "/ws";
/// What gateways call themselves to who asks a provider for an access token.
pub(crate) const API: &str = "https://api.example/";

/// Gateways with the same keys and the same people.
pub(crate) struct Fleet {
    pub(crate) gateways: Vec<Production>,
    pub(crate) processes: Vec<Process>,
}

impl Fleet {
    fn start(count: usize, server: &PeerServer, redis: &Redis) -> Self {
        Self::with(count, server.address(), redis, "")
    }

    /// With these lines more in their configuration.
    pub(crate) fn with(count: usize, upstream: SocketAddr, redis: &Redis, more: &str) -> Self {
        Self::within("400ms", count, upstream, redis, more)
    }

    /// The same with another budget.
    pub(crate) fn within(
        budget: &str,
        count: usize,
        upstream: SocketAddr,
        redis: &Redis,
        more: &str,
    ) -> Self {
        let lines = format!("{}budget = \"{budget}\"\n{more}", redis.lines_of("session.redis"));
        let gateways = sharing(count, upstream, &lines, &[redis.password().to_owned()]);
        let processes = gateways.iter().map(Production::start).collect();
        let fleet = Self { gateways, processes };
        for gateway in &fleet.gateways {
            reaches(gateway, "up", "redis");
        }
        fleet
    }

    /// The cookies of a new session, begun at this gateway.
    pub(crate) fn sign_in(&mut self, at: usize) -> String {
        let cookie = sign_in(&self.gateways[at], "ada");
        let secrets = cookie.split("; ").filter_map(|pair| pair.split_once('='));
        let secrets: Vec<String> = secrets.map(|(_, value)| value.to_owned()).collect();
        for gateway in &mut self.gateways {
            gateway.secrets.extend(secrets.iter().filter(|value| value.len() >= 20).cloned());
        }
        cookie
    }

    /// What this gateway says to who comes with these cookies.
    pub(crate) fn who(&self, at: usize, cookie: &str) -> Response {
        ask(&self.gateways[at], &with(request("GET", WHOAMI), cookie))
    }

    /// Waits until the gateway answers so; until it is connected again it says that it cannot, and nothing else.
    pub(crate) fn answers(&self, at: usize, cookie: &str, wanted: u16, why: &str) {
        wait::until(why, PATIENCE, || match self.who(at, cookie).status {
            503 => None,
            status => {
                assert_eq!(status, wanted, "{why}");
                Some(())
            }
        });
    }

    /// Waits until the gateway does not know the session any longer; in between it does.
    pub(crate) fn forgets(&self, at: usize, cookie: &str, why: &str) {
        wait::until(why, PATIENCE, || match self.who(at, cookie).status {
            200 => None,
            401 => Some(()),
            other => panic!("{why}: {other}"),
        });
    }

    fn socket(&self, at: usize, cookie: &str) -> RawSocket {
        let upgrade = with(request("GET", WS), cookie).with("Origin", &format!("https://{HOST}"));
        RawSocket::upgrade(Client::connect(self.gateways[at].address()), upgrade)
    }

    pub(crate) fn cli(&self, at: usize, arguments: &[&str]) {
        let (content, said) = self.gateways[at].cli(arguments, "");
        assert!(content, "{arguments:?}: {said}");
    }
}

fn with(request: Request, cookie: &str) -> Request {
    request.with("Cookie", cookie).with("Sec-Fetch-Site", "same-origin").with("Accept", "application/json")
}

pub(crate) fn reaches(production: &Production, state: &str, detail: &str) {
    wait::until(&format!("{state}: {detail}"), PATIENCE, || {
        let told = told_by_admin(production, "/readyz").json();
        let part = &told["parts"]["sessions"];
        let said = part["detail"].as_str().unwrap_or_default();
        (part["state"] == state && said.contains(detail)).then_some(())
    });
}

/// The public id of the only live session, as an administrator sees it at this gateway.
fn session_id(production: &Production) -> String {
    let (content, said) = production.cli(&["session", "list"], "");
    assert!(content, "{said}");
    let rows: Vec<&str> = said.lines().skip(1).filter(|line| !line.trim().is_empty()).collect();
    assert_eq!(rows.len(), 1, "{said}");
    rows[0].split_whitespace().next().expect("an id").to_owned()
}

/// Signs out as a browser does, with the page's own form.
fn sign_out(gateway: &Production, cookie: &str) {
    let answer = signing_out_by(cookie, |request| Some(ask(gateway, request))).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// What is answered to whoever signs out so, where an answer may not come.
pub(crate) fn signing_out_by(cookie: &str, ask: impl Fn(&Request) -> Option<Response>) -> Option<Response> {
    let page = ask(&with(request("GET", LOGOUT), cookie).with("Accept", "text/html"))?;
    let post = with(request("POST", LOGOUT), cookie)
        .with("Origin", &format!("https://{HOST}"))
        .body("application/x-www-form-urlencoded", form(&[], &page.text()).as_bytes());
    ask(&post)
}

/// A way to end the session of these cookies, at one of two gateways.
type End = fn(&Fleet, &str);

const ENDS: [(&str, End); 3] = [
    ("the person signs out", |fleet, cookie| sign_out(&fleet.gateways[0], cookie)),
    ("an administrator ends it", |fleet, _| {
        let id = session_id(&fleet.gateways[0]);
        fleet.cli(0, &["session", "end", &id]);
    }),
    ("an administrator ends all of the person", |fleet, _| fleet.cli(0, &["session", "end-all", "ada"])),
];

#[test]
fn who_signs_in_at_one_gateway_is_known_at_all_and_who_is_signed_out_at_one_at_none() {
    let (server, redis) = (PeerServer::start(), Redis::start());
    let mut fleet = Fleet::start(3, &server, &redis);
    for (name, end) in ENDS {
        let cookie = fleet.sign_in(1);
        for at in 0..3 {
            assert_eq!(fleet.who(at, &cookie).status, 200, "{name}: gateway {at}");
        }
        let mut sockets: Vec<RawSocket> = (0..3).map(|at| fleet.socket(at, &cookie)).collect();
        end(&fleet, &cookie);
        assert_eq!(fleet.who(0, &cookie).status, 401, "{name}: where it was ended, at once");
        for at in 1..3 {
            fleet.forgets(at, &cookie, name);
        }
        for (at, socket) in sockets.iter_mut().enumerate() {
            assert_eq!(socket.closed().0, 4401, "{name}: the idle socket at gateway {at}");
        }
    }
    // Only what everybody agrees on is in there: no gateway counts for itself.
    for gateway in &fleet.gateways {
        let text = told_by_admin(gateway, "/metrics").text();
        assert!(text.contains("cedargate_sessions_redis_up 1\n"), "{text}");
    }
}

/// Two gateways behind one address, at which people of a real provider sign in.
pub(crate) fn with_provider(server: &PeerServer, redis: &Redis) -> (Vec<Production>, OpenId) {
    let mut first = Production::before(server.address());
    let public_url = format!("http://{}", first.address());
    let mut provider = OpenId::new(&[format!("{public_url}{CALLBACK}")]);
    provider.run();
    let secret = private_secret(&first);
    let entry = format!(
        "\n[[oidc.providers]]\nname = \"corp\"\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n\
         client_secret = \"{secret}\"\nroles = [\"standard_user\", \"viewer\"]\nroles_claims = [\"/roles\"]\n\
         api_audiences = [\"{API}\"]\n",
        provider.issuer()
    );
    let mut second = Production::before(server.address());
    second.environment = first.environment.clone();
    for gateway in [&mut first, &mut second] {
        gateway.public_url = public_url.clone();
        let shared = redis.lines_of("session.redis");
        gateway.lines = format!("environment = \"development\"\n{shared}budget = \"400ms\"\n");
        gateway.upstream.push_str(&entry);
        gateway.secrets.push(redis.password().to_owned());
    }
    provider.set("/claims/roles", json!(["standard_user"]));
    (vec![first, second], provider)
}

#[test]
fn a_person_of_a_provider_is_known_at_every_gateway_and_signed_out_of_all_by_the_provider() {
    let (server, redis) = (PeerServer::start(), Redis::start());
    let (gateways, mut provider) = with_provider(&server, &redis);
    let _processes: Vec<Process> = gateways.iter().map(Production::start).collect();
    for gateway in &gateways {
        reaches(gateway, "up", "redis");
    }
    let at = |gateway: &Production, browser: &Browser, target: &str| {
        // Under the one address of both, which the browser was given its cookies at.
        let request = browser.request("GET", target);
        Client::connect(gateway.address()).ask(&request).expect("an answer")
    };
    let mut browser = Browser::new(gateways[0].address());
    assert_eq!(openid_sign_in(&mut browser, &provider, "corp", "/").status, 303);
    let me = at(&gateways[1], &browser, WHOAMI);
    assert_eq!(me.status, 200, "the second gateway has never met them: {}", me.text());
    assert_eq!(me.json()["roles"], json!(["standard_user"]));

    // They sign in once more, and have another role; the older session says nothing of that at either.
    let mut again = Browser::new(gateways[0].address());
    provider.set("/claims/roles", json!(["viewer"]));
    assert_eq!(openid_sign_in(&mut again, &provider, "corp", "/").status, 303);
    for session in [&again, &browser] {
        for gateway in &gateways {
            assert_eq!(at(gateway, session, WHOAMI).json()["roles"], json!(["viewer"]));
        }
    }

    provider.sign_out();
    for gateway in &gateways {
        wait::until("the end of the session", PATIENCE, || {
            (at(gateway, &again, WHOAMI).status == 401).then_some(())
        });
    }
}

/// What breaks the store, and what is said of it then.
const FAULTS: [(Break, &str); 9] = [
    (Break::Killed, ""),
    (Break::Stopped, ""),
    (Break::Asleep, ""),
    (Break::Slow, ""),
    (Break::Paused, ""),
    (Break::ReadOnly, "READONLY"),
    (Break::OtherPassword, "password"),
    (Break::Forbidden("del"), "the error ERR"),
    (Break::BlackHole, "reached"),
];

#[test]
fn whatever_becomes_of_redis_nobody_is_signed_out_by_it_and_nobody_is_let_in() {
    let (server, mut redis) = (PeerServer::start(), Redis::keeping().behind_a_passage());
    let mut fleet = Fleet::start(2, &server, &redis);
    let cookie = fleet.sign_in(0);
    let stranger = format!("__Host-cedargate={}", "A".repeat(43));
    assert_eq!(fleet.who(0, &stranger).status, 401);
    for (fault, detail) in FAULTS {
        let name = format!("{fault:?}");
        let mut socket = fleet.socket(0, &cookie);
        redis.breaks(fault);
        for at in 0..2 {
            // Known for as long as nothing can have been missed, and then refused.
            let refused = wait::until(&name, PATIENCE, || {
                let answer = fleet.who(at, &cookie);
                assert!(matches!(answer.status, 200 | 503), "{name}: {} {}", answer.status, answer.text());
                (answer.status == 503).then_some(answer)
            });
            assert!(refused.header("retry-after").is_some(), "{name}: {:?}", refused.headers);
            assert_eq!(refused.header("set-cookie"), None, "{name}: the cookie stays");
            reaches(&fleet.gateways[at], "degraded", detail);
            assert_eq!(fleet.who(at, &stranger).status, 503, "{name}: who cannot be asked about");
            assert_eq!(fleet.who(at, &cookie).status, 503, "{name}");
            let health = ask(&fleet.gateways[at], &request("GET", "/.cedargate/login"));
            assert_eq!(health.status, 200, "{name}: what needs no session is served");
        }
        assert_eq!(socket.closed().0, 1013, "{name}: what is open stands on nothing, and may come again");
        redis.mends(fault);
        for at in 0..2 {
            reaches(&fleet.gateways[at], "up", "redis");
            assert_eq!(fleet.who(at, &cookie).status, 200, "{name}, and back: nobody was signed out");
            assert_eq!(fleet.who(at, &stranger).status, 401, "{name}, and back");
        }
    }
    let begun = wait::until("the last event", PATIENCE, || {
        let records = fleet.gateways[0].audit().records();
        let about = |record: &&Value| record["kind"] == "security";
        let notes: Vec<Value> = records.iter().filter(about).cloned().collect();
        let ends = notes.iter().filter(|record| record["notes"][0] == "sessions are in redis again").count();
        (ends >= FAULTS.len())
            .then(|| notes.iter().filter(|record| record["decision"]["refusal"] == "sessions_away").count())
    });
    assert!(begun >= FAULTS.len(), "{begun}");
    for gateway in &fleet.gateways {
        // A beat alone may have found each of them out; but nobody was given up before the budget was nearly over.
        let late = metric(gateway, "cedargate_sessions_redis_total{result=\"late\"}");
        let longer = waited_longer(gateway, "sessions");
        assert!(longer >= late, "{late} late, {longer} waited for longer than 0.1 s");
    }
}

#[test]
fn what_was_acknowledged_survives_a_crash_of_redis_and_of_a_gateway() {
    let (server, mut redis) = (PeerServer::start(), Redis::keeping());
    let mut fleet = Fleet::start(2, &server, &redis);
    for round in 0..4 {
        let (kept, ended) = (fleet.sign_in(round % 2), fleet.sign_in(1));
        // Known at the other, so that it has something that it must not believe.
        assert_eq!(fleet.who(0, &ended).status, 200, "round {round}");
        sign_out(&fleet.gateways[1], &ended);
        redis.kill();
        if round % 2 == 1 {
            fleet.processes[0].kill();
        }
        redis.restart();
        if round % 2 == 1 {
            fleet.processes[0] = fleet.gateways[0].start();
        }
        for at in 0..2 {
            fleet.answers(at, &kept, 200, &format!("round {round}: an acknowledged login, gateway {at}"));
            fleet.answers(at, &ended, 401, &format!("round {round}: an ended session, gateway {at}"));
        }
    }
}

#[test]
fn a_gateway_with_other_keys_refuses_and_signs_nobody_out() {
    let (server, redis) = (PeerServer::start(), Redis::start());
    let mut fleet = Fleet::start(1, &server, &redis);
    let cookie = fleet.sign_in(0);
    let lines = format!("{}budget = \"400ms\"\n", redis.lines_of("session.redis"));
    let mut stranger = Production::before(server.address()).with_lines(lines);
    stranger.secrets.push(redis.password().to_owned());
    let _process = stranger.start();
    reaches(&stranger, "degraded", "sealed under a master key");
    assert_eq!(ask(&stranger, &with(request("GET", WHOAMI), &cookie)).status, 503);
    assert_eq!(fleet.who(0, &cookie).status, 200);
}

#[test]
fn the_command_line_ends_shared_sessions_while_no_gateway_runs() {
    let (server, mut redis) = (PeerServer::start(), Redis::start());
    let mut fleet = Fleet::start(2, &server, &redis);
    let cookie = fleet.sign_in(1);
    fleet.processes[0].kill();
    fleet.cli(0, &["account", "suspend", "ada"]);
    fleet.forgets(1, &cookie, "ended by the command line beside another gateway");
    redis.kill();
    let (content, said) = fleet.gateways[0].cli(&["session", "list"], "");
    assert!(!content && said.contains("does not answer"), "{said}");
}
