//! API keys of services, in `X-API-Key` or as bearer.

use std::sync::Arc;

use engine::identity::{Principal, PrincipalKind, Scheme};
use engine::refusal::{CredentialFault, Dependency, Refusal};
use engine::time::UnixMillis;
use http::HeaderName;
use storage::StoreError;
use storage::credentials::{ApiKey, ApiKeys};
use uuid::Uuid;

use super::{Outcome, Proved, unanswered_by};

/// The header that carries nothing else.
pub(super) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Verifies a presented key.
///
/// # Errors
/// The store does not answer.
pub(super) async fn verify(keys: &ApiKeys, now: UnixMillis, value: &[u8]) -> Result<Outcome, Refusal> {
    let unknown = Outcome::Rejected(CredentialFault::KeyUnknown);
    let Ok(text) = std::str::from_utf8(value) else { return Ok(unknown) };
    Ok(of(keys.find(text.trim(), now).await.map_err(unanswered)?, now))
}

/// Verifies again what was verified before, by the key's public id.
///
/// # Errors
/// The store does not answer.
pub(super) async fn again(keys: &ApiKeys, now: UnixMillis, id: Uuid) -> Result<Outcome, Refusal> {
    Ok(of(keys.live(id, now).await.map_err(unanswered)?, now))
}

fn unanswered(error: StoreError) -> Refusal {
    unanswered_by("the key store", &error);
    Refusal::Unavailable(Dependency::Credentials)
}

fn of(found: Option<ApiKey>, now: UnixMillis) -> Outcome {
    match found {
        None => Outcome::Rejected(CredentialFault::KeyUnknown),
        Some(key) => {
            Outcome::Verified(Box::new(Proved { principal: Arc::new(principal(key, now)), session: None }))
        }
    }
}

fn principal(key: ApiKey, now: UnixMillis) -> Principal {
    Principal {
        kind: PrincipalKind::Service,
        id: key.service_id,
        name: key.service.as_str().to_owned(),
        roles: key.roles,
        groups: key.groups,
        scopes: key.scopes,
        scheme: Scheme::ApiKey,
        // A key is one factor, however long it is.
        assurance: 1,
        // It is proved by each request anew.
        authenticated_at: now,
        credential_id: Some(key.id),
        expires_at: key.expires_at,
        suspended: false,
    }
}
