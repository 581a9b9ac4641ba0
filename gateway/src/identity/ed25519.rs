//! The identity for every other upstream: Ed25519 with the route's audience, verified with the public key
//! that the gateway publishes.

use engine::identity::Principal;
use engine::time::UnixMillis;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::{compact, expiry_s, signing_input, token_id};

/// `iss` of the tokens.
pub const ISSUER: &str = "cedargate";

/// Signs identities with a key of our own.
pub struct Signer {
    pair: Ed25519KeyPair,
    key_id: String,
}

/// The seed was no Ed25519 seed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the derived Ed25519 seed was rejected")]
pub struct SeedRejected;

impl Signer {
    /// With a key pair from this seed, which is derived from the master key: the same after a restart and on
    /// every gateway of a fleet.
    ///
    /// # Errors
    /// When the seed is rejected.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, SeedRejected> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_rejected| SeedRejected)?;
        let digest = ring::digest::digest(&ring::digest::SHA256, pair.public_key().as_ref());
        let key_id = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { pair, key_id })
    }

    /// The token for a principal and one audience.
    #[must_use]
    pub fn mint(&self, principal: &Principal, audience: &str, now: UnixMillis) -> String {
        let issued_at = now.0 / 1000;
        let claims = json!({
            "sub": principal.id,
            "iss": ISSUER,
            "aud": audience,
            "exp": expiry_s(principal, now),
            "iat": issued_at,
            "nbf": issued_at,
            "jti": token_id(),
            "name": principal.name,
            "kind": principal.kind,
            "roles": principal.roles,
            "groups": principal.groups,
            "assurance": principal.assurance,
        });
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": self.key_id });
        let input = signing_input(&header, &claims);
        compact(&input, self.pair.sign(input.as_bytes()).as_ref())
    }

    /// The public keys as a JWK set (RFC 7517, RFC 8037).
    #[must_use]
    pub fn jwks(&self) -> Value {
        use base64::Engine as _;
        let x = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref());
        json!({ "keys": [{
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.key_id, "x": x,
        }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use engine::identity::{PrincipalKind, Scheme};
    use ring::signature::{ED25519, UnparsedPublicKey};
    use uuid::Uuid;

    fn principal(expires_at: Option<UnixMillis>) -> Principal {
        Principal {
            kind: PrincipalKind::User,
            id: Uuid::from_u128(7),
            name: "ada".to_owned(),
            roles: ["standard_user".to_owned()].into(),
            groups: [].into(),
            scopes: [].into(),
            scheme: Scheme::Session,
            assurance: 1,
            authenticated_at: UnixMillis(1_000),
            credential_id: None,
            expires_at,
            suspended: false,
        }
    }

    #[test]
    fn the_published_key_verifies_and_the_token_never_outlives_the_session() {
        let signer = Signer::from_seed(&[9; 32]).unwrap();
        let x = signer.jwks()["keys"][0]["x"].as_str().unwrap().to_owned();
        let public = URL_SAFE_NO_PAD.decode(x).unwrap();
        let now = UnixMillis(1_700_000_000_000);
        for (expires_at, expected) in [
            (None, 1_700_000_060),
            (Some(now.plus(10_000)), 1_700_000_010),
            (Some(now.plus(90_000)), 1_700_000_060),
        ] {
            let token = signer.mint(&principal(expires_at), "crm", now);
            let (input, signature) = token.rsplit_once('.').unwrap();
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            UnparsedPublicKey::new(&ED25519, &public).verify(input.as_bytes(), &signature).unwrap();
            let claims = URL_SAFE_NO_PAD.decode(input.split_once('.').unwrap().1).unwrap();
            let claims: Value = serde_json::from_slice(&claims).unwrap();
            assert_eq!(claims["exp"], expected);
            assert_eq!(claims["aud"], "crm");
        }
    }
}
