//! Gateways with limits of their own, in front of one upstream.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::Failure;
use crate::gateways::{Gateways, LIMITS_UP, Running};
use crate::load::Target;
use crate::world::metrics;

/// The metric that tells what became of the questions to Redis.
const ASKED: &str = "cedargate_limits_redis_total{result=";

/// What gateways are started from.
pub(super) struct House(Gateways);

/// A gateway that serves a service with a key.
pub(super) struct Serving {
    /// Itself.
    pub(super) running: Running,
    /// What to ask of it.
    pub(super) target: Target,
}

impl House {
    /// With keys of this run.
    ///
    /// # Errors
    /// The system gives no folder or no random bytes.
    pub(super) fn new(binary: PathBuf, upstream: SocketAddr) -> Result<Self, Failure> {
        Ok(Self(Gateways::new(binary, upstream)?))
    }

    /// The same, each gateway of which is started to be counted.
    pub(super) fn profiled(self, folder: PathBuf) -> Self {
        Self(self.0.profiled(folder))
    }

    /// Where one that is counted leaves its profile.
    pub(super) fn profile(&self, name: &str) -> Option<PathBuf> {
        self.0.profile(name)
    }

    /// Starts a gateway on one core with these lines before all tables and these of `[limits]`, and gives a service a key.
    ///
    /// # Errors
    /// It does not start, or gives no key.
    pub(super) fn start(
        &self,
        core: usize,
        name: &str,
        first: &str,
        limits: &str,
    ) -> Result<Serving, Failure> {
        let (running, target) = self.0.start_serving(core, name, first, &format!("[limits]\n{limits}"))?;
        Ok(Serving { running, target })
    }
}

impl Serving {
    /// Waits until it asks Redis.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn asks_redis(&self) -> Result<(), Failure> {
        self.running.tells(LIMITS_UP)
    }

    /// The share of questions to Redis that were not answered in time: with anything but 0, the gateway
    /// has counted by itself meanwhile, and the other rows tell too little.
    ///
    /// # Errors
    /// It tells nothing of them.
    pub(super) fn unanswered(&self) -> Result<f64, Failure> {
        self.others_than("\"answered\"")
    }

    /// The share of requests that asked Redis where leases should have been enough.
    ///
    /// # Errors
    /// It tells nothing of them.
    pub(super) fn not_leased(&self) -> Result<f64, Failure> {
        self.others_than("\"leased\"")
    }

    /// The share of requests with another result than this.
    fn others_than(&self, wanted: &str) -> Result<f64, Failure> {
        let text = metrics(self.running.admin)?;
        let (mut all, mut others) = (0_u64, 0);
        for line in text.lines().filter_map(|line| line.strip_prefix(ASKED)) {
            let (result, count) = line.split_once("} ").ok_or("a metric without a value")?;
            let count: u64 = count.trim().parse()?;
            all += count;
            others += if result == wanted { 0 } else { count };
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of one run, far below 2^52")]
        Ok(others as f64 / all.max(1) as f64)
    }
}
