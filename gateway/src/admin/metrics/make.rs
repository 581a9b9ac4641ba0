//! How metrics are made.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Upper bounds of the duration histogram, in seconds: from a refusal in memory to a slow upload.
const DURATION_BOUNDS_S: [f64; 12] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Upper bounds of a stage's histogram, in seconds: most stages take microseconds.
const STAGE_BOUNDS_S: [f64; 8] = [0.000_005, 0.000_02, 0.000_1, 0.000_5, 0.002, 0.01, 0.1, 1.0];

/// Upper bounds of what requests wait for the shared store of counters, in seconds: around its usual budget.
const STORE_BOUNDS_S: [f64; 10] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.007, 0.01, 0.1, 1.0];

/// Upper bounds of how far past a budget requests have waited, in seconds: 2 ms are what a budget may be overrun by.
const OVERRUN_BOUNDS_S: [f64; 7] = [0.000_5, 0.001, 0.002, 0.005, 0.01, 0.1, 1.0];

/// What became of telemetry, by signal.
#[derive(Clone, Debug)]
pub(super) struct Telemetry {
    pub(super) sent: IntCounterVec,
    pub(super) dropped: IntCounterVec,
    pub(super) failures: IntCounterVec,
}

/// How the shared store of counters does.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) up: IntGauge,
    pub(super) asked: IntCounterVec,
    pub(super) waited: Histogram,
    pub(super) overrun: Histogram,
}

/// Makes metrics of the gateway's name, each registered as it is made: none can be counted and not told.
pub(super) struct Maker(pub(super) Registry);

impl Maker {
    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.registered(IntCounter::with_opts(opts(name, help))?)
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.registered(IntCounterVec::new(opts(name, help), labels)?)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.registered(IntGauge::with_opts(opts(name, help))?)
    }

    pub(super) fn gauges(
        &self,
        name: &str,
        help: &str,
        label: &str,
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.registered(IntGaugeVec::new(opts(name, help), &[label])?)
    }

    pub(super) fn histogram(&self) -> Result<Histogram, prometheus::Error> {
        let opts = opts("request_duration_seconds", "From the request line to the end.");
        self.registered(Histogram::with_opts(HistogramOpts::from(opts).buckets(DURATION_BOUNDS_S.to_vec()))?)
    }

    pub(super) fn stages(&self) -> Result<HistogramVec, prometheus::Error> {
        let opts = HistogramOpts::from(opts("stage_duration_seconds", "Time spent in a stage."));
        self.registered(HistogramVec::new(opts.buckets(STAGE_BOUNDS_S.to_vec()), &["stage"])?)
    }

    pub(super) fn telemetry(&self) -> Result<Telemetry, prometheus::Error> {
        Ok(Telemetry {
            sent: self.counters(
                "telemetry_sent_total",
                "Telemetry that the collector has taken.",
                &["signal"],
            )?,
            dropped: self.counters(
                "telemetry_dropped_total",
                "Telemetry that was lost; the audit file has all records.",
                &["signal"],
            )?,
            failures: self.counters(
                "telemetry_export_failures_total",
                "Exports that failed.",
                &["signal"],
            )?,
        })
    }

    pub(super) fn limits(&self) -> Result<Shared, prometheus::Error> {
        let up = self.gauge("limits_redis_up", "1 while limits are counted in the shared store.")?;
        let help = "Questions to the shared store of counters, by what became of them.";
        let asked = self.counters("limits_redis_total", help, &["result"])?;
        let waited = opts("limits_redis_seconds", "What requests have waited for the store of counters.");
        let overrun =
            opts("limits_redis_overrun_seconds", "How far past their budget requests have waited for it.");
        self.shared(up, asked, waited, overrun)
    }

    pub(super) fn shadowed(&self) -> Result<IntCounterVec, prometheus::Error> {
        let help = "Requests that a limit which is only tried out would have refused.";
        self.counters("limits_shadowed_total", help, &["limit"])
    }

    pub(super) fn evicted(&self) -> Result<IntCounter, prometheus::Error> {
        let help = "Counters of limits that were dropped before they had recovered.";
        self.counter("limits_evicted_total", help)
    }

    pub(super) fn shared_sessions(&self) -> Result<Shared, prometheus::Error> {
        let up = self.gauge("sessions_redis_up", "1 while the shared store of sessions answers.")?;
        let help = "Questions to the shared store of sessions, by what became of them.";
        let asked = self.counters("sessions_redis_total", help, &["result"])?;
        let waited = opts("sessions_redis_seconds", "What requests have waited for the store of sessions.");
        let overrun =
            opts("sessions_redis_overrun_seconds", "How far past their budget requests have waited for it.");
        self.shared(up, asked, waited, overrun)
    }

    fn shared(
        &self,
        up: IntGauge,
        asked: IntCounterVec,
        waited: Opts,
        overrun: Opts,
    ) -> Result<Shared, prometheus::Error> {
        let (waited, overrun) =
            (self.timed(waited, &STORE_BOUNDS_S)?, self.timed(overrun, &OVERRUN_BOUNDS_S)?);
        Ok(Shared { up, asked, waited, overrun })
    }

    fn timed(&self, opts: Opts, bounds_s: &[f64]) -> Result<Histogram, prometheus::Error> {
        let opts = HistogramOpts::from(opts).buckets(bounds_s.to_vec());
        self.registered(Histogram::with_opts(opts)?)
    }

    fn registered<M: Collector + Clone + 'static>(&self, metric: M) -> Result<M, prometheus::Error> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("cedargate")
}
