//! Counters in a real redis-server of the test's own.

use std::sync::Arc;

use engine::time::UnixMillis;

use super::RedisSettings;
use crate::counters::Counters;
use crate::redis::server::{PATIENCE, Server, place};
use crate::redis::{Observer, RedisAddress, RedisPlace, Standing, Standings};

impl Server {
    /// Settings for it, with a budget that no machine exceeds by itself.
    pub(crate) fn settings(&self) -> RedisSettings {
        of_place(self.place())
    }

    /// Counters in it that are tended and asked already.
    pub(crate) async fn counters(&self, change: impl FnOnce(&mut RedisSettings)) -> Arc<Counters> {
        let mut settings = self.settings();
        change(&mut settings);
        let counters = tended(settings, Box::new(|_, _| {}));
        reaches(&counters, |standings| standings.now == Standing::Up).await;
        counters
    }
}

/// Settings of a test.
pub(crate) fn settings(address: RedisAddress) -> RedisSettings {
    of_place(place(address))
}

fn of_place(place: RedisPlace) -> RedisSettings {
    RedisSettings {
        place,
        budget: PATIENCE,
        gateways: 1,
        leases: None,
        memory_bytes: 64 * 1024,
        clock: || UnixMillis(1_800_000_000_000),
        given_time: false,
    }
}

/// Counters that are tended from now on.
pub(crate) fn tended(settings: RedisSettings, observer: Observer) -> Arc<Counters> {
    let counters = Arc::new(Counters::redis(settings, observer));
    let tending = counters.clone();
    tokio::spawn(async move { tending.tend().await });
    counters
}

/// Waits until the store stands so.
pub(crate) async fn reaches(counters: &Counters, wanted: impl Fn(&Standings) -> bool) -> Standings {
    let mut standing = counters.standing().unwrap();
    let waited = tokio::time::timeout(PATIENCE, standing.wait_for(|standings| wanted(standings))).await;
    let last = *counters.standing().unwrap().borrow();
    *waited.unwrap_or_else(|_| panic!("waited in vain: {last:?}")).unwrap()
}
