//! Tokens, cookies and callbacks of identity providers.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::query::CanonicalQuery;
use engine::time::UnixMillis;
use ring::signature::{Ed25519KeyPair, KeyPair};
use storage::Keyring;

use crate::config::providers::{AccessTokens, Preset, Provider, SecondFactor, TokenTypes};
use crate::oidc::flow::{Flow, FlowId, RANDOM_BYTES};
use crate::oidc::id_token::Expected;
use crate::oidc::jose::Jws;
use crate::oidc::keys::KeySet;
use crate::oidc::{access_token, id_token, logout_token};
use crate::pages::return_to::ReturnTo;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
const ISSUER: &str = "https://id.example";
const CLIENT: &str = "gateway";
const API: &str = "https://api.example";
const NONCE: &str = "the-nonce";
const ORIGIN: &str = "https://app.example";

struct World {
    key: Ed25519KeyPair,
    keys: KeySet,
    provider: Provider,
    keyring: Keyring,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key");
    let x = URL_SAFE_NO_PAD.encode(key.public_key().as_ref());
    let set = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}]}}"#);
    let keys = KeySet::parse(set.as_bytes()).expect("a set of keys");
    let provider = Provider {
        name: "corp".into(),
        title: "Corp".to_owned(),
        issuer: ISSUER.to_owned(),
        client_id: CLIENT.to_owned(),
        client_secret: None,
        client_key: None,
        scopes: vec!["openid".to_owned()],
        audiences: Preset::Zitadel.audiences(),
        userinfo: false,
        pushed: true,
        refresh: false,
        consent: false,
        ca: None,
        claims: Preset::Generic.claims(CLIENT),
        roles: BTreeMap::new(),
        groups: BTreeMap::new(),
        second_factor: SecondFactor::default(),
        access_tokens: Some(AccessTokens {
            audiences: vec![API.to_owned()],
            types: TokenTypes::Any,
            scopes: None,
            introspection: false,
        }),
    };
    World { key, keys, provider, keyring: Keyring::from_master(&[7; 32]) }
});

/// Which kinds a text is believed to be: an ID token, an access token, a logout token.
fn kinds(text: &str) -> [bool; 3] {
    let World { keys, provider, .. } = &*WORLD;
    let expected = Expected {
        issuer: ISSUER,
        client_id: CLIENT,
        audiences: &provider.audiences,
        nonce: Some(NONCE),
        access_token: None,
        now: NOW,
    };
    let id = id_token::verify(text, keys, &expected);
    let Ok(jws) = Jws::parse(text) else { return [id.is_ok(), false, false] };
    let settings = provider.access_tokens.as_ref().expect("they are taken");
    let access = access_token::verify(&jws, ISSUER, settings, keys, NOW);
    let logout = logout_token::verify(&jws, provider, keys, NOW);
    if let Ok(token) = &access {
        assert!(token.origin.issuer() == ISSUER && !token.origin.subject().is_empty());
        assert!(NOW < token.times.ends && token.authenticated_at <= NOW);
        assert!(!jws.claims.contains_key("nonce") && !jws.claims.contains_key("cnf"));
    }
    if let Ok(token) = &logout {
        assert!(NOW < token.ends && !token.jti.is_empty() && !jws.claims.contains_key("nonce"));
    }
    [id.is_ok(), access.is_ok(), logout.is_ok()]
}

/// Nobody's bytes are believed to be a token of any kind, however they are put together.
pub fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    assert_eq!(kinds(text), [false; 3], "forged");
}

/// Whatever a provider signs is one kind of token or none, and nothing of it panics: header and claims, cut at a NUL.
pub fn signed_token(bytes: &[u8]) {
    let (header, claims) = bytes.split_at(bytes.iter().position(|byte| *byte == 0).unwrap_or(0));
    let header = if header.is_empty() { br#"{"alg":"EdDSA"}"# } else { header };
    let claims = claims.strip_prefix(b"\0").unwrap_or(claims);
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = WORLD.key.sign(signed.as_bytes());
    let text = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    assert!(kinds(&text).iter().filter(|is| **is).count() <= 1, "two kinds at once");
}

/// A cookie that we did not seal opens no flow, and one that we did opens in its place alone.
pub fn cookie(bytes: &[u8]) {
    let World { keyring, .. } = &*WORLD;
    let mut random = [0; RANDOM_BYTES];
    random.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    let text = String::from_utf8_lossy(bytes);
    let flow = Flow::begin(NOW, &random, "corp", ReturnTo::parse(&text));
    assert!(Flow::open(keyring, ORIGIN, flow.id(), &text).is_none(), "forged");
    let sealed = flow.seal(keyring, ORIGIN).expect("sealed");
    let opened = Flow::open(keyring, ORIGIN, flow.id(), &sealed).expect("its own");
    assert!(opened.is_state(&flow.state()) && opened.return_to() == flow.return_to());
    assert!(Flow::open(keyring, "https://other.example", flow.id(), &sealed).is_none());
    assert!(!flow.is_state(&text));
}

/// What a provider sends a browser back with names a flow by 16 hex digits, and a place to return to stays on our host.
pub fn callback(bytes: &[u8]) {
    let Ok(query) = CanonicalQuery::parse(Some(bytes)) else { return };
    let state = query.value("state").unwrap_or_default();
    if let Some(id) = FlowId::of_state(&state) {
        assert!(id.as_str().len() == 16 && id.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
    if let Some(to) = query.value("return_to").and_then(|text| ReturnTo::parse(&text)) {
        assert!(to.as_str().starts_with('/') && !to.as_str().starts_with("//"));
        assert!(to.as_str().bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claims_hold_for_a_few_inputs() {
        for text in ["", "a.b.c", "..", "e30.e30.", "eyJhbGciOiJub25lIn0.e30.", "eyJhbGciOiJFZERTQSJ9.e30.AA"]
        {
            token(text.as_bytes());
            cookie(text.as_bytes());
        }
        for query in
            ["", "state=0123456789abcdef", "state=%2F&return_to=/x", "return_to=//evil", "return_to=/a%5Cb"]
        {
            callback(query.as_bytes());
        }
        signed_token(b"");
        signed_token(b"\0\0{}");
        signed_token(br#"{"alg":"EdDSA","typ":"JWT"}"#);
    }

    /// What the target is about does occur: each kind is believed where it is whole.
    #[test]
    fn each_kind_is_believed_and_no_other() {
        let sign = |claims: &str| {
            let signed = format!(
                "{}.{}",
                URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA"}"#),
                URL_SAFE_NO_PAD.encode(claims)
            );
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(WORLD.key.sign(signed.as_bytes())))
        };
        let shared = r#""iss":"https://id.example","iat":1700000000,"exp":1700000300,"sub":"1","#;
        let id = format!(
            r#"{{{shared}"aud":["gateway","https://api.example"],"azp":"gateway","nonce":"the-nonce"}}"#
        );
        let access = format!(r#"{{{shared}"aud":"https://api.example"}}"#);
        let event = r#"{"http://schemas.openid.net/event/backchannel-logout":{}}"#;
        let logout =
            format!(r#"{{{shared}"aud":["gateway","https://api.example"],"jti":"j","events":{event}}}"#);
        assert_eq!(kinds(&sign(&id)), [true, false, false]);
        assert_eq!(kinds(&sign(&access)), [false, true, false]);
        assert_eq!(kinds(&sign(&logout)), [false, false, true]);
        for claims in [id, access, logout] {
            signed_token(format!("\0{claims}").as_bytes());
        }
    }
}
