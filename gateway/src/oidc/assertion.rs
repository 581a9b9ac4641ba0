//! What proves to a provider's endpoints who we are, where they have our public key and no secret (`private_key_jwt`; RFC
//! 7523, section 2.2; OpenID Connect Core 1.0, section 9).
//!
//! It is for the provider as a whole, by its issuer: an assertion for one endpoint's address could be asked for by another
//! provider that claims the address to be its own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::time::UnixMillis;
use serde_json::json;
use zeroize::Zeroizing;

use crate::config::client_key::ClientKey;

/// `client_assertion_type`.
pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How long one is good for, in seconds: it is shown at once, and clocks may differ by a minute.
const LIFETIME_S: u64 = 120;

/// An assertion of this moment, to be shown once; `None` where the system has no randomness.
pub(super) fn assertion(
    key: &ClientKey,
    client_id: &str,
    issuer: &str,
    now: UnixMillis,
) -> Option<Zeroizing<String>> {
    let issued = now.0 / 1000;
    let mut header = json!({"alg": key.algorithm(), "typ": "JWT"});
    if let (Some(id), Some(header)) = (&key.id, header.as_object_mut()) {
        header.insert("kid".to_owned(), json!(id));
    }
    let claims = json!({
        "iss": client_id,
        "sub": client_id,
        "aud": issuer,
        "jti": URL_SAFE_NO_PAD.encode(crate::random::bytes::<16>()),
        "iat": issued,
        "exp": issued + LIFETIME_S,
    });
    let part = |text: String| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", part(header.to_string()), part(claims.to_string()));
    let signature = key.sign(signed.as_bytes())?;
    Some(Zeroizing::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
}
