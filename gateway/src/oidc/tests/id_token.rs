//! Each rule of an ID token, broken in turn.

use super::super::id_token::{Expected, IdToken, TokenFault, verify};
use super::super::jose::{JwsFault, TOKEN_BYTES_MAX};
use super::super::keys::{KeySet, SignatureFault};
use super::super::times::LEEWAY_MS;
use super::*;
use crate::config::providers::Audiences;

fn judged(token: &str, signer: &Signer, audiences: &Audiences) -> Result<IdToken, TokenFault> {
    let keys = KeySet::parse(signer.jwks().to_string().as_bytes()).unwrap();
    let expected = Expected {
        issuer: ISSUER,
        client_id: CLIENT,
        audiences,
        nonce: Some(NONCE),
        access_token: Some("the-access-token"),
        now: NOW,
    };
    verify(token, &keys, &expected)
}

fn listed(names: &[&str]) -> Audiences {
    Audiences::Listed(names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn a_token_of_every_algorithm_is_believed_and_says_who_it_is() {
    let signer = Signer::new();
    for (algorithm, name, kid) in [
        (Algorithm::Rs256, "RS256", "rsa"),
        (Algorithm::Ps256, "PS256", "rsa"),
        (Algorithm::Es256, "ES256", "ec"),
        (Algorithm::EdDsa, "EdDSA", "ed"),
    ] {
        let token =
            signer.sign(algorithm, &json!({"alg": name, "kid": kid, "typ": "JWT"}), &claims().to_string());
        let holds = judged(&token, &signer, &listed(&[])).unwrap();
        assert_eq!((holds.origin.issuer(), holds.origin.subject()), (ISSUER, "242424"), "{name}");
        assert_eq!(holds.claims["nonce"], NONCE);
        // Every part is signed.
        for part in 0..3 {
            let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
            let flip = if parts[part].starts_with('A') { "B" } else { "A" };
            parts[part].replace_range(..1, flip);
            assert!(judged(&parts.join("."), &signer, &listed(&[])).is_err(), "{name}, part {part}");
        }
    }
}

#[test]
fn every_claim_that_does_not_hold_is_refused_by_its_own_rule() {
    let signer = Signer::new();
    let seconds = NOW.0 / 1000;
    let leeway = LEEWAY_MS / 1000;
    let with = |changes: &[(&str, Value)]| changed(claims(), changes);
    let sound: [&[(&str, Value)]; 11] = [
        &[],
        &[("aud", json!([CLIENT]))],
        &[("aud", json!([CLIENT, "other"])), ("azp", json!(CLIENT))],
        &[("azp", json!(CLIENT))],
        &[("exp", json!(seconds + 1 - leeway))],
        &[("iat", json!(seconds + leeway))],
        &[("exp", json!((seconds + 300) as f64 + 0.5))],
        &[("nbf", json!(seconds))],
        &[("sub", json!("a".repeat(255)))],
        &[("at_hash", json!(left_half("the-access-token")))],
        &[("iss", json!(ISSUER)), ("extra", json!({"aud": "x"}))],
    ];
    for changes in sound {
        let token =
            signer.sign(Algorithm::Es256, &json!({"alg": "ES256", "kid": "ec"}), &with(changes).to_string());
        assert!(judged(&token, &signer, &listed(&["other"])).is_ok(), "{changes:?}");
    }
    use TokenFault::*;
    let broken: [(&[(&str, Value)], TokenFault); 33] = [
        (&[("iss", Value::Null)], Issuer),
        (&[("iss", json!("https://id.example/"))], Issuer),
        (&[("iss", json!("https://ID.example"))], Issuer),
        (&[("iss", json!([ISSUER]))], Issuer),
        (&[("iss", json!("general-bots"))], Issuer),
        (&[("aud", Value::Null)], Audience),
        (&[("aud", json!("gateway2"))], Audience),
        (&[("aud", json!([]))], Audience),
        (&[("aud", json!([CLIENT, 7]))], Audience),
        (&[("aud", json!({CLIENT: true}))], Audience),
        (&[("aud", json!([CLIENT, "stranger"])), ("azp", json!(CLIENT))], OtherAudience),
        (&[("aud", json!([CLIENT, "other"]))], AuthorizedParty),
        (&[("azp", json!("other"))], AuthorizedParty),
        (&[("azp", json!([CLIENT]))], AuthorizedParty),
        (&[("exp", Value::Null)], Time),
        (&[("iat", Value::Null)], Time),
        (&[("exp", json!("9999999999"))], Time),
        (&[("nbf", json!("0"))], Time),
        (&[("exp", json!(-1))], Time),
        (&[("exp", json!(1e300))], Time),
        (&[("exp", json!(u64::MAX))], Time),
        (&[("exp", json!(true))], Time),
        (&[("exp", json!(seconds - leeway))], Expired),
        (&[("exp", json!(0))], Expired),
        (&[("iat", json!(seconds + leeway + 1))], NotYet),
        (&[("nbf", json!(seconds + leeway + 1))], NotYet),
        (&[("nonce", Value::Null)], Nonce),
        (&[("nonce", json!("the-nonce-that-was-asked-foR"))], Nonce),
        (&[("nonce", json!([NONCE]))], Nonce),
        (&[("at_hash", json!(left_half("another")))], AccessTokenHash),
        (&[("at_hash", json!(7))], AccessTokenHash),
        (&[("sub", Value::Null)], Subject(storage::credentials::PersonError::Subject)),
        (&[("sub", json!(242_424))], Subject(storage::credentials::PersonError::Subject)),
    ];
    for (changes, fault) in broken {
        let token =
            signer.sign(Algorithm::Es256, &json!({"alg": "ES256", "kid": "ec"}), &with(changes).to_string());
        assert_eq!(judged(&token, &signer, &listed(&["other"])), Err(fault), "{changes:?}");
    }
    for subject in ["", "ä", "a\nb", &"a".repeat(256)] {
        let claims = with(&[("sub", json!(subject))]);
        let token = signer.sign(Algorithm::Es256, &json!({"alg": "ES256", "kid": "ec"}), &claims.to_string());
        assert!(matches!(judged(&token, &signer, &listed(&[])), Err(Subject(_))), "{subject:?}");
    }
    // Zitadel names its project and every application of it, and always `azp`.
    let claims = with(&[("aud", json!(["project", CLIENT, "another-app"])), ("azp", json!(CLIENT))]);
    let token = signer.sign(Algorithm::Es256, &json!({"alg": "ES256", "kid": "ec"}), &claims.to_string());
    assert!(judged(&token, &signer, &Audiences::Any).is_ok());
}

fn left_half(token: &str) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16])
}

#[test]
fn threat_08_neither_header_nor_shared_secret_chooses_how_a_token_is_verified() {
    let signer = Signer::new();
    let claims = claims().to_string();
    let check = |token: &str, fault: TokenFault| {
        assert_eq!(judged(token, &signer, &listed(&[])), Err(fault), "{token}");
    };
    let headed = |header: Value| signer.sign(Algorithm::Rs256, &header, &claims);
    for algorithm in ["none", "None", "HS256", "HS512", "RS512", "ES384", "ES256K", "RSA-OAEP", "dir", ""] {
        check(&headed(json!({"alg": algorithm, "kid": "rsa"})), JwsFault::Algorithm.into());
    }
    // The public key as the secret of an HMAC.
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", part(r#"{"alg":"HS256","kid":"rsa"}"#), part(&claims));
    let modulus = signer.jwks()["keys"][0]["n"].as_str().unwrap().to_owned();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, modulus.as_bytes());
    let tag = ring::hmac::sign(&key, signed.as_bytes());
    check(&format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag)), JwsFault::Algorithm.into());
    // The algorithm of another key's kind, an unknown key, and keys that the token brings along.
    check(&headed(json!({"alg": "RS256", "kid": "ec"})), SignatureFault::Wrong.into());
    check(&headed(json!({"alg": "PS256", "kid": "rsa"})), SignatureFault::Wrong.into());
    check(&headed(json!({"alg": "ES256", "kid": "rsa"})), SignatureFault::Wrong.into());
    for kid in ["../../dev/null", "' OR 1=1 --", "RSA", "rsa ", ""] {
        check(&headed(json!({"alg": "RS256", "kid": kid})), SignatureFault::UnknownKey.into());
    }
    let brought = json!({"alg": "RS256", "kid": "other", "jku": "https://evil.example", "jwk": signer.jwks()["keys"][0]});
    check(&headed(brought), SignatureFault::UnknownKey.into());
    check(
        &headed(json!({"alg": "RS256", "kid": "rsa", "crit": ["b64"], "b64": false})),
        JwsFault::Critical.into(),
    );
    for typ in ["at+jwt", "logout+jwt", "application/jwt", "JWE"] {
        check(&headed(json!({"alg": "RS256", "kid": "rsa", "typ": typ})), JwsFault::Type.into());
    }
    // A signature of nothing: zeros verify for some (CVE-2022-21449).
    let signed = format!("{}.{}", part(r#"{"alg":"ES256","kid":"ec"}"#), part(&claims));
    check(&format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 64])), SignatureFault::Wrong.into());
    check(&format!("{signed}."), SignatureFault::Wrong.into());
}

#[test]
fn what_is_no_token_is_told_apart() {
    let signer = Signer::new();
    let good = signer.sign(Algorithm::EdDsa, &json!({"alg": "EdDSA", "kid": "ed"}), &claims().to_string());
    let check = |token: &str, fault: JwsFault| {
        assert_eq!(judged(token, &signer, &listed(&[])), Err(fault.into()), "{token:.60}");
    };
    check("", JwsFault::Form);
    check("a", JwsFault::Form);
    check("..", JwsFault::Header);
    check(&format!("{good}.e30"), JwsFault::Form);
    check(&format!("{good}="), JwsFault::Form);
    check(&format!(" {good}"), JwsFault::Form);
    check(&good.replace('.', ".."), JwsFault::Form);
    check(&"a".repeat(TOKEN_BYTES_MAX + 1), JwsFault::TooLong);
    let raw = |header: &str, claims: &str| {
        format!("{}.{}.AA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    };
    check(&raw("[]", "{}"), JwsFault::Header);
    check(&raw(r#"{"kid":"ed"}"#, "{}"), JwsFault::Header);
    check(&raw(r#"{"alg":"EdDSA","alg":"ES256"}"#, "{}"), JwsFault::Header);
    check(&raw(&json!({"alg": "EdDSA", "kid": "k".repeat(257)}).to_string(), "{}"), JwsFault::Header);
    check(&raw(r#"{"alg":"EdDSA"}"#, "[]"), JwsFault::Payload);
    check(&raw(r#"{"alg":"EdDSA"}"#, r#"{"sub":"a","sub":"b"}"#), JwsFault::Payload);
    check(&raw(r#"{"alg":"EdDSA"}"#, r#"{"sub":"a"} x"#), JwsFault::Payload);
}
