//! The identity as BotServer reads it: HS256, keyed with the bytes of the shared secret's text, one audience,
//! type `access`, and only role names that BotServer knows. A name that it does not know would make the whole
//! caller anonymous there, so an unmapped role is left out.

use std::collections::BTreeSet;

use engine::identity::{Principal, PrincipalKind};
use engine::time::UnixMillis;
use ring::hmac;
use serde_json::json;
use uuid::Uuid;

use super::{compact, expiry_s, signing_input, token_id};
use crate::config::secret::Secret;

/// `iss` of the tokens.
pub const ISSUER: &str = "general-bots";
/// `aud` of the tokens: one string, BotServer reads no list.
pub const AUDIENCE: &str = "general-bots-api";

/// Signs identities for BotServer.
pub struct Signer {
    key: hmac::Key,
}

impl Signer {
    /// With the secret that BotServer verifies with.
    #[must_use]
    pub fn new(secret: &Secret<String>) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()) }
    }

    /// The token for a principal. `roles` are BotServer's names; `organisation` is left out, because no
    /// claim of it has been verified.
    #[must_use]
    pub fn mint(&self, principal: &Principal, roles: &BTreeSet<String>, now: UnixMillis) -> String {
        let expires_at = expiry_s(principal, now);
        self.sign(principal.id, &principal.name, roles, principal.kind, now, expires_at)
    }

    /// A token for nobody in particular, by which readiness asks whether the upstream reads what we sign.
    #[must_use]
    pub fn probe(&self, subject: Uuid, now: UnixMillis) -> String {
        let roles = BTreeSet::from(["user".to_owned()]);
        self.sign(
            subject,
            "cedargate-probe",
            &roles,
            PrincipalKind::User,
            now,
            now.0 / 1000 + super::LIFETIME_S,
        )
    }

    fn sign(
        &self,
        subject: Uuid,
        name: &str,
        roles: &BTreeSet<String>,
        kind: PrincipalKind,
        now: UnixMillis,
        expires_at: u64,
    ) -> String {
        let issued_at = now.0 / 1000;
        let claims = json!({
            "sub": subject,
            "iss": ISSUER,
            "aud": AUDIENCE,
            "exp": expires_at,
            "iat": issued_at,
            "nbf": issued_at,
            "jti": token_id(),
            "type": "access",
            "username": name,
            "roles": roles,
            "kind": kind,
        });
        let input = signing_input(&json!({ "alg": "HS256", "typ": "JWT" }), &claims);
        let signature = hmac::sign(&self.key, input.as_bytes());
        compact(&input, signature.as_ref())
    }
}
