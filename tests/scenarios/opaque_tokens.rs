//! Opaque access tokens of a real provider (npm `oidc-provider`), about which it is asked.

use std::thread;

use serde_json::json;
use tests::client::{Client, Request, Response};
use tests::openid::{CLIENT_ID, OpenId};
use tests::process::Process;
use tests::production::Production;
use tests::session::{Browser, WHOAMI};
use tests::upstream::Upstream;
use tests::wait::{self, PATIENCE};

use crate::openid::{CALLBACK, private_secret, sign_in};

/// Our name as an API.
const API: &str = "https://api.example/";
const READ: &str = "/api/docs/list";
/// Where the provider is asked.
const ASKED: &str = "/token/introspection";

struct World {
    production: Production,
    provider: OpenId,
    upstream: Upstream,
    _process: Process,
}

impl World {
    fn start(settings: &[(&str, serde_json::Value)]) -> Self {
        let upstream = Upstream::start();
        let mut production = Production::before(upstream.address());
        production.public_url = format!("http://{}", production.address());
        production.lines = "environment = \"development\"".to_owned();
        let mut provider = OpenId::new(&[format!("{}{CALLBACK}", production.public_url)]);
        provider.set("/access_token_format", json!("opaque"));
        provider.set("/token_claims", json!({"roles": ["viewer", "global_admin"], "sub": "242424"}));
        settings.iter().for_each(|(path, value)| provider.set(path, value.clone()));
        provider.run();
        let secret = private_secret(&production);
        production.upstream.push_str(&format!(
            "\n[[oidc.providers]]\nname = \"corp\"\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n\
             client_secret = \"{secret}\"\nroles = [\"viewer\"]\napi_audiences = [\"{API}\"]\napi_introspection = true\n\
             api_scopes = {{ docs = [\"docs.*\", \"cedargate.*\"], sheet = [] }}\n",
            provider.issuer()
        ));
        let process = production.start();
        Self { production, provider, upstream, _process: process }
    }

    fn get(&self, target: &str, token: &str) -> Response {
        ask(&self.production, target, token)
    }

    fn notes(&self, answer: &Response) -> String {
        self.production.audit().of(&answer.request_id())["notes"].to_string()
    }
}

fn ask(production: &Production, target: &str, token: &str) -> Response {
    let host = production.address().to_string();
    let request = Request::new("GET", target).with("Host", &host);
    let request = request.with("Authorization", &format!("Bearer {token}"));
    Client::connect(production.address()).ask(&request).expect("an answer")
}

#[test]
fn a_program_with_an_opaque_token_is_whoever_its_provider_says_and_a_crowd_asks_once() {
    let world = World::start(&[]);
    let token = world.provider.access_token(API, "docs");
    assert!(!token.contains('.'), "{token}");
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| assert_eq!(world.get(READ, &token).status, 200));
        }
    });
    assert_eq!(world.provider.asked(ASKED), 1);
    let who = world.get(WHOAMI, &token).json();
    assert_eq!(
        (&who["kind"], &who["name"], &who["roles"]),
        (&json!("user"), &json!("corp:242424"), &json!(["viewer"]))
    );
    let read = world.get(READ, &token);
    let record = world.production.audit().of(&read.request_id());
    assert_eq!(record["principal"]["scheme"], "access_token", "{record:#}");
    assert!(!record.to_string().contains(&token), "{record:#}");
    let forwarded = world.upstream.forwarded();
    let passed = String::from_utf8_lossy(&forwarded.last().expect("a request").head).into_owned();
    assert!(!passed.contains(&token), "{passed}");
    // What it covers is what its scopes are said to cover.
    let narrow = world.provider.access_token(API, "sheet");
    let refused = world.get(READ, &narrow);
    assert_eq!(refused.status, 403, "{}", refused.text());
    // It is there to be suspended.
    let (done, said) = world.production.cli(&["account", "suspend", "corp:242424"], "");
    assert!(done, "{said}");
    assert_eq!(world.get(READ, &token).status, 401);

    let (well, said) = world.production.cli(&["token", "inspect"], &token);
    assert!(well && said.contains("corp:242424"), "{said}");
    let (well, said) = world.production.cli(&["token", "inspect"], "a-text-that-nobody-has-issued");
    assert!(!well && said.contains("not active"), "{said}");
    let (_, said) = world.production.cli(&["oidc", "check"], "");
    assert!(said.contains("opaque ones are"), "{said}");
}

#[test]
fn what_the_provider_does_not_vouch_for_is_refused_and_away_is_no_refusal() {
    let mut world = World::start(&[]);
    let refused = |token: &str, why: &str| {
        let answer = world.get(WHOAMI, token);
        assert_eq!(answer.status, 401, "{why}: {}", answer.text());
        let challenge = "Bearer realm=\"cedargate\", error=\"invalid_token\"";
        assert_eq!(answer.header("www-authenticate"), Some(challenge));
        assert!(world.notes(&answer).contains(why), "{why}: {}", world.notes(&answer));
    };
    refused(&world.provider.access_token("https://other.example/", "docs"), "names none of `api_audiences`");
    let token = world.provider.access_token(API, "docs");
    let cut = &token[..token.len() - 1];
    refused(cut, "the provider says that it is not active");
    world.provider.revoke(&token);
    refused(&token, "the provider says that it is not active");

    let (known, fresh) = (world.provider.access_token(API, "docs"), world.provider.access_token(API, "docs"));
    assert_eq!(world.get(READ, &known).status, 200);
    world.provider.stop();
    assert_eq!(world.get(READ, &known).status, 200, "the answer counts for a while");
    let away = world.get(READ, &fresh);
    assert_eq!((away.status, away.header("www-authenticate")), (503, None), "{}", away.text());
    assert!(away.header("retry-after").is_some());
}

#[test]
fn a_thousand_made_up_tokens_are_few_questions_and_harm_nobody_who_is_known() {
    let world = World::start(&[]);
    let token = world.provider.access_token(API, "docs");
    assert_eq!(world.get(READ, &token).status, 200);
    let host = world.production.address().to_string();
    let mut client = Client::connect(world.production.address());
    let (mut refused, mut held) = (0, 0);
    for number in 0..1000 {
        let request = Request::new("GET", WHOAMI)
            .with("Host", &host)
            .with("Authorization", &format!("Bearer made-up-token-number-{number}"));
        match client.ask(&request).expect("an answer").status {
            401 => refused += 1,
            429 => held += 1,
            other => panic!("{other}"),
        }
    }
    let asked = world.provider.asked(ASKED) - 1;
    // Twenty, and one more for each three seconds that a thousand requests take here.
    assert!(
        (20..60).contains(&asked) && refused == asked,
        "{asked} questions, {refused} refused, {held} held"
    );
    assert_eq!(world.get(READ, &token).status, 200);
}

#[test]
fn a_token_whose_person_the_provider_has_signed_out_is_over_at_once() {
    let world = World::start(&[("/client/backchannel_logout_session_required", json!(false))]);
    let mut browser = Browser::new(world.production.address());
    assert_eq!(sign_in(&mut browser, &world.provider, "corp", "/").status, 303);
    let token = world.provider.access_token(API, "docs");
    assert_eq!(world.get(READ, &token).status, 200);
    let asked = world.provider.asked(ASKED);
    world.provider.sign_out();
    wait::until("the end", PATIENCE, || (world.get(READ, &token).status == 401).then_some(()));
    assert_eq!(browser.get(WHOAMI).status, 401);
    // The provider still vouches for it, and has ended its person all the same.
    assert!(world.provider.asked(ASKED) > asked);
    assert!(world.notes(&world.get(READ, &token)).contains("the provider has ended"));
}
