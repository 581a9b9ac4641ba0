//! A store that gateways share: kept connected, and told of where people look.

use std::sync::Arc;

use storage::redis::{Standing, Standings};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admin::health::{Health, Part, Status};
use crate::admin::metrics::Metrics;
use crate::clock;
use crate::pipeline::record::{self, Recorder};
use crate::proxy::Gateway;
use crate::snapshot::SnapshotCell;

/// What is said of one store.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// Its place in `/readyz`.
    pub part: &'static Part,
    /// Its gauge.
    pub gauge: fn(&Metrics, bool),
    /// What happens while it is not there.
    pub meanwhile: &'static str,
    /// That it has gone.
    pub away: &'static str,
    /// That it is back.
    pub back: &'static str,
    /// The refusal in the record of its going.
    pub refusal: &'static str,
    /// Whether anybody is refused because of that.
    pub is_grave: bool,
}

/// Who is told how a store is.
struct Tellers {
    words: &'static Words,
    health: Arc<Health>,
    /// Has one event when the store goes away and one when it is back, and the gauge.
    recorder: Arc<Recorder>,
    /// Whose bundle decides meanwhile.
    cell: Arc<SnapshotCell>,
}

/// Keeps a store connected by `tending`, and tells how it is, until `end` says true.
pub fn tended(
    words: &'static Words,
    standing: watch::Receiver<Standings>,
    tending: impl Future<Output = ()> + Send + 'static,
    (gateway, health): (&Gateway, &Arc<Health>),
    end: &watch::Receiver<bool>,
) -> JoinHandle<()> {
    let (pipeline, recorder) = gateway.pipeline();
    let (health, recorder, cell) = (health.clone(), recorder.clone(), pipeline.snapshot.clone());
    let (tellers, mut end) = (Tellers { words, health, recorder, cell }, end.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = tending => {}
            () = tellers.follow(standing) => {}
            _ = end.wait_for(|end| *end) => {}
        }
    })
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
        let words = self.words;
        (words.gauge)(&self.recorder.metrics, now.now == Standing::Up);
        let meanwhile = words.meanwhile;
        let status = match now.now {
            Standing::Starting => Status::Degraded(format!("redis was not asked yet; {meanwhile}")),
            Standing::Up => Status::Up("redis".to_owned()),
            Standing::Away(fault) => Status::Degraded(format!("{meanwhile}, for redis is away: {fault}")),
        };
        self.health.set(words.part.clone(), status);
        for event in events(before, now, words.away, words.back) {
            let snapshot = self.cell.current();
            let (note, refusal) = match event {
                Event::Begins(note) => (note, Some(words.refusal)),
                Event::Ends(note) => (note, None),
            };
            match refusal {
                Some(_) if words.is_grave => tracing::error!("{note}"),
                Some(_) => tracing::warn!("{note}"),
                None => tracing::info!("{note}"),
            }
            record::shared_store(&self.recorder.audit, clock::now(), snapshot.bundle.id(), refusal, &[note]);
        }
    }
}

/// What whoever operates the gateway should know of a shared store.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    /// It is away from now on.
    Begins(String),
    /// It is there again.
    Ends(String),
}

/// What happened between two looks. An outage that came and went between them is told of all the same.
fn events(before: Standings, now: Standings, away: &str, back: &str) -> Vec<Event> {
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
