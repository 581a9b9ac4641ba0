//! The store of counters that gateways share.

use std::sync::Arc;

use storage::counters::{Counters, RedisSettings};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admin::health::{Health, Part};
use crate::admin::metrics::Metrics;
use crate::clock;
use crate::config::Config;
use crate::proxy::Gateway;
use crate::shared_store::{self, Words};

/// The counters in the store that gateways share, where there is one.
#[must_use]
pub fn counters(config: &Config, metrics: &Metrics) -> Option<Arc<Counters>> {
    let settings = config.shared_limits.as_ref()?;
    let metrics = metrics.limits_store();
    let redis = RedisSettings {
        place: settings.place.clone(),
        budget: settings.budget,
        gateways: settings.gateways,
        leases: settings.leases,
        memory_bytes: config.limits.memory_bytes,
        clock: clock::now,
    };
    let observer = Box::new(move |answered, waited| metrics.asked(answered, waited));
    Some(Arc::new(Counters::redis(redis, observer)))
}

/// As a detail in `/readyz`: limits hold without the store, so it is never a reason to send no requests here.
static WORDS: Words = Words {
    part: &Part::Limits,
    gauge: Metrics::limits_store_up,
    meanwhile: "this gateway counts by itself",
    away: "limits are counted without redis",
    back: "limits are counted in redis again",
    refusal: "limits_away",
    is_grave: false,
};

/// Gives back what is leased and was not spent: no request is under way any more. What the store does not take within a
/// second is lost, and comes back by itself as what is spent does.
pub async fn give_back(gateway: &Gateway) {
    if let Some(counters) = &gateway.pipeline().0.shared {
        counters.give_back(clock::now()).await;
    }
}

/// Keeps the store connected, and tells how it is, until `end` says true; nothing where there is none.
#[must_use]
pub fn tended(
    gateway: &Gateway,
    health: &Arc<Health>,
    end: &watch::Receiver<bool>,
) -> Option<JoinHandle<()>> {
    let counters = gateway.pipeline().0.shared.clone()?;
    let standing = counters.standing()?;
    let tending = async move { counters.tend().await };
    Some(shared_store::tended(&WORDS, standing, tending, (gateway, health), end))
}
