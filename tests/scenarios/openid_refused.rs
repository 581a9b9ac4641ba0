//! Sign-ins at a provider that must come to nothing, and what the person is told.

use serde_json::json;
use tests::client::{Client, Request};
use tests::session::{Browser, WHOAMI};

use crate::openid::{CALLBACK, START, begin, sign_in, zitadel};

#[test]
fn an_answer_that_this_browser_did_not_ask_for_signs_nobody_in() {
    let (gateway, provider) = zitadel("viewer");
    let mut attacker = Browser::new(gateway.address());
    let mut victim = Browser::new(gateway.address());
    let begun = provider.walk(&begin(&mut attacker, "zitadel", "/"));
    // Login CSRF: the attacker's answer in the victim's browser.
    let answer = victim.navigate_from("cross-site", &begun);
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(answer.text().contains("begun in another browser"), "{}", answer.text());
    assert!(!victim.cookies().iter().any(|(name, _)| name.ends_with("session")), "{:?}", victim.cookies());
    assert_eq!(gateway.audit().of(&answer.request_id())["decision"]["refusal"], "cross_site");

    // The victim's own flow does not take it either, and a cookie of another name or a changed one opens nothing.
    begin(&mut victim, "zitadel", "/");
    assert_eq!(victim.navigate_from("cross-site", &begun).status, 403);
    let (name, value) =
        attacker.cookies().iter().find(|(name, _)| name.contains("flow")).expect("one").clone();
    let other = victim.cookies().iter().find(|(name, _)| name.contains("flow")).expect("one").clone();
    victim.plant(&name, &other.1);
    assert_eq!(victim.navigate_from("cross-site", &begun).status, 403, "a flow moved to another name");
    let mut changed = value.clone().into_bytes();
    changed[60] = if changed[60] == b'A' { b'B' } else { b'A' };
    victim.plant(&name, &String::from_utf8(changed).expect("ASCII"));
    assert_eq!(victim.navigate_from("cross-site", &begun).status, 403, "a changed flow");

    for target in [
        CALLBACK.to_owned(),
        format!("{CALLBACK}?code=x"),
        format!("{CALLBACK}?state=&code=x"),
        format!("{CALLBACK}?state={}&code=x", "a".repeat(16)),
        format!("{CALLBACK}?state={}&code=x", "%C3%A4".repeat(40)),
        format!("{CALLBACK}?state={}&code=x", "f".repeat(4000)),
        format!("{CALLBACK}?error=access_denied"),
    ] {
        let answer = victim.navigate_from("cross-site", &target);
        assert_eq!(answer.status, 403, "{target}: {}", answer.text());
    }
    let twice = victim.navigate_from("cross-site", &format!("{CALLBACK}?state=a&state=b"));
    assert_eq!(twice.status, 400, "{}", twice.text());
    gateway.remember(&attacker);
    gateway.remember(&victim);
}

#[test]
fn a_state_or_code_that_was_changed_signs_nobody_in() {
    let (gateway, provider) = zitadel("viewer");
    let mut browser = Browser::new(gateway.address());
    let back = provider.walk(&begin(&mut browser, "zitadel", "/"));
    let state = back.split("state=").nth(1).and_then(|rest| rest.split('&').next()).expect("a state");
    let last = if state.ends_with('A') { 'B' } else { 'A' };
    let changed = back.replace(state, &format!("{}{last}", &state[..state.len() - 1]));
    let answer = browser.navigate_from("cross-site", &changed);
    assert_eq!(answer.status, 403, "{}", answer.text());

    let back = provider.walk(&begin(&mut browser, "zitadel", "/"));
    let answer = browser.navigate_from("cross-site", &back.replace("code=", "code=x"));
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert!(answer.text().contains("says that this sign-in is over"), "{}", answer.text());
    let record = gateway.audit().of(&answer.request_id());
    assert!(record["notes"].to_string().contains("invalid_grant"), "{record:#}");
    assert_eq!(browser.get(WHOAMI).status, 401);
    gateway.remember(&browser);
}

#[test]
fn no_sign_in_begins_for_a_script_or_from_another_site() {
    let (gateway, _provider) = zitadel("viewer");
    let start = format!("{START}?provider=zitadel&return_to=/x");
    let mut browser = Browser::new(gateway.address());
    let answer = browser.get(&start);
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let htmx = Request::new("GET", &start)
        .with("Host", &gateway.address().to_string())
        .with("Accept", "text/html")
        .with("HX-Request", "true");
    assert_eq!(Client::connect(gateway.address()).ask(&htmx).expect("an answer").status, 401);
    for site in ["cross-site", "same-site"] {
        let answer = browser.navigate_from(site, &start);
        let location = answer.header("location");
        assert_eq!((answer.status, location), (303, Some("/.cedargate/login?return_to=/x")), "{site}");
    }
    assert!(browser.cookies().is_empty(), "{:?}", browser.cookies());

    // What leads elsewhere is dropped, and an unknown provider is told as such.
    for elsewhere in ["//evil.example", "https://evil.example/", "/%5Cevil.example"] {
        let answer = browser.navigate(&format!("{START}?provider=zitadel&return_to={elsewhere}"));
        assert_eq!(answer.status, 303);
        assert!(!answer.header("location").expect("a place").contains("evil"));
    }
    let answer = browser.navigate(&format!("{START}?provider=other"));
    assert_eq!(answer.status, 404, "{}", answer.text());
    assert!(answer.text().contains("Sign in with Zitadel"), "{}", answer.text());
    gateway.remember(&browser);
}

#[test]
fn what_the_provider_refuses_is_told_in_our_words() {
    let (gateway, mut provider) = zitadel("viewer");
    let mut browser = Browser::new(gateway.address());
    provider.set("/declines", json!(true));
    let answer = sign_in(&mut browser, &provider, "zitadel", "/");
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert!(answer.text().contains("has not let you in, or you have declined"), "{}", answer.text());
    let record = gateway.audit().of(&answer.request_id());
    assert!(record["notes"].to_string().contains("provider zitadel: access_denied"), "{record:#}");
    assert_eq!(record["decision"]["refusal"], "credential_rejected");

    let there = begin(&mut browser, "zitadel", "/");
    let state = there.split("state=").nth(1).and_then(|rest| rest.split('&').next()).expect("a state");
    let issuer = provider.issuer();
    let told = format!("{CALLBACK}?error=%3Cscript%3E&error_description=evil&state={state}&iss={issuer}");
    let answer = browser.navigate_from("cross-site", &told);
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert!(!answer.text().contains("script") && !answer.text().contains("evil"), "{}", answer.text());

    // A subject that nobody can be named by, and an answer of userinfo about somebody else.
    provider.set("/declines", json!(false));
    provider.set("/claims/sub", json!("x".repeat(256)));
    let answer = sign_in(&mut browser, &provider, "zitadel", "/");
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert!(answer.text().contains("cannot be used here"), "{}", answer.text());
    let record = gateway.audit().of(&answer.request_id());
    assert!(record["notes"].to_string().contains("`sub` is not taken"), "{record:#}");
    gateway.remember(&browser);
}
