//! Sets of keys.

use super::super::jose::Jws;
use super::super::keys::{KEYS_MAX, KeySet, KeysFault, SignatureFault};
use super::*;

#[test]
fn keys_that_verify_nothing_here_are_left_out() {
    let signer = Signer::new();
    let good = signer.jwks()["keys"].as_array().unwrap().clone();
    let count =
        |keys: Value| KeySet::parse(json!({"keys": keys}).to_string().as_bytes()).map(|set| set.len());
    let with = |at: usize, name: &str, value: Value| {
        let mut key = good[at].clone();
        key[name] = value;
        key
    };
    assert_eq!(count(json!(good)), Ok(3));
    assert_eq!(count(json!([good[0], {"kty": "oct", "k": "c2VjcmV0"}, {"kty": "new"}, 7, {}])), Ok(1));
    for (at, name, value) in [
        (0, "use", json!("enc")),
        (0, "key_ops", json!(["encrypt"])),
        (0, "alg", json!("RSA-OAEP")),
        (0, "alg", json!("RS512")),
        (0, "n", json!("?")),
        (0, "kty", json!("oct")),
        (1, "crv", json!("P-384")),
        (1, "x", json!("AA")),
        (2, "crv", json!("X25519")),
    ] {
        assert_eq!(
            count(json!([with(at, name, value.clone())])),
            Err(KeysFault::NoneUsable),
            "{name}={value}"
        );
    }
    assert_eq!(count(json!([])), Err(KeysFault::NoneUsable));
    assert_eq!(count(json!(vec![good[0].clone(); KEYS_MAX])), Ok(KEYS_MAX));
    assert_eq!(count(json!(vec![good[0].clone(); KEYS_MAX + 1])), Err(KeysFault::Form));
    for text in ["", "[]", "{}", "<html>", r#"{"keys":{}}"#] {
        assert_eq!(KeySet::parse(text.as_bytes()).map(|set| set.len()), Err(KeysFault::Form), "{text}");
    }
}

#[test]
fn the_key_is_found_by_its_name_or_because_it_is_the_only_one() {
    let signer = Signer::new();
    let good = signer.jwks()["keys"].as_array().unwrap().clone();
    let set = |keys: Value| KeySet::parse(json!({"keys": keys}).to_string().as_bytes()).unwrap();
    let nameless = |mut key: Value| {
        key.as_object_mut().unwrap().remove("kid");
        key
    };
    let token = |header: Value| signer.sign(Algorithm::Rs256, &header, &claims().to_string());
    let verify =
        |keys: Value, header: Value| set(keys).verify(&Jws::parse(&token(header)).unwrap()).map(|_| ());
    let (named, bare) = (json!({"alg": "RS256", "kid": "rsa"}), json!({"alg": "RS256"}));
    assert_eq!(verify(json!(good), named.clone()), Ok(()));
    assert_eq!(verify(json!(good), bare.clone()), Ok(()), "one RSA key among others");
    assert_eq!(verify(json!([good[1], good[2]]), bare.clone()), Err(SignatureFault::UnknownKey));
    let mut other = good[0].clone();
    other["kid"] = json!("old");
    assert_eq!(verify(json!([good[0], other]), bare), Err(SignatureFault::Ambiguous));
    assert_eq!(verify(json!([nameless(good[0].clone())]), named.clone()), Err(SignatureFault::UnknownKey));
    // Two keys of one name: either may have signed.
    let mut twin = good[1].clone();
    twin["kid"] = json!("rsa");
    assert_eq!(verify(json!([twin, good[0]]), named.clone()), Ok(()));
    // What the set says of a key binds it.
    let mut bound = good[0].clone();
    bound["alg"] = json!("PS256");
    assert_eq!(verify(json!([bound]), named.clone()), Err(SignatureFault::Wrong));
    // Providers that pad a modulus to whole words.
    let mut padded = good[0].clone();
    let modulus = URL_SAFE_NO_PAD.decode(padded["n"].as_str().unwrap()).unwrap();
    padded["n"] = json!(URL_SAFE_NO_PAD.encode([&[0], modulus.as_slice()].concat()));
    assert_eq!(verify(json!([padded]), named), Ok(()));
}
