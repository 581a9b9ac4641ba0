//! Where sessions and attempts to sign in are kept, also where gateways share them.

use std::sync::Arc;
use std::time::Duration;

use storage::credentials::{AttemptRules, Attempts};
use storage::redis::Standing;
use storage::sessions::{PER_ACCOUNT_DEFAULT, SessionRules, Sessions};
use storage::{Keyring, Store, StoreError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admin::health::{Health, Part};
use crate::admin::metrics::Metrics;
use crate::config::Config;
use crate::proxy::Gateway;
use crate::shared_store::{self, Words};

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
    meanwhile: "sessions and passwords are refused",
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
