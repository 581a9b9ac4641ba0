//! What runs beside the requests: reloads of the bundle, expired sessions, the audit log's state.

use std::sync::Arc;
use std::time::Duration;

use storage::Store;
use storage::audit_log::{AuditLog, AuditState};
use storage::credentials::Attempts;
use storage::endings::Endings;
use storage::sessions::Sessions;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::admin::health::{Health, Part, Status};
use crate::admin::listener;
use crate::admin::metrics::Metrics;
use crate::aside;
use crate::bundle_dir::watch::Watch;
use crate::clock;
use crate::oidc::renewal::Renewals;
use crate::pipeline::record;
use crate::proxy::Gateway;
use crate::snapshot::{self, Cause, ReloadError, Reloaded, Reloader};
use crate::telemetry::Telemetry;

/// Between two looks at the audit log.
const LOOK: Duration = Duration::from_millis(250);
/// Between two sweeps of expired sessions.
const SWEEP: Duration = Duration::from_secs(60);

/// Reloads the bundle when its files change or a signal asks.
pub struct Reloads {
    /// Reads and swaps.
    pub reloader: Arc<Reloader>,
    /// Where reloads are recorded.
    pub audit: AuditLog,
    /// Where the bundle's state is told.
    pub health: Arc<Health>,
    /// Where reloads are counted.
    pub metrics: Arc<Metrics>,
}

impl Reloads {
    /// Runs until `stop` says true.
    pub async fn run(
        self,
        watched: Option<(Watch, watch::Receiver<u64>)>,
        mut hangups: tokio::signal::unix::Signal,
        mut stop: watch::Receiver<bool>,
    ) {
        let this = Arc::new(self);
        this.tell(None);
        let (watch, mut changes) =
            watched.map_or((None, None), |(watch, changes)| (Some(watch), Some(changes)));
        loop {
            let cause = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                hangup = hangups.recv() => match hangup {
                    Some(()) => "SIGHUP",
                    None => break,
                },
                () = changed(&mut changes) => "file change",
            };
            let reloader = this.reloader.clone();
            match aside::run(snapshot::THREAD, move || reloader.reload(&Cause::Change)).await {
                Ok(outcome) => this.reloaded(cause, &outcome),
                Err(interrupted) => this.unread(cause, &interrupted),
            }
        }
        drop(watch);
    }

    /// No bundle was read: there was no thread for it, or it panicked. It is told like one that was not taken, or nobody would
    /// know that what was saved is not in force.
    fn unread(&self, cause: &'static str, error: &(dyn std::error::Error + 'static)) {
        tracing::error!(cause, error, "the bundle could not be read; the last good one serves on");
        let id = self.reloader.cell().current().bundle.id().clone();
        let note = format!("{cause}: the bundle could not be read ({error}); save it again, or reload it");
        record::bundle_refused(&self.audit, clock::now(), &id, std::slice::from_ref(&note));
        self.metrics.bundle_reloaded(false);
        self.health.set(Part::Bundle, Status::Degraded(format!("{id} serves on: {note}")));
    }

    fn reloaded(&self, cause: &'static str, outcome: &Result<Reloaded, ReloadError>) {
        match outcome {
            // What was refused before may have been taken back.
            Ok(Reloaded::Unchanged(_)) => return self.tell(None),
            Ok(Reloaded::Swapped { from, to }) => {
                tracing::info!(%from, %to, cause, "a new bundle decides");
                record::bundle_changed(
                    &self.audit,
                    clock::now(),
                    to,
                    &[format!("{cause}: bundle {to} replaces {from}")],
                );
            }
            Err(error) => {
                let current = self.reloader.cell().current();
                let notes: Vec<String> =
                    std::iter::once(format!("{cause}: {error}")).chain(sentences(error)).collect();
                for note in &notes {
                    tracing::error!(cause, "the bundle was not taken: {note}");
                }
                record::bundle_refused(&self.audit, clock::now(), current.bundle.id(), &notes);
            }
        }
        self.metrics.bundle_reloaded(outcome.is_ok());
        self.tell(outcome.as_ref().err());
    }

    fn tell(&self, refused: Option<&ReloadError>) {
        let id = self.reloader.cell().current().bundle.id().to_string();
        let status = match refused {
            None => Status::Up(id),
            Some(error) => Status::Degraded(format!("{id} serves on: {error}")),
        };
        self.health.set(Part::Bundle, status);
    }
}

/// What is wrong, one sentence each.
fn sentences(error: &ReloadError) -> Vec<String> {
    match error {
        ReloadError::Faults(faults) => faults.iter().map(ToString::to_string).collect(),
        ReloadError::Loosens { loosens, .. } => loosens.clone(),
        ReloadError::NoPrevious => Vec::new(),
    }
}

async fn changed(changes: &mut Option<watch::Receiver<u64>>) {
    if let Some(changes) = changes
        && changes.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// What is looked after.
pub struct Kept {
    /// Whose state is told.
    pub store: Store,
    /// Whose expired ones are swept.
    pub sessions: Arc<Sessions>,
    /// Whose counters are put into the store.
    pub attempts: Attempts,
    /// What providers have ended, and is forgotten in time.
    pub endings: Endings,
    /// What providers have given for sessions, and is forgotten with them.
    pub renewals: Arc<Renewals>,
    /// Whose state is told.
    pub audit: AuditLog,
    /// Where it is told.
    pub health: Arc<Health>,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
    /// Whose state is told.
    pub telemetry: Arc<Telemetry>,
    /// Whose counters are told of.
    pub gateway: Gateway,
}

/// Looks after what nobody asks for, until `end` says true.
pub async fn housekeeping(kept: Kept, mut end: watch::Receiver<bool>) {
    let mut next_sweep = clock::instant();
    let (mut evicted, mut told) = (0, 0);
    loop {
        evicted = tell_evicted(&kept, evicted);
        tell_audit(&kept.audit, &kept.health, &kept.metrics);
        tell_store(&kept.store, &kept.health);
        kept.telemetry.tell(&kept.health);
        if let Err(error) = kept.attempts.flush().await {
            tracing::warn!(%error, "failed sign-ins could not be put into the store");
        }
        if clock::instant() >= next_sweep {
            next_sweep = clock::instant() + SWEEP;
            if evicted > told {
                let dropped = evicted - told;
                tracing::warn!(
                    dropped,
                    "counters of limits were dropped before they had recovered: a flood of addresses, or \
                     `limits.memory_bytes` is too small"
                );
                told = evicted;
            }
            if let Err(error) = kept.sessions.sweep(clock::now()).await {
                tracing::warn!(%error, "expired sessions could not be swept");
            }
            if let Err(error) = kept.endings.sweep(clock::now()).await {
                tracing::warn!(%error, "what providers have ended long ago could not be swept");
            }
            if let Err(error) = kept.renewals.sweep(clock::now()).await {
                tracing::warn!(%error, "grants of sessions that have ended could not be swept");
            }
            if let Ok(live) = kept.sessions.count(clock::now()).await {
                kept.metrics.sessions_live(live as u64);
            }
        }
        if tokio::time::timeout(LOOK, end.wait_for(|end| *end)).await.is_ok() {
            break;
        }
    }
    if let Err(error) = kept.attempts.flush().await {
        tracing::warn!(%error, "the last failed sign-ins could not be put into the store");
    }
}

/// Serves health and metrics until `end` says true: a drain is watched to its end.
pub async fn admin(
    listener: TcpListener,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    mut end: watch::Receiver<bool>,
) {
    let ended = async move { drop(end.wait_for(|end| *end).await) };
    if let Err(error) = listener::serve(listener, health, metrics, ended).await {
        tracing::error!(%error, "the admin listener ended");
    }
}

/// Counts what was dropped since `before`, and says how much it is by now.
fn tell_evicted(kept: &Kept, before: u64) -> u64 {
    let (pipeline, _) = kept.gateway.pipeline();
    let shared = pipeline.shared.as_ref().map_or(0, |shared| shared.evicted());
    let evicted = pipeline.counters.evicted().saturating_add(shared);
    kept.metrics.limits_evicted(evicted.saturating_sub(before));
    evicted
}

fn tell_store(store: &Store, health: &Health) {
    let status = if store.is_failing() {
        Status::Down("the disk refused the last write; sign-ins and changes fail".to_owned())
    } else {
        Status::Up("embedded".to_owned())
    };
    health.set(Part::Store, status);
}

fn tell_audit(audit: &AuditLog, health: &Health, metrics: &Metrics) {
    let state = audit.health();
    metrics.audit_log_up(state.state == AuditState::Writing);
    let status = match state.state {
        AuditState::Writing if state.lost == 0 => Status::Up(format!("{} queued", state.queued)),
        AuditState::Writing => Status::Degraded(format!("{} records were lost since the start", state.lost)),
        AuditState::Failing { error } => {
            Status::Down(format!("cannot be written: {error}; {} queued", state.queued))
        }
        AuditState::Closed => Status::Down("closed".to_owned()),
    };
    health.set(Part::AuditLog, status);
}
