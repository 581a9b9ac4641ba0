//! Verbs about the bundle and the gateway as a whole.

use std::sync::Arc;

use engine::time::UnixMillis;
use serde_json::json;

use super::{Worked, done, store};
use crate::admin::control::execute::{Backend, Done};
use crate::admin::control::reply::{Code, Problem};
use crate::admin::health::{Health, Part, Status};
use crate::aside;
use crate::snapshot::{self, Cause, ReloadError, Reloaded, Reloader};

pub(super) fn show(backend: &Backend) -> Done {
    let snapshot = backend.reloader.cell().current();
    done(json!({
        "bundle": snapshot.bundle.id().to_string(),
        "routes": snapshot.bundle.routes().routes().len(),
        "roles": snapshot.bundle.roles(),
        "groups": snapshot.bundle.groups(),
    }))
}

pub(super) async fn reload(backend: &Backend, accept: Option<String>) -> Worked {
    change(backend, move |reloader| reloader.reload(&Cause::Operator { accept })).await
}

pub(super) async fn roll_back(backend: &Backend) -> Worked {
    change(backend, |reloader| reloader.roll_back()).await
}

pub(super) async fn status(backend: &Backend, now: UnixMillis) -> Worked {
    let sessions = backend.sessions.list(None, now).await.map_err(store)?.len();
    let accounts = backend.accounts.list().await.map_err(store)?.len();
    Ok(done(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "running": backend.health.is_some(),
        "bundle": backend.reloader.cell().current().bundle.id().to_string(),
        "accounts": accounts,
        "sessions": sessions,
        "health": backend.health.as_deref().map(Health::report),
    })))
}

/// Reading a bundle takes a core for a while, so it is done aside.
async fn change(
    backend: &Backend,
    work: impl FnOnce(&Reloader) -> Result<Reloaded, ReloadError> + Send + 'static,
) -> Worked {
    let Some(health) = &backend.health else {
        let message = "no gateway runs, so no bundle decides; the next start reads the policies directory";
        return Err(Problem::new(Code::NotRunning, message));
    };
    let reloader = Arc::clone(&backend.reloader);
    let changed = aside::run(snapshot::THREAD, move || work(&reloader)).await;
    let changed = changed.map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "the bundle was not changed");
        Problem::new(Code::Unavailable, "the change was interrupted; try again")
    })?;
    match changed.map_err(|error| refused(&error))? {
        Reloaded::Unchanged(id) => Ok(done(json!({"bundle": id.to_string(), "changed": false}))),
        Reloaded::Swapped { from, to } => {
            health.set(Part::Bundle, Status::Up(to.to_string()));
            let mut done = done(json!({"bundle": to.to_string(), "from": from.to_string(), "changed": true}));
            done.notes.push(format!("bundle {from} replaced by {to}"));
            Ok(done)
        }
    }
}

fn refused(error: &ReloadError) -> Problem {
    match error {
        ReloadError::Faults(faults) => {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            Problem::new(Code::Invalid, format!("{error}\n{}", faults.join("\n")))
        }
        ReloadError::Loosens { loosens, .. } => {
            Problem::new(Code::Conflict, format!("{error}\n{}", loosens.join("\n")))
        }
        ReloadError::NoPrevious => Problem::new(Code::NotFound, error.to_string()),
    }
}
