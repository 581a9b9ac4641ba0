//! Reads the identity that the gateway hands on, as an upstream would.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// The header and the claims of a token in compact form; its signature is the stand-in upstream's to verify.
#[must_use]
pub fn read(token: &str) -> (Value, Value) {
    let mut parts = token.split('.');
    let mut next = || {
        let part = parts.next().unwrap_or_else(|| panic!("too few parts in {token}"));
        let bytes = URL_SAFE_NO_PAD.decode(part).unwrap_or_else(|error| panic!("{error} in {part}"));
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{error} in {part}"))
    };
    (next(), next())
}

/// The token of an `Authorization: Bearer` value.
#[must_use]
pub fn bearer(value: &str) -> &str {
    value.strip_prefix("Bearer ").unwrap_or_else(|| panic!("no bearer: {value}"))
}
