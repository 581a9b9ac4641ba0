//! Access tokens of a real provider (npm `oidc-provider`) as credentials of programs.

use serde_json::{Value, json};
use tests::client::{Client, Request, Response};
use tests::openid::{CLIENT_ID, OpenId};
use tests::process::Process;
use tests::production::Production;
use tests::session::WHOAMI;
use tests::upstream::Upstream;
use tests::wait::{self, PATIENCE};

/// Our name as an API.
const API: &str = "https://api.example/";
const READ: &str = "/api/docs/list";

struct World {
    production: Production,
    provider: OpenId,
    upstream: Upstream,
    _process: Process,
}

impl World {
    fn start(lines: &str) -> Self {
        let upstream = Upstream::start();
        let mut production = Production::before(upstream.address());
        production.public_url = format!("http://{}", production.address());
        production.lines = "environment = \"development\"".to_owned();
        let provider = OpenId::start(&[format!("{}/.cedargate/oidc/callback", production.public_url)]);
        production.upstream.push_str(&format!(
            "\n[[oidc.providers]]\nname = \"corp\"\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\nroles = [\"standard_user\", \"viewer\"]\n\
             api_audiences = [\"{API}\"]\n{lines}\n",
            provider.issuer()
        ));
        let process = production.start();
        Self { production, provider, upstream, _process: process }
    }

    fn ask(&self, request: Request) -> Response {
        let host = self.production.address().to_string();
        Client::connect(self.production.address()).ask(&request.with("Host", &host)).expect("an answer")
    }

    fn get(&self, target: &str, token: &str) -> Response {
        self.ask(Request::new("GET", target).with("Authorization", &format!("Bearer {token}")))
    }

    fn notes(&self, answer: &Response) -> String {
        self.production.audit().of(&answer.request_id())["notes"].to_string()
    }
}

#[test]
fn a_program_with_an_access_token_is_its_subject_and_the_token_goes_no_further() {
    let mut world = World::start("");
    world.provider.set("/token_claims", json!({"roles": ["viewer", "global_admin"], "sub": "242424"}));
    let token = world.provider.access_token(API, "docs");
    let who = world.get(WHOAMI, &token);
    assert_eq!(who.status, 200, "{}", who.text());
    let who = who.json();
    assert_eq!((&who["kind"], &who["name"]), (&json!("user"), &json!("corp:242424")));
    assert_eq!((&who["roles"], who.get("session")), (&json!(["viewer"]), None));

    let read = world.get(READ, &token);
    assert_eq!(read.status, 200, "{}", read.text());
    let record = world.production.audit().of(&read.request_id());
    let principal = &record["principal"];
    assert_eq!((&principal["scheme"], &principal["id"]), (&json!("access_token"), &who["id"]), "{record:#}");
    let signature = token.rsplit('.').next().expect("a signature");
    assert!(!record.to_string().contains(signature), "{record:#}");
    // The upstream is told who it is by the gateway, not by the provider.
    let forwarded = world.upstream.forwarded();
    let passed = String::from_utf8_lossy(&forwarded.last().expect("a request").head).into_owned();
    assert!(
        !passed.contains(signature) && passed.to_lowercase().contains("authorization: bearer"),
        "{passed}"
    );

    // Writing is another permission, which no cookie rule asks about.
    let write = Request::new("POST", "/api/docs/delete").with("Authorization", &format!("Bearer {token}"));
    let refused = world.ask(write.with("Origin", "https://evil.example").body("application/json", b"{}"));
    assert_eq!(refused.status, 403, "{}", refused.text());
    let record = world.production.audit().of(&refused.request_id());
    assert_eq!(record["decision"]["refusal"], "forbidden", "{record:#}");

    // Its account is there to be suspended.
    let (done, said) = world.production.cli(&["account", "suspend", "corp:242424"], "");
    assert!(done, "{said}");
    let suspended = world.get(READ, &token);
    assert_eq!(suspended.status, 401);
    let challenge = "Bearer realm=\"cedargate\", error=\"invalid_token\"";
    assert_eq!(suspended.header("www-authenticate"), Some(challenge));
}

#[test]
fn what_a_provider_has_not_issued_for_this_api_is_refused_and_the_record_says_why() {
    let world = World::start("api_scopes = { docs = [\"docs.*\"] }");
    let refused = |token: &str, why: &str| {
        let answer = world.get(WHOAMI, token);
        assert_eq!(answer.status, 401, "{why}: {}", answer.text());
        assert!(world.notes(&answer).contains(why), "{why}: {}", world.notes(&answer));
        // Which rule it was is for the record alone.
        assert!(
            !answer.text().contains("aud") && !answer.text().contains("api_audiences"),
            "{}",
            answer.text()
        );
    };
    refused(&world.provider.access_token("https://other.example/", "docs"), "names none of `api_audiences`");
    let token = world.provider.access_token(API, "docs");
    let (head, signature) = token.rsplit_once('.').expect("three parts");
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    refused(&format!("{head}.{other}{}", &signature[1..]), "the signature does not hold");
    refused("a.b.c", "it is not three parts of base64url");
    assert_eq!(world.get("/.cedargate/logout", &token).status, 401, "a page for sessions alone");

    // What it covers is what its scopes are said to cover.
    let scoped = |scope: &str, target: &str| {
        let answer = world.get(target, &world.provider.access_token(API, scope));
        (answer.status, world.production.audit().of(&answer.request_id()))
    };
    let (status, record) = scoped("sheet", WHOAMI);
    assert_eq!(
        (status, record["decision"]["deciding"].to_string().contains("cedargate.scope")),
        (403, true),
        "{record:#}"
    );
}

#[test]
fn a_thousand_forged_keys_are_one_question_and_new_keys_are_taken_up() {
    let mut world = World::start("");
    let token = world.provider.access_token(API, "docs");
    assert_eq!(world.get(WHOAMI, &token).status, 200);
    let before = world.provider.asked("/jwks");
    let (_, rest) = token.split_once('.').expect("a header");
    let host = world.production.address().to_string();
    let mut client = Client::connect(world.production.address());
    for number in 0..1000 {
        let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": format!("forged-{number}")});
        let request = Request::new("GET", WHOAMI)
            .with("Host", &host)
            .with("Authorization", &format!("Bearer {}.{rest}", encoded(&header)));
        assert_eq!(client.ask(&request).expect("an answer").status, 401);
    }
    let asked = world.provider.asked("/jwks") - before;
    // Once in ten seconds, however long a thousand requests take here.
    assert!(asked <= 3, "{asked} questions");

    // Other keys under other names, without a restart of ours.
    world.provider.run();
    let fresh = world.provider.access_token(API, "docs");
    wait::until("the new keys", PATIENCE * 2, || (world.get(WHOAMI, &fresh).status == 200).then_some(()));
    assert_eq!(world.get(WHOAMI, &token).status, 401, "its key is gone, and what was known of it");

    // Away: what is known goes on.
    world.provider.stop();
    assert_eq!(world.get(WHOAMI, &fresh).status, 200);
}

fn encoded(value: &Value) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
}
