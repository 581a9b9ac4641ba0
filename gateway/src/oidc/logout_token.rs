//! What must hold of a logout token (OpenID Connect Back-Channel Logout 1.0, section 2.6), rule by rule.

use engine::time::UnixMillis;
use serde_json::{Map, Value};
use storage::credentials::{Origin, PersonError};
use storage::sessions::ProviderSession;

use super::id_token::{audiences, others};
use super::jose::{Jws, JwsFault, Kind};
use super::keys::{KeySet, SignatureFault};
use super::times::{LEEWAY_MS, TimeFault, Times};
use crate::config::providers::Provider;

/// The event that a logout token tells.
pub const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// How old a logout token may be, in milliseconds, whatever its `exp` says: ten minutes, where section 2.4 recommends two.
/// Its name is remembered for that long, so that it counts once.
pub const AGE_MS_MAX: u64 = 10 * 60 * 1000;

/// Bytes of its name.
const JTI_BYTES_MAX: usize = 256;

/// A logout token that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutToken {
    /// Its own name.
    pub jti: String,
    /// When it was issued, by the provider's clock.
    pub issued: UnixMillis,
    /// From when on it is not believed.
    pub ends: UnixMillis,
    /// What has ended.
    pub whom: Whom,
}

/// What has ended: at least one of the two is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// One session, whoever's it is.
    Session(ProviderSession),
    /// One session of a person.
    SessionOf(ProviderSession, Origin),
    /// All of a person.
    Person(Origin),
}

/// The rule that a token breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogoutFault {
    /// It is no token that we read.
    #[error("the logout token is not read: {0}")]
    Jws(#[from] JwsFault),
    /// Its `iss` is no provider of ours.
    #[error("`iss` is no configured provider")]
    Issuer,
    /// Its `aud` lacks our client id, or names others whom the configuration does not.
    #[error("`aud` does not name our client id, or names others than us")]
    Audience,
    /// A time is missing or no number.
    #[error("`exp` or `iat` is missing, or a time is no number")]
    Time,
    /// It is over.
    #[error("it is over, or was issued more than ten minutes ago: is a clock wrong?")]
    Expired,
    /// It begins in the future.
    #[error("it is from the future: is a clock wrong?")]
    NotYet,
    /// It tells no logout.
    #[error("`events` does not tell a back-channel logout")]
    Event,
    /// It is an ID token that has put on an event.
    #[error("it has a `nonce`, which no logout token has")]
    Nonce,
    /// It has no name, so nobody could tell whether it comes twice.
    #[error("`jti` is missing, or no name")]
    Name,
    /// It was taken before.
    #[error("it was taken before")]
    Replayed,
    /// It names neither session nor person.
    #[error("it has neither `sid` nor `sub`")]
    Nobody,
    /// Its `sid` is no name.
    #[error("`sid` is no name")]
    Session,
    /// Nobody can be named so.
    #[error("`sub` is not taken: {0}")]
    Subject(#[from] PersonError),
    /// Its signature is not believed.
    #[error("it is not believed: {0}")]
    Signature(#[from] SignatureFault),
}

impl From<TimeFault> for LogoutFault {
    fn from(fault: TimeFault) -> Self {
        match fault {
            TimeFault::Form => Self::Time,
            TimeFault::Expired => Self::Expired,
            TimeFault::NotYet => Self::NotYet,
        }
    }
}

/// Verifies a token that was taken apart, as one of `provider`. Whether it comes twice is asked elsewhere.
///
/// # Errors
/// The first rule that it breaks; [`SignatureFault::UnknownKey`] may be another with newer keys.
pub fn verify(
    jws: &Jws<'_>,
    provider: &Provider,
    keys: &KeySet,
    now: UnixMillis,
) -> Result<LogoutToken, LogoutFault> {
    jws.is(Kind::Logout)?;
    let claims = &jws.claims;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(&provider.issuer) {
        return Err(LogoutFault::Issuer);
    }
    let named = audiences(claims).ok_or(LogoutFault::Audience)?;
    if !named.contains(&provider.client_id.as_str())
        || others(&named, &provider.client_id, &provider.audiences)
    {
        return Err(LogoutFault::Audience);
    }
    let times = Times::of(claims, now)?;
    let oldest = times.issued.plus(AGE_MS_MAX + LEEWAY_MS);
    if now >= oldest {
        return Err(LogoutFault::Expired);
    }
    let event = claims.get("events").and_then(|events| events.as_object()?.get(EVENT)?.as_object());
    if event.is_none() {
        return Err(LogoutFault::Event);
    }
    if claims.contains_key("nonce") {
        return Err(LogoutFault::Nonce);
    }
    let jti = text("jti").filter(|jti| (1..=JTI_BYTES_MAX).contains(&jti.len())).ok_or(LogoutFault::Name)?;
    let whom = whom(&provider.issuer, claims)?;
    keys.verify(jws)?;
    Ok(LogoutToken { jti: jti.to_owned(), issued: times.issued, ends: times.ends.min(oldest), whom })
}

/// A claim that is there and no name is a fault, not an absence: less would end than the provider has said, or more.
fn whom(issuer: &str, claims: &Map<String, Value>) -> Result<Whom, LogoutFault> {
    let session = claims.get("sid").map(|sid| {
        sid.as_str().and_then(|sid| ProviderSession::new(issuer, sid)).ok_or(LogoutFault::Session)
    });
    let person = claims.get("sub").map(|sub| Origin::new(issuer, sub.as_str().unwrap_or_default()));
    match (session.transpose()?, person.transpose()?) {
        (Some(session), Some(person)) => Ok(Whom::SessionOf(session, person)),
        (Some(session), None) => Ok(Whom::Session(session)),
        (None, Some(person)) => Ok(Whom::Person(person)),
        (None, None) => Err(LogoutFault::Nobody),
    }
}
