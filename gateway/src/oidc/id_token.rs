//! What must hold of an ID token (OpenID Connect Core 1.0, section 3.1.3.7), rule by rule.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::time::UnixMillis;
use ring::digest::{SHA256, SHA512, digest};
use serde_json::{Map, Value};
use storage::credentials::{Origin, PersonError};
use subtle::ConstantTimeEq;

use super::jose::{Algorithm, Jws, JwsFault};
use super::keys::{KeySet, SignatureFault};
use crate::config::providers::Audiences;

/// How far the provider's clock and ours may be apart, in milliseconds: a minute, as RFC 7519 suggests "no more than a
/// few minutes".
pub const LEEWAY_MS: u64 = 60_000;

/// Audiences of one token: a Zitadel project has an application for each.
const AUDIENCES_MAX: usize = 256;

/// What a token must say for us to believe it.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Who issues it.
    pub issuer: &'a str,
    /// Whom it is for.
    pub client_id: &'a str,
    /// Whom it may be for besides.
    pub audiences: &'a Audiences,
    /// What this browser's sign-in has asked to be repeated.
    pub nonce: &'a str,
    /// The access token that came with it.
    pub access_token: Option<&'a str>,
    /// Now.
    pub now: UnixMillis,
}

/// A token that holds.
#[derive(Clone, Debug, PartialEq)]
pub struct IdToken {
    /// Who signed in.
    pub origin: Origin,
    /// All that it claims.
    pub claims: Map<String, Value>,
}

/// The rule that a token breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// It is no token that we read.
    #[error("the ID token is not read: {0}")]
    Jws(#[from] JwsFault),
    /// Its signature is not believed.
    #[error("the ID token is not believed: {0}")]
    Signature(#[from] SignatureFault),
    /// Its `iss` is not the provider.
    #[error("`iss` is not the provider's issuer")]
    Issuer,
    /// Its `aud` lacks our client id, or is no list of names.
    #[error("`aud` does not name our client id")]
    Audience,
    /// Its `aud` names somebody whom the configuration does not.
    #[error("`aud` names others than us; list them in `audiences` if they may be there")]
    OtherAudience,
    /// Its `azp` is not us, or is missing beside several audiences.
    #[error("`azp` is not our client id, or is missing beside several audiences")]
    AuthorizedParty,
    /// A time is missing or no number.
    #[error("`exp` or `iat` is missing, or a time is no number")]
    Time,
    /// It is over.
    #[error("the ID token is over: is a clock wrong?")]
    Expired,
    /// It begins in the future.
    #[error("the ID token is from the future: is a clock wrong?")]
    NotYet,
    /// Its nonce is not the one that was asked for.
    #[error("`nonce` is not the one that was asked for")]
    Nonce,
    /// It belongs to another access token.
    #[error("`at_hash` is not the access token's")]
    AccessTokenHash,
    /// Nobody can be named so.
    #[error("`sub` is not taken: {0}")]
    Subject(#[from] PersonError),
}

/// Verifies a token.
///
/// # Errors
/// The first rule that it breaks; [`SignatureFault::UnknownKey`] may be another with newer keys.
pub fn verify(token: &str, keys: &KeySet, expected: &Expected<'_>) -> Result<IdToken, TokenFault> {
    let jws = Jws::parse(token)?;
    keys.verify(&jws)?;
    let text = |name: &str| jws.claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(expected.issuer) {
        return Err(TokenFault::Issuer);
    }
    audience(&jws.claims, expected)?;
    times(&jws.claims, expected.now)?;
    let nonce = text("nonce").unwrap_or_default();
    if !bool::from(nonce.as_bytes().ct_eq(expected.nonce.as_bytes())) {
        return Err(TokenFault::Nonce);
    }
    if let Some(hash) = jws.claims.get("at_hash") {
        let of = expected.access_token.map(|token| access_token_hash(jws.algorithm, token));
        if of.is_none() || hash.as_str() != of.as_deref() {
            return Err(TokenFault::AccessTokenHash);
        }
    }
    let origin = Origin::new(expected.issuer, text("sub").unwrap_or_default())?;
    Ok(IdToken { origin, claims: jws.claims })
}

fn audience(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), TokenFault> {
    let named: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) if several.len() <= AUDIENCES_MAX => {
            let names: Option<Vec<&str>> = several.iter().map(Value::as_str).collect();
            names.ok_or(TokenFault::Audience)?
        }
        Some(_) | None => return Err(TokenFault::Audience),
    };
    if !named.contains(&expected.client_id) {
        return Err(TokenFault::Audience);
    }
    let strange = |name: &&str| match expected.audiences {
        Audiences::Any => false,
        Audiences::Listed(listed) => *name != expected.client_id && !listed.iter().any(|known| known == name),
    };
    if named.iter().any(strange) {
        return Err(TokenFault::OtherAudience);
    }
    match claims.get("azp") {
        None if named.len() == 1 => Ok(()),
        Some(Value::String(party)) if party == expected.client_id => Ok(()),
        Some(_) | None => Err(TokenFault::AuthorizedParty),
    }
}

/// `exp` and `iat` must be there, `nbf` may; each is a number, because a text would be passed over by others.
fn times(claims: &Map<String, Value>, now: UnixMillis) -> Result<(), TokenFault> {
    let time =
        |name: &str| claims.get(name).map(|value| milliseconds(value).ok_or(TokenFault::Time)).transpose();
    let ends = time("exp")?.ok_or(TokenFault::Time)?;
    let issued = time("iat")?.ok_or(TokenFault::Time)?;
    let begins = time("nbf")?.unwrap_or(issued);
    if now.0 >= ends.saturating_add(LEEWAY_MS) {
        return Err(TokenFault::Expired);
    }
    if issued.max(begins) > now.0.saturating_add(LEEWAY_MS) {
        return Err(TokenFault::NotYet);
    }
    Ok(())
}

/// A `NumericDate` (RFC 7519, section 2) in milliseconds; seconds may have a fraction.
fn milliseconds(value: &Value) -> Option<u64> {
    if let Some(seconds) = value.as_u64() {
        return seconds.checked_mul(1000);
    }
    // 2^53 milliseconds: past it a fraction of a number says nothing.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let milliseconds = value.as_f64().filter(|_| value.is_f64())? * 1000.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0 and 2^53")]
    (0.0..EXACT).contains(&milliseconds).then_some(milliseconds as u64)
}

/// The left half of the digest that goes with the algorithm; for Ed25519 that is SHA-512.
fn access_token_hash(algorithm: Algorithm, token: &str) -> String {
    let with = match algorithm {
        Algorithm::Rs256 | Algorithm::Ps256 | Algorithm::Es256 => &SHA256,
        Algorithm::EdDsa => &SHA512,
    };
    let hash = digest(with, token.as_bytes());
    let half = hash.as_ref().len() / 2;
    URL_SAFE_NO_PAD.encode(hash.as_ref().get(..half).unwrap_or_default())
}
