//! A real provider (npm `oidc-provider`) that has our public key, and no secret of ours.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tests::openid::{CLIENT_ID, OpenId};
use tests::production::Production;
use tests::session::{Browser, WHOAMI};
use tests::upstream::Upstream;

use crate::openid::{CALLBACK, sign_in};

#[test]
fn a_client_with_a_key_instead_of_a_secret_signs_people_in() {
    let upstream = Upstream::start();
    let mut production = Production::before(upstream.address());
    production.public_url = format!("http://{}", production.address());
    production.lines = "environment = \"development\"".to_owned();
    let key = rcgen::KeyPair::generate().expect("a key");
    let file = production.folder().join("client-key.pem");
    fs::write(&file, key.serialize_pem()).expect("a key in a file");
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("kept private");
    let point = key.public_key_raw();
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let public = json!({"kty": "EC", "crv": "P-256", "kid": "of-2026", "x": part(&point[1..33]), "y": part(&point[33..])});
    let mut provider = OpenId::new(&[format!("{}{CALLBACK}", production.public_url)]);
    provider.set("/client/token_endpoint_auth_method", json!("private_key_jwt"));
    provider.set("/client/jwks", json!({"keys": [public]}));
    provider.set("/pushed", json!("offered"));
    provider.run();
    production.upstream.push_str(&format!(
        "\n[[oidc.providers]]\nname = \"corp\"\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\nroles = [\"viewer\"]\n\
         client_key = \"file:{}\"\nclient_key_id = \"of-2026\"\n",
        provider.issuer(),
        file.display()
    ));
    let process = production.start();
    let mut browser = Browser::new(production.address());
    let answer = sign_in(&mut browser, &provider, "corp", "/later");
    assert_eq!((answer.status, answer.header("location")), (303, Some("/later")), "{}", answer.text());
    assert_eq!(browser.get(WHOAMI).status, 200);
    assert_eq!((provider.asked("/request"), provider.asked("/token")), (1, 1), "it proved itself at both");
    let (content, said) = production.cli(&["oidc", "check"], "");
    assert!(content, "{said}");
    drop(process);

    // Another key is not ours there, and the operator is told so.
    fs::write(&file, rcgen::KeyPair::generate().expect("a key").serialize_pem()).expect("a key in a file");
    let process = production.start();
    let start = format!("{}?provider=corp", crate::openid::START);
    let answer = Browser::new(production.address()).navigate_from("same-origin", &start);
    assert!(answer.status >= 400 && answer.header("location").is_none(), "{}", answer.text());
    let record = production.audit().of(&answer.request_id());
    assert!(
        record["notes"].to_string().contains("the provider says `invalid_client` to our client"),
        "{record:#}"
    );
    drop(process);
}
