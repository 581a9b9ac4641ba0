//! Each rule of an access token, broken in turn.

use storage::credentials::PersonError;
use storage::sessions::{ProviderSession, SID_BYTES_MAX};

use super::super::access_token::{AccessFault, AccessToken, verify};
use super::super::jose::{Jws, JwsFault};
use super::super::keys::{KeySet, SignatureFault};
use super::super::times::LEEWAY_MS;
use super::*;

fn judged(token: &str, signer: &Signer, types: TokenTypes) -> Result<AccessToken, AccessFault> {
    let keys = KeySet::parse(signer.jwks().to_string().as_bytes()).unwrap();
    let provider = of_api(types);
    verify(&Jws::parse(token)?, ISSUER, provider.access_tokens.as_ref().unwrap(), &keys, NOW)
}

fn with(changes: &[(&str, Value)]) -> Value {
    changed(access_claims(), changes)
}

#[test]
fn a_token_of_every_algorithm_says_who_it_is_and_what_it_covers() {
    let signer = Signer::new();
    let seconds = NOW.0 / 1000;
    for (algorithm, name, kid) in [
        (Algorithm::Rs256, "RS256", "rsa"),
        (Algorithm::Ps256, "PS256", "rsa"),
        (Algorithm::Es256, "ES256", "ec"),
        (Algorithm::EdDsa, "EdDSA", "ed"),
    ] {
        for typ in ["at+jwt", "AT+JWT", "application/at+jwt"] {
            let header = json!({"alg": name, "kid": kid, "typ": typ});
            let token = signer.sign(algorithm, &header, &access_claims().to_string());
            let holds = judged(&token, &signer, TokenTypes::Profile).unwrap();
            assert_eq!((holds.origin.issuer(), holds.origin.subject()), (ISSUER, "242424"), "{name} {typ}");
            assert_eq!(holds.times.ends, UnixMillis((seconds + 300) * 1000 + LEEWAY_MS));
            assert_eq!(holds.scopes, ["docs.*".to_owned()].into());
            assert_eq!((holds.sid, holds.authenticated_at), (None, UnixMillis(0)));
        }
    }
}

#[test]
fn every_claim_that_does_not_hold_is_refused_by_its_own_rule() {
    let signer = Signer::new();
    let seconds = NOW.0 / 1000;
    let leeway = LEEWAY_MS / 1000;
    let sound: [&[(&str, Value)]; 10] = [
        &[],
        &[("aud", json!([API]))],
        &[("aud", json!(["other", API]))],
        &[("aud", json!([API, CLIENT])), ("azp", json!("app"))],
        &[("exp", json!(seconds + 1 - leeway))],
        &[("iat", json!(seconds + leeway)), ("nbf", json!(seconds + leeway))],
        &[("typ", json!("Bearer"))],
        &[("exp", json!(seconds + 24 * 3600))],
        &[("jti", Value::Null), ("client_id", Value::Null)],
        &[("sub", json!("a".repeat(255)))],
    ];
    for changes in sound {
        let token = access_token(&signer, &with(changes));
        assert!(judged(&token, &signer, TokenTypes::Profile).is_ok(), "{changes:?}");
    }
    use AccessFault::*;
    let broken: [(&[(&str, Value)], AccessFault); 35] = [
        (&[("iss", Value::Null)], Issuer),
        (&[("iss", json!("https://id.example/"))], Issuer),
        (&[("iss", json!([ISSUER]))], Issuer),
        (&[("aud", Value::Null)], Audience),
        (&[("aud", json!(CLIENT))], Audience),
        (&[("aud", json!("https://api.example/"))], Audience),
        (&[("aud", json!("HTTPS://api.example"))], Audience),
        (&[("aud", json!([]))], Audience),
        (&[("aud", json!([API, 7]))], Audience),
        (&[("aud", json!({API: true}))], Audience),
        (&[("aud", json!(vec![API; 257]))], Audience),
        (&[("nonce", json!("n"))], OtherKind),
        (&[("at_hash", json!("h"))], OtherKind),
        (&[("c_hash", json!("h"))], OtherKind),
        (&[("s_hash", Value::Bool(false))], OtherKind),
        (&[("events", json!({}))], OtherKind),
        (&[("typ", json!("ID"))], OtherKind),
        (&[("typ", json!("Refresh"))], OtherKind),
        (&[("typ", json!(7))], OtherKind),
        (&[("cnf", json!({"jkt": "x"}))], Bound),
        (&[("cnf", json!({"x5t#S256": "x"}))], Bound),
        (&[("exp", Value::Null)], Time),
        (&[("exp", json!((seconds + 300).to_string()))], Time),
        (&[("exp", json!(-1))], Time),
        (&[("exp", json!(u64::MAX))], Time),
        (&[("iat", Value::Null)], Time),
        (&[("nbf", json!("0"))], Time),
        (&[("exp", json!(seconds - leeway))], Expired),
        (&[("iat", json!(seconds + leeway + 1))], NotYet),
        (&[("nbf", json!(seconds + leeway + 1))], NotYet),
        (&[("exp", json!(seconds + 24 * 3600 + 1))], LongLived),
        (&[("iat", json!(1)), ("nbf", json!(seconds))], LongLived),
        (&[("sub", Value::Null)], Subject(PersonError::Subject)),
        (&[("sub", json!(7))], Subject(PersonError::Subject)),
        (&[("sub", json!("a".repeat(256)))], Subject(PersonError::Subject)),
    ];
    for (changes, fault) in broken {
        let token = access_token(&signer, &with(changes));
        assert_eq!(judged(&token, &signer, TokenTypes::Profile), Err(fault), "{changes:?}");
    }
}

/// By its header, by its audience, and by its claims where a provider signs all kinds alike.
#[test]
fn an_id_token_is_never_taken_for_an_access_token() {
    let signer = Signer::new();
    let of = |header: Value, claims: Value| {
        let token = signer.sign(Algorithm::Es256, &header, &claims.to_string());
        (judged(&token, &signer, TokenTypes::Profile), judged(&token, &signer, TokenTypes::Any))
    };
    let id_token = claims();
    let jwt = json!({"alg": "ES256", "kid": "ec", "typ": "JWT"});
    let bare = json!({"alg": "ES256", "kid": "ec"});
    let by_type = || Err(AccessFault::from(JwsFault::Type));
    assert_eq!(of(jwt.clone(), id_token.clone()), (by_type(), Err(AccessFault::Audience)));
    // Zitadel names its project in both.
    let shared = changed(id_token, &[("aud", json!([CLIENT, API]))]);
    assert_eq!(of(jwt.clone(), shared.clone()), (by_type(), Err(AccessFault::OtherKind)));
    assert_eq!(of(bare.clone(), shared), (by_type(), Err(AccessFault::OtherKind)));
    // And what is one by all signs is taken where no profile is demanded.
    for header in [&jwt, &bare] {
        let (profile, any) = of(header.clone(), access_claims());
        assert_eq!(profile, by_type());
        assert!(any.is_ok(), "{any:?}");
    }
    for typ in ["logout+jwt", "secevent+jwt", "dpop+jwt", "id_token+jwt", "at+jwt ", ""] {
        let header = json!({"alg": "ES256", "kid": "ec", "typ": typ});
        assert_eq!(of(header, access_claims()), (by_type(), by_type()), "{typ}");
    }
}

#[test]
fn threat_08_no_header_chooses_how_an_access_token_is_verified() {
    let signer = Signer::new();
    let claims = access_claims().to_string();
    let check = |header: Value, fault: AccessFault| {
        let token = signer.sign(Algorithm::Rs256, &header, &claims);
        assert_eq!(judged(&token, &signer, TokenTypes::Profile), Err(fault), "{header}");
    };
    let headed = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid, "typ": "at+jwt"});
    for algorithm in ["none", "HS256", "RS512", "ES384", "dir"] {
        check(headed(algorithm, "rsa"), JwsFault::Algorithm.into());
    }
    check(headed("PS256", "rsa"), SignatureFault::Wrong.into());
    check(headed("ES256", "rsa"), SignatureFault::Wrong.into());
    check(headed("RS256", "ec"), SignatureFault::Wrong.into());
    check(headed("RS256", "../../etc/passwd"), SignatureFault::UnknownKey.into());
    let mut brought = headed("RS256", "other");
    brought["jwk"] = signer.jwks()["keys"][0].clone();
    brought["x5u"] = json!("https://evil.example");
    check(brought, SignatureFault::UnknownKey.into());
    let mut critical = headed("RS256", "rsa");
    critical["crit"] = json!(["exp"]);
    check(critical, JwsFault::Critical.into());
    // Signed by another, in every other way sound.
    let other = access_token(&Signer::new(), &access_claims());
    assert_eq!(judged(&other, &signer, TokenTypes::Profile), Err(SignatureFault::Wrong.into()));
}

#[test]
fn what_a_token_covers_follows_from_its_scopes_and_the_table() {
    let signer = Signer::new();
    let covered = |changes: &[(&str, Value)]| {
        judged(&access_token(&signer, &with(changes)), &signer, TokenTypes::Profile).unwrap().scopes
    };
    for (changes, expected) in [
        (&[("scope", json!("docs"))][..], Some("docs.*")),
        (&[("scope", json!("openid"))], None),
        (&[("scope", json!("DOCS docs2 docs.* *"))], None),
        (&[("scope", Value::Null), ("scp", json!(["docs"]))], Some("docs.*")),
        (&[("scope", Value::Null), ("scp", json!("a docs"))], Some("docs.*")),
        (&[("scope", Value::Null)], None),
        (&[("scope", json!(7))], None),
    ] {
        let expected = expected.map(str::to_owned).into_iter().collect();
        assert_eq!(covered(changes), expected, "{changes:?}");
    }
    let mut open = of_api(TokenTypes::Profile).access_tokens.unwrap();
    open.scopes = None;
    let keys = KeySet::parse(signer.jwks().to_string().as_bytes()).unwrap();
    let token = access_token(&signer, &with(&[("scope", Value::Null)]));
    let holds = verify(&Jws::parse(&token).unwrap(), ISSUER, &open, &keys, NOW).unwrap();
    assert_eq!(holds.scopes, ["*".to_owned()].into(), "the configuration restricts nothing by scopes");
}

#[test]
fn the_session_and_the_time_of_authentication_are_read_where_they_can_be() {
    let signer = Signer::new();
    let holds = |changes: &[(&str, Value)]| {
        judged(&access_token(&signer, &with(changes)), &signer, TokenTypes::Profile).unwrap()
    };
    let longest = "s".repeat(SID_BYTES_MAX);
    for (sid, expected) in [
        (json!("s1"), Some("s1")),
        (json!(longest), Some(longest.as_str())),
        (json!("s".repeat(SID_BYTES_MAX + 1)), None),
        (json!(""), None),
        (json!(7), None),
    ] {
        let found = holds(&[("sid", sid.clone())]).sid;
        assert_eq!(found.as_ref().map(ProviderSession::sid), expected, "{sid}");
    }
    let seconds = NOW.0 / 1000;
    for (said, expected) in
        [(json!(seconds - 60), seconds - 60), (json!(seconds + 60), seconds), (json!("7"), 0)]
    {
        let proved = holds(&[("auth_time", said.clone())]).authenticated_at;
        assert_eq!(proved, UnixMillis(expected * 1000), "{said}");
    }
}
