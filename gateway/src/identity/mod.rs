//! The signed identity that upstreams are told.
//!
//! Minted as a request is forwarded: it lives 60 seconds at most and never longer than the session that it speaks
//! for, and is told again for the first few of them ([`minted`]).

pub mod botserver;
pub mod ed25519;
pub mod minted;

use engine::identity::Principal;
use engine::time::UnixMillis;
use uuid::Uuid;

/// Seconds that a minted identity is good for, at most.
pub const LIFETIME_S: u64 = 60;

/// The end of an identity that is minted now for this principal, in Unix seconds.
fn expiry_s(principal: &Principal, now: UnixMillis) -> u64 {
    let latest = now.plus(LIFETIME_S * 1000);
    let end = principal.expires_at.map_or(latest, |end| end.min(latest));
    end.0 / 1000
}

/// Header and claims as a JWS compact serialisation's first two parts.
fn signing_input(header: &serde_json::Value, claims: &serde_json::Value) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
    let part = |value: &serde_json::Value| BASE64URL.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// The whole token.
fn compact(input: &str, signature: &[u8]) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
    format!("{input}.{}", BASE64URL.encode(signature))
}

/// A fresh token id.
fn token_id() -> Uuid {
    uuid::Builder::from_random_bytes(crate::random::bytes()).into_uuid()
}
