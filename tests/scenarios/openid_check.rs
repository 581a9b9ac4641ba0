//! What an operator asks before anybody signs in: `oidc check` and `token inspect`, at a real provider.

use serde_json::{Value, json};
use tests::openid::{CLIENT_ID, CLIENT_SECRET, OpenId};
use tests::production::Production;

use crate::openid::CALLBACK;

const API: &str = "https://api.example/";

/// A configuration with this provider; nothing is started.
fn production(provider: &OpenId, public_url: &str, secret: &str, lines: &str) -> Production {
    let mut production = Production::default();
    public_url.clone_into(&mut production.public_url);
    production.lines = "environment = \"development\"".to_owned();
    let file = production.folder().join("client-secret");
    std::fs::write(&file, secret).expect("a secret");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("kept private");
    production.upstream.push_str(&format!(
        "\n[[oidc.providers]]\nname = \"corp\"\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\nclient_secret = \"file:{}\"\n\
         roles = [\"viewer\"]\napi_audiences = [\"{API}\"]\n{lines}\n",
        provider.issuer(),
        file.display()
    ));
    production
}

const HOME: &str = "http://127.0.0.1:7999";

/// The verdict at each step, and what it says.
fn verdicts(said: &str) -> Vec<(String, String, String)> {
    let told: Value =
        serde_json::from_str(said.lines().next().expect("a line")).unwrap_or_else(|_| panic!("{said}"));
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let findings = told["providers"][0]["findings"].as_array().expect("findings");
    findings
        .iter()
        .map(|found| (text(&found["step"]), text(&found["verdict"]), text(&found["message"])))
        .collect()
}

#[test]
fn what_is_wrong_with_a_provider_is_told_before_anybody_signs_in() {
    let mut provider = OpenId::new(&[format!("{HOME}{CALLBACK}")]);
    let check = |production: &Production| production.cli(&["oidc", "check", "--json"], "");
    let find = |said: &str, step: &str, verdict: &str, part: &str| {
        let found = verdicts(said);
        let is_there = found.iter().any(|(s, v, m)| s == step && v == verdict && m.contains(part));
        assert!(is_there, "no {verdict} of {step} with `{part}` in {found:#?}");
    };
    let sound = production(&provider, HOME, CLIENT_SECRET, "");
    let (well, said) = check(&sound);
    assert!(!well, "{said}");
    find(&said, "metadata", "fault", "it cannot be reached");

    provider.run();
    let (well, said) = check(&sound);
    assert!(well, "{said}");
    for (step, part) in [
        ("metadata", "names the configured issuer"),
        ("keys", "3 that verify"),
        ("client", "takes its secret"),
        ("redirect", "is registered"),
        ("scopes", "the provider knows openid profile email"),
        ("tokens", API),
    ] {
        find(&said, step, "well", part);
    }
    find(&said, "logout", "notice", "can tell when somebody signs out");
    let (well, said) = sound.cli(&["oidc", "check", "corp"], "");
    assert!(well && said.lines().all(|line| line.chars().count() <= 80), "{said}");
    let (well, said) = sound.cli(&["oidc", "check", "other"], "");
    assert!(!well && said.contains("name one of: corp"), "{said}");

    let (well, said) = check(&production(&provider, HOME, "another-secret-than-it-has", ""));
    assert!(!well);
    find(&said, "client", "fault", "does not take the client id or its secret");
    assert!(!said.contains("another-secret"), "{said}");
    let (well, said) = check(&production(&provider, "http://127.0.0.1:7998", CLIENT_SECRET, ""));
    assert!(!well);
    find(&said, "redirect", "fault", "to a sign-in that leads back to http://127.0.0.1:7998");
    let (_, said) = check(&production(&provider, HOME, CLIENT_SECRET, "scopes = [\"openid\", \"strange\"]"));
    find(&said, "scopes", "notice", "does not list strange");
    let (well, said) = check(&production(&provider, HOME, CLIENT_SECRET, "groups = [\"no-such-group\"]"));
    assert!(!well && said.contains("which the bundle does not know"), "{said}");
}

#[test]
fn an_access_token_is_explained_without_being_shown() {
    let mut provider = OpenId::start(&[format!("{HOME}{CALLBACK}")]);
    provider.set("/token_claims", json!({"roles": ["viewer", "stranger"]}));
    let production = production(&provider, HOME, CLIENT_SECRET, "");
    let token = provider.access_token(API, "docs");
    let inspect = |arguments: &[&str], input: &str| {
        let (well, said) = production.cli(&[&["token", "inspect"], arguments].concat(), input);
        let signature = token.rsplit('.').next().expect("a signature");
        assert!(!said.contains(signature), "the signature is shown: {said}");
        (well, said)
    };
    let (well, said) = inspect(&[], &format!("  Bearer {token}\n"));
    assert!(well, "{said}");
    for part in ["name: corp:app", "roles: [\"viewer\"]", "left out: stranger", "alg: ES256", "typ: at+jwt"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
    let (well, said) = inspect(&["--json", "-"], &token);
    let told: Value = serde_json::from_str(said.lines().next().expect("a line")).expect("JSON");
    assert!(well && told["holds"] == true && told["identity"]["roles"] == json!(["viewer"]), "{said}");

    let foreign = provider.access_token("https://other.example/", "docs");
    let (well, said) = production.cli(&["token", "inspect"], &foreign);
    assert!(!well && said.contains("`aud` names none of `api_audiences`"), "{said}");
    let (well, said) = inspect(&[&token], "");
    assert!(well && said.contains("stays in the shell's history"), "{said}");
    for (input, part) in
        [("", "no token was given"), ("a.b.c", "not three parts"), ("\u{1b}[2J", "not three parts")]
    {
        let (well, said) = inspect(&[], input);
        assert!(!well && said.contains(part) && !said.contains('\u{1b}'), "{said}");
    }
}
