//! Sessions that go on by the word of a real provider (npm `oidc-provider`, which hands out a new refresh token with each
//! answer and ends the whole family where an old one comes again).

use std::thread;

use serde_json::{Value, json};
use tests::client::{Client, Request};
use tests::openid::{CLIENT_ID, OpenId};
use tests::process::Process;
use tests::production::Production;
use tests::session::{Browser, LOGIN, LOGOUT, WHOAMI, form};
use tests::upstream::Upstream;
use tests::wait::{self, PATIENCE};

use crate::openid::{CALLBACK, private_secret, sign_in};

const READ: &str = "/api/docs/list";
/// What the provider counts: refresh tokens that it has taken, and that it has refused.
const TAKEN: &str = "/grant/refresh_token/taken";
const REFUSED: &str = "/grant/refresh_token/refused";

struct World {
    production: Production,
    provider: OpenId,
    upstream: Upstream,
    process: Option<Process>,
}

impl World {
    /// A provider whose access tokens are over as soon as they are there, until a test says otherwise.
    fn start() -> Self {
        let upstream = Upstream::start();
        let mut production = Production::before(upstream.address());
        production.public_url = format!("http://{}", production.address());
        production.lines = "environment = \"development\"".to_owned();
        let mut provider = OpenId::new(&[format!("{}{CALLBACK}", production.public_url)]);
        provider.set("/client/grant_types", json!(["authorization_code", "refresh_token"]));
        provider.set("/claims/roles", json!(["viewer"]));
        provider.set("/expires_in", json!(0));
        provider.run();
        let secret = private_secret(&production);
        production.upstream.push_str(&format!(
            "\n[[oidc.providers]]\nname = \"corp\"\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\nclient_secret = \"{secret}\"\n\
             roles = [\"viewer\", \"standard_user\"]\nrefresh = true\n",
            provider.issuer()
        ));
        let process = Some(production.start());
        Self { production, provider, upstream, process }
    }

    fn signed_in(&self) -> Browser {
        let mut browser = Browser::new(self.production.address());
        let answer = sign_in(&mut browser, &self.provider, "corp", "/");
        assert_eq!(answer.status, 303, "{}", answer.text());
        browser
    }

    fn metric(&self, line: &str) -> bool {
        let request = Request::new("GET", "/metrics").with("Host", &self.production.admin().to_string());
        let answer = Client::connect(self.production.admin()).ask(&request).expect("an answer");
        answer.text().lines().any(|known| known == line)
    }
}

fn roles(browser: &mut Browser) -> Value {
    let answer = browser.get(WHOAMI);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["roles"].clone()
}

#[test]
fn two_hundred_requests_with_an_access_token_that_is_over_renew_it_once() {
    let mut world = World::start();
    let browser = world.signed_in();
    assert_eq!(world.provider.asked(TAKEN), 0);
    // What the provider says of the person has changed meanwhile, and its next word counts for long.
    world.provider.set("/claims/roles", json!(["standard_user", "global_admin"]));
    world.provider.set("/expires_in", json!(300));
    thread::scope(|scope| {
        for _ in 0..200 {
            let mut browser = browser.clone();
            scope.spawn(move || assert_eq!(browser.get(READ).status, 200));
        }
    });
    assert_eq!((world.provider.asked(TAKEN), world.provider.asked(REFUSED)), (1, 0));
    assert_eq!(roles(&mut browser.clone()), json!(["standard_user"]));
    assert!(world.metric("cedargate_renewals_total{result=\"renewed\"} 1"));

    // Its tokens are nowhere but sealed in the store.
    let token = world.provider.page(&format!("{}/test/refresh-token", world.provider.issuer())).text();
    assert!(token.len() > 20, "{token}");
    let kept = browser.cookie_header();
    assert!(!kept.contains(&token), "{kept}");
    for forwarded in world.upstream.forwarded() {
        assert!(!String::from_utf8_lossy(&forwarded.head).contains(&token));
    }
    let mut files = vec![world.production.folder().to_path_buf()];
    let mut seen = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(
                std::fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()),
            );
        } else if let Ok(bytes) = std::fs::read(&path) {
            seen += 1;
            let found = bytes.windows(token.len()).any(|window| window == token.as_bytes());
            assert!(!found, "{} has the refresh token", path.display());
        }
    }
    assert!(seen > 3, "{seen} files");
}

#[test]
fn the_new_token_is_the_one_that_is_shown_next_also_after_a_restart() {
    let mut world = World::start();
    let mut browser = world.signed_in();
    assert_eq!(roles(&mut browser), json!(["viewer"]));
    assert_eq!(world.provider.asked(TAKEN), 1);
    world.process = None;
    world.process = Some(world.production.start());
    // Five seconds is the shortest that a word counts.
    wait::until("the second renewal", PATIENCE * 2, || {
        assert_eq!(browser.get(WHOAMI).status, 200);
        (world.provider.asked(TAKEN) == 2).then_some(())
    });
    assert_eq!(world.provider.asked(REFUSED), 0);
    assert_eq!(browser.get(WHOAMI).status, 200);
}

#[test]
fn a_session_ends_with_the_providers_word_and_only_its_own() {
    let mut world = World::start();
    let mut browser = world.signed_in();
    let other = {
        world.provider.set("/expires_in", json!(300));
        world.signed_in()
    };
    // It was started anew, and knows none of the tokens that it has given.
    world.provider.run();
    let answer = browser.get(READ);
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert_eq!(world.provider.asked(REFUSED), 1);
    assert_eq!(browser.get(READ).status, 401);
    assert_eq!(world.provider.asked(REFUSED), 1, "what has ended is not asked about");
    assert_eq!(other.clone().get(READ).status, 200, "its provider's word still counts");
    assert!(world.metric("cedargate_renewals_total{result=\"ended\"} 1"));
    // The way back is open.
    assert_eq!(browser.navigate(LOGIN).status, 200);
}

#[test]
fn a_provider_that_is_away_signs_nobody_out() {
    let mut world = World::start();
    let browsers = [world.signed_in(), world.signed_in(), world.signed_in()];
    world.provider.stop();
    for browser in &browsers {
        for _ in 0..3 {
            assert_eq!(browser.clone().get(READ).status, 200);
        }
    }
    // Asked once for all of them.
    assert!(world.metric("cedargate_renewals_total{result=\"away\"} 1"));
}

fn sign_out(world: &World, browser: &mut Browser) {
    let page = browser.navigate(LOGOUT).text();
    let post = browser.request("POST", LOGOUT).with("Origin", &world.production.public_url);
    let fields = form(&[], &page);
    let answer = browser.ask(&post.body("application/x-www-form-urlencoded", fields.as_bytes()));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(browser.get(WHOAMI).status, 401);
}

#[test]
fn whoever_signs_out_has_the_provider_take_back_what_it_gave() {
    let mut world = World::start();
    world.provider.set("/expires_in", json!(300));
    let (mut browser, mut other) = (world.signed_in(), world.signed_in());
    sign_out(&world, &mut browser);
    let given_back = || (world.provider.asked("/token/revocation") == 1).then_some(());
    wait::until("the token that was given back", PATIENCE, given_back);
    assert_eq!(other.get(READ).status, 200, "another session of the same person");
    // A provider that is away holds nobody up.
    world.provider.stop();
    sign_out(&world, &mut other);
}
