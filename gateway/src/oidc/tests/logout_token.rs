//! Each rule of a logout token, broken in turn.

use storage::sessions::{ProviderSession, SID_BYTES_MAX};

use super::super::jose::{Jws, JwsFault};
use super::super::keys::{KeySet, SignatureFault};
use super::super::logout_token::{AGE_MS_MAX, EVENT, LogoutFault, LogoutToken, Whom, verify};
use super::super::times::LEEWAY_MS;
use super::*;
use crate::config::providers::Audiences;

const HEADER: &str = r#"{"alg":"ES256","kid":"ec","typ":"logout+jwt"}"#;

fn judged(token: &str, signer: &Signer) -> Result<LogoutToken, LogoutFault> {
    let keys = KeySet::parse(signer.jwks().to_string().as_bytes()).unwrap();
    let audiences = Audiences::Listed(vec!["other".to_owned()]);
    let provider = Provider { audiences, ..provider(Preset::Generic) };
    verify(&Jws::parse(token)?, &provider, &keys, NOW)
}

fn with(changes: &[(&str, Value)]) -> Value {
    changed(logout_claims(), changes)
}

fn signed(signer: &Signer, claims: &Value) -> String {
    signer.sign(Algorithm::Es256, &serde_json::from_str(HEADER).unwrap(), &claims.to_string())
}

#[test]
fn a_token_says_what_has_ended() {
    let signer = Signer::new();
    let session = || ProviderSession::new(ISSUER, "s1").unwrap();
    let person = || storage::credentials::Origin::new(ISSUER, "242424").unwrap();
    let cases: [(&[(&str, Value)], Whom); 3] = [
        (&[], Whom::SessionOf(session(), person())),
        (&[("sub", Value::Null)], Whom::Session(session())),
        (&[("sid", Value::Null)], Whom::Person(person())),
    ];
    for (changes, whom) in cases {
        let holds = judged(&signed(&signer, &with(changes)), &signer).unwrap();
        assert_eq!((holds.whom, holds.jti.as_str(), holds.issued), (whom, "j1", NOW), "{changes:?}");
        assert_eq!(holds.ends, NOW.plus(120_000 + LEEWAY_MS));
    }
    for typ in ["logout+jwt", "Logout+JWT", "application/logout+jwt", "JWT"] {
        let header = json!({"alg": "ES256", "kid": "ec", "typ": typ});
        let token = signer.sign(Algorithm::Es256, &header, &logout_claims().to_string());
        assert!(judged(&token, &signer).is_ok(), "{typ}");
    }
    let bare =
        signer.sign(Algorithm::EdDsa, &json!({"alg": "EdDSA", "kid": "ed"}), &logout_claims().to_string());
    assert!(judged(&bare, &signer).is_ok(), "providers of before there was a type");
    // Its name need not be remembered for longer than it is believed.
    let patient = with(&[("exp", json!(NOW.0 / 1000 + 1_000_000))]);
    let holds = judged(&signed(&signer, &patient), &signer).unwrap();
    assert_eq!(holds.ends, NOW.plus(AGE_MS_MAX + LEEWAY_MS));
}

#[test]
fn every_claim_that_does_not_hold_is_refused_by_its_own_rule() {
    let signer = Signer::new();
    let seconds = NOW.0 / 1000;
    let leeway = LEEWAY_MS / 1000;
    let aged = (AGE_MS_MAX + LEEWAY_MS) / 1000;
    let sound: [&[(&str, Value)]; 6] = [
        &[("aud", json!([CLIENT]))],
        &[("aud", json!([CLIENT, "other"]))],
        &[("events", json!({EVENT: {"extra": 1}, "https://other.example/event": 7}))],
        &[("exp", json!(seconds + 1 - leeway)), ("iat", json!(seconds - 60))],
        &[("iat", json!(seconds + 1 - aged))],
        &[("sid", json!("s".repeat(SID_BYTES_MAX)))],
    ];
    for changes in sound {
        assert!(judged(&signed(&signer, &with(changes)), &signer).is_ok(), "{changes:?}");
    }
    use LogoutFault::*;
    let subject = || Subject(storage::credentials::PersonError::Subject);
    let broken: [(&[(&str, Value)], LogoutFault); 32] = [
        (&[("iss", Value::Null)], Issuer),
        (&[("iss", json!("https://id.example/"))], Issuer),
        (&[("aud", Value::Null)], Audience),
        (&[("aud", json!("other"))], Audience),
        (&[("aud", json!([CLIENT, "stranger"]))], Audience),
        (&[("aud", json!([CLIENT, 7]))], Audience),
        (&[("exp", Value::Null)], Time),
        (&[("iat", Value::Null)], Time),
        (&[("iat", json!("1"))], Time),
        (&[("exp", json!(seconds - leeway))], Expired),
        (&[("iat", json!(seconds - aged))], Expired),
        (&[("iat", json!(seconds + leeway + 1))], NotYet),
        (&[("events", Value::Null)], Event),
        (&[("events", json!([EVENT]))], Event),
        (&[("events", json!(EVENT))], Event),
        (&[("events", json!({}))], Event),
        (&[("events", json!({EVENT: true}))], Event),
        (&[("events", json!({EVENT: []}))], Event),
        (&[("events", json!({"http://schemas.openid.net/event/backchannel-logout/": {}}))], Event),
        (&[("nonce", json!(NONCE))], Nonce),
        (&[("nonce", json!(""))], Nonce),
        (&[("jti", Value::Null)], Name),
        (&[("jti", json!(""))], Name),
        (&[("jti", json!(7))], Name),
        (&[("jti", json!("j".repeat(257)))], Name),
        (&[("sub", Value::Null), ("sid", Value::Null)], Nobody),
        (&[("sid", json!(""))], Session),
        (&[("sid", json!(7))], Session),
        (&[("sid", json!("s".repeat(SID_BYTES_MAX + 1)))], Session),
        (&[("sub", json!(7))], subject()),
        (&[("sub", json!(""))], subject()),
        (&[("sub", json!("ä")), ("sid", Value::Null)], subject()),
    ];
    for (changes, fault) in broken {
        assert_eq!(judged(&signed(&signer, &with(changes)), &signer), Err(fault), "{changes:?}");
    }
    // An ID token and an access token of the same provider and key are no word of a logout.
    assert_eq!(judged(&signed(&signer, &claims()), &signer), Err(Event));
    assert_eq!(judged(&access_token(&signer, &access_claims()), &signer), Err(JwsFault::Type.into()));
}

#[test]
fn threat_08_a_logout_token_is_verified_by_its_key_alone() {
    let signer = Signer::new();
    let claims = logout_claims().to_string();
    let check = |header: Value, fault: LogoutFault| {
        let token = signer.sign(Algorithm::Rs256, &header, &claims);
        assert_eq!(judged(&token, &signer), Err(fault), "{header}");
    };
    let headed = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid, "typ": "logout+jwt"});
    for algorithm in ["none", "HS256", "RS384"] {
        check(headed(algorithm, "rsa"), JwsFault::Algorithm.into());
    }
    check(headed("PS256", "rsa"), SignatureFault::Wrong.into());
    check(headed("RS256", "ec"), SignatureFault::Wrong.into());
    check(headed("RS256", "other"), SignatureFault::UnknownKey.into());
    let other = signed(&Signer::new(), &logout_claims());
    assert_eq!(judged(&other, &signer), Err(SignatureFault::Wrong.into()));
}
