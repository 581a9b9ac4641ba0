//! Who BotServer would say is calling: its rules for the signed identity, written a second time.
//!
//! The gateway signs in one place and this reads in another, so that a mistake in the form of the
//! identity shows in the demo and in tests instead of in front of a real BotServer.

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::time::UnixMillis;
use ring::hmac;
use serde::Deserialize;
use uuid::Uuid;

/// Seconds by which the sender's clock may differ from ours, in either direction.
pub const LEEWAY_S: i64 = 60;

/// What BotServer requires in `iss`.
pub const ISSUER: &str = "general-bots";

/// What BotServer requires in `aud`: one string, not a list.
pub const AUDIENCE: &str = "general-bots-api";

/// `X-API-Key` values from this length on are looked at by BotServer before any bearer.
const API_KEY_CHARS_MIN: usize = 16;

/// Every role name that BotServer reads, in lower case; it compares without case.
/// Any other name makes the whole caller anonymous, and so does `anonymous` itself.
const ROLES: [&str; 19] = [
    "user",
    "moderator",
    "mod",
    "admin",
    "superadmin",
    "super_admin",
    "super",
    "service",
    "svc",
    "bot",
    "bot_owner",
    "botowner",
    "owner",
    "bot_operator",
    "botoperator",
    "operator",
    "bot_viewer",
    "botviewer",
    "viewer",
];

/// The caller of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// No identity came, or one that does not hold; the reason is for the answer's text.
    Anonymous(&'static str),
    /// A verified identity.
    Known(Known),
}

/// A verified identity, as BotServer reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Never nil.
    pub id: Uuid,
    /// `username` of the token.
    pub username: Option<String>,
    /// Role names as the token spells them; every one of them is known.
    pub roles: Vec<String>,
}

/// Reads the caller from the headers of a request, at `now`, with the text of the shared secret.
///
/// BotServer also believes cookies, bare `X-User-ID` headers and arbitrary bearer strings. The
/// stand-in believes none of them: what the gateway has to hand over is the signed identity.
#[must_use]
pub fn read(headers: &HeaderMap, secret: &[u8], now: UnixMillis) -> Caller {
    if headers.get_all("x-api-key").iter().any(|key| key.len() >= API_KEY_CHARS_MIN) {
        // BotServer takes any such key for a service with the nil UUID, and that for nobody.
        return Caller::Anonymous("an API key is never registered here");
    }
    let mut authorizations = headers.get_all("authorization").iter();
    let Some(authorization) = authorizations.next() else {
        return Caller::Anonymous("no identity was sent");
    };
    if authorizations.next().is_some() {
        return Caller::Anonymous("more than one Authorization header");
    }
    let Some(token) = authorization.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")) else {
        return Caller::Anonymous("not a bearer");
    };
    match verify(token, secret, now) {
        Ok(known) => Caller::Known(known),
        Err(reason) => Caller::Anonymous(reason),
    }
}

/// Checks a token by BotServer's rules and tells why it fails.
///
/// # Errors
/// The first rule that the token breaks, in words.
pub fn verify(token: &str, secret: &[u8], now: UnixMillis) -> Result<Known, &'static str> {
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("not a signed token");
    };
    let TokenHeader { alg, typ } = decode(header).ok_or("header unreadable")?;
    if alg != "HS256" || typ.is_some_and(|typ| typ != "JWT") {
        return Err("not HS256");
    }
    let mac = URL_SAFE_NO_PAD.decode(signature).map_err(|_| "signature unreadable")?;
    let signed = token.len().saturating_sub(signature.len() + 1);
    let signed = token.as_bytes().get(..signed).ok_or("not a signed token")?;
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed, &mac)
        .map_err(|_| "signature does not verify")?;
    let claims: Claims = decode(payload).ok_or("claims unreadable")?;
    accept(claims, now)
}

fn accept(claims: Claims, now: UnixMillis) -> Result<Known, &'static str> {
    let now_s = i64::try_from(now.0 / 1000).unwrap_or(i64::MAX);
    if claims.iss != ISSUER {
        return Err("wrong issuer");
    }
    if claims.aud != AUDIENCE {
        return Err("wrong audience");
    }
    if claims.kind != "access" {
        return Err("not an access token");
    }
    if claims.exp < now_s.saturating_sub(LEEWAY_S) {
        return Err("expired");
    }
    if claims.nbf.max(claims.iat) > now_s.saturating_add(LEEWAY_S) {
        return Err("not yet valid");
    }
    if claims.jti.is_empty() {
        return Err("no token id");
    }
    let id = Uuid::try_parse(&claims.sub).map_err(|_| "the subject is no UUID")?;
    if id.is_nil() {
        return Err("the subject is the nil UUID");
    }
    let roles = claims.roles.unwrap_or_default();
    if !roles.iter().all(|role| is_known(role)) {
        return Err("a role that is not known here");
    }
    Ok(Known { id, username: claims.username, roles })
}

fn is_known(role: &str) -> bool {
    ROLES.contains(&role.to_lowercase().as_str())
}

fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// Nothing but these two members: `jwk`, `jku`, `x5u` and `crit` have no business in this token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenHeader {
    alg: String,
    typ: Option<String>,
}

/// The members that BotServer's reader requires; without one of them the token is unreadable to it.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    iss: String,
    aud: String,
    exp: i64,
    iat: i64,
    nbf: i64,
    jti: String,
    #[serde(rename = "type")]
    kind: String,
    username: Option<String>,
    roles: Option<Vec<String>>,
}

#[cfg(test)]
mod tests;
