//! The metrics of the admin listener, pushed: the same registry under the same names, read when it is time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, number_data_point,
};
use prometheus::proto::{Metric as Counted, MetricFamily, MetricType};
use prost::Message;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::attributes::{Origin, SCHEMA, now_ns, text};
use super::client::{Client, Outcome};
use super::delivery::{Export, Stop, is_ending, over};
use super::state::Progress;
use crate::admin::metrics::Metrics;

/// Reads and sends the metrics again and again.
pub(super) struct Periodic {
    pub(super) metrics: Arc<Metrics>,
    pub(super) client: Client,
    pub(super) progress: Arc<Progress>,
    pub(super) origin: Origin,
    pub(super) every: Duration,
}

impl Periodic {
    /// Sends until the gateway ends, and then once more.
    pub(super) async fn run(self, mut stop: watch::Receiver<Option<Stop>>) {
        let mut over_by = stop.clone();
        let sends = async {
            let mut ticks = interval(self.every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !is_ending(&stop) {
                tokio::select! {
                    _ = ticks.tick() => {}
                    _ = stop.wait_for(Option::is_some) => {}
                }
                self.send().await;
            }
        };
        tokio::select! {
            () = sends => {}
            () = over(&mut over_by) => {}
        }
    }

    /// One export. One that fails is not repeated: the next holds all that it held.
    async fn send(&self) {
        let export = encode(&self.metrics.gather(), &self.origin);
        match self.client.post(export.body).await {
            Outcome::Taken { refused } => {
                self.progress.works();
                let refused = refused.min(export.items);
                self.progress.settled(export.items - refused, refused);
            }
            // Nothing is lost by it that the next one does not bring.
            Outcome::Refused(why) | Outcome::Later(why, _) => self.progress.failed(why),
        }
    }
}

/// Every metric; the export is counted by data points.
fn encode(families: &[MetricFamily], origin: &Origin) -> Export {
    let now = now_ns();
    let metrics: Vec<Metric> =
        families.iter().filter_map(|family| metric(family, origin.since_ns, now)).collect();
    let items = families.iter().map(|family| family.get_metric().len() as u64).sum();
    let scope_metrics =
        ScopeMetrics { scope: Some(origin.scope.clone()), metrics, schema_url: SCHEMA.to_owned() };
    let resource_metrics = ResourceMetrics {
        resource: Some(origin.resource.clone()),
        scope_metrics: vec![scope_metrics],
        schema_url: SCHEMA.to_owned(),
    };
    let request = ExportMetricsServiceRequest { resource_metrics: vec![resource_metrics] };
    Export { body: Bytes::from(request.encode_to_vec()), items }
}

/// A family; `None` for a kind that the registry has none of.
fn metric(family: &MetricFamily, since: u64, now: u64) -> Option<Metric> {
    let cumulative = AggregationTemporality::Cumulative.into();
    let points = family.get_metric().iter();
    let data = match family.get_field_type() {
        MetricType::COUNTER => Data::Sum(Sum {
            data_points: points
                .map(|counted| point(counted, counted.get_counter().get_value(), since, now))
                .collect(),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        MetricType::GAUGE => Data::Gauge(Gauge {
            data_points: points
                .map(|counted| point(counted, counted.get_gauge().get_value(), 0, now))
                .collect(),
        }),
        MetricType::HISTOGRAM => Data::Histogram(Histogram {
            data_points: points.map(|counted| distribution(counted, since, now)).collect(),
            aggregation_temporality: cumulative,
        }),
        MetricType::SUMMARY | MetricType::UNTYPED => return None,
    };
    let unit = if family.name().ends_with("_seconds") { "s" } else { "" };
    Some(Metric {
        name: family.name().to_owned(),
        description: family.help().to_owned(),
        unit: unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    })
}

fn labels(counted: &Counted) -> Vec<KeyValue> {
    counted.get_label().iter().map(|label| text(label.name(), label.value())).collect()
}

fn point(counted: &Counted, value: f64, start_time_unix_nano: u64, time_unix_nano: u64) -> NumberDataPoint {
    NumberDataPoint {
        attributes: labels(counted),
        start_time_unix_nano,
        time_unix_nano,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

/// Prometheus counts what is at most a bound, OTLP what is between two.
fn distribution(counted: &Counted, start_time_unix_nano: u64, time_unix_nano: u64) -> HistogramDataPoint {
    let histogram = counted.get_histogram();
    let (mut explicit_bounds, mut bucket_counts, mut below) = (Vec::new(), Vec::new(), 0);
    for bucket in histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite()) {
        explicit_bounds.push(bucket.upper_bound());
        bucket_counts.push(bucket.cumulative_count().saturating_sub(below));
        below = bucket.cumulative_count();
    }
    let count = histogram.get_sample_count();
    bucket_counts.push(count.saturating_sub(below));
    HistogramDataPoint {
        attributes: labels(counted),
        start_time_unix_nano,
        time_unix_nano,
        count,
        sum: Some(histogram.get_sample_sum()),
        bucket_counts,
        explicit_bounds,
        ..HistogramDataPoint::default()
    }
}
