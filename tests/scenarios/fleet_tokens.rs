//! Gateways that share what a provider has ended: an access token of whoever was signed out there is over at all of them.

use std::time::Duration;

use serde_json::json;
use tests::client::{Client, Request, Response};
use tests::process::Process;
use tests::production::Production;
use tests::redis::Redis;
use tests::session::{Browser, WHOAMI};
use tests::wait;
use tests::websocket::{PeerServer, RawSocket};

use crate::fleet::{API, reaches, with_provider};
use crate::openid::sign_in;

const WS: &str = "/ws";
/// How late an end may be seen at another gateway.
const SECOND: Duration = Duration::from_secs(1);

fn with(gateway: &Production, target: &str, token: &str) -> Request {
    let host = gateway.public_url.strip_prefix("http://").expect("a host");
    Request::new("GET", target).with("Host", host).with("Authorization", &format!("Bearer {token}"))
}

fn who(gateway: &Production, token: &str) -> Response {
    Client::connect(gateway.address()).ask(&with(gateway, WHOAMI, token)).expect("an answer")
}

#[test]
fn a_token_that_a_provider_has_ended_is_over_at_every_gateway_and_stays_so() {
    let (server, redis) = (PeerServer::start(), Redis::start());
    let (gateways, mut provider) = with_provider(&server, &redis);
    // It says that all of the person has ended, and not which of their sessions.
    provider.set("/client/backchannel_logout_session_required", json!(false));
    provider.set("/token_claims", json!({"sub": "242424", "roles": ["standard_user"]}));
    provider.run();
    let mut processes: Vec<Process> = gateways.iter().map(Production::start).collect();
    for gateway in &gateways {
        reaches(gateway, "up", "redis");
    }
    let mut browser = Browser::new(gateways[0].address());
    assert_eq!(sign_in(&mut browser, &provider, "corp", "/").status, 303);
    let token = provider.access_token(API, "docs");
    for gateway in &gateways {
        let answer = who(gateway, &token);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let mut sockets: Vec<RawSocket> = gateways
        .iter()
        .map(|gateway| RawSocket::upgrade(Client::connect(gateway.address()), with(gateway, WS, &token)))
        .collect();

    // The first one is told, before this returns.
    provider.sign_out();
    for gateway in &gateways {
        let over = wait::within(SECOND, || (who(gateway, &token).status == 401).then_some(()));
        assert!(over.is_some(), "not within a second: {}", who(gateway, &token).status);
    }
    for socket in &mut sockets {
        assert_eq!(socket.closed().0, 4401);
    }
    let refused = who(&gateways[1], &token);
    let notes = gateways[1].audit().of(&refused.request_id())["notes"].to_string();
    assert!(notes.contains("ended"), "{notes}");

    // One that starts later has been told by nobody, and knows it all the same.
    processes.pop();
    processes.push(gateways[1].start());
    reaches(&gateways[1], "up", "redis");
    let refused = who(&gateways[1], &token);
    assert_eq!(refused.status, 401, "{}", refused.text());
    // What is issued from now on is another token; of a later second, as tokens tell the time.
    wait::until("a later second", tests::wait::PATIENCE, || {
        let token = provider.access_token(API, "docs");
        (who(&gateways[1], &token).status == 200 && who(&gateways[0], &token).status == 200).then_some(())
    });
    // Without the store nobody knows what has ended, and nobody is let in.
    let token = provider.access_token(API, "docs");
    assert_eq!(who(&gateways[1], &token).status, 200);
    drop(redis);
    let away = wait::within(tests::wait::PATIENCE, || match who(&gateways[1], &token).status {
        200 => None,
        status => Some(status),
    });
    assert_eq!(away, Some(503));
    drop(processes);
}
