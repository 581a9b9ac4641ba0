//! What each verb does, once it is permitted.

mod accounts;
mod keys;
mod limits;
mod sessions;
mod world;

use engine::time::UnixMillis;
use serde_json::{Value, json};
use storage::StoreError;

use super::execute::{Backend, Done};
use super::reply::{Code, Problem};
use super::verb::Verb;

type Worked = Result<Done, Problem>;

/// Does a verb.
pub(super) async fn perform(verb: Verb, backend: &Backend, now: UnixMillis) -> Worked {
    match verb {
        Verb::AccountAdd { login, password, roles, groups } => {
            accounts::add(backend, &login, &password, roles, groups, now).await
        }
        Verb::AccountList {} => accounts::list(backend).await,
        Verb::AccountSuspend { account } => accounts::suspend(backend, &account, now).await,
        Verb::AccountResume { account } => accounts::resume(backend, &account).await,
        Verb::AccountUnlock { account } => accounts::unlock(backend, &account).await,
        Verb::AccountSetPassword { account, password } => {
            accounts::set_password(backend, &account, &password, now).await
        }
        Verb::AccountSetRoles { account, roles, groups } => {
            accounts::set_roles(backend, &account, roles, groups).await
        }
        Verb::AccountRemove { account } => accounts::remove(backend, &account, now).await,
        Verb::KeyAdd { service, scopes, roles, lifetime_s } => {
            keys::add(backend, &service, scopes, roles, lifetime_s, now).await
        }
        Verb::KeyList {} => keys::list(backend, now).await,
        Verb::KeyRevoke { key } => keys::revoke(backend, key, now).await,
        Verb::SessionList { account } => sessions::list(backend, account.as_deref(), now).await,
        Verb::SessionEnd { session } => sessions::end(backend, session, now).await,
        Verb::SessionEndAll { account } => sessions::end_all(backend, &account, now).await,
        Verb::BundleShow {} => Ok(world::show(backend)),
        Verb::BundleReload { accept } => world::reload(backend, accept).await,
        Verb::BundleRollback {} => world::roll_back(backend).await,
        Verb::LimitsShow { of, subject, limit } => {
            limits::show(backend, of, &subject, limit.as_deref(), now).await
        }
        Verb::LimitsReset { of, subject, limit } => {
            limits::reset(backend, of, &subject, limit.as_deref()).await
        }
        Verb::Status {} => world::status(backend, now).await,
    }
}

fn done(value: Value) -> Done {
    Done { value, notes: Vec::new() }
}

/// Done, having ended sessions: they are told and recorded.
fn done_ending(mut value: Value, ended: &[uuid::Uuid]) -> Done {
    if let Some(fields) = value.as_object_mut() {
        fields.insert("sessions_ended".to_owned(), json!(ended));
    }
    Done { value, notes: ended.iter().map(|id| format!("session {id} ended")).collect() }
}

fn store(error: StoreError) -> Problem {
    if error.was_done() {
        let message = "it was done, and too few replicas of the redis have it: say it again";
        return Problem::new(Code::Unavailable, message);
    }
    tracing::error!(error = &error as &dyn std::error::Error, "the store does not answer");
    Problem::new(Code::Unavailable, format!("{error}: see the program's log"))
}

fn invalid(message: impl Into<String>) -> Problem {
    Problem::new(Code::Invalid, message)
}

fn not_found(what: &str, which: &str) -> Problem {
    Problem::new(Code::NotFound, format!("there is no {what} `{which}`"))
}
