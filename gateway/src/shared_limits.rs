//! The store of counters that gateways share: made, kept connected, and told of where people look.

use std::sync::Arc;

use storage::counters::{Counters, MEMORY_BYTES_DEFAULT, RedisSettings};
use storage::redis::{Standing, Standings};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admin::health::{Health, Part, Status};
use crate::admin::metrics::Metrics;
use crate::clock;
use crate::config::Config;
use crate::pipeline::record::{self, Recorder};
use crate::proxy::Gateway;
use crate::snapshot::SnapshotCell;

/// The counters in the store that gateways share, where there is one.
#[must_use]
pub fn counters(config: &Config, metrics: &Metrics) -> Option<Arc<Counters>> {
    let settings = config.shared_limits.as_ref()?;
    let metrics = metrics.limits_store();
    let redis = RedisSettings {
        place: settings.place.clone(),
        budget: settings.budget,
        gateways: settings.gateways,
        memory_bytes: MEMORY_BYTES_DEFAULT,
        clock: clock::now,
    };
    let observer = Box::new(move |answered, waited| metrics.asked(answered, waited));
    Some(Arc::new(Counters::redis(redis, observer)))
}

/// Who is told how the store is.
struct Tellers {
    /// As a detail: limits hold without the store, so it is never a reason to send no requests here.
    health: Arc<Health>,
    /// Has one event when the store goes away and one when it is back, and the gauge.
    recorder: Arc<Recorder>,
    /// Whose bundle decides meanwhile.
    cell: Arc<SnapshotCell>,
}

/// Keeps the store connected, and tells how it is, until `end` says true; nothing where there is none.
#[must_use]
pub fn tended(
    gateway: &Gateway,
    health: &Arc<Health>,
    end: &watch::Receiver<bool>,
) -> Option<JoinHandle<()>> {
    let (pipeline, recorder) = gateway.pipeline();
    let counters = pipeline.shared.clone()?;
    let standing = counters.standing()?;
    let (health, recorder, cell) = (health.clone(), recorder.clone(), pipeline.snapshot.clone());
    let (tellers, mut end) = (Tellers { health, recorder, cell }, end.clone());
    Some(tokio::spawn(async move {
        tokio::select! {
            () = counters.tend() => {}
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
        self.recorder.metrics.limits_store_up(now.now == Standing::Up);
        let status = match now.now {
            Standing::Starting => {
                Status::Degraded("redis was not asked yet; this gateway counts by itself".to_owned())
            }
            Standing::Up => Status::Up("redis".to_owned()),
            Standing::Away(fault) => {
                Status::Degraded(format!("this gateway counts by itself, for redis is away: {fault}"))
            }
        };
        self.health.set(Part::Limits, status);
        for event in
            events(before, now, "limits are counted without redis", "limits are counted in redis again")
        {
            let snapshot = self.cell.current();
            match &event {
                Event::Begins(note) => tracing::warn!("{note}"),
                Event::Ends(note) => tracing::info!("{note}"),
            }
            let (note, begins) = match event {
                Event::Begins(note) => (note, true),
                Event::Ends(note) => (note, false),
            };
            record::limits_store(&self.recorder.audit, clock::now(), snapshot.bundle.id(), begins, &[note]);
        }
    }
}

/// What whoever operates the gateway should know of a shared store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It is away from now on.
    Begins(String),
    /// It is there again.
    Ends(String),
}

/// What happened between two looks. An outage that came and went between them is told of all the same.
pub(crate) fn events(before: Standings, now: Standings, away: &str, back: &str) -> Vec<Event> {
    let mut events = Vec::new();
    let new = now.outages.saturating_sub(before.outages);
    if new > 0 {
        let fault = now.last.map(|fault| format!(": {fault}")).unwrap_or_default();
        let often = if new > 1 { format!(", {new} times in a row") } else { String::new() };
        events.push(Event::Begins(format!("{away}{often}{fault}")));
    }
    if now.now == Standing::Up && now.outages > 0 && (new > 0 || before.now != Standing::Up) {
        events.push(Event::Ends(back.to_owned()));
    }
    events
}

#[cfg(test)]
mod tests {
    use storage::redis::Fault;

    use super::*;

    #[test]
    fn one_event_when_it_begins_and_one_when_it_ends() {
        let (begins, ends) = (
            || Event::Begins("limits are counted without redis: it closed the connection".to_owned()),
            || Event::Ends("limits are counted in redis again".to_owned()),
        );
        let check = |from: (Standing, u64), to: (Standing, u64), expected: Vec<Event>| {
            let [from, to] = [from, to].map(|(now, outages)| Standings {
                now,
                outages,
                last: (outages > 0).then_some(Fault::Gone),
            });
            let found =
                events(from, to, "limits are counted without redis", "limits are counted in redis again");
            assert_eq!(found, expected, "{from:?} {to:?}");
        };
        let (starting, up) = (Standing::Starting, Standing::Up);
        let (gone, late) = (Standing::Away(Fault::Gone), Standing::Away(Fault::Late));
        check((starting, 0), (starting, 0), vec![]);
        check((starting, 0), (up, 0), vec![]);
        check((starting, 0), (gone, 1), vec![begins()]);
        check((up, 0), (gone, 1), vec![begins()]);
        check((gone, 1), (late, 1), vec![]);
        check((gone, 1), (up, 1), vec![ends()]);
        check((up, 1), (up, 1), vec![]);
        check((up, 1), (up, 2), vec![begins(), ends()]);
        check((gone, 1), (gone, 2), vec![begins()]);
        let twice = "limits are counted without redis, 2 times in a row: it closed the connection";
        check((up, 1), (up, 3), vec![Event::Begins(twice.to_owned()), ends()]);
    }
}
