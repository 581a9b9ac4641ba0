//! Tables of what is believed and what is not, and properties of what a browser keeps.

mod access_token;
mod assertion;
mod claims;
mod flow;
mod id_token;
mod introspection;
mod kept;
mod keys;
mod logout_token;
mod metadata;
mod presented;
mod pushed;
mod renewal;
mod sign_out;
pub(crate) mod standin;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use engine::time::UnixMillis;
use ring::rand::SystemRandom;
use ring::rsa::KeyPair as RsaKeyPair;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaPublicKeyComponents,
};
use serde_json::{Value, json};

pub(crate) use super::jose::Algorithm;
use crate::config::providers::{AccessTokens, Preset, Provider, SecondFactor, TokenTypes};

pub(crate) const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
pub(crate) const ISSUER: &str = "https://id.example";
const CLIENT: &str = "gateway";
/// Our name as an API.
const API: &str = "https://api.example";
const NONCE: &str = "the-nonce-that-was-asked-for";

/// An RSA key of 2048 bits that stands nowhere but here.
const RSA: &str = include_str!("rsa.pk8.b64");

/// One key of each kind, and what signs with them.
pub(crate) struct Signer {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
    random: SystemRandom,
}

impl Signer {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let der = STANDARD.decode(RSA.split_whitespace().collect::<String>()).unwrap();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            rsa: RsaKeyPair::from_pkcs8(&der).unwrap(),
            ec: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref(), &random).unwrap(),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
            random,
        }
    }

    /// The public keys, named `rsa`, `ec` and `ed`.
    pub(crate) fn jwks(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let point = self.ec.public_key().as_ref();
        let rsa = RsaPublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        json!({"keys": [
            {"kty": "RSA", "kid": "rsa", "use": "sig",
             "n": text(&rsa.n),
             "e": text(&rsa.e)},
            {"kty": "EC", "kid": "ec", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])},
            {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": text(self.ed.public_key().as_ref())},
        ]})
    }

    pub(crate) fn sign(&self, algorithm: Algorithm, header: &Value, claims: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let signed = format!("{}.{}", part(&header.to_string()), part(claims));
        let with_rsa = |padding: &'static dyn ring::signature::RsaEncoding| {
            let mut signature = vec![0; self.rsa.public().modulus_len()];
            self.rsa.sign(padding, &self.random, signed.as_bytes(), &mut signature).unwrap();
            signature
        };
        let signature = match algorithm {
            Algorithm::Rs256 => with_rsa(&RSA_PKCS1_SHA256),
            Algorithm::Ps256 => with_rsa(&RSA_PSS_SHA256),
            Algorithm::Es256 => self.ec.sign(&self.random, signed.as_bytes()).unwrap().as_ref().to_vec(),
            Algorithm::EdDsa => self.ed.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Claims that hold.
fn claims() -> Value {
    let seconds = NOW.0 / 1000;
    json!({
        "iss": ISSUER, "aud": CLIENT, "sub": "242424", "nonce": NONCE, "iat": seconds, "exp": seconds + 300,
    })
}

/// Claims of an access token that hold.
pub(crate) fn access_claims() -> Value {
    let seconds = NOW.0 / 1000;
    json!({
        "iss": ISSUER, "aud": API, "sub": "242424", "client_id": "app", "jti": "1", "iat": seconds, "exp": seconds + 300,
        "scope": "openid docs", "roles": ["viewer", "stranger"],
    })
}

/// An access token of these claims.
pub(crate) fn access_token(signer: &Signer, claims: &Value) -> String {
    signer.sign(Algorithm::Es256, &json!({"alg": "ES256", "kid": "ec", "typ": "at+jwt"}), &claims.to_string())
}

/// Claims of a logout token that hold.
fn logout_claims() -> Value {
    let seconds = NOW.0 / 1000;
    json!({
        "iss": ISSUER, "aud": CLIENT, "iat": seconds, "exp": seconds + 120, "jti": "j1", "sid": "s1", "sub": "242424",
        "events": {super::logout_token::EVENT: {}},
    })
}

/// A logout token of these claims.
pub(crate) fn logout_token(signer: &Signer, changes: &[(&str, Value)]) -> String {
    let header = json!({"alg": "ES256", "kid": "ec", "typ": "logout+jwt"});
    signer.sign(Algorithm::Es256, &header, &changed(logout_claims(), changes).to_string())
}

/// A provider whose access tokens are taken.
pub(crate) fn of_api(types: TokenTypes) -> Provider {
    let scopes = [("docs".to_owned(), vec!["docs.*".to_owned()])];
    let access_tokens = AccessTokens {
        audiences: vec![API.to_owned()],
        types,
        scopes: Some(scopes.into()),
        introspection: false,
    };
    Provider { access_tokens: Some(access_tokens), ..provider(Preset::Generic) }
}

/// An object with other values; `null` takes one away.
pub(crate) fn changed(mut object: Value, changes: &[(&str, Value)]) -> Value {
    for (name, value) in changes {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(*name);
        } else {
            object[*name] = value.clone();
        }
    }
    object
}

fn provider(preset: Preset) -> Provider {
    let map = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), (*name).to_owned())).collect();
    Provider {
        name: "corp".into(),
        title: "Corp".to_owned(),
        issuer: ISSUER.to_owned(),
        client_id: CLIENT.to_owned(),
        client_secret: None,
        client_key: None,
        scopes: vec!["openid".to_owned()],
        audiences: preset.audiences(),
        userinfo: false,
        pushed: true,
        refresh: false,
        consent: false,
        ca: None,
        claims: preset.claims(CLIENT),
        roles: map(&["viewer", "user"]),
        groups: map(&["staff"]),
        second_factor: SecondFactor { acr: vec!["urn:two".to_owned()], amr: vec!["mfa".to_owned()] },
        access_tokens: None,
    }
}
