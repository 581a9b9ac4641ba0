//! A real provider (npm `oidc-provider`) says that somebody has signed out there: what goes back to it ends here at once.

use serde_json::json;
use tests::client::{Client, Request, Response};
use tests::gateway::{Gateway, Setup};
use tests::openid::{CLIENT_ID, CLIENT_SECRET, OpenId};
use tests::ports::Port;
use tests::session::{Browser, WHOAMI};
use tests::wait::{self, PATIENCE};
use tests::websocket::{PeerClient, PeerServer};

use crate::openid::{CALLBACK, sign_in, zitadel};

const TOLD: &str = "/.cedargate/oidc/logout";
const WS: &str = "/ws";

fn tell(gateway: &Gateway, body: &str) -> Response {
    let request = Request::new("POST", TOLD)
        .with("Host", &gateway.address().to_string())
        .body("application/x-www-form-urlencoded", body.as_bytes());
    Client::connect(gateway.address()).ask(&request).expect("an answer")
}

/// The record of the provider's call, which nobody waits for.
fn told(gateway: &Gateway, calls: usize) -> serde_json::Value {
    wait::until("the provider's call", PATIENCE, || {
        let records = gateway.audit().records();
        let mut calls_made = records.into_iter().filter(|record| record["request"]["path"] == TOLD);
        calls_made.nth(calls)
    })
}

#[test]
fn whoever_signs_out_at_the_provider_is_signed_out_here_and_nobody_else() {
    let (gateway, provider) = zitadel("viewer");
    let mut browser = Browser::new(gateway.address());
    let mut other = Browser::new(gateway.address());
    assert_eq!(sign_in(&mut other, &provider, "zitadel", "/").status, 303);
    assert_eq!(sign_in(&mut browser, &provider, "zitadel", "/").status, 303);
    let mut local = gateway.signed_in("viewer");
    assert_eq!(browser.get(WHOAMI).status, 200);
    gateway.remember(&browser);
    gateway.remember(&other);

    // The one of the two sessions at the provider that was begun last.
    provider.sign_out();
    wait::until("the end of the session", PATIENCE, || (browser.get(WHOAMI).status == 401).then_some(()));
    assert_eq!(other.get(WHOAMI).status, 200, "another session of the same person");
    assert_eq!(local.get(WHOAMI).status, 200, "a local account");
    let record = told(&gateway, 0);
    assert_eq!(record["answer"]["status"], 200, "{record:#}");
    let notes = record["notes"].to_string();
    assert!(notes.contains("provider zitadel has ended one of its sessions"), "{record:#}");
    assert!(notes.contains("1 sessions and 0 tokens ended here"), "{record:#}");
    // The way back is open.
    assert_eq!(sign_in(&mut browser, &provider, "zitadel", "/").status, 303);
    assert_eq!(browser.get(WHOAMI).status, 200);
    gateway.remember(&browser);
}

#[test]
fn the_end_reaches_an_idle_socket_within_a_second() {
    let server = PeerServer::start();
    let port = Port::take();
    let address = port.address();
    let mut provider = OpenId::new(&[format!("http://{address}{CALLBACK}")]);
    provider.run();
    provider.hold(port);
    let gateway = Setup::demo()
        .upstream(&server.url())
        .listen(address)
        .environment("ZITADEL_DOMAIN", &provider.issuer())
        .environment("ZITADEL_CLIENT_ID", CLIENT_ID)
        .environment("ZITADEL_CLIENT_SECRET", CLIENT_SECRET)
        .environment("ZITADEL_ROLES", "standard_user")
        .start();
    gateway.keep_secret("our secret at the provider", CLIENT_SECRET);
    provider.set("/claims/urn:zitadel:iam:org:project:roles", json!({"standard_user": {"1": "one.example"}}));
    let mut browser = Browser::new(gateway.address());
    assert_eq!(sign_in(&mut browser, &provider, "zitadel", "/").status, 303);
    gateway.remember(&browser);
    let mut client = PeerClient::start();
    let socket = client.connect(&gateway, &browser, WS);
    assert_eq!(client.echo(socket, "hello"), "hello");
    provider.sign_out();
    let (code, _) = client.closed(socket);
    assert_eq!(code, 4401);
}

#[test]
fn a_word_that_no_provider_has_signed_ends_nothing() {
    let (gateway, provider) = zitadel("viewer");
    let mut browser = Browser::new(gateway.address());
    assert_eq!(sign_in(&mut browser, &provider, "zitadel", "/").status, 303);
    gateway.remember(&browser);
    for body in [
        "",
        "logout_token=",
        "logout_token=a.b.c",
        "logout_token=a&logout_token=b",
        "token=a",
        "logout_token=%",
    ] {
        let answer = tell(&gateway, body);
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{body}");
        assert_eq!(answer.json(), json!({"error": "invalid_request"}), "{body}");
    }
    let request = Request::new("POST", TOLD)
        .with("Host", &gateway.address().to_string())
        .body("application/json", br#"{"logout_token":"a.b.c"}"#);
    assert_eq!(Client::connect(gateway.address()).ask(&request).expect("an answer").status, 400);
    let get = Request::new("GET", TOLD).with("Host", &gateway.address().to_string());
    assert_eq!(Client::connect(gateway.address()).ask(&get).expect("an answer").status, 404);
    assert_eq!(browser.get(WHOAMI).status, 200);
    let record = told(&gateway, 2);
    assert_eq!(record["decision"]["refusal"], "credential_rejected", "{record:#}");
    assert!(record["notes"].to_string().contains("back-channel logout refused"), "{record:#}");
}
