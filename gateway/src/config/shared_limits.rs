//! `[limits.redis]`: the store that gateways share limits in.

use std::time::Duration;

use storage::counters::LeaseSettings;

use super::reader::{Reader, Section};
use super::redis::Named;
use super::settings::SharedLimits;

/// How long a request waits for Redis unless configured otherwise: ten times what one answers in on the same network.
const BUDGET: Duration = Duration::from_millis(5);
/// After how long what is left of an idle lease goes back unless configured otherwise: longer than between two requests
/// of whoever asks often, and short beside a period.
const LEASE_IDLE: Duration = Duration::from_secs(1);
const LEASE_IDLES: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

impl Reader<'_> {
    /// The store, where there is one. `limits.gateways` means something with it alone.
    pub(super) fn shared_limits(&mut self, limits: &mut Section<'_>) -> Option<SharedLimits> {
        let gateways = self.pick(limits, "gateways", None);
        let gateways_set = gateways.is_some();
        let gateways = self.number(gateways, 1..=1_000).and_then(|number| u32::try_from(number).ok());
        let leases = self.leases(limits);
        let named = self.redis(limits, BUDGET);
        let is_absent = matches!(named, Named::Absent);
        if is_absent && leases.is_some() {
            let message = "`limits.lease_percent` does nothing without `limits.redis`: nobody is asked";
            self.notices.push(message.to_owned());
        }
        if is_absent && gateways_set {
            self.notices.push(
                "`limits.gateways` does nothing without `limits.redis`: every gateway counts for itself"
                    .to_owned(),
            );
        }
        if !is_absent && !gateways_set {
            self.notices.push(
                "`limits.gateways` is not set: while Redis is away, each gateway enforces the whole of every limit".to_owned(),
            );
        }
        match named {
            Named::Absent | Named::Faulty => None,
            Named::There(place, budget) => {
                Some(SharedLimits { place, budget, gateways: gateways.unwrap_or(1), leases })
            }
        }
    }

    /// How much of a limit each gateway may take ahead; nothing unless it is configured.
    fn leases(&mut self, limits: &mut Section<'_>) -> Option<LeaseSettings> {
        let percent = self.pick(limits, "lease_percent", None);
        let percent = self.number(percent, 0..=10).and_then(|number| u32::try_from(number).ok());
        let idle = self.pick(limits, "lease_idle", None);
        let idle = self.duration(idle, LEASE_IDLES).unwrap_or(LEASE_IDLE);
        percent.filter(|percent| *percent > 0).map(|percent| LeaseSettings { percent, idle })
    }
}
