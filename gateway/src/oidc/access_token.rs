//! What must hold of an access token that a caller presents (RFC 9068, section 4; RFC 8725), rule by rule.
//!
//! The rules that cost nothing come first and the signature last: what is not for us makes nobody verify, or ask the
//! provider for keys.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::time::UnixMillis;
use serde_json::{Map, Value};
use storage::credentials::{Origin, PersonError};
use storage::sessions::ProviderSession;

use super::claims::session;
use super::id_token::audiences;
use super::jose::{Jws, JwsFault, Kind};
use super::keys::{Key, KeySet, SignatureFault};
use super::times::{LEEWAY_MS, TimeFault, Times};
use crate::config::providers::{AccessTokens, TokenTypes};

/// How long an access token may live, in milliseconds: a day, as what a provider has ended is remembered for little longer.
pub const LIFETIME_MS_MAX: u64 = 24 * 3600 * 1000;

/// Claims that no access token has. Most providers sign all kinds of tokens with one key, and some write the same `typ` on
/// all: an ID token that some page has leaked must not open an API.
const OF_OTHERS: [&str; 5] = ["nonce", "at_hash", "c_hash", "s_hash", "events"];

/// An access token that holds.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessToken {
    /// Whose it is.
    pub origin: Origin,
    /// From when until when.
    pub times: Times,
    /// When its person was authenticated; 0 where it does not say. That it was issued just now says nothing of it.
    pub authenticated_at: UnixMillis,
    /// The session at the provider that it belongs to, where it says so.
    pub sid: Option<ProviderSession>,
    /// What it covers here; see [`AccessTokens::scopes`].
    pub scopes: BTreeSet<String>,
    /// What it was signed with; `None` where its provider was asked about it.
    pub key: Option<Arc<Key>>,
}

/// The rule that a token breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessFault {
    /// It is no token that we read.
    #[error("the access token is not read: {0}")]
    Jws(#[from] JwsFault),
    /// No provider of this issuer is configured, or none of its access tokens is taken.
    #[error("`iss` is no provider whose access tokens are taken: see `api_audiences`")]
    Issuer,
    /// It is for others.
    #[error("`aud` names none of `api_audiences`")]
    Audience,
    /// Its provider says that it is none, or none any more (RFC 7662, section 2.2).
    #[error("the provider says that it is not active")]
    Inactive,
    /// It is an ID token, or another kind that is no access token.
    #[error("it has a claim of an ID, refresh or logout token: it is no access token")]
    OtherKind,
    /// It may be used by whoever proves to have a key, which a bearer does not.
    #[error("`cnf` binds it to a key, whose proof is not read here")]
    Bound,
    /// A time is missing or no number.
    #[error("`exp` or `iat` is missing, or a time is no number")]
    Time,
    /// It is over.
    #[error("it is over")]
    Expired,
    /// It begins in the future.
    #[error("it is from the future: is a clock wrong?")]
    NotYet,
    /// It lives longer than what ends it is remembered.
    #[error("it lives longer than a day, so nobody could end it: shorten access tokens at the provider")]
    LongLived,
    /// Its provider has ended it.
    #[error("the provider has ended its session, or all of its person's")]
    Ended,
    /// Nobody can be named so.
    #[error("`sub` is not taken: {0}")]
    Subject(#[from] PersonError),
    /// Its signature is not believed.
    #[error("it is not believed: {0}")]
    Signature(#[from] SignatureFault),
}

impl From<TimeFault> for AccessFault {
    fn from(fault: TimeFault) -> Self {
        match fault {
            TimeFault::Form => Self::Time,
            TimeFault::Expired => Self::Expired,
            TimeFault::NotYet => Self::NotYet,
        }
    }
}

/// Verifies a token that was taken apart, as one of `issuer`.
///
/// # Errors
/// The first rule that it breaks; [`SignatureFault::UnknownKey`] may be another with newer keys.
pub fn verify(
    jws: &Jws<'_>,
    issuer: &str,
    settings: &AccessTokens,
    keys: &KeySet,
    now: UnixMillis,
) -> Result<AccessToken, AccessFault> {
    let kind = match settings.types {
        TokenTypes::Profile => Kind::AccessProfile,
        TokenTypes::Any => Kind::Access,
    };
    jws.is(kind)?;
    if jws.claims.get("iss").and_then(Value::as_str) != Some(issuer) {
        return Err(AccessFault::Issuer);
    }
    let token = claimed(&jws.claims, issuer, settings, now)?;
    if token.times.ends.since(token.times.issued) > LIFETIME_MS_MAX.saturating_add(LEEWAY_MS) {
        return Err(AccessFault::LongLived);
    }
    Ok(AccessToken { key: Some(keys.verify(jws)?), ..token })
}

/// What a provider says of an opaque token when it is asked (RFC 7662, section 2.2), by the same rules. That it is told by
/// the provider itself stands in the place of issuer and signature; how long it lives matters less, because the provider is
/// asked again soon.
///
/// # Errors
/// The first rule that it breaks.
pub fn told(
    claims: &Map<String, Value>,
    issuer: &str,
    settings: &AccessTokens,
    now: UnixMillis,
) -> Result<AccessToken, AccessFault> {
    if claims.get("active") != Some(&Value::Bool(true)) {
        return Err(AccessFault::Inactive);
    }
    if claims.get("iss").is_some_and(|said| said.as_str() != Some(issuer)) {
        return Err(AccessFault::Issuer);
    }
    // A provider answers for its refresh tokens as well, and says of them what it says of access tokens but this.
    let is = |name: &str, kind: &str| {
        claims.get(name).and_then(Value::as_str).is_some_and(|said| said.eq_ignore_ascii_case(kind))
    };
    let bearer = is("token_type", "Bearer") || is("typ", "Bearer");
    let other = claims.contains_key("token_use") && !is("token_use", "access_token");
    if !bearer || other {
        return Err(AccessFault::OtherKind);
    }
    claimed(claims, issuer, settings, now)
}

/// The rules of what is claimed, however it is proved.
fn claimed(
    claims: &Map<String, Value>,
    issuer: &str,
    settings: &AccessTokens,
    now: UnixMillis,
) -> Result<AccessToken, AccessFault> {
    let named = audiences(claims).ok_or(AccessFault::Audience)?;
    if !settings.audiences.iter().any(|own| named.contains(&own.as_str())) {
        return Err(AccessFault::Audience);
    }
    // Keycloak says in a claim what a token is.
    let kept = claims.get("typ").is_none_or(|typ| typ.as_str() == Some("Bearer"));
    if !kept || OF_OTHERS.iter().any(|name| claims.contains_key(*name)) {
        return Err(AccessFault::OtherKind);
    }
    if claims.contains_key("cnf") {
        return Err(AccessFault::Bound);
    }
    let times = Times::of(claims, now)?;
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    let origin = Origin::new(issuer, subject)?;
    Ok(AccessToken {
        origin,
        times,
        authenticated_at: super::times::proved_at(claims, now),
        sid: session(issuer, claims),
        scopes: covered(settings, claims),
        key: None,
    })
}

/// What the token's scopes cover: all, where the configuration restricts nothing by them.
fn covered(settings: &AccessTokens, claims: &Map<String, Value>) -> BTreeSet<String> {
    let Some(table) = &settings.scopes else { return BTreeSet::from(["*".to_owned()]) };
    // RFC 8693, section 4.2; Entra ID and Okta write `scp`.
    let said = ["scope", "scp"].into_iter().filter_map(|name| claims.get(name));
    let names = said.flat_map(|said| match said {
        Value::String(names) => names.split(' ').collect::<Vec<_>>(),
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    });
    names.filter_map(|name| table.get(name)).flatten().cloned().collect()
}
