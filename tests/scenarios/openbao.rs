//! OpenBao's provider, the third make that people sign in at: it lists no PKCE, names no issuer in its answers, and its roles
//! are what an operator's template makes of its groups.

use serde_json::{Value, json};
use tests::openbao::OpenBao;
use tests::production::Production;
use tests::session::{Browser, WHOAMI};
use tests::upstream::Upstream;
use tests::wait::{self, PATIENCE};

use crate::openid::{CALLBACK, begin, who};

const READ: &str = "/api/docs/list";

/// A gateway that is told of OpenBao, not started, and the provider of which it is told.
fn told(upstream: &Upstream) -> (Production, OpenBao) {
    let mut production = Production::before(upstream.address());
    production.public_url = format!("http://{}", production.address());
    production.lines = "environment = \"development\"".to_owned();
    let groups = ["viewer", "global_admin", "staff"];
    let provider = OpenBao::start(&format!("{}{CALLBACK}", production.public_url), &groups);
    let (id, secret) = provider.client();
    production.secrets.push(secret.to_owned());
    let file = provider.keep(secret);
    production.upstream.push_str(&format!(
        "\n[[oidc.providers]]\nname = \"bao\"\ntitle = \"OpenBao\"\nissuer = \"{}\"\nclient_id = \"{id}\"\n\
         client_secret = \"file:{}\"\nscopes = [\"openid\", \"people\"]\nroles = [\"viewer\"]\n\
         roles_claims = [\"memberships\"]\n",
        provider.issuer(),
        file.display()
    ));
    (production, provider)
}

fn sign_in(browser: &mut Browser, provider: &OpenBao) -> tests::client::Response {
    let there = begin(browser, "bao", READ);
    browser.navigate_from("cross-site", &provider.walk(&there))
}

#[test]
fn a_third_make_of_provider_signs_people_in_through_its_own_page() {
    let upstream = Upstream::start();
    let (production, mut provider) = told(&upstream);
    let process = production.start();
    let mut browser = Browser::new(production.address());
    let answer = sign_in(&mut browser, &provider);
    assert_eq!((answer.status, answer.header("location")), (303, Some(READ)), "{}", answer.text());
    let me = who(&mut browser);
    assert_eq!((&me["name"], &me["roles"]), (&json!("bao:grace"), &json!(["viewer"])));
    assert_eq!(browser.get(READ).status, 200);
    let notes = production.audit().of(&answer.request_id())["notes"].to_string();
    assert!(notes.contains("global_admin, staff"), "what it may not assert is not told: {notes}");

    // A key of which the gateway has not heard.
    provider.rotate();
    let mut other = Browser::new(production.address());
    wait::until("the new key", PATIENCE, || (sign_in(&mut other, &provider).status == 303).then_some(()));
    assert_eq!(who(&mut other)["id"], me["id"], "another person after a rotation");

    // Closed between the two halves: nothing is spent here, and the page says whose fault it is.
    let mut third = Browser::new(production.address());
    let callback = provider.walk(&begin(&mut third, "bao", READ));
    provider.seal();
    let answer = third.navigate_from("cross-site", &callback);
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("OpenBao does not answer at this moment"), "{}", answer.text());
    let notes = production.audit().of(&answer.request_id())["notes"].to_string();
    assert!(notes.contains("the token endpoint: it answered 503"), "{notes}");
    assert_eq!(browser.get(WHOAMI).status, 200, "a session of this site needs no provider");
    // It has forgotten its codes meanwhile, and the person is told to begin again, where it works.
    provider.unseal();
    let answer = third.navigate_from("cross-site", &callback);
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert!(answer.text().contains("OpenBao says that this sign-in is over"), "{}", answer.text());
    assert_eq!(sign_in(&mut third, &provider).status, 303);

    let callback = provider.walk(&begin(&mut third, "bao", READ));
    provider.stop();
    let answer = third.navigate_from("cross-site", &callback);
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("OpenBao does not answer at this moment"), "{}", answer.text());
    assert_eq!(browser.get(WHOAMI).status, 200);
    drop(process);
}

#[test]
fn a_third_make_of_provider_is_checked_before_anybody_signs_in() {
    let upstream = Upstream::start();
    let (mut production, provider) = told(&upstream);
    let check = |production: &Production| production.cli(&["oidc", "check", "--json"], "");
    let find = |said: &str, step: &str, verdict: &str, part: &str| {
        let told: Value = serde_json::from_str(said.lines().next().expect("a line")).expect("JSON");
        let found = told["providers"][0]["findings"].as_array().expect("findings").clone();
        let there = found.iter().any(|found| {
            found["step"] == step
                && found["verdict"] == verdict
                && found["message"].as_str().is_some_and(|message| message.contains(part))
        });
        assert!(there, "no {verdict} of {step} with `{part}` in {found:#?}");
    };
    let (well, said) = check(&production);
    assert!(well, "{said}");
    find(&said, "metadata", "well", "names the configured issuer");
    find(&said, "keys", "well", "that verify what we accept");
    find(&said, "client", "well", "takes its secret");
    // Its page is the same whatever it is asked: only the page's script would hear of an address that is not registered.
    find(&said, "redirect", "notice", "does not say whether it knows");
    find(&said, "scopes", "well", "openid people");
    find(&said, "logout", "notice", "does not say that it tells");

    // Another secret than it has made for us.
    let wrong = "hvo_secret_that_is_another_than_theirs_4711";
    provider.keep(wrong);
    production.secrets.push(wrong.to_owned());
    let (well, said) = check(&production);
    assert!(!well && !said.contains(wrong), "{said}");
    find(&said, "client", "fault", "does not take the client id or its secret");
    let process = production.start();
    let mut browser = Browser::new(production.address());
    let answer = sign_in(&mut browser, &provider);
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert!(answer.text().contains("Tell whoever runs this site"), "{}", answer.text());
    let record = production.audit().of(&answer.request_id());
    assert!(record["notes"].to_string().contains("`invalid_client`"), "{record:#}");
    assert!(!process.output().contains(wrong), "{}", process.output());
    drop(process);

    // It says nothing of opaque tokens.
    provider.keep(provider.client().1);
    production.upstream.push_str("api_audiences = [\"https://api.example/\"]\napi_introspection = true\n");
    let (well, said) = check(&production);
    assert!(!well, "{said}");
    find(&said, "tokens", "fault", "has no `introspection_endpoint`");
    // Its issuer is a path, and another path is another issuer.
    production.upstream = production.upstream.replace("/provider/default", "/provider/other");
    let (well, said) = check(&production);
    assert!(!well, "{said}");
    find(&said, "metadata", "fault", "its metadata: it answered 4");
}
