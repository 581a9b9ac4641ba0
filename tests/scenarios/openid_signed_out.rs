//! Signing out of the provider as well (OpenID Connect RP-Initiated Logout 1.0): what it is shown, and what becomes of that.

use serde_json::{Value, json};
use tests::gateway::Gateway;
use tests::session::{Browser, LOGIN, LOGOUT, WHOAMI, form};
use tests::wait::{self, PATIENCE};

use crate::openid::{sign_in, zitadel};

#[test]
fn whoever_signs_out_is_told_of_the_session_at_the_provider() {
    let (gateway, mut provider) = zitadel("viewer");
    let mut browser = Browser::new(gateway.address());
    assert_eq!(sign_in(&mut browser, &provider, "zitadel", "/").status, 303);
    let address = elsewhere(&sign_out(&gateway, &mut browser));
    let shown = hint(&address).expect("an ID token");
    gateway.keep_secret("an ID token", &shown);
    assert_eq!(browser.get(WHOAMI).status, 401);
    // It recognises what it has given, asks nothing and leads back; another token it refuses.
    let back = format!("http://{}{LOGIN}", gateway.address());
    assert_eq!(provider.led_out(&address), (false, Some(back)));
    let (rest, signature) = shown.rsplit_once('.').expect("a signature");
    let forged = address.replace(&shown, &format!("{rest}.{}", signature.chars().rev().collect::<String>()));
    assert_eq!(provider.page(&forged).status, 400, "the provider looks at no signature");

    // A provider that is away keeps nobody signed in here, and a local account knows of none.
    assert_eq!(sign_in(&mut browser, &provider, "zitadel", "/").status, 303);
    gateway.remember(&browser);
    provider.stop();
    sign_out(&gateway, &mut browser);
    assert_eq!(browser.get(WHOAMI).status, 401);
    let mut local = gateway.signed_in("viewer");
    assert!(!sign_out(&gateway, &mut local).contains("elsewhere"));
}

#[test]
fn a_provider_is_not_shown_what_it_would_refuse_or_what_is_too_long_and_asks_the_person() {
    let (gateway, mut provider) = zitadel("viewer");
    let (mut first, mut other) = (Browser::new(gateway.address()), Browser::new(gateway.address()));
    // As many roles as make the token longer than an address may be.
    let many: serde_json::Map<String, Value> =
        (0..300).map(|number| (format!("a-role-with-a-long-name-{number}"), json!({}))).collect();
    provider.set("/claims/urn:zitadel:iam:org:project:roles", Value::from(many));
    let answer = sign_in(&mut first, &provider, "zitadel", "/");
    assert_eq!(answer.status, 303, "{}", answer.text());
    let notes = gateway.audit().of(&answer.request_id())["notes"].to_string();
    assert!(notes.contains("not shown its ID token at sign-out"), "{notes}");
    let address = elsewhere(&sign_out(&gateway, &mut first));
    assert_eq!(hint(&address), None, "{address}");
    assert_eq!(provider.led_out(&address), (true, None));

    // Other keys at the provider, which the gateway has heard of by another sign-in.
    provider.set("/claims/urn:zitadel:iam:org:project:roles", json!({"viewer": {}}));
    assert_eq!(sign_in(&mut first, &provider, "zitadel", "/").status, 303);
    provider.run();
    wait::until("the new keys", PATIENCE * 2, || {
        (sign_in(&mut other, &provider, "zitadel", "/").status == 303).then_some(())
    });
    let address = elsewhere(&sign_out(&gateway, &mut first));
    assert_eq!(hint(&address), None, "{address}");
    assert_eq!(provider.led_out(&address), (true, None));
    assert!(hint(&elsewhere(&sign_out(&gateway, &mut other))).is_some());
    gateway.remember(&first);
    gateway.remember(&other);
}

/// Signs out by the page's own form; what it says then.
fn sign_out(gateway: &Gateway, browser: &mut Browser) -> String {
    let page = browser.navigate(LOGOUT);
    let post = browser
        .request("POST", LOGOUT)
        .with("Origin", &format!("http://{}", gateway.address()))
        .body("application/x-www-form-urlencoded", form(&[], &page.text()).as_bytes());
    let answer = browser.ask(&post);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("referrer-policy"), Some("same-origin"), "the provider is told where from");
    answer.text()
}

/// Where the page leads to, to sign out of the provider as well.
fn elsewhere(page: &str) -> String {
    let (_, rest) = page.split_once("id=\"elsewhere\" href=\"").expect("the provider's place");
    rest.split('"').next().expect("an address").replace("&#38;", "&")
}

/// The ID token in an address.
fn hint(address: &str) -> Option<String> {
    address.split(['?', '&']).find_map(|pair| pair.strip_prefix("id_token_hint=")).map(str::to_owned)
}
