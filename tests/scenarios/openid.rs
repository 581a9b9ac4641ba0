//! Signing in at a real OpenID provider (npm `oidc-provider`), in the shape of Zitadel and others.

use std::fs;

use serde_json::{Value, json};
use tests::chromium::Chromium;
use tests::client::Response;
use tests::gateway::{Gateway, Setup};
use tests::openid::{Authlib, CLIENT_ID, CLIENT_SECRET, OpenId};
use tests::ports::Port;
use tests::production::Production;
use tests::repository;
use tests::session::{Browser, LOGIN, WHOAMI};
use tests::upstream::Upstream;
use tests::wait::{self, PATIENCE};

/// Where people begin.
pub(crate) const START: &str = "/.cedargate/oidc/start";
/// Where providers send them back to.
pub(crate) const CALLBACK: &str = "/.cedargate/oidc/callback";
const READ: &str = "/api/docs/list";

/// A demo that takes a Zitadel from its environment, as BotServer's guide has it, and one that answers for it.
pub(crate) fn zitadel(roles: &str) -> (Gateway, OpenId) {
    let port = Port::take();
    let mut provider = OpenId::new(&[format!("http://{}{CALLBACK}", port.address())]);
    provider.run();
    let gateway = before(&mut provider, port, roles);
    (gateway, provider)
}

/// The demo alone, on a port that was taken for it.
pub(crate) fn before(provider: &mut OpenId, port: Port, roles: &str) -> Gateway {
    let address = port.address();
    provider.hold(port);
    let gateway = Setup::demo()
        .listen(address)
        .environment("ZITADEL_DOMAIN", &provider.issuer())
        .environment("ZITADEL_CLIENT_ID", CLIENT_ID)
        .environment("ZITADEL_CLIENT_SECRET", CLIENT_SECRET)
        .environment("ZITADEL_ROLES", roles)
        .start();
    gateway.keep_secret("our secret at the provider", CLIENT_SECRET);
    gateway
}

/// Begins a sign-in as a click on the page does; where the browser is sent to.
pub(crate) fn begin(browser: &mut Browser, provider: &str, return_to: &str) -> String {
    let answer =
        browser.navigate_from("same-origin", &format!("{START}?provider={provider}&return_to={return_to}"));
    assert_eq!(answer.status, 303, "{}", answer.text());
    answer.header("location").expect("a place to go").to_owned()
}

/// The whole of signing in.
pub(crate) fn sign_in(browser: &mut Browser, provider: &OpenId, name: &str, return_to: &str) -> Response {
    let there = begin(browser, name, return_to);
    browser.navigate_from("cross-site", &provider.walk(&there))
}

pub(crate) fn who(browser: &mut Browser) -> Value {
    let answer = browser.get(WHOAMI);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Our secret at a provider, in a file as an operator keeps it; how the configuration names it.
pub(crate) fn private_secret(production: &Production) -> String {
    let file = production.folder().join("client-secret");
    fs::write(&file, CLIENT_SECRET).expect("a secret");
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("kept private");
    format!("file:{}", file.display())
}

fn notes(record: &Value) -> String {
    record["notes"].to_string()
}

#[test]
fn a_person_of_a_zitadel_signs_in_and_has_the_roles_that_it_may_assert() {
    let (gateway, mut provider) = zitadel("standard_user,viewer");
    // As an object by role, and names that only begin or end like ours.
    let roles = json!({
        "standard_user": {"1001": "one.example"}, "global_admin": {"1001": "one.example"}, "superviewer": {}, "VIEWER": {},
    });
    provider.set("/claims/urn:zitadel:iam:org:project:roles", roles);
    let mut browser = Browser::new(gateway.address());
    let page = browser.navigate(LOGIN);
    assert!(page.text().contains("Sign in with Zitadel"), "{}", page.text());

    // A session that somebody planted is worth nothing afterwards.
    let planted = gateway.signed_in("viewer");
    let (name, value) =
        planted.cookies().iter().find(|(name, _)| name.ends_with("session")).expect("one").clone();
    browser.plant(&name, &value);
    let answer = sign_in(&mut browser, &provider, "zitadel", READ);
    assert_eq!((answer.status, answer.header("location")), (303, Some(READ)), "{}", answer.text());
    gateway.remember(&browser);
    assert!(!browser.cookies().iter().any(|(name, _)| name.contains("flow")), "{:?}", browser.cookies());
    assert_eq!(planted.clone().get(WHOAMI).status, 401, "the planted session lives on");

    assert_eq!(browser.get(READ).status, 200);
    let me = who(&mut browser);
    assert_eq!(me["name"], "zitadel:ada");
    assert_eq!(me["roles"], json!(["standard_user"]));
    assert_eq!(me["assurance"], 1);
    let record = gateway.audit().of(&answer.request_id());
    let said = notes(&record);
    for part in ["login succeeded", "provider zitadel", "VIEWER, global_admin, superviewer"] {
        assert!(said.contains(part), "{part} is not in {record:#}");
    }
    // The code and the state are values of a query, of which records keep the names alone.
    assert!(!record.to_string().contains("gateway@"), "{record:#}");

    // Roles follow the provider at the next sign-in; the id stays.
    provider.set("/claims/urn:zitadel:iam:org:project:roles", json!([{"viewer": {"1001": "one.example"}}]));
    provider.set("/claims/amr", json!(["pwd", "mfa"]));
    let answer = sign_in(&mut browser, &provider, "zitadel", "/");
    assert_eq!(answer.status, 303, "{}", answer.text());
    let now = who(&mut browser);
    assert_eq!((&now["id"], &now["roles"], &now["assurance"]), (&me["id"], &json!(["viewer"]), &json!(2)));
}

#[test]
fn each_tab_has_its_own_sign_in_and_the_oldest_of_too_many_is_let_go() {
    let (gateway, provider) = zitadel("viewer");
    let mut browser = Browser::new(gateway.address());
    let first = provider.walk(&begin(&mut browser, "zitadel", "/first"));
    let second = provider.walk(&begin(&mut browser, "zitadel", "/second"));
    // Back in the other order, and each where it wanted to go.
    for (callback, place) in [(&second, "/second"), (&first, "/first")] {
        let answer = browser.navigate_from("cross-site", callback);
        assert_eq!((answer.status, answer.header("location")), (303, Some(place)), "{}", answer.text());
    }
    // The back button: what is done already leads on while the session holds.
    let again = browser.navigate_from("cross-site", &second);
    assert_eq!((again.status, again.header("location")), (303, Some(WHOAMI)), "{}", again.text());
    assert_eq!(browser.get(WHOAMI).status, 200);

    let begun: Vec<String> = (0..9).map(|at| begin(&mut browser, "zitadel", &format!("/tab{at}"))).collect();
    let flows = browser.cookies().iter().filter(|(name, _)| name.contains("flow")).count();
    assert_eq!(flows, 8, "{:?}", browser.cookies());
    let oldest = browser.navigate_from("cross-site", &provider.walk(&begun[0]));
    assert_eq!(oldest.header("location"), Some(WHOAMI), "{}", oldest.text());
    let newest = browser.navigate_from("cross-site", &provider.walk(&begun[8]));
    assert_eq!(newest.header("location"), Some("/tab8"), "{}", newest.text());
    gateway.remember(&browser);
}

#[test]
fn a_provider_that_is_away_stops_nothing_but_its_own_button() {
    let port = Port::take();
    let mut provider = OpenId::new(&[format!("http://{}{CALLBACK}", port.address())]);
    let gateway = before(&mut provider, port, "viewer");
    let mut browser = Browser::new(gateway.address());
    assert_eq!(browser.navigate(LOGIN).status, 200);
    let answer = browser.navigate_from("same-origin", &format!("{START}?provider=zitadel&return_to={READ}"));
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("Zitadel does not answer at this moment"), "{}", answer.text());
    assert!(answer.text().contains(&format!("return_to={READ}")), "{}", answer.text());
    assert_eq!(gateway.signed_in("viewer").get(WHOAMI).status, 200, "local accounts need no provider");
    let ready = gateway.gets_ready();
    assert_eq!(ready["parts"]["oidc:zitadel"]["state"], "degraded", "{ready:#}");

    provider.run();
    let back = || {
        let mut browser = Browser::new(gateway.address());
        let answer = browser.navigate_from("same-origin", &format!("{START}?provider=zitadel"));
        (answer.status == 303).then_some(())
    };
    wait::until("the provider's return", PATIENCE, back);
    assert_eq!(sign_in(&mut browser, &provider, "zitadel", READ).status, 303);

    // Away between the two halves: nothing is spent, and loading the page again signs in.
    let callback = provider.walk(&begin(&mut browser, "zitadel", "/later"));
    provider.stop();
    let away = browser.navigate_from("cross-site", &callback);
    assert_eq!(away.status, 503, "{}", away.text());
    assert!(browser.cookies().iter().any(|(name, _)| name.contains("flow")), "the sign-in is lost");
    gateway.remember(&browser);
}

#[test]
fn new_keys_are_taken_up_without_a_restart() {
    let (gateway, mut provider) = zitadel("viewer");
    let mut browser = Browser::new(gateway.address());
    assert_eq!(sign_in(&mut browser, &provider, "zitadel", READ).status, 303);
    // Other keys, and another algorithm.
    provider.set("/client/id_token_signed_response_alg", json!("ES256"));
    provider.run();
    let mut others = Browser::new(gateway.address());
    // Keys are asked for anew at most once in 10 seconds.
    wait::until("the new keys", PATIENCE * 2, || {
        (sign_in(&mut others, &provider, "zitadel", READ).status == 303).then_some(())
    });
    gateway.remember(&browser);
    gateway.remember(&others);
}

#[test]
fn a_suspended_person_stays_suspended_and_has_no_password() {
    let (gateway, provider) = zitadel("viewer");
    let mut browser = Browser::new(gateway.address());
    assert_eq!(sign_in(&mut browser, &provider, "zitadel", "/").status, 303);
    let id = who(&mut browser)["id"].as_str().expect("an id").to_owned();
    let (status, said) = gateway.cli(&["account", "list"]);
    assert!(status.success() && said.contains("zitadel:ada"), "{said}");

    let (status, said) = gateway.cli_told(&["account", "password", &id], "a-long-password-of-27-signs\n");
    assert!(!status.success() && said.contains("identity provider"), "{said}");
    let refused = Browser::new(gateway.address()).sign_in("zitadel:ada", "a-long-password-of-27-signs");
    assert_eq!(refused.status, 401, "{}", refused.text());

    let (status, said) = gateway.cli(&["account", "suspend", "zitadel:ada"]);
    assert!(status.success(), "{said}");
    assert_eq!(browser.get(WHOAMI).status, 401);
    let answer = sign_in(&mut browser, &provider, "zitadel", "/");
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert!(answer.text().contains("suspended"), "{}", answer.text());
    let (_, _) = gateway.cli(&["account", "resume", &id]);
    assert_eq!(sign_in(&mut browser, &provider, "zitadel", "/").status, 303);
    gateway.remember(&browser);
}

#[test]
fn two_providers_never_speak_for_each_other() {
    let upstream = Upstream::start();
    let mut production = Production::before(upstream.address());
    production.public_url = format!("http://{}", production.address());
    production.lines = "environment = \"development\"".to_owned();
    let callback = [format!("{}{CALLBACK}", production.public_url)];
    let (mut one, mut two) = (OpenId::start(&callback), OpenId::start(&callback));
    let secret = private_secret(&production);
    let entry = |name: &str, provider: &OpenId, rest: &str| {
        format!(
            "\n[[oidc.providers]]\nname = \"{name}\"\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n\
             client_secret = \"{secret}\"\n{rest}\n",
            provider.issuer()
        )
    };
    let staff = entry(
        "staff",
        &one,
        "title = \"Staff\"\nroles = { \"app-admin\" = \"global_admin\", reader = \"viewer\" }",
    );
    let guests = entry(
        "guests",
        &two,
        "preset = \"keycloak\"\nroles = [\"guest_user\"]\ngroups = { \"/staff\" = \"guests\" }",
    );
    production.upstream.push_str(&format!("{staff}{guests}"));
    let process = production.start();

    // The same subject, name and roles at both.
    one.set("/claims/roles", json!(["app-admin", "reader", "global_admin"]));
    two.set("/claims/realm_access", json!({"roles": ["app-admin", "guest_user", "global_admin"]}));
    two.set("/claims/groups", json!(["/staff", "/other"]));
    let mut browsers = [Browser::new(production.address()), Browser::new(production.address())];
    let [first, second] = &mut browsers;
    let page = first.navigate(LOGIN).text();
    assert!(page.contains("Sign in with Staff") && page.contains("Sign in with Keycloak"), "{page}");
    for (browser, provider, name) in [(&mut *first, &one, "staff"), (&mut *second, &two, "guests")] {
        let answer = sign_in(browser, provider, name, "/");
        assert_eq!(answer.status, 303, "{name}: {}", answer.text());
    }
    let (staff, guest) = (who(first), who(second));
    assert_ne!(staff["id"], guest["id"], "one subject at two issuers is two people");
    assert_eq!((&staff["name"], &guest["name"]), (&json!("staff:ada"), &json!("guests:ada")));
    assert_eq!(staff["roles"], json!(["global_admin", "viewer"]));
    assert_eq!((&guest["roles"], &guest["groups"]), (&json!(["guest_user"]), &json!(["guests"])));

    // Mixed up: one provider's answer to what was asked of the other, and an answer that names nobody.
    let strangers =
        [(format!("&iss={}", two.issuer()), "names another issuer"), (String::new(), "names no issuer")];
    for (issuer, why) in strangers {
        let mut browser = Browser::new(production.address());
        let asked = begin(&mut browser, "staff", "/");
        let state = asked.split(['?', '&']).find_map(|pair| pair.strip_prefix("state=")).expect("a state");
        let answer = browser.navigate_from("cross-site", &format!("{CALLBACK}?code=x&state={state}{issuer}"));
        assert_eq!(answer.status, 403, "{}", answer.text());
        let record = production.audit().of(&answer.request_id());
        assert!(notes(&record).contains(why), "{record:#}");
        // The flow was spent with it.
        assert!(!browser.cookies().iter().any(|(name, _)| name.contains("flow")));
    }
    drop(process);
}

#[test]
fn a_provider_of_another_make_is_signed_in_at_as_well() {
    let provider = Authlib::start(&json!({
        "sub": "4711", "preferred_username": "grace", "memberships": {"list": ["viewer", "global_admin"]},
    }));
    let upstream = Upstream::start();
    let mut production = Production::before(upstream.address());
    production.public_url = format!("http://{}", production.address());
    production.lines = "environment = \"development\"".to_owned();
    let secret = private_secret(&production);
    production.upstream.push_str(&format!(
        "\n[[oidc.providers]]\nname = \"authlib\"\nissuer = \"{}\"\nclient_id = \"gate\"\nclient_secret = \"{secret}\"\n\
         userinfo = true\nroles = [\"viewer\"]\nroles_claims = [\"/memberships/list\"]\n",
        provider.issuer()
    ));
    let process = production.start();
    let mut browser = Browser::new(production.address());
    let back = provider.answer(&begin(&mut browser, "authlib", READ), "sub=4711");
    let answer = browser.navigate_from("cross-site", &back);
    assert_eq!((answer.status, answer.header("location")), (303, Some(READ)), "{}", answer.text());
    let me = who(&mut browser);
    assert_eq!((&me["name"], &me["roles"]), (&json!("authlib:grace"), &json!(["viewer"])));
    // It repeats no `state` when the person declines: an answer to no question, so the session holds, and without one the
    // person is told to begin again.
    let back = provider.answer(&begin(&mut browser, "authlib", READ), "action=deny");
    assert!(back.contains("error=access_denied") && !back.contains("state="), "{back}");
    let answer = browser.navigate_from("cross-site", &back);
    assert_eq!((answer.status, answer.header("location")), (303, Some(WHOAMI)), "{}", answer.text());
    let answer = Browser::new(production.address()).navigate_from("cross-site", &back);
    assert_eq!(answer.status, 403, "{}", answer.text());
    drop(process);
}

#[test]
fn a_person_signs_in_at_a_provider_with_a_browser() {
    let (gateway, mut provider) = zitadel("standard_user");
    provider.set("/claims/urn:zitadel:iam:org:project:roles", json!({"standard_user": {"1": "one.example"}}));
    provider.set("/declines", json!(true));
    let pictures = repository::root().join("target/screenshots");
    fs::create_dir_all(&pictures).expect("a folder for pictures");
    let browser = Chromium::start();
    browser.open(&format!("http://{}{LOGIN}?return_to={WHOAMI}", gateway.address()));
    browser.screenshot(&pictures.join("9-providers.png"));
    browser.click("ul.ways a.button");
    wait::until("the refusal", PATIENCE, || browser.text().contains("declined").then_some(()));
    browser.screenshot(&pictures.join("10-declined.png"));
    provider.set("/declines", json!(false));
    // The page of the refusal has kept where the person wanted to go.
    browser.click("ul.ways a.button");
    wait::until("the page of whoever is signed in", PATIENCE, || {
        browser.url().contains(WHOAMI).then_some(())
    });
    browser.screenshot(&pictures.join("11-signed-in-at-a-provider.png"));
    assert!(browser.text().contains("zitadel:ada"), "{}", browser.text());
}
