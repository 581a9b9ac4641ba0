//! Where sessions, attempts to sign in, accounts and keys are kept, also where gateways share them.

use std::sync::Arc;
use std::time::Duration;

use storage::audit_log::AuditLog;
use storage::credentials::{Accounts, ApiKeys, AttemptRules, Attempts, Own};
use storage::redis::Standing;
use storage::sessions::{PER_ACCOUNT_DEFAULT, SessionRules, Sessions};
use storage::{Keyring, Store, StoreError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admin::health::{Health, Part};
use crate::admin::metrics::Metrics;
use crate::clock;
use crate::config::Config;
use crate::pipeline::record;
use crate::proxy::Gateway;
use crate::shared_store::{self, Words};
use crate::snapshot::SnapshotCell;

/// Where sessions are kept by this configuration; what ends is told to `store`'s listeners, wherever that is.
#[must_use]
pub fn sessions(
    config: &Config,
    store: &Store,
    keyring: &Keyring,
    metrics: Option<&Metrics>,
) -> Arc<Sessions> {
    let rules = SessionRules {
        idle_ms: milliseconds(config.session.idle),
        absolute_ms: milliseconds(config.session.absolute),
        per_account_max: PER_ACCOUNT_DEFAULT,
    };
    let Some(shared) = config.shared_sessions.clone() else {
        return Arc::new(Sessions::embedded(store.clone(), rules));
    };
    let metrics = metrics.map(Metrics::sessions_store);
    let observer = Box::new(move |answered, waited| {
        if let Some(metrics) = &metrics {
            metrics.asked(answered, waited);
        }
    });
    Arc::new(Sessions::redis(shared, keyring.clone(), rules, store.changes().clone(), observer))
}

/// Where attempts are counted: beside the sessions that gateways share, or in `store`.
///
/// # Errors
/// When the store fails.
pub fn attempts(config: &Config, store: &Store, sessions: &Sessions) -> Result<Attempts, StoreError> {
    let login = &config.login;
    let rules = AttemptRules { attempts_max: login.attempts_max, lockout_ms: milliseconds(login.lockout) };
    match Attempts::shared(sessions, rules) {
        Some(shared) => Ok(shared),
        None => Attempts::open(store.clone(), rules),
    }
}

/// Why accounts and keys are not where gateways share them.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Some are in this gateway's own store.
    #[error(
        "this gateway's own store has {} account(s) and {} API key(s) that no other gateway of `session.redis` knows",
        .0.accounts, .0.keys
    )]
    OnlyHere(Own),
    /// They could not be moved.
    #[error("this gateway's accounts and API keys could not be brought to `session.redis`")]
    Brought(#[source] StoreError),
    /// They could not be looked for.
    #[error("this gateway's own accounts and API keys cannot be read")]
    Read(#[source] StoreError),
}

/// Accounts and keys: beside the sessions that gateways share, or in `store`.
#[must_use]
pub fn credentials(store: &Store, sessions: &Sessions) -> (Accounts, ApiKeys) {
    let accounts = Accounts::shared(sessions).unwrap_or_else(|| Accounts::new(store.clone()));
    let keys = ApiKeys::shared(sessions).unwrap_or_else(|| ApiKeys::new(store.clone()));
    (accounts, keys)
}

/// Where gateways share accounts and keys, makes sure that this one has none of its own: brings them there where that is
/// configured, and records it. Answers where they are, as [`credentials`] does.
///
/// # Errors
/// Some are left, or a store does not answer: the gateway must not start.
pub async fn brought(
    config: &Config,
    store: &Store,
    sessions: &Arc<Sessions>,
    (audit, cell): (&AuditLog, &SnapshotCell),
) -> Result<(Accounts, ApiKeys), CredentialsError> {
    let (accounts, keys) = credentials(store, sessions);
    if sessions.standing().is_none() {
        return Ok((accounts, keys));
    }
    let own = Own::of(store, clock::now()).await.map_err(CredentialsError::Read)?;
    if own.is_empty() {
        return Ok((accounts, keys));
    }
    if !config.brings_credentials {
        return Err(CredentialsError::OnlyHere(own));
    }
    let tended = reached(sessions).await;
    let brought = async {
        let count = Accounts::new(store.clone()).bring(&accounts).await?;
        Ok((count, ApiKeys::new(store.clone()).bring(&keys).await?))
    };
    let brought = brought.await.map_err(CredentialsError::Brought);
    if let Some(tended) = tended {
        tended.abort();
    }
    record::brought(audit, clock::now(), cell.current().bundle.id(), brought?);
    Ok((accounts, keys))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// For a command that is over soon: keeps the store connected from now on, and waits until it is there or known not to be.
pub async fn reached(sessions: &Arc<Sessions>) -> Option<JoinHandle<()>> {
    let mut standing = sessions.standing()?;
    let tending = sessions.clone();
    let tended = tokio::spawn(async move { tending.tend().await });
    // It is gone with the sessions alone.
    standing.wait_for(|standings| standings.now != Standing::Starting).await.ok();
    Some(tended)
}

static WORDS: Words = Words {
    part: &Part::Sessions,
    gauge: Metrics::sessions_store_up,
    meanwhile: "sessions, passwords and keys are refused",
    away: "sessions are refused without redis",
    back: "sessions are in redis again",
    refusal: "sessions_away",
    is_grave: true,
};

/// Keeps the store connected, and tells how it is, until `end` says true; nothing where there is none.
#[must_use]
pub fn tended(
    sessions: &Arc<Sessions>,
    gateway: &Gateway,
    health: &Arc<Health>,
    end: &watch::Receiver<bool>,
) -> Option<JoinHandle<()>> {
    let (standing, sessions) = (sessions.standing()?, sessions.clone());
    let tending = async move { sessions.tend().await };
    Some(shared_store::tended(&WORDS, standing, tending, (gateway, health), end))
}
