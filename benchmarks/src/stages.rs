//! Where a request's time goes, by the gateway's own count.

use std::net::SocketAddr;

use crate::Failure;
use crate::figures::Figure;
use crate::world::metrics;

/// The metric's name.
const METRIC: &str = "cedargate_stage_duration_seconds";

/// The mean of each stage since the gateway has started, in microseconds of the clock: a stage that waits for the
/// upstream or the scheduler counts its waiting.
///
/// # Errors
/// The metrics are not there.
pub(crate) fn of(name: &str, admin: SocketAddr) -> Result<Vec<Figure>, Failure> {
    let text = metrics(admin)?;
    let figures: Vec<Figure> = text
        .lines()
        .filter_map(|line| line.strip_prefix(METRIC)?.strip_prefix("_sum{stage=\"")?.split_once("\"} "))
        .filter_map(|(stage, sum)| {
            let count = format!("{METRIC}_count{{stage=\"{stage}\"}} ");
            let count: f64 = text.lines().find_map(|line| line.strip_prefix(&count))?.trim().parse().ok()?;
            let sum: f64 = sum.trim().parse().ok()?;
            (count > 0.0)
                .then(|| Figure::once(format!("proxy.{name}.stage.{stage}"), sum * 1e6 / count, "us"))
        })
        .collect();
    if figures.is_empty() { Err("the gateway tells no stage".into()) } else { Ok(figures) }
}
