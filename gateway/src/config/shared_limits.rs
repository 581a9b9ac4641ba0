//! `[limits.redis]`: the store that gateways share limits in.

use std::time::Duration;

use super::reader::{Reader, Section};
use super::redis::Named;
use super::settings::SharedLimits;

/// How long a request waits for Redis unless configured otherwise: ten times what one answers in on the same network.
const BUDGET: Duration = Duration::from_millis(5);

impl Reader<'_> {
    /// The store, where there is one. `limits.gateways` means something with it alone.
    pub(super) fn shared_limits(&mut self, limits: &mut Section<'_>) -> Option<SharedLimits> {
        let gateways = self.pick(limits, "gateways", None);
        let gateways_set = gateways.is_some();
        let gateways = self.number(gateways, 1..=1_000).and_then(|number| u32::try_from(number).ok());
        let named = self.redis(limits, BUDGET);
        let is_absent = matches!(named, Named::Absent);
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
                Some(SharedLimits { place, budget, gateways: gateways.unwrap_or(1) })
            }
        }
    }
}
