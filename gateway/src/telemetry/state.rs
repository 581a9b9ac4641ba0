//! How the delivery of a signal goes: counted as it happens, told when somebody looks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::admin::health::{Health, Part, Status};
use crate::admin::metrics::TelemetryCounters;

/// A kind of telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Logs,
    Traces,
    Metrics,
}

impl Signal {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }
}

/// What has become of a signal's items.
pub(super) struct Progress {
    pub(super) signal: Signal,
    counters: TelemetryCounters,
    /// Taken and neither sent nor dropped yet.
    waiting: AtomicU64,
    /// Why the last export failed; `None` while they work.
    failure: Mutex<Option<String>>,
    told: Mutex<Told>,
}

/// Looks without trouble after which it is over: a line when it begins and one when it ends, not two for each batch.
const QUIET_LOOKS: u32 = 8;

/// What was told last.
#[derive(Default)]
struct Told {
    /// Drops that were seen.
    dropped: u64,
    failing: Trouble,
    dropping: Trouble,
    /// Drops before they began.
    dropped_before: u64,
}

/// Something that is told when it begins and when it has ended.
#[derive(Default)]
struct Trouble {
    looks_left: u32,
}

/// What has changed about a [`Trouble`].
enum Change {
    Began,
    Ended,
}

impl Trouble {
    fn is_on(&self) -> bool {
        self.looks_left > 0
    }

    fn look(&mut self, seen: bool) -> Option<Change> {
        let was_on = self.is_on();
        self.looks_left = if seen { QUIET_LOOKS } else { self.looks_left.saturating_sub(1) };
        match (was_on, self.is_on()) {
            (false, true) => Some(Change::Began),
            (true, false) => Some(Change::Ended),
            (false, false) | (true, true) => None,
        }
    }
}

impl Progress {
    pub(super) fn new(signal: Signal, counters: TelemetryCounters) -> Self {
        Self {
            signal,
            counters,
            waiting: AtomicU64::new(0),
            failure: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// An item waits.
    pub(super) fn waits(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// Of those that waited, the collector has taken `sent`, and `dropped` are lost.
    pub(super) fn settled(&self, sent: u64, dropped: u64) {
        self.counters.sent.inc_by(sent);
        self.counters.dropped.inc_by(dropped);
        let settled = sent.saturating_add(dropped);
        // Metrics do not wait; theirs are only counted.
        let less = |waiting: u64| Some(waiting.saturating_sub(settled));
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok();
    }

    /// An export failed.
    pub(super) fn failed(&self, why: String) {
        self.counters.failures.inc();
        *lock(&self.failure) = Some(why);
    }

    /// An export worked.
    pub(super) fn works(&self) {
        lock(&self.failure).take();
    }

    /// Whatever still waits is dropped: nobody will send it.
    pub(super) fn give_up(&self) {
        let left = self.waiting.swap(0, Ordering::Relaxed);
        self.counters.dropped.inc_by(left);
    }

    /// Tells health how it goes, and the log what has begun or ended.
    pub(super) fn tell(&self, health: &Health) {
        let failure = lock(&self.failure).clone();
        let dropped = self.counters.dropped.get();
        let mut told = lock(&self.told);
        let signal = self.signal.name();
        let why = failure.as_deref().unwrap_or_default();
        match told.failing.look(failure.is_some()) {
            Some(Change::Began) => {
                tracing::warn!(
                    signal,
                    why,
                    "telemetry does not arrive; it waits, and too much of it is dropped"
                );
            }
            Some(Change::Ended) => tracing::info!(signal, dropped, "telemetry arrives again"),
            None => {}
        }
        let more = dropped > told.dropped;
        match told.dropping.look(more) {
            Some(Change::Began) => {
                told.dropped_before = told.dropped;
                tracing::warn!(signal, "telemetry is dropped; the audit file has all records");
            }
            Some(Change::Ended) => {
                let items = dropped.saturating_sub(told.dropped_before);
                tracing::warn!(signal, items, "telemetry is no longer dropped");
            }
            None => {}
        }
        told.dropped = dropped;
        let lost = if dropped == 0 { String::new() } else { format!("; {dropped} dropped since the start") };
        let waiting = self.waiting.load(Ordering::Relaxed);
        health.set(
            Part::Telemetry(signal),
            match failure {
                Some(why) => Status::Degraded(format!("does not arrive: {why}; {waiting} waiting{lost}")),
                None if told.dropping.is_on() => Status::Degraded(format!("{waiting} waiting{lost}")),
                None => Status::Up(format!("{waiting} waiting{lost}")),
            },
        );
    }

    /// Tells what the end of the gateway has cost.
    pub(super) fn tell_end(&self) {
        let (signal, dropped) = (self.signal.name(), self.counters.dropped.get());
        let before = lock(&self.told).dropped;
        if dropped > before {
            tracing::warn!(
                signal,
                items = dropped - before,
                "telemetry was dropped at the end; the audit file has all records"
            );
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::metrics::Metrics;

    #[test]
    fn trouble_is_told_when_it_begins_and_once_it_has_been_quiet() {
        let mut trouble = Trouble::default();
        let mut told = String::new();
        for seen in [false, true, true, false, true].into_iter().chain([false; QUIET_LOOKS as usize + 2]) {
            told.push(match trouble.look(seen) {
                Some(Change::Began) => 'b',
                Some(Change::Ended) => 'e',
                None => '.',
            });
        }
        assert_eq!(told, format!(".b...{}e..", ".".repeat(QUIET_LOOKS as usize - 1)));
    }

    #[test]
    fn what_becomes_of_items_is_counted_and_makes_nothing_unready() {
        let metrics = Metrics::new().unwrap();
        let progress = Progress::new(Signal::Logs, metrics.telemetry("logs"));
        let health = Health::new([], Vec::new());
        let told = |expected: &str| {
            progress.tell(&health);
            let report = health.report();
            assert!(report.ready);
            let told = serde_json::to_string(&report.parts["telemetry:logs"]).unwrap();
            assert!(told.contains(expected), "{told}");
        };
        (0..5).for_each(|_| progress.waits());
        told("5 waiting");
        progress.settled(2, 1);
        told("2 waiting; 1 dropped since the start");
        progress.failed("the collector answers 503".to_owned());
        told("does not arrive: the collector answers 503; 2 waiting");
        progress.works();
        progress.give_up();
        told("0 waiting; 3 dropped since the start");
        let text = metrics.text().unwrap();
        assert!(text.contains("cedargate_telemetry_sent_total{signal=\"logs\"} 2"), "{text}");
        assert!(text.contains("cedargate_telemetry_export_failures_total{signal=\"logs\"} 1"), "{text}");
    }
}
