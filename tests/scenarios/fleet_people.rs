//! Accounts and API keys of gateways that share sessions: made at one, known at all; taken away at one, gone at all.

use tests::client::{Client, Request};
use tests::production::{HOST, Production};
use tests::redis::{Break, Redis};
use tests::upstream::Upstream;
use tests::wait::{self, PATIENCE};

use crate::fleet::{Fleet, reaches};
use crate::production::{PASSWORD, add_account, sign_in};

/// What a service reads.
const READ: &str = "/api/docs/list";

/// A key that is made at this gateway.
fn key(production: &mut Production, name: &str) -> String {
    let arguments = ["key", "add", name, "--scope", "docs.*", "--role", "standard_user"];
    let (content, said) = production.cli(&arguments, "");
    assert!(content, "{said}");
    let (key, _) = said.trim().split_once('\n').expect("the key and what it is");
    production.secrets.push(key.to_owned());
    key.to_owned()
}

/// What a gateway answers to who comes with this key.
fn status(production: &Production, key: &str) -> u16 {
    let request = Request::new("GET", READ).with("Host", HOST).with("X-API-Key", key);
    Client::connect(production.address()).ask(&request).expect("an answer").status
}

/// Waits until the gateway answers the key so; until then it is known.
fn reaches_status(production: &Production, key: &str, wanted: u16, why: &str) {
    wait::until(why, PATIENCE, || match status(production, key) {
        200 if wanted != 200 => None,
        503 if wanted == 200 => None,
        found => {
            assert_eq!(found, wanted, "{why}");
            Some(())
        }
    });
}

/// The only line of a list that has this in it, and its first word.
fn id_of(production: &Production, arguments: &[&str], has: &str) -> String {
    let (content, said) = production.cli(arguments, "");
    assert!(content, "{said}");
    let row = said.lines().find(|line| line.contains(has)).unwrap_or_else(|| panic!("{has}: {said}"));
    row.split_whitespace().next().expect("an id").to_owned()
}

#[test]
fn threat_14_who_is_made_or_taken_away_at_one_gateway_is_so_at_all() {
    let (upstream, mut redis) = (Upstream::start(), Redis::start());
    let mut fleet = Fleet::with(2, upstream.address(), &redis, "");
    let key = key(&mut fleet.gateways[0], "importer");
    assert_eq!(status(&fleet.gateways[1], &key), 200, "a key of the other gateway");
    add_account(&mut fleet.gateways[1], "grace", "viewer");
    sign_in(&fleet.gateways[0], "grace");
    let cookie = fleet.sign_in(1);
    assert_eq!(fleet.who(0, &cookie).status, 200);

    // Without the store nobody can say that a key was not revoked.
    redis.breaks(Break::Stopped);
    reaches(&fleet.gateways[0], "degraded", "keys are refused");
    assert_eq!(status(&fleet.gateways[0], &key), 503);
    redis.mends(Break::Stopped);
    for gateway in &fleet.gateways {
        reaches(gateway, "up", "redis");
        reaches_status(gateway, &key, 200, "it is back");
    }

    let id = id_of(&fleet.gateways[1], &["key", "list"], "importer");
    fleet.cli(1, &["key", "revoke", &id]);
    assert_eq!(status(&fleet.gateways[1], &key), 401, "where it was revoked, at once");
    reaches_status(&fleet.gateways[0], &key, 401, "a revoked key");

    fleet.cli(0, &["account", "suspend", "ada"]);
    fleet.forgets(1, &cookie, "suspended at the other gateway");
    fleet.cli(1, &["account", "resume", "ada"]);
    let again = fleet.sign_in(0);
    assert_eq!(fleet.who(1, &again).status, 200, "and resumed");
    fleet.cli(1, &["account", "remove", "ada"]);
    assert_eq!(fleet.who(1, &again).status, 401);
    fleet.forgets(0, &again, "removed at the other gateway");
}

/// What is taken away is taken away whole where no replica can have it: it is said not to last, and is done.
#[test]
fn who_is_taken_away_is_gone_though_too_few_replicas_have_it() {
    let (upstream, redis) = (Upstream::start(), Redis::start());
    redis.order(&["ACL", "SETUSER", "cedargate", "+wait"]);
    // What is late is said otherwise, and a busy machine may be late by less than this.
    let mut fleet = Fleet::within("1s", 2, upstream.address(), &redis, "");
    add_account(&mut fleet.gateways[0], "grace", "viewer");
    let cookie = fleet.sign_in(0);
    fleet.gateways[1].lines.push_str("[session]\nreplicas = 1\n");
    fleet.processes.pop();
    fleet.processes.push(fleet.gateways[1].start());
    reaches(&fleet.gateways[1], "up", "redis");
    let taken_away = |arguments: &[&str], typed: &str| {
        let (content, said) = fleet.gateways[1].cli(arguments, typed);
        assert!(!content && said.contains("too few"), "{arguments:?}: {said}");
    };
    // Whoever knew the old password is signed out with it.
    taken_away(&["account", "password", "ada"], &format!("{PASSWORD}\n"));
    fleet.forgets(0, &cookie, "another password");
    taken_away(&["account", "suspend", "grace"], "");
    taken_away(&["account", "remove", "ada"], "");
    // Said again, as it is told to: there is nobody any more, and the replicas still lack that.
    taken_away(&["account", "remove", "ada"], "");
    taken_away(&["account", "remove", "nobody-of-this-name"], "");
    let (content, said) = fleet.gateways[0].cli(&["account", "list"], "");
    assert!(content && said.contains("grace") && !said.contains("ada"), "{said}");
}

#[test]
fn what_one_gateway_alone_would_know_stops_its_start_until_it_is_brought() {
    let (upstream, redis) = (Upstream::start(), Redis::start());
    let mut production = Production::before(upstream.address());
    production.secrets.push(redis.password().to_owned());
    add_account(&mut production, "ada", "standard_user");
    let key = key(&mut production, "importer");
    let shared = format!("{}budget = \"400ms\"\n", redis.lines_of("session.redis"));
    production.lines = shared.clone();
    let (content, said) = production.cli(&["run"], "");
    assert!(!content, "{said}");
    for part in ["1 account(s) and 1 API key(s)", "no other gateway", "session.bring_credentials = true"] {
        assert!(said.contains(part), "{part}: {said}");
    }

    production.lines = format!("[session]\nbring_credentials = true\n{shared}");
    let process = production.start();
    reaches(&production, "up", "redis");
    sign_in(&production, "ada");
    assert_eq!(status(&production, &key), 200);
    let note = "1 account(s) and 1 API key(s) of this gateway's own are in redis now";
    wait::until("the record", PATIENCE, || {
        let records = production.audit().records();
        records.iter().any(|record| record["notes"][0] == note).then_some(())
    });
    drop(process);

    // From now on they are everybody's.
    production.lines = shared;
    let _process = production.start();
    reaches(&production, "up", "redis");
    assert_eq!(status(&production, &key), 200);
}
