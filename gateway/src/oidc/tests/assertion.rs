//! What proves to a provider who we are.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use super::super::Providers;
use super::super::assertion::{TYPE, assertion};
use super::super::flow::{Flow, RANDOM_BYTES};
use super::super::jose::Jws;
use super::super::keys::KeySet;
use super::standin::Standin;
use super::*;
use crate::config::client_key::{ClientKey, ClientKeyFault};

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}

/// Keys of each kind with their public halves as a provider has them.
fn keys() -> Vec<(&'static str, String, Value)> {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let random = SystemRandom::new();
    let rsa = STANDARD.decode(RSA.split_whitespace().collect::<String>()).unwrap();
    let public = RsaPublicKeyComponents::<Vec<u8>>::from(RsaKeyPair::from_pkcs8(&rsa).unwrap().public());
    let of_rsa = json!({"kty": "RSA", "n": text(&public.n), "e": text(&public.e)});
    let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref(), &random).unwrap();
    let point = pair.public_key().as_ref();
    let of_ec = json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])});
    // As OpenSSL writes it, without its public key: RFC 8410, section 10.3.
    let seed = [7; 32];
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let of_ed = json!({"kty": "OKP", "crv": "Ed25519", "x": text(pair.public_key().as_ref())});
    let bare =
        [&[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20][..], &seed].concat();
    vec![("RS256", pem(&rsa), of_rsa), ("ES256", pem(ec.as_ref()), of_ec), ("EdDSA", pem(&bare), of_ed)]
}

#[test]
fn an_assertion_of_each_kind_of_key_is_what_its_public_half_verifies() {
    for (algorithm, private, mut public) in keys() {
        for id in [None, Some("the-key")] {
            public["kid"] = id.map_or(Value::Null, |id| json!(id));
            let keys = changed(json!({"keys": [public]}), &[]);
            let keys = KeySet::parse(keys.to_string().replace("\"kid\":null,", "").as_bytes()).unwrap();
            let key = ClientKey::parse(&private, id.map(str::to_owned)).unwrap();
            assert_eq!(key.algorithm(), algorithm);
            let made = |now| assertion(&key, CLIENT, ISSUER, now).unwrap();
            let one = made(NOW);
            let jws = Jws::parse(&one).unwrap();
            keys.verify(&jws).unwrap();
            assert_eq!(jws.kid.as_deref(), id, "{algorithm}");
            let claim = |name: &str| jws.claims.get(name).cloned();
            let seconds = NOW.0 / 1000;
            assert_eq!((claim("iss"), claim("sub")), (Some(json!(CLIENT)), Some(json!(CLIENT))));
            assert_eq!(claim("aud"), Some(json!(ISSUER)), "the provider, and no address");
            assert_eq!((claim("iat"), claim("exp")), (Some(json!(seconds)), Some(json!(seconds + 120))));
            // Each is shown once.
            let names: BTreeSet<String> = (0..8).map(|_| made(NOW).to_string()).collect();
            assert_eq!(names.len(), 8, "{algorithm}");
        }
    }
}

#[test]
fn what_signs_nothing_here_is_told() {
    let check = |text: &str, expected| {
        let found = ClientKey::parse(text, None);
        assert_eq!(found.err(), Some(expected), "{text}");
    };
    check("", ClientKeyFault::Form);
    check("a-secret", ClientKeyFault::Form);
    check("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n", ClientKeyFault::Form);
    check("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", ClientKeyFault::Form);
    check(&pem(b"no key"), ClientKeyFault::Kind);
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    check(&other.serialize_pem(), ClientKeyFault::Kind);
    // Nothing of a key is shown.
    let (_, private, _) = keys().remove(1);
    let shown = format!("{:?}", ClientKey::parse(&private, Some("name".to_owned())).unwrap());
    assert_eq!(shown, "ClientKey { algorithm: \"ES256\", .. }");
}

#[tokio::test]
async fn a_client_with_a_key_shows_what_it_signed_and_no_secret() {
    let standin = Standin::start().await;
    let told = Arc::new(Mutex::new(String::new()));
    let hears = Arc::clone(&told);
    standin.says(move |_, form| {
        *hears.lock().unwrap() = form.to_owned();
        (201, json!({"request_uri": "urn:x", "expires_in": 60}).to_string())
    });
    let mut settings = provider(Preset::Generic);
    settings.issuer.clone_from(&standin.issuer);
    let (_, private, _) = keys().remove(1);
    settings.client_key = Some(Arc::new(ClientKey::parse(&private, None).unwrap()));
    let providers = Providers::alone(&[settings]);
    let flow = Flow::begin(NOW, &[7; RANDOM_BYTES], "corp", None);
    let asked = async || {
        let provider = providers.find("corp").unwrap();
        provider.authorization(&flow, "https://app.example/callback").await.unwrap();
        let form = told.lock().unwrap().clone();
        let url = reqwest::Url::parse(&format!("http://x/?{form}")).unwrap();
        let all = |name: &str| {
            let pairs = url.query_pairs().filter(|(known, _)| known == name);
            pairs.map(|(_, value)| value.into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            (all("client_id"), all("client_assertion_type")),
            (vec![CLIENT.to_owned()], vec![TYPE.to_owned()])
        );
        assert!(all("client_secret").is_empty());
        let [proof] = &*all("client_assertion") else { panic!("{form}") };
        proof.clone()
    };
    let (one, other) = (asked().await, asked().await);
    assert_ne!(one, other, "each is shown once");
    assert_eq!(Jws::parse(&one).unwrap().claims.get("aud"), Some(&json!(standin.issuer)));
}
