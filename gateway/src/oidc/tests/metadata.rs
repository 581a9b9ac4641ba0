//! What a provider says of itself.

use super::super::discovery::{Metadata, MetadataFault, address};
use super::*;

fn document() -> Value {
    json!({
        "issuer": ISSUER, "authorization_endpoint": "https://id.example/auth", "token_endpoint": "https://id.example/token",
        "jwks_uri": "https://keys.example/jwks",
    })
}

#[test]
fn metadata_is_taken_from_its_own_issuer_and_for_https_alone() {
    let parse = |changes: &[(&str, Value)]| {
        let document = changed(document(), changes);
        Metadata::parse(document.to_string().as_bytes(), ISSUER)
    };
    let plain = parse(&[]).unwrap();
    assert!(!plain.names_issuer && !plain.secret_in_body && plain.userinfo_endpoint.is_none());
    let method =
        |methods: &[&str]| parse(&[("token_endpoint_auth_methods_supported", json!(methods))]).unwrap();
    assert!(method(&["client_secret_post"]).secret_in_body);
    assert!(!method(&["client_secret_basic", "client_secret_post"]).secret_in_body);
    assert!(!method(&["private_key_jwt"]).secret_in_body);
    assert!(parse(&[("authorization_response_iss_parameter_supported", json!(true))]).unwrap().names_issuer);

    for issuer in ["https://id.example/", "https://ID.example", "https://evil.example"] {
        assert_eq!(parse(&[("issuer", json!(issuer))]), Err(MetadataFault::Issuer(issuer.to_owned())));
    }
    for name in ["issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"] {
        let Err(MetadataFault::Form(said)) = parse(&[(name, Value::Null)]) else { panic!("{name}") };
        assert!(said.contains(name), "{said}");
        assert!(matches!(parse(&[(name, json!(7))]), Err(MetadataFault::Form(_))), "{name}");
    }
    for url in [
        "http://id.example/x",
        "ftp://id.example",
        "/x",
        "https://user@id.example",
        "https://id.example/#x",
        "",
    ] {
        let said = parse(&[("jwks_uri", json!(url))]);
        assert_eq!(said, Err(MetadataFault::Address("jwks_uri")), "{url}");
        assert_eq!(
            parse(&[("userinfo_endpoint", json!(url))]),
            Err(MetadataFault::Address("userinfo_endpoint"))
        );
    }
    let endpoint = "https://id.example/par";
    let pushed = parse(&[("pushed_authorization_request_endpoint", json!(endpoint))]).unwrap();
    assert!(pushed.pushed_endpoint.is_some_and(|url| url.as_str() == endpoint) && !pushed.pushes_required);
    let required = ("require_pushed_authorization_requests", json!(true));
    assert!(
        matches!(parse(&[required]), Err(MetadataFault::Unsupported(_))),
        "required, and nowhere to push to"
    );
    let lacking =
        |name: &str| matches!(parse(&[(name, json!(["other"]))]), Err(MetadataFault::Unsupported(_)));
    assert!(lacking("response_types_supported") && lacking("code_challenge_methods_supported"));
    for text in ["", "<html>", "[]", "{"] {
        assert!(matches!(Metadata::parse(text.as_bytes(), ISSUER), Err(MetadataFault::Form(_))), "{text}");
    }
}

#[test]
fn the_metadata_of_an_issuer_with_a_path_is_below_it() {
    assert_eq!(address(ISSUER), "https://id.example/.well-known/openid-configuration");
    assert_eq!(
        address("https://id.example/realms/x/"),
        "https://id.example/realms/x/.well-known/openid-configuration"
    );
}
