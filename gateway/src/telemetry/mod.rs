//! Telemetry over OTLP: audit events as log records, spans of sampled requests, metrics.
//!
//! Nothing of it is on a request's way. The audit log's writer hands each event on after its line ([`Telemetry::mirror`])
//! into a bounded queue, and one thread of its own puts batches together and sends them. A collector that is away, slow
//! or of another mind costs what finds the queue full: it is dropped, counted, and told once when it begins and once
//! when it ends. The audit file stays the truth.
//!
//! The program's own log is not sent. It is told from what libraries say, and pingora's lines can quote headers.

mod attributes;
mod client;
mod delivery;
mod logs;
mod metrics;
mod queue;
mod state;
mod traces;
mod wire;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::audit::{AuditEvent, EventKind};
use storage::audit_log::Mirror;
use tokio::sync::{oneshot, watch};

use crate::admin::health::Health;
use crate::admin::metrics::Metrics;
use crate::config::telemetry::{Destination, Sampler, Telemetry as Settings};
use attributes::Origin;
use client::{Client, ClientError};
use delivery::{Delivery, Encode, Stop};
use queue::Queue;
use state::{Progress, Signal};

/// How long what waits may take to be sent when the gateway ends.
const FLUSH: Duration = Duration::from_secs(3);

/// An event on its way, moved from hand to hand as a pointer.
type Event = Box<AuditEvent>;

/// Telemetry that runs, or none.
pub struct Telemetry {
    logs: Option<Arc<Queue<Event>>>,
    traces: Option<Arc<Queue<Event>>>,
    sampler: Sampler,
    progress: Vec<Arc<Progress>>,
    stop: watch::Sender<Option<Stop>>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

/// Why telemetry cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// No client for a destination.
    #[error("a client for the collector cannot be made")]
    Client(#[from] ClientError),
    /// No thread, or no runtime on it.
    #[error("the telemetry thread cannot be started")]
    Thread(#[from] io::Error),
}

impl Telemetry {
    /// Begins what the settings ask for; without any, nothing runs and nothing is paid.
    ///
    /// # Errors
    /// A certificate cannot be read, or the thread cannot be started.
    pub fn begin(settings: Option<&Settings>, metrics: &Arc<Metrics>) -> Result<Self, TelemetryError> {
        let (stop, stopping) = watch::channel(None);
        let mut this = Self {
            logs: None,
            traces: None,
            sampler: Sampler::default(),
            progress: Vec::new(),
            stop,
            ended: Mutex::default(),
        };
        let Some(settings) = settings else { return Ok(this) };
        this.sampler = settings.sampler;
        let origin = Origin::new(&settings.resource);
        let mut work = Work { items: Vec::new(), metrics: None };
        let mut deliver =
            |this: &mut Self, to: &Option<Destination>, batches, signal, encode: Encode<Event>| {
                let Some(to) = to else { return Ok::<_, ClientError>(None) };
                let (queue, progress) = (Queue::new(batches), this.follow(signal, metrics));
                let (client, origin) = (Client::new(to)?, origin.clone());
                work.items.push(Delivery { queue: queue.clone(), client, progress, encode, origin });
                Ok(Some(queue))
            };
        let (logs, spans) = (settings.log_batches, settings.span_batches);
        this.logs = deliver(&mut this, &settings.logs, logs, Signal::Logs, logs::encode)?;
        this.traces = deliver(&mut this, &settings.traces, spans, Signal::Traces, traces::encode)?;
        if let Some(to) = &settings.metrics {
            work.metrics = Some(this.periodic(to, settings.metrics_every, metrics, origin)?);
        }
        let ended = work.begin(&stopping)?;
        this.ended = Mutex::new(Some(ended));
        Ok(this)
    }

    /// Which requests leave spans.
    #[must_use]
    pub fn sampler(&self) -> Sampler {
        self.sampler
    }

    /// Takes every event that the audit log has written; `None` where nobody waits for them.
    #[must_use]
    pub fn mirror(self: &Arc<Self>) -> Option<Mirror> {
        let this = (self.logs.is_some() || self.traces.is_some()).then(|| Arc::clone(self))?;
        Some(Box::new(move |event| this.take(event)))
    }

    /// Tells how it goes, and logs what has begun or ended since the last time.
    pub fn tell(&self, health: &Health) {
        self.progress.iter().for_each(|progress| progress.tell(health));
    }

    /// Sends what waits, for at most a few seconds, and ends. What could not be sent is counted and told.
    pub async fn close(&self) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(ended) = ended else { return };
        self.stop.send_replace(Some(Stop::within(FLUSH)));
        // A little more than the worker allows itself: it counts what it leaves.
        if tokio::time::timeout(FLUSH + Duration::from_secs(1), ended).await.is_err() {
            tracing::warn!("the telemetry thread did not end in time");
        }
        self.progress.iter().for_each(|progress| progress.tell_end());
    }

    fn take(&self, event: Event) {
        if let Some(traces) = &self.traces
            && event.trace.sampled
            && event.kind == EventKind::Request
        {
            self.put(traces, Signal::Traces, event.clone());
        }
        if let Some(logs) = &self.logs {
            self.put(logs, Signal::Logs, event);
        }
    }

    fn put(&self, queue: &Queue<Event>, signal: Signal, event: Event) {
        let Some(progress) = self.progress.iter().find(|progress| progress.signal == signal) else { return };
        // Counted first: it may be sent before this thread goes on.
        progress.waits();
        if !queue.push(event) {
            progress.settled(0, 1);
        }
    }

    fn follow(&mut self, signal: Signal, metrics: &Metrics) -> Arc<Progress> {
        let progress = Arc::new(Progress::new(signal, metrics.telemetry(signal.name())));
        self.progress.push(progress.clone());
        progress
    }

    fn periodic(
        &mut self,
        to: &Destination,
        every: Duration,
        metrics: &Arc<Metrics>,
        origin: Origin,
    ) -> Result<metrics::Periodic, ClientError> {
        Ok(metrics::Periodic {
            metrics: metrics.clone(),
            client: Client::new(to)?,
            progress: self.follow(Signal::Metrics, metrics),
            origin,
            every,
        })
    }
}

/// What the telemetry thread does.
struct Work {
    items: Vec<Delivery<Event>>,
    metrics: Option<metrics::Periodic>,
}

impl Work {
    /// A thread and a runtime of its own: what it does is never in the way of a request's task, nor the reverse.
    fn begin(self, stop: &watch::Receiver<Option<Stop>>) -> io::Result<oneshot::Receiver<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel();
        let (stop, stop_metrics) = (stop.clone(), stop.clone());
        std::thread::Builder::new().name("telemetry".into()).spawn(move || {
            runtime.block_on(async move {
                let items = self.items.into_iter().map(|delivery| delivery.run(stop.clone()));
                let metrics = async {
                    if let Some(metrics) = self.metrics {
                        metrics.run(stop_metrics).await;
                    }
                };
                tokio::join!(futures_util::future::join_all(items), metrics);
            });
            // Nobody waits any more where closing gave up.
            end.send(()).ok();
        })?;
        Ok(ended)
    }
}
