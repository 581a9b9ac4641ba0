//! The store of sessions that gateways share: made, kept connected, and told of where people look.

use std::sync::Arc;
use std::time::Duration;

use storage::redis::{Standing, Standings};
use storage::sessions::{PER_ACCOUNT_DEFAULT, SessionRules, Sessions};
use storage::{Keyring, Store};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admin::health::{Health, Part, Status};
use crate::admin::metrics::Metrics;
use crate::clock;
use crate::config::Config;
use crate::pipeline::record::{self, Recorder};
use crate::proxy::Gateway;
use crate::shared_limits::{Event, events};
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

/// Who is told how the store is.
struct Tellers {
    health: Arc<Health>,
    recorder: Arc<Recorder>,
    /// Whose bundle decides meanwhile.
    cell: Arc<SnapshotCell>,
}

/// Keeps the store connected, and tells how it is, until `end` says true; nothing where there is none.
#[must_use]
pub fn tended(
    sessions: &Arc<Sessions>,
    gateway: &Gateway,
    health: &Arc<Health>,
    end: &watch::Receiver<bool>,
) -> Option<JoinHandle<()>> {
    let standing = sessions.standing()?;
    let (pipeline, recorder) = gateway.pipeline();
    let (health, recorder, cell) = (health.clone(), recorder.clone(), pipeline.snapshot.clone());
    let tellers = Tellers { health, recorder, cell };
    let (sessions, mut end) = (sessions.clone(), end.clone());
    Some(tokio::spawn(async move {
        tokio::select! {
            () = sessions.tend() => {}
            () = tellers.follow(standing) => {}
            _ = end.wait_for(|end| *end) => {}
        }
    }))
}

impl Tellers {
    async fn follow(&self, mut standing: watch::Receiver<Standings>) {
        let mut before = Standings::default();
        loop {
            let now = *standing.borrow_and_update();
            self.tell(before, now);
            before = now;
            if standing.changed().await.is_err() {
                return;
            }
        }
    }

    fn tell(&self, before: Standings, now: Standings) {
        self.recorder.metrics.sessions_store_up(now.now == Standing::Up);
        let status = match now.now {
            Standing::Starting => {
                Status::Degraded("redis was not asked yet; sessions are refused".to_owned())
            }
            Standing::Up => Status::Up("redis".to_owned()),
            Standing::Away(fault) => {
                Status::Degraded(format!("sessions are refused, for redis is away: {fault}"))
            }
        };
        self.health.set(Part::Sessions, status);
        for event in events(before, now, "sessions are refused without redis", "sessions are in redis again")
        {
            let snapshot = self.cell.current();
            let (note, begins) = match event {
                Event::Begins(note) => (note, true),
                Event::Ends(note) => (note, false),
            };
            if begins {
                tracing::error!("{note}");
            } else {
                tracing::info!("{note}");
            }
            record::sessions_store(&self.recorder.audit, clock::now(), snapshot.bundle.id(), begins, &[note]);
        }
    }
}
