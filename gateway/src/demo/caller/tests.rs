//! A token is tried rule by rule, each case one step away from a good one.

use serde_json::{Value, json};

use super::*;

const SECRET: &[u8] = b"a secret of the tests";
const NOW_S: u64 = 1_800_000_000;

fn good() -> Value {
    json!({
        "sub": "6f2c3e1a-4b5d-4c6e-8f70-1a2b3c4d5e6f", "iss": ISSUER, "aud": AUDIENCE,
        "exp": NOW_S + 60, "iat": NOW_S, "nbf": NOW_S, "jti": "1", "type": "access",
        "username": "ada", "roles": ["User", "BotViewer"],
    })
}

fn sign(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
}

fn check(claims: &Value) -> Result<Known, &'static str> {
    let token = sign(&json!({"alg": "HS256", "typ": "JWT"}), claims, SECRET);
    verify(&token, SECRET, UnixMillis(NOW_S * 1000))
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = good();
    claims[name] = value;
    claims
}

#[test]
fn claims_are_read_as_botserver_reads_them() {
    assert_eq!(check(&good()).map(|known| known.roles.len()), Ok(2));
    let cases = [
        ("sub", json!(Uuid::nil()), "the subject is the nil UUID"),
        ("sub", json!("42"), "the subject is no UUID"),
        ("iss", json!("general-bot"), "wrong issuer"),
        ("aud", json!("other"), "wrong audience"),
        ("aud", json!([AUDIENCE]), "claims unreadable"),
        ("type", json!("refresh"), "not an access token"),
        ("exp", json!(NOW_S - 61), "expired"),
        ("exp", json!("9999999999"), "claims unreadable"),
        ("exp", json!(9_999_999_999.5), "claims unreadable"),
        ("exp", Value::Null, "claims unreadable"),
        ("nbf", json!(NOW_S + 61), "not yet valid"),
        ("iat", Value::Null, "claims unreadable"),
        ("jti", json!(""), "no token id"),
        ("roles", json!(["User", "standard_user"]), "a role that is not known here"),
        ("roles", json!(["Anonymous"]), "a role that is not known here"),
    ];
    for (name, value, reason) in cases {
        assert_eq!(check(&with(name, value.clone())), Err(reason), "{name} = {value}");
    }
    for accepted in [with("exp", json!(NOW_S - 60)), with("roles", json!([]))] {
        assert!(check(&accepted).is_ok(), "{accepted}");
    }
}

#[test]
fn the_token_itself_is_read_strictly() {
    let now = UnixMillis(NOW_S * 1000);
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "HS512"}),
        json!({"alg": "HS256", "typ": "at+jwt"}),
        json!({"alg": "HS256", "jku": "https://example.test"}),
        json!({"alg": "HS256", "crit": ["b64"], "b64": false}),
    ] {
        assert!(verify(&sign(&header, &good(), SECRET), SECRET, now).is_err(), "{header}");
    }
    let token = sign(&json!({"alg": "HS256"}), &good(), SECRET);
    assert!(verify(&token, SECRET, now).is_ok());
    assert!(verify(&token, b"another secret", now).is_err());
    assert!(verify(&format!("{token}="), SECRET, now).is_err());
    assert!(verify(&format!("{token}.x"), SECRET, now).is_err());
    assert!(verify("", SECRET, now).is_err());
}

#[test]
fn only_one_signed_bearer_is_an_identity() {
    let now = UnixMillis(NOW_S * 1000);
    let bearer = format!("Bearer {}", sign(&json!({"alg": "HS256"}), &good(), SECRET));
    let cases: [(&[(&str, &str)], bool); 8] = [
        (&[("authorization", &bearer)], true),
        (&[("authorization", &bearer), ("x-api-key", "short")], true),
        (&[("authorization", &bearer), ("x-api-key", "0123456789abcdef")], false),
        (&[("authorization", &bearer), ("authorization", &bearer)], false),
        (&[("authorization", "Bearer anything")], false),
        (&[("cookie", "session_id=anything")], false),
        (&[("x-user-id", "6f2c3e1a-4b5d-4c6e-8f70-1a2b3c4d5e6f")], false),
        (&[], false),
    ];
    for (headers, known) in cases {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(axum::http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let caller = read(&map, SECRET, now);
        assert_eq!(matches!(caller, Caller::Known(_)), known, "{headers:?}");
    }
}
