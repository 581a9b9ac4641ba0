//! Verbs about API keys.

use std::collections::BTreeSet;

use engine::time::UnixMillis;
use serde_json::{Value, json};
use storage::credentials::{ApiKey, Login, NewApiKey};
use uuid::Uuid;

use super::{Worked, accounts, done, invalid, not_found, store};
use crate::admin::control::execute::Backend;
use crate::clock::rfc3339;

/// A key lives for a year unless it is told otherwise, in seconds: there is none without an end.
const LIFETIME_DEFAULT_S: u64 = 365 * 24 * 60 * 60;

/// The one answer that holds the key's text.
pub(super) async fn add(
    backend: &Backend,
    service: &str,
    scopes: BTreeSet<String>,
    roles: BTreeSet<String>,
    lifetime_s: Option<u64>,
    now: UnixMillis,
) -> Worked {
    let service = Login::parse(service).map_err(|error| invalid(error.to_string()))?;
    if scopes.is_empty() {
        return Err(invalid(
            "a key without scopes is good for nothing; name actions, prefixes such as `docs.*`, or `*`",
        ));
    }
    accounts::known(backend, &roles, None)?;
    let lifetime_ms = lifetime_s.unwrap_or(LIFETIME_DEFAULT_S).saturating_mul(1000);
    if lifetime_ms == 0 {
        return Err(invalid("a key lives for at least a second"));
    }
    let groups = BTreeSet::new();
    let new = NewApiKey { service, roles, groups, scopes, expires_at: Some(now.plus(lifetime_ms)) };
    let created = backend.keys.create(new, now).await.map_err(store)?;
    let mut value = told(&created.key, now);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("api_key".to_owned(), Value::String(created.text.expose().clone()));
    }
    let mut done = done(value);
    done.notes.push(format!("key {} made", created.key.id));
    Ok(done)
}

pub(super) async fn list(backend: &Backend, now: UnixMillis) -> Worked {
    let keys = backend.keys.list().await.map_err(store)?;
    Ok(done(Value::Array(keys.iter().map(|key| told(key, now)).collect())))
}

pub(super) async fn revoke(backend: &Backend, id: Uuid, now: UnixMillis) -> Worked {
    let revoked = backend.keys.revoke(id, now).await.map_err(store)?;
    let revoked = revoked.ok_or_else(|| not_found("key", &id.to_string()))?;
    Ok(done(told(&revoked, now)))
}

fn told(key: &ApiKey, now: UnixMillis) -> Value {
    json!({
        "id": key.id,
        "service": key.service.as_str(),
        "service_id": key.service_id,
        "roles": key.roles,
        "scopes": key.scopes,
        "live": key.is_live(now),
        "created": rfc3339(key.created_at),
        "expires": key.expires_at.map(rfc3339),
        "revoked": key.revoked_at.map(rfc3339),
    })
}
