//! WebSockets through the gateway, with an independent client and server (PyPI `websockets`).

use serde_json::{Value, json};
use tests::gateway::{Gateway, Setup};
use tests::guardrail;
use tests::wait::{self, PATIENCE};
use tests::websocket::{HANDSHAKE, PeerClient, PeerServer, connect};

/// The chat's socket: every signed-in person may open it.
const WS: &str = "/ws";

fn demo(server: &PeerServer) -> Setup {
    Setup::demo().upstream(&server.url())
}

/// The one record of the socket that was opened last.
fn record(gateway: &Gateway) -> Value {
    let is_socket = |record: &Value| record["kind"] == "request" && record["request"]["path"] == WS;
    let found = wait::until("the record of a socket", PATIENCE, || {
        let found: Vec<Value> = gateway.audit().records().into_iter().filter(is_socket).collect();
        (!found.is_empty()).then_some(found)
    });
    assert_eq!(found.len(), 1, "{found:#?}");
    found.into_iter().next().expect("one")
}

fn end_sessions(gateway: &Gateway) {
    let login = gateway.account("standard_user").login.clone();
    let (status, said) = gateway.cli(&["session", "end-all", &login]);
    assert!(status.success(), "{said}");
}

#[test]
fn what_is_said_comes_back_and_leaves_one_record() {
    let server = PeerServer::start();
    let gateway = demo(&server).start();
    let browser = gateway.signed_in("standard_user");
    let mut client = PeerClient::start();
    let socket = client.connect(&gateway, &browser, WS);
    assert_eq!(client.echo(socket, "hello"), "hello");
    assert_eq!(client.echo(socket, "grüße 🦀"), "grüße 🦀");
    client.must(&json!({"do": "close", "id": socket, "code": 4000, "reason": "enough"}));
    let closed = server.wait("the upstream's end", |event| event["event"] == "closed");
    assert_eq!((&closed["code"], &closed["reason"]), (&json!(4000), &json!("enough")));

    let record = record(&gateway);
    let answer = &record["answer"];
    assert_eq!((&answer["status"], &answer["end"]), (&json!(101), &json!("complete")), "{record:#}");
    assert_eq!((&answer["bytes_in"], &answer["bytes_out"]), (&json!(17), &json!(17)), "{record:#}");
    let told = json!({"messages_in": 2, "messages_out": 2, "close_code": 4000, "closed_by": "client"});
    assert_eq!(record["socket"], told, "{record:#}");
    assert_eq!(record["principal"]["name"], json!(gateway.account("standard_user").login), "{record:#}");
}

#[test]
fn the_end_of_a_session_is_told_to_its_idle_sockets_and_to_no_others() {
    let server = PeerServer::start();
    let gateway = demo(&server).start();
    let browser = gateway.signed_in("standard_user");
    let other = gateway.signed_in("global_admin");
    let mut client = PeerClient::start();
    let socket = client.connect(&gateway, &browser, WS);
    let theirs = client.connect(&gateway, &other, WS);
    end_sessions(&gateway);
    assert_eq!(client.closed(socket), (4401, "signed out".to_owned()));
    assert_eq!(client.echo(theirs, "still here"), "still here");
    let record = wait::until("the record", PATIENCE, || {
        gateway.audit().records().into_iter().find(|record| record["socket"]["close_code"] == 4401)
    });
    assert_eq!(record["answer"]["end"], "revoked", "{record:#}");
    assert_eq!(record["socket"]["closed_by"], "gateway", "{record:#}");
    assert_eq!(record["decision"]["refusal"], "credential_rejected", "{record:#}");
}

#[test]
fn a_new_bundle_and_a_suspended_account_close_what_they_concern() {
    let server = PeerServer::start();
    let gateway = demo(&server).start();
    let browser = gateway.signed_in("standard_user");
    let mut client = PeerClient::start();

    let socket = client.connect(&gateway, &browser, WS);
    let login = gateway.account("standard_user").login.clone();
    let (status, said) = gateway.cli(&["account", "suspend", &login]);
    assert!(status.success(), "{said}");
    assert_eq!(client.closed(socket), (4401, "signed out".to_owned()));

    let other = gateway.signed_in("power_user");
    let socket = client.connect(&gateway, &other, WS);
    guardrail::add(&gateway.directory().join("policies"), "chat.bot");
    assert_eq!(client.closed(socket), (4403, "no longer allowed".to_owned()));
    let record = wait::until("the record", PATIENCE, || {
        gateway.audit().records().into_iter().find(|record| record["socket"]["close_code"] == 4403)
    });
    assert_eq!(record["answer"]["end"], "revoked", "{record:#}");
    assert!(
        record["decision"]["detail"].as_str().is_some_and(|why| why.contains(guardrail::ID)),
        "{record:#}"
    );
    let refused = client.ask(&connect(&gateway, &other, WS));
    assert_eq!(refused["status"], 403, "{refused}");
}

#[test]
fn an_absent_or_foreign_origin_opens_no_socket_with_a_session() {
    let server = PeerServer::start();
    let gateway = demo(&server).start();
    let browser = gateway.signed_in("standard_user");
    let mut client = PeerClient::start();
    let mut order = connect(&gateway, &browser, WS);
    for origin in [json!(null), json!("https://evil.example"), json!("null"), json!("https://localhost")] {
        order["origin"] = origin.clone();
        let said = client.ask(&order);
        assert_eq!(said["status"], 403, "{origin}: {said}");
        assert!(said["body"].as_str().is_some_and(|body| body.contains("cross_site")), "{origin}: {said}");
    }
    let headers = json!({"X-API-Key": gateway.api_key()});
    let said = client.ask(&json!({"do": "connect", "url": order["url"], "headers": headers}));
    // A program has no browser that another site could use.
    assert!(said["body"].as_str().is_none_or(|body| !body.contains("cross_site")), "{said}");
}

#[test]
fn a_person_has_so_many_sockets_and_no_more() {
    let server = PeerServer::start();
    let gateway = demo(&server).start();
    let browser = gateway.signed_in("standard_user");
    let mut client = PeerClient::start();
    let mut order = connect(&gateway, &browser, WS);
    order["count"] = json!(32);
    client.must(&order);
    let refused = client.ask(&connect(&gateway, &browser, WS));
    assert_eq!(refused["status"], 429, "{refused}");
    assert!(refused["body"].as_str().is_some_and(|body| body.contains("quota_spent")), "{refused}");
    // Another session of the same person counts as the same person; another person does not.
    let same = gateway.signed_in("standard_user");
    assert_eq!(client.ask(&connect(&gateway, &same, WS))["status"], 429);
    client.connect(&gateway, &gateway.signed_in("power_user"), WS);
    client.must(&json!({"do": "close", "id": 0}));
    wait::until("a free place", PATIENCE, || {
        client.ask(&connect(&gateway, &browser, WS)).get("id").is_some().then_some(())
    });
}

#[test]
fn rounds_of_opening_and_echo_lose_nothing() {
    let server = PeerServer::start();
    let gateway = demo(&server).start();
    let browser = gateway.signed_in("standard_user");
    let mut order = connect(&gateway, &browser, WS);
    order["do"] = json!("rounds");
    order["count"] = json!(40);
    assert_eq!(PeerClient::start().must(&order), json!({"rounds": 40}));
    let of_it = |record: &Value| record["answer"]["status"] == 101;
    wait::until("40 records", PATIENCE, || {
        (gateway.audit().records().into_iter().filter(of_it).count() == 40).then_some(())
    });
}

#[test]
fn a_gateway_that_stops_says_so_to_every_socket() {
    let server = PeerServer::start();
    let mut gateway = demo(&server).start();
    let browser = gateway.signed_in("standard_user");
    let mut client = PeerClient::start();
    let socket = client.connect(&gateway, &browser, WS);
    gateway.signal(rustix::process::Signal::TERM);
    assert_eq!(client.closed(socket), (1001, "the gateway stops".to_owned()));
    assert!(gateway.wait().success());
    assert_eq!(record(&gateway)["socket"]["close_code"], 1001);
}

#[test]
fn a_path_that_is_a_socket_says_so_and_no_other_path_becomes_one() {
    let server = PeerServer::start();
    let gateway = demo(&server).start();
    let mut browser = gateway.signed_in("standard_user");
    let plain = browser.get(WS);
    assert_eq!((plain.status, plain.header("upgrade")), (426, Some("websocket")), "{}", plain.text());
    assert_eq!(plain.header("sec-websocket-version"), Some("13"));
    let mut request = browser.request("GET", "/api/docs/list");
    for (name, value) in HANDSHAKE {
        request = request.with(name, value);
    }
    let refused = browser.ask(&request);
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(refused.json()["type"], "urn:cedargate:refusal:upgrade.refused");
}

#[test]
fn who_talks_is_told_by_the_gateway_and_only_in_a_conversation_that_it_was_given() {
    let server = PeerServer::start();
    let gateway = demo(&server).start();
    let mut browser = gateway.signed_in("standard_user");
    let mut other = gateway.signed_in("power_user");
    let mut client = PeerClient::start();
    let conversation = "11111111-2222-3333-4444-555555555555";
    let target = format!("{WS}?session_id={conversation}&user_id=somebody-else&bot_name=default");
    let refused = client.ask(&connect(&gateway, &browser, &target));
    assert_eq!(refused["status"], 403, "{refused}");
    assert!(refused["body"].as_str().is_some_and(|body| body.contains("query.unnamed")), "{refused}");

    let named = browser.get("/api/auth");
    assert_eq!(named.json()["session_id"], conversation);
    client.connect(&gateway, &browser, &target);
    let open = server.wait("the upstream's handshake", |event| event["event"] == "open");
    let principal = browser.get("/.cedargate/whoami").json()["id"].clone();
    let id =
        principal.as_str().unwrap_or_else(|| panic!("an id in {}", browser.get("/.cedargate/whoami").text()));
    let seen = format!("{WS}?session_id={conversation}&bot_name=default&user_id={id}");
    assert_eq!(open["path"], seen, "{open}");

    // What was given to one is no other's, and only as it was given.
    assert_eq!(client.ask(&connect(&gateway, &other, &target))["status"], 403);
    let cut = target.replace("5555&", "555&");
    assert_eq!(client.ask(&connect(&gateway, &browser, &cut))["status"], 403);
    assert_eq!(other.get("/api/auth").status, 200);
    client.connect(&gateway, &other, &target);
}
