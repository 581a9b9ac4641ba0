//! Verbs about accounts.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::time::UnixMillis;
use serde_json::{Value, json};
use storage::credentials::{Account, AccountChange, AccountError, Login, NewAccount, Origin, PasswordHash};
use storage::{Secret, StoreError};
use uuid::Uuid;

use super::{Worked, done, done_ending, invalid, not_found, store};
use crate::admin::control::execute::Backend;
use crate::admin::control::reply::{Code, Problem};
use crate::admin::control::verb::Hidden;
use crate::clock::rfc3339;

pub(super) async fn add(
    backend: &Backend,
    login: &str,
    password: &Hidden,
    roles: BTreeSet<String>,
    groups: BTreeSet<String>,
    now: UnixMillis,
) -> Worked {
    let login = Login::parse(login).map_err(|error| invalid(error.to_string()))?;
    known(backend, &roles, Some(&groups))?;
    let password = hashed(password).await?;
    let new = NewAccount { login, password, roles, groups };
    match backend.accounts.create(new, now).await {
        Ok(account) => Ok(done(told(&account))),
        Err(AccountError::LoginTaken) => Err(Problem::new(
            Code::Conflict,
            "there is an account with this login; choose another, or change that one",
        )),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: AccountError) -> Problem {
    match error {
        AccountError::Store(error) => store(error),
        AccountError::LoginTaken | AccountError::Federated => Problem::new(Code::Conflict, error.to_string()),
    }
}

pub(super) async fn list(backend: &Backend) -> Worked {
    let accounts = backend.accounts.list().await.map_err(store)?;
    Ok(done(Value::Array(accounts.iter().map(told).collect())))
}

/// The account is read at each request, so the suspension holds at once; its sessions end besides, so that they
/// do not come back with it.
pub(super) async fn suspend(backend: &Backend, account: &str, now: UnixMillis) -> Worked {
    let id = find(backend, account).await?.id;
    let change = AccountChange { suspended: Some(true), ..AccountChange::default() };
    let mut steps = Steps::default();
    let changed = steps.done(backend.accounts.change(id, change).await)?;
    let ended = steps.done(backend.sessions.end_all(id, now).await)?;
    steps.told(account, changed, ended.into_iter().flatten().collect())
}

pub(super) async fn resume(backend: &Backend, account: &str) -> Worked {
    let change = AccountChange { suspended: Some(false), ..AccountChange::default() };
    Ok(done(told(&change_of(backend, account, change).await?)))
}

pub(super) async fn unlock(backend: &Backend, account: &str) -> Worked {
    let found = find(backend, account).await?;
    let was_held = backend.attempts.forget(&found.login).await.map_err(store)?;
    Ok(done(json!({"account": found.id, "was_held": was_held})))
}

/// Whoever knew the old password may be why there is a new one, so their sessions end.
pub(super) async fn set_password(
    backend: &Backend,
    account: &str,
    password: &Hidden,
    now: UnixMillis,
) -> Worked {
    let id = find(backend, account).await?.id;
    let password = hashed(password).await?;
    let mut steps = Steps::default();
    let changed = match backend.accounts.set_password(id, password, now).await {
        Ok(changed) => steps.done(Ok(changed))?,
        Err(AccountError::Store(error)) => steps.done(Err(error))?,
        Err(error @ (AccountError::LoginTaken | AccountError::Federated)) => return Err(failed(error)),
    };
    let ended = steps.done(backend.sessions.end_all(id, now).await)?;
    steps.told(account, changed, ended.into_iter().flatten().collect())
}

pub(super) async fn set_roles(
    backend: &Backend,
    account: &str,
    roles: BTreeSet<String>,
    groups: Option<BTreeSet<String>>,
) -> Worked {
    known(backend, &roles, groups.as_ref())?;
    let change = AccountChange { roles: Some(roles), groups, ..AccountChange::default() };
    Ok(done(told(&change_of(backend, account, change).await?)))
}

pub(super) async fn remove(backend: &Backend, account: &str, now: UnixMillis) -> Worked {
    let found = match find(backend, account).await {
        Ok(found) => found,
        Err(problem) if problem.code == Code::NotFound => return left(backend, account, now).await,
        Err(problem) => return Err(problem),
    };
    let id = found.id;
    // Before and after: a session of somebody whom a provider vouches for would make the account anew where others know it,
    // and one may begin between the two. After it also where it is not known what came of it: it may be done.
    let mut steps = Steps::default();
    let before = steps.done(backend.sessions.end_all(id, now).await)?;
    let removed = backend.accounts.remove(id).await;
    let after = backend.sessions.end_all(id, now).await;
    let (removed, after) = match (steps.done(removed), steps.done(after)) {
        (Ok(removed), Ok(after)) => (removed, after),
        // Nobody finds them by the name that they are shown by once they are gone.
        (Err(mut problem), _) | (Ok(_), Err(mut problem)) if found.origin.is_some() => {
            problem.message = format!("{}; say it again by the id, {id}", problem.message);
            return Err(problem);
        }
        (Err(problem), _) | (Ok(_), Err(problem)) => return Err(problem),
    };
    steps.told(account, removed, before.into_iter().chain(after).flatten().collect())
}

/// Removes what is left of an account that is not there. Its removal may be said again because it was not known what came of
/// it: a session that began before it was done would be theirs who have the login next. Or because too few replicas had it
/// the first time: they are waited for as then.
async fn left(backend: &Backend, account: &str, now: UnixMillis) -> Worked {
    let id = named(account)?;
    let told = |error: StoreError| {
        if !error.was_done() {
            return store(error);
        }
        let message = format!(
            "there is no account `{account}`, and too few replicas of the redis have it so: say it again"
        );
        Problem::new(Code::Unavailable, message)
    };
    let ended = backend.sessions.end_all(id, now).await.map_err(told)?;
    let settled = backend.accounts.settled().await.map_err(told)?;
    if !ended.is_empty() {
        return Ok(done_ending(json!({"id": id}), &ended));
    }
    if !settled {
        return Err(not_found("account", account));
    }
    let message = format!("there is no account `{account}`, and enough replicas of the redis have it so");
    Err(Problem::new(Code::NotFound, message))
}

/// Steps of one verb. What was done and is not where it would survive the loss of a server keeps none of the others from
/// being done; that it may not last is told in the end.
#[derive(Default)]
struct Steps {
    unkept: Option<StoreError>,
}

impl Steps {
    /// What a step answers, where that is known.
    fn done<T>(&mut self, step: Result<T, StoreError>) -> Result<Option<T>, Problem> {
        match step {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.was_done() => {
                self.unkept = Some(error);
                Ok(None)
            }
            Err(error) => Err(store(error)),
        }
    }

    /// What became of an account, and which sessions have ended.
    fn told(self, account: &str, became: Option<Option<Account>>, ended: Vec<Uuid>) -> Worked {
        match (self.unkept, became.flatten()) {
            (Some(error), _) => Err(store(error)),
            (None, Some(became)) => Ok(done_ending(told(&became), &ended)),
            (None, None) => Err(not_found("account", account)),
        }
    }
}

/// The account of a login or an id; or of the name that a provider's person is shown by, where one alone has it.
pub(super) async fn find(backend: &Backend, account: &str) -> Result<Arc<Account>, Problem> {
    if let Some(found) = backend.accounts.find(named(account)?).await.map_err(store)? {
        return Ok(found);
    }
    let all = backend.accounts.list().await.map_err(store)?;
    let mut shown = all.into_iter().filter(|other| other.origin.is_some() && other.login.as_str() == account);
    match (shown.next(), shown.next()) {
        (Some(found), None) => Ok(Arc::new(found)),
        (Some(_), Some(_)) => {
            Err(invalid(format!("several people are shown as `{account}`; name one by its id")))
        }
        (None, _) => Err(not_found("account", account)),
    }
}

/// The id that is meant by an id or a login.
fn named(account: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(account)
        .or_else(|_| Login::parse(account).map(|login| login.account_id()))
        .map_err(|error| invalid(error.to_string()))
}

/// Refuses roles and groups that the bundle does not know: a misspelt one would silently give nothing.
pub(super) fn known(
    backend: &Backend,
    roles: &BTreeSet<String>,
    groups: Option<&BTreeSet<String>>,
) -> Result<(), Problem> {
    let snapshot = backend.reloader.cell().current();
    let (known_roles, known_groups) = (snapshot.bundle.roles(), snapshot.bundle.groups());
    let strange_roles = roles.difference(&known_roles).map(|role| format!("role `{role}`"));
    let strange_groups = groups
        .into_iter()
        .flat_map(|groups| groups.difference(&known_groups))
        .map(|group| format!("group `{group}`"));
    let strange: Vec<String> = strange_roles.chain(strange_groups).collect();
    if strange.is_empty() {
        return Ok(());
    }
    Err(invalid(format!(
        "the bundle does not know {}; see `entities/` for those that it knows",
        strange.join(", ")
    )))
}

async fn change_of(backend: &Backend, account: &str, change: AccountChange) -> Result<Account, Problem> {
    let id = find(backend, account).await?.id;
    backend.accounts.change(id, change).await.map_err(store)?.ok_or_else(|| not_found("account", account))
}

/// Hashes aside: it takes a core for a while.
async fn hashed(password: &Hidden) -> Result<PasswordHash, Problem> {
    let password = Secret::new(password.expose().to_owned());
    match tokio::task::spawn_blocking(move || PasswordHash::new(&password)).await {
        Ok(hashed) => hashed.map_err(|error| invalid(error.to_string())),
        Err(_) => Err(Problem::new(Code::Unavailable, "hashing was interrupted; try again")),
    }
}

fn told(account: &Account) -> Value {
    json!({
        "id": account.id,
        "login": account.login.as_str(),
        "issuer": account.origin.as_ref().map(Origin::issuer),
        "roles": account.roles,
        "groups": account.groups,
        "suspended": account.suspended,
        "created": rfc3339(account.created_at),
        "password_changed": rfc3339(account.password_changed_at),
    })
}
