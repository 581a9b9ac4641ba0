//! A real provider (npm `oidc-provider`) is told of a sign-in before the browser is sent there.

use serde_json::json;
use tests::openid::OpenId;
use tests::ports::Port;
use tests::session::{Browser, WHOAMI};

use crate::openid::{CALLBACK, before, begin};

#[test]
fn a_provider_that_takes_pushed_requests_alone_is_signed_in_at() {
    let port = Port::take();
    let mut provider = OpenId::new(&[format!("http://{}{CALLBACK}", port.address())]);
    provider.set("/pushed", json!("required"));
    provider.run();
    let gateway = before(&mut provider, port, "viewer");
    let mut browser = Browser::new(gateway.address());
    let there = begin(&mut browser, "zitadel", "/later");
    for part in ["state=", "nonce=", "redirect_uri=", "code_challenge", "scope="] {
        assert!(!there.contains(part), "the browser carries {part}: {there}");
    }
    assert!(there.contains("request_uri=urn"), "{there}");
    assert_eq!(provider.asked("/request"), 1);
    let answer = browser.navigate_from("cross-site", &provider.walk(&there));
    assert_eq!((answer.status, answer.header("location")), (303, Some("/later")), "{}", answer.text());
    assert_eq!(browser.get(WHOAMI).status, 200);
    gateway.remember(&browser);
}

#[test]
fn a_provider_that_does_not_take_the_push_is_told_to_the_operator() {
    let port = Port::take();
    // It sends people back to another address than ours.
    let mut provider = OpenId::new(&[format!("http://elsewhere.example{CALLBACK}")]);
    provider.set("/pushed", json!("offered"));
    provider.run();
    let gateway = before(&mut provider, port, "viewer");
    let start = format!("{}?provider=zitadel", crate::openid::START);
    let answer = Browser::new(gateway.address()).navigate_from("same-origin", &start);
    assert!(answer.status >= 400 && answer.header("location").is_none(), "{}", answer.text());
    let record = gateway.audit().of(&answer.request_id());
    assert!(
        record["notes"].to_string().contains("the provider says `invalid_request` to our client"),
        "{record:#}"
    );
}
