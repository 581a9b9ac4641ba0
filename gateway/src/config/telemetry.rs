//! What is sent to a collector, where, and how much of it may wait.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use engine::trace::TraceId;

use super::secret::Secret;

/// Telemetry over OTLP. A signal without a destination is not made.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// Where audit events go.
    pub logs: Option<Destination>,
    /// Where spans go.
    pub traces: Option<Destination>,
    /// Where metrics go.
    pub metrics: Option<Destination>,
    /// How audit events are put together.
    pub log_batches: Batches,
    /// How spans are put together.
    pub span_batches: Batches,
    /// Between two exports of the metrics.
    pub metrics_every: Duration,
    /// Which requests leave spans.
    pub sampler: Sampler,
    /// `service.name`, and what else the operator says of this service, by name.
    pub resource: Vec<(String, String)>,
}

/// One signal's way to the collector.
#[derive(Clone)]
pub struct Destination {
    /// The whole URL.
    pub url: reqwest::Url,
    /// Sent with every export; they hold the collector's credentials.
    pub headers: Vec<(http::HeaderName, Secret<String>)>,
    /// For one export.
    pub timeout: Duration,
    /// PEM file of the authorities that may have signed the collector's certificate; `None` takes the system's.
    pub certificate: Option<PathBuf>,
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Destination({}, headers not shown)", self.url)
    }
}

/// How items are put together before they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batches {
    /// Items that may wait. What finds it full is dropped and counted.
    pub queue_max: usize,
    /// Items of one export.
    pub batch_max: usize,
    /// How long an item may wait for others.
    pub delay: Duration,
}

/// Which requests leave spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Whether a caller's own decision holds.
    pub follows_caller: bool,
    /// What is decided where it does not hold, or nobody called.
    pub root: Root,
}

/// What a sampler decides by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// Every trace.
    Always,
    /// None.
    Never,
    /// The traces whose id is below this bound: the same ones in every service that samples by the same share.
    Below(u64),
}

impl Default for Sampler {
    /// Keeps what the caller keeps: right where no spans leave, because what is behind us may keep some.
    fn default() -> Self {
        Self { follows_caller: true, root: Root::Never }
    }
}

impl Sampler {
    /// Whether a request of this trace leaves spans; `caller` is what its caller decided.
    #[must_use]
    pub fn keeps(self, caller: Option<bool>, trace: TraceId) -> bool {
        match (caller, self.root) {
            (Some(kept), _) if self.follows_caller => kept,
            (_, Root::Always) => true,
            (_, Root::Never) => false,
            (_, Root::Below(bound)) => {
                let low = trace.0.last_chunk().copied().map_or(u64::MAX, u64::from_be_bytes);
                low >> 1 < bound
            }
        }
    }
}

impl Root {
    /// A share of all traces, from 0 to 1.
    #[must_use]
    pub fn share(of_one: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of at most 1 of 2^63 is a whole number of 64 bits"
        )]
        let bound = (of_one.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64;
        Self::Below(bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(low: u64) -> TraceId {
        let mut bytes = [9; 16];
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        TraceId(bytes)
    }

    #[test]
    fn a_share_of_the_traces_is_kept_whatever_made_their_ids() {
        let check = |share: f64, kept: usize| {
            let sampler = Sampler { follows_caller: true, root: Root::share(share) };
            // Weyl's sequence: evenly spread, the same in every run.
            let ids = (0..100_000_u64).map(|n| id(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            let found = ids.filter(|id| sampler.keeps(None, *id)).count();
            assert!(found.abs_diff(kept) <= 20, "{share}: {found}");
        };
        check(0.0, 0);
        check(0.01, 1_000);
        check(0.5, 50_000);
        check(1.0, 100_000);
    }

    #[test]
    fn a_caller_decides_where_the_sampler_follows_it() {
        let check = |follows_caller, root, caller, kept| {
            assert_eq!(Sampler { follows_caller, root }.keeps(caller, id(u64::MAX)), kept);
        };
        check(true, Root::Never, Some(true), true);
        check(true, Root::Always, Some(false), false);
        check(true, Root::Always, None, true);
        check(true, Root::share(0.01), None, false);
        check(false, Root::Never, Some(true), false);
        check(false, Root::Always, Some(false), true);
        check(false, Root::share(0.01), Some(true), false);
    }
}
