//! Verbs about sessions.

use std::collections::BTreeMap;

use engine::time::UnixMillis;
use serde_json::{Value, json};
use storage::sessions::SessionView;
use uuid::Uuid;

use super::{Worked, accounts, done, done_ending, not_found, store};
use crate::admin::control::execute::Backend;
use crate::clock::rfc3339;

pub(super) async fn list(backend: &Backend, account: Option<&str>, now: UnixMillis) -> Worked {
    let account = match account {
        Some(account) => Some(accounts::find(backend, account).await?.id),
        None => None,
    };
    let sessions = backend.sessions.list(account, now).await.map_err(store)?;
    let people = backend.accounts.list().await.map_err(store)?;
    let logins: BTreeMap<Uuid, &str> =
        people.iter().map(|account| (account.id, account.login.as_str())).collect();
    let told = sessions.iter().map(|session| told(session, logins.get(&session.account).copied())).collect();
    Ok(done(Value::Array(told)))
}

/// The store is asked for the session at each request, so it is over for the next one.
pub(super) async fn end(backend: &Backend, id: Uuid, now: UnixMillis) -> Worked {
    match backend.sessions.end(id, now).await.map_err(store)? {
        Some(session) => Ok(done_ending(json!({"account": session.account}), &[id])),
        None => Err(not_found("live session", &id.to_string())),
    }
}

/// Of an account that is there, or was: an id is enough to end what it left.
pub(super) async fn end_all(backend: &Backend, account: &str, now: UnixMillis) -> Worked {
    let id = match Uuid::parse_str(account) {
        Ok(id) => id,
        Err(_) => accounts::find(backend, account).await?.id,
    };
    let ended = backend.sessions.end_all(id, now).await.map_err(store)?;
    Ok(done_ending(json!({"account": id}), &ended))
}

fn told(session: &SessionView, login: Option<&str>) -> Value {
    json!({
        "id": session.id,
        "account": session.account,
        "login": login,
        "created": rfc3339(session.created_at),
        "used": rfc3339(session.touched_at),
        "idle_end": rfc3339(session.idle_end),
        "absolute_end": rfc3339(session.absolute_end),
        "client": session.client,
        "user_agent": session.user_agent,
    })
}
