//! Routes that ask for a stronger or a more recent proof, before a real provider (npm `oidc-provider`).

use std::fs;

use serde_json::json;
use tests::client::{Client, Request, Response};
use tests::openid::{CLIENT_ID, OpenId};
use tests::policies;
use tests::process::Process;
use tests::production::Production;
use tests::session::{Browser, LOGOUT, WHOAMI, form};
use tests::upstream::Upstream;

use crate::openid::{CALLBACK, private_secret, sign_in, who};

const READ: &str = "/api/docs/list";
const WRITE: &str = "/api/docs/save";
const API: &str = "https://api.example/";

struct World {
    production: Production,
    provider: OpenId,
    upstream: Upstream,
    process: Option<Process>,
}

impl World {
    /// Reading and writing documents asks for what `asks` says; with `variables` in the environment.
    fn start(asks: Option<&str>, variables: &[(&'static str, &str)]) -> Self {
        let upstream = Upstream::start();
        let mut production = Production::before(upstream.address());
        production.public_url = format!("http://{}", production.address());
        production.lines = "environment = \"development\"".to_owned();
        let own = variables.iter().map(|(name, value)| (*name, (*value).to_owned()));
        production.environment.extend(own);
        let mut provider = OpenId::start(&[format!("{}{CALLBACK}", production.public_url)]);
        provider.set("/claims/roles", json!(["standard_user"]));
        provider.set("/claims/acr", json!("1"));
        let secret = private_secret(&production);
        production.upstream.push_str(&format!(
            "\n[[oidc.providers]]\nname = \"corp\"\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\nclient_secret = \"{secret}\"\n\
             roles = [\"standard_user\"]\nmfa_acr = [\"2\"]\nmfa_amr = []\napi_audiences = [\"{API}\"]\n",
            provider.issuer()
        ));
        for (path, mut text) in policies::sources().files {
            if let Some(asks) = asks.filter(|_| path == "routes/docs.toml") {
                for (row, action) in
                    [(format!("GET {READ}"), "docs.read"), (format!("POST {WRITE}"), "docs.write")]
                {
                    let before = format!("{{ on = \"{row}\", action = \"{action}\"");
                    assert_eq!(text.matches(&before).count(), 1, "{before}");
                    text = text.replace(&before, &format!("{before}, step_up = {{ {asks} }}"));
                }
            }
            let file = production.folder().join("policies").join(path);
            fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            fs::write(file, text).expect("a file of the bundle");
        }
        let process = Some(production.start());
        Self { production, provider, upstream, process }
    }

    fn signed_in(&self) -> Browser {
        let mut browser = Browser::new(self.production.address());
        let answer = sign_in(&mut browser, &self.provider, "corp", "/");
        assert_eq!(answer.status, 303, "{}", answer.text());
        browser
    }

    /// Where the way that a refused page shows leads: an address of the provider.
    fn way(&self, browser: &mut Browser, refused: &Response) -> String {
        let page = refused.text();
        assert!(page.contains("Confirm who you are"), "{page}");
        let way = page.split("class=\"button\" href=\"").nth(1).and_then(|rest| rest.split('"').next());
        let way = way.unwrap_or_else(|| panic!("no way in {page}")).replace("&#38;", "&");
        let answer = browser.navigate_from("same-origin", &way);
        assert_eq!(answer.status, 303, "{way}: {}", answer.text());
        answer.header("location").expect("a place to go").to_owned()
    }

    fn back(&self, browser: &mut Browser, there: &str) -> Response {
        browser.navigate_from("cross-site", &self.provider.walk(there))
    }

    fn notes(&self, answer: &Response) -> String {
        self.production.audit().of(&answer.request_id())["notes"].to_string()
    }

    fn wrote(&self) -> usize {
        let forwarded = self.upstream.forwarded();
        forwarded.iter().filter(|request| request.head.starts_with(b"POST")).count()
    }
}

#[test]
fn a_session_is_confirmed_at_its_provider_and_what_was_interrupted_is_not_sent_again() {
    let mut world = World::start(Some("assurance = 2, max_age_s = 300"), &[]);
    let mut browser = world.signed_in();
    let before = who(&mut browser);
    assert_eq!(before["assurance"], 1);
    let refused = browser.navigate(READ);
    assert_eq!(refused.status, 401, "{}", refused.text());
    let record = world.production.audit().of(&refused.request_id());
    assert_eq!(record["decision"]["refusal"], "step_up", "{record:#}");
    // A script of the page learns it as a program does.
    let script = browser.get(READ);
    assert_eq!((script.status, &script.json()["type"]), (401, &json!("urn:cedargate:refusal:step_up")));

    // A form that was sent goes nowhere, and the way back leads to its page.
    let sent = Request::new("POST", WRITE)
        .with("Host", &world.production.address().to_string())
        .with("Origin", &world.production.public_url)
        .with("Referer", &format!("{}/suite/docs?id=7", world.production.public_url))
        .with("Sec-Fetch-Site", "same-origin")
        .with("Sec-Fetch-Mode", "navigate")
        .with("Accept", "text/html")
        .with("Cookie", &browser.cookie_header())
        .body("application/x-www-form-urlencoded", b"title=x");
    let interrupted = browser.ask(&sent);
    assert_eq!(interrupted.status, 401, "{}", interrupted.text());
    let page = interrupted.text();
    assert!(page.contains("was not passed on") && page.contains("return_to=/suite/docs%3Fid%3D7"), "{page}");

    // The provider answers with less than it was asked for: nothing changes, and nothing leads there again by itself.
    let there = world.way(&mut browser, &refused);
    assert!(there.contains("acr_values=2") && there.contains("max_age=300"), "{there}");
    let less = world.back(&mut browser, &there);
    assert_eq!((less.status, less.header("location")), (401, None), "{}", less.text());
    assert!(less.text().contains("has not confirmed a second factor"), "{}", less.text());
    assert!(
        world.notes(&less).contains("step-up failed: provider corp: it says assurance 1"),
        "{}",
        world.notes(&less)
    );
    assert_eq!(who(&mut browser), before);
    assert_eq!(browser.navigate(READ).status, 401);

    world.provider.set("/steps_up", json!(true));
    let planted = browser.clone();
    let there = world.way(&mut browser, &refused);
    let more = world.back(&mut browser, &there);
    assert_eq!((more.status, more.header("location")), (303, Some(READ)), "{}", more.text());
    assert_eq!(browser.navigate(READ).status, 200);
    let after = who(&mut browser);
    assert_eq!((&after["id"], &after["assurance"]), (&before["id"], &json!(2)));
    assert_ne!(after["session"]["id"], before["session"]["id"], "the session is another");
    assert_eq!(planted.clone().get(WHOAMI).status, 401, "the one of before has ended");
    assert_eq!(world.wrote(), 0, "what was interrupted was sent again");

    // The same over a restart.
    world.process = None;
    world.process = Some(world.production.start());
    assert_eq!(browser.get(READ).status, 200);
}

#[test]
fn threat_10_a_step_up_confirms_its_own_session_and_its_own_person_alone() {
    let mut world = World::start(Some("assurance = 2"), &[]);
    world.provider.set("/steps_up", json!(true));
    let mut browser = world.signed_in();
    let before = who(&mut browser);
    let refused = browser.navigate(READ);

    // Somebody else signs in there.
    world.provider.set("/claims/sub", json!("171717"));
    let there = world.way(&mut browser, &refused);
    let other = world.back(&mut browser, &there);
    assert_eq!(other.status, 401, "{}", other.text());
    assert!(other.text().contains("somebody else"), "{}", other.text());
    assert!(
        world.notes(&other).contains("security: it vouches for somebody else"),
        "{}",
        world.notes(&other)
    );
    assert_eq!(who(&mut browser), before);

    // Another session is this browser's by the time that the answer comes.
    world.provider.set("/claims/sub", json!("242424"));
    let there = world.way(&mut browser, &refused);
    let callback = world.provider.walk(&there);
    assert_eq!(sign_in(&mut browser, &world.provider, "corp", "/").status, 303);
    let meanwhile = who(&mut browser);
    let late = browser.navigate_from("cross-site", &callback);
    assert_eq!(late.status, 403, "{}", late.text());
    assert!(world.notes(&late).contains("has ended, or is none of this browser"), "{}", world.notes(&late));
    assert_eq!(who(&mut browser), meanwhile);
    assert_eq!(browser.navigate(READ).status, 401);

    // Or none.
    let refused = browser.navigate(READ);
    let there = world.way(&mut browser, &refused);
    let callback = world.provider.walk(&there);
    let page = browser.navigate(LOGOUT).text();
    let signing_out = browser.request("POST", LOGOUT).with("Origin", &world.production.public_url);
    let fields = form(&[], &page);
    let out = browser.ask(&signing_out.body("application/x-www-form-urlencoded", fields.as_bytes()));
    assert_eq!(out.status, 200, "{}", out.text());
    let late = browser.navigate_from("cross-site", &callback);
    assert_eq!(late.status, 403, "{}", late.text());
    assert_eq!(browser.get(WHOAMI).status, 401);
}

#[test]
fn a_recent_sign_in_is_one_that_the_provider_says_to_be_recent() {
    let mut world = World::start(Some("max_age_s = 300"), &[]);
    // It does not say when unless it is asked.
    let mut browser = world.signed_in();
    let refused = browser.navigate(READ);
    assert_eq!(refused.status, 401, "{}", refused.text());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    world.provider.set("/login_ts", json!(now - 1000));
    let there = world.way(&mut browser, &refused);
    let old = world.back(&mut browser, &there);
    assert_eq!(old.status, 401, "{}", old.text());
    assert!(old.text().contains("has not confirmed a recent sign-in"), "{}", old.text());
    assert!(world.notes(&old).contains("`auth_time` 10"), "{}", world.notes(&old));
    world.provider.set("/login_ts", json!(null));
    let there = world.way(&mut browser, &refused);
    assert!(there.contains("max_age=300") && !there.contains("acr_values"), "{there}");
    let recent = world.back(&mut browser, &there);
    assert_eq!((recent.status, recent.header("location")), (303, Some(READ)), "{}", recent.text());
    assert_eq!(browser.navigate(READ).status, 200);
}

#[test]
fn a_recent_sign_in_takes_no_second_factor_away() {
    let mut world = World::start(Some("max_age_s = 300"), &[]);
    world.provider.set("/claims/acr", json!("2"));
    let mut browser = world.signed_in();
    let before = who(&mut browser);
    assert_eq!(before["assurance"], 2);
    let refused = browser.navigate(READ);
    assert_eq!(refused.status, 401, "{}", refused.text());

    world.provider.set("/claims/acr", json!("1"));
    let there = world.way(&mut browser, &refused);
    assert!(there.contains("max_age=300") && there.contains("acr_values=2"), "{there}");
    let less = world.back(&mut browser, &there);
    assert_eq!(less.status, 401, "{}", less.text());
    assert!(less.text().contains("has not confirmed a second factor"), "{}", less.text());
    assert_eq!(who(&mut browser), before);

    world.provider.set("/claims/acr", json!("2"));
    let there = world.way(&mut browser, &refused);
    let both = world.back(&mut browser, &there);
    assert_eq!((both.status, both.header("location")), (303, Some(READ)), "{}", both.text());
    assert_eq!(who(&mut browser)["assurance"], 2);
    assert_eq!(browser.navigate(READ).status, 200);
}

/// The command line says of the same bundle what was answered, and which proof would do.
fn explained(world: &World) {
    let bundle = world.production.folder().join("policies").display().to_string();
    let says = |proof: &[&str], parts: &[&str]| {
        let asked = ["policy", "explain", "--policies", &bundle, "--role", "standard_user", "--mfa-acr", "2"];
        let (status, said) = tests::process::cli(&[&asked, proof, &["GET", READ]].concat(), &[], "");
        assert!(status.success(), "{said}");
        for part in parts {
            assert!(said.contains(part), "{part} is not in {said}");
        }
    };
    let asked = "the row asks for a proof: two factors within 300 s; API keys are refused";
    says(&["--acr", "2", "--age", "10s"], &[asked, "this one does (two factors, 10 s ago)", "permitted by"]);
    says(
        &[],
        &[asked, "this one does not (one factor, 0 s ago)", "one that does: two factors", "permitted by"],
    );
    says(&["--acr", "2", "--age", "unknown"], &["does not (two factors, nobody says when)"]);
}

/// A key cannot confirm who it is, and is told that a person is needed.
fn keyed(world: &mut World) {
    let add = ["key", "add", "importer", "--scope", "docs.*", "--role", "standard_user"];
    let (content, said) = world.production.cli(&add, "");
    assert!(content, "{said}");
    let key = said.trim().split_once('\n').expect("the key and what it is").0.to_owned();
    world.production.secrets.push(key.clone());
    let request = Request::new("GET", READ)
        .with("Host", &world.production.address().to_string())
        .with("X-API-Key", &key);
    let answer = Client::connect(world.production.address()).ask(&request).expect("an answer");
    let told = answer.json();
    assert_eq!(
        (answer.status, &told["type"]),
        (403, &json!("urn:cedargate:refusal:person_needed")),
        "{told}"
    );
    assert_eq!(answer.header("www-authenticate"), None);
    assert!(answer.text().contains("An API key cannot confirm who it is"), "{told}");
    let record = world.production.audit().of(answer.header("x-request-id").expect("an id"));
    assert_eq!(record["decision"]["refusal"], "person_needed", "{record:#}");
}

#[test]
fn a_program_is_told_what_its_token_lacks() {
    let mut world = World::start(Some("assurance = 2, max_age_s = 300"), &[]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    let mut ask = |claims: serde_json::Value| {
        world.provider.set("/token_claims", claims);
        let token = world.provider.access_token(API, "docs");
        let request = Request::new("GET", READ).with("Authorization", &format!("Bearer {token}"));
        let request = request.with("Host", &world.production.address().to_string());
        Client::connect(world.production.address()).ask(&request).expect("an answer")
    };
    let challenge = "Bearer realm=\"cedargate\", error=\"insufficient_user_authentication\", \
                     error_description=\"A stronger or more recent authentication is needed\", acr_values=\"2\", max_age=\"300\"";
    let roles = json!(["standard_user"]);
    for claims in [
        json!({"roles": roles}),
        json!({"roles": roles, "acr": "2"}),
        json!({"roles": roles, "acr": "1", "auth_time": now}),
        json!({"roles": roles, "acr": "2", "auth_time": now - 1000}),
        json!({"roles": roles, "acr": "22", "auth_time": now}),
        json!({"roles": roles, "acr": ["2"], "auth_time": now}),
    ] {
        let answer = ask(claims.clone());
        assert_eq!(answer.status, 401, "{claims}: {}", answer.text());
        assert_eq!(answer.header("www-authenticate"), Some(challenge), "{claims}");
    }
    let answer = ask(json!({"roles": roles, "acr": "2", "auth_time": now}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    explained(&world);
    keyed(&mut world);
}

#[test]
fn where_a_second_factor_is_required_people_need_one_for_every_upstream() {
    let mut world = World::start(None, &[("BOTSERVER_REQUIRE_MFA", "true")]);
    let mut browser = world.signed_in();
    // Who they are and the way out stay open.
    assert_eq!(browser.get(WHOAMI).status, 200);
    assert_eq!(browser.navigate(LOGOUT).status, 200);
    let refused = browser.navigate(READ);
    assert_eq!(refused.status, 401, "{}", refused.text());
    world.provider.set("/steps_up", json!(true));
    let there = world.way(&mut browser, &refused);
    assert_eq!(world.back(&mut browser, &there).status, 303);
    assert_eq!(browser.navigate(READ).status, 200);

    // An account of this site cannot prove one, and is told so.
    let told = "a-long-password-of-27-signs\n";
    let (done, said) = world.production.cli(&["account", "add", "ada", "--role", "standard_user"], told);
    assert!(done, "{said}");
    let mut local = Browser::new(world.production.address());
    let answer = local.sign_in("ada", told.trim_end());
    assert_eq!(answer.status, 303, "{}", answer.text());
    let refused = local.navigate(READ);
    assert_eq!(refused.status, 401, "{}", refused.text());
    let answer = local.navigate_from("same-origin", "/.cedargate/oidc/start?assurance=2");
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert!(answer.text().contains("an account of this site does not have"), "{}", answer.text());
}
