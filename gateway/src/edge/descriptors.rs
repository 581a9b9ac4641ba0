//! Descriptors for all that may be open at once.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::settings::Connections;

/// Descriptors beside the clients' connections and the upstreams' for requests under way: the upstreams' idle
/// ones (1,024 at most), and the store, the logs, the listeners, the control socket and health checks.
const HOUSE: u64 = 1_024 + 256;
/// Connections that a gateway has in any case.
const CONNECTIONS_MIN: u32 = 64;

/// Raises the process's bound of descriptors as far as it may, and says how many connections then leave enough
/// for the rest of the house.
#[must_use]
pub fn connections_max(bounds: &Connections) -> u32 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let available = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the bound of open descriptors could not be raised");
            limit.current
        }
    };
    let max = fitting(bounds, available);
    if max < bounds.max {
        tracing::warn!(
            configured = bounds.max,
            max,
            descriptors = available,
            "fewer connections are taken than configured: raise the limit of open files (LimitNOFILE, ulimit -n)"
        );
    }
    max
}

/// How many connections fit under a bound of descriptors; no bound fits all.
fn fitting(bounds: &Connections, available: Option<u64>) -> u32 {
    let Some(available) = available else { return bounds.max };
    let left = available.saturating_sub(HOUSE).saturating_sub(bounds.requests_max.into());
    bounds.max.min(u32::try_from(left).unwrap_or(u32::MAX)).max(CONNECTIONS_MIN.min(bounds.max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_the_house_keeps_its_descriptors() {
        let bounds = Connections { max: 10_000, requests_max: 4_000, ..Connections::default() };
        assert_eq!(fitting(&bounds, None), 10_000);
        assert_eq!(fitting(&bounds, Some(1_048_576)), 10_000);
        assert_eq!(fitting(&bounds, Some(HOUSE + 14_000)), 10_000);
        assert_eq!(fitting(&bounds, Some(HOUSE + 13_999)), 9_999);
        assert_eq!(fitting(&bounds, Some(256)), CONNECTIONS_MIN);
        assert_eq!(fitting(&Connections { max: 3, ..bounds }, Some(256)), 3);
    }
}
