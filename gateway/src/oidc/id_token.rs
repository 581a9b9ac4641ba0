//! What must hold of an ID token (OpenID Connect Core 1.0, section 3.1.3.7), rule by rule.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::time::UnixMillis;
use ring::digest::{SHA256, SHA512, digest};
use serde_json::{Map, Value};
use storage::credentials::{Origin, PersonError};
use subtle::ConstantTimeEq;

use super::jose::{Algorithm, Jws, JwsFault, Kind};
use super::keys::{KeySet, SignatureFault};
use super::times::{TimeFault, Times};
use crate::config::providers::Audiences;

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
    /// What this browser's sign-in has asked to be repeated; `None` where nobody signs in.
    pub nonce: Option<&'a str>,
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
    /// When it was issued, by the provider's clock.
    pub issued: UnixMillis,
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
    /// It is of somebody else than the session that it should renew.
    #[error("`sub` is not the person of the session")]
    OtherSubject,
    /// Nobody can be named so.
    #[error("`sub` is not taken: {0}")]
    Subject(#[from] PersonError),
}

impl From<TimeFault> for TokenFault {
    fn from(fault: TimeFault) -> Self {
        match fault {
            TimeFault::Form => Self::Time,
            TimeFault::Expired => Self::Expired,
            TimeFault::NotYet => Self::NotYet,
        }
    }
}

/// Verifies a token.
///
/// # Errors
/// The first rule that it breaks; [`SignatureFault::UnknownKey`] may be another with newer keys.
pub fn verify(token: &str, keys: &KeySet, expected: &Expected<'_>) -> Result<IdToken, TokenFault> {
    let jws = Jws::parse(token)?;
    jws.is(Kind::Id)?;
    keys.verify(&jws)?;
    let text = |name: &str| jws.claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(expected.issuer) {
        return Err(TokenFault::Issuer);
    }
    audience(&jws.claims, expected)?;
    let issued = Times::of(&jws.claims, expected.now)?.issued;
    let nonce = text("nonce").unwrap_or_default();
    if expected.nonce.is_some_and(|asked| !bool::from(nonce.as_bytes().ct_eq(asked.as_bytes()))) {
        return Err(TokenFault::Nonce);
    }
    if let Some(hash) = jws.claims.get("at_hash") {
        let of = expected.access_token.map(|token| access_token_hash(jws.algorithm, token));
        if of.is_none() || hash.as_str() != of.as_deref() {
            return Err(TokenFault::AccessTokenHash);
        }
    }
    let origin = Origin::new(expected.issuer, text("sub").unwrap_or_default())?;
    Ok(IdToken { origin, issued, claims: jws.claims })
}

fn audience(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), TokenFault> {
    let named = audiences(claims).ok_or(TokenFault::Audience)?;
    if !named.contains(&expected.client_id) {
        return Err(TokenFault::Audience);
    }
    if others(&named, expected.client_id, expected.audiences) {
        return Err(TokenFault::OtherAudience);
    }
    match claims.get("azp") {
        None if named.len() == 1 => Ok(()),
        Some(Value::String(party)) if party == expected.client_id => Ok(()),
        Some(_) | None => Err(TokenFault::AuthorizedParty),
    }
}

/// Whether somebody is named whom the configuration does not.
pub(super) fn others(named: &[&str], client_id: &str, audiences: &Audiences) -> bool {
    let strange = |name: &&str| match audiences {
        Audiences::Any => false,
        Audiences::Listed(listed) => *name != client_id && !listed.iter().any(|known| known == name),
    };
    named.iter().any(strange)
}

/// Whom a token is for: a name, or a list of names and nothing else.
pub(super) fn audiences(claims: &Map<String, Value>) -> Option<Vec<&str>> {
    match claims.get("aud")? {
        Value::String(one) => Some(vec![one]),
        Value::Array(several) if several.len() <= AUDIENCES_MAX => {
            several.iter().map(Value::as_str).collect()
        }
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
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
