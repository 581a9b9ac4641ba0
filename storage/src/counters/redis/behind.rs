//! What nobody waits for: the store is told what was counted without it, and has back what is idle of what was leased.

use engine::time::UnixMillis;

use super::super::Take;
use super::leases::{Ahead, Back};
use super::owing::{self, OwnKey};
use super::{BEHIND, Redis};
use crate::redis::{Fault, Link};

/// Keys that are merged, or given back, in one question. Redis does nothing else meanwhile, and requests of every gateway wait
/// behind it: a key takes it some 20 µs of a rate and 50 of a window, so that these take as long as two requests that
/// have a few limits each. The next question goes when this one is answered, so that requests come in between: two under way at once
/// would be executed one after the other before anybody else's, and all gateways merge at the same time after an outage.
const MERGED_AT_ONCE: usize = 8;
/// Keys that are looked through at a time for those that the store has to be told of: few enough to hold up no thread.
const LOOKED_AT_ONCE: usize = 1_024;

impl Redis {
    /// What nobody waits for: the store is told what was counted without it, and has idle leases back.
    pub(super) async fn brought_up_to_date(&self, link: &Link) -> Result<(), Fault> {
        self.merge(link).await?;
        let now = (self.settings.clock)();
        self.give_back(link, self.at(now), now).await
    }

    /// Gives all leases back, for this gateway stops. It may take a second.
    pub(in super::super) async fn leave(&self, now: UnixMillis) {
        let Some(link) = self.link() else { return };
        // At the end of time every lease is idle.
        let given = tokio::time::timeout(BEHIND, self.give_back(&link, u64::MAX, now)).await;
        if let Err(fault) = given.unwrap_or(Err(Fault::Late)) {
            tracing::warn!(%fault, "what was leased of limits could not be given back; it counts as spent");
        }
    }

    /// Gives the leases back that are idle at a time of this gateway's own clock. What the store does not take is lost, and
    /// comes back by itself as what is spent does.
    pub(super) async fn give_back(&self, link: &Link, at: u64, now: UnixMillis) -> Result<(), Fault> {
        let Some(leases) = &self.leases else { return Ok(()) };
        loop {
            let idle = leases.idle(at, MERGED_AT_ONCE);
            if idle.is_empty() {
                return Ok(());
            }
            let takes: Vec<Take<'_>> = idle.iter().map(|(key, _)| key.merging()).collect();
            let back = |(take, (_, back)): (&Take<'_>, &(_, Back))| {
                (self.hash(take), Ahead { lease: 0, back: Some(*back) })
            };
            let along = self.along(&takes, takes.iter().zip(&idle).map(back), now);
            self.ask(link, &takes, &along, now, BEHIND).await?;
        }
    }

    /// Tells the store what was counted without it and is not over.
    pub(super) async fn merge(&self, link: &Link) -> Result<(), Fault> {
        // No more than there are now: what comes meanwhile has the next look.
        for _ in 0..owing::KEYS_MAX.div_ceil(LOOKED_AT_ONCE) {
            let some = self.owing.some(LOOKED_AT_ONCE);
            if some.is_empty() {
                break;
            }
            let now = (self.settings.clock)();
            let is_owing =
                |(hash, key): &([u64; 2], OwnKey)| self.memory.is_owing(*hash, &key.merging(), now);
            let mut untold: Vec<_> = some.into_iter().filter(is_owing).collect();
            while !untold.is_empty() {
                let next = untold.split_off(untold.len().saturating_sub(MERGED_AT_ONCE));
                if let Err(fault) = self.tell(link, &next).await {
                    self.owing.put_back(next);
                    self.owing.put_back(untold);
                    return Err(fault);
                }
            }
            // Where all of it was over, requests come in between as well.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Tells the store of some keys, in one question.
    async fn tell(&self, link: &Link, keys: &[([u64; 2], OwnKey)]) -> Result<(), Fault> {
        let takes: Vec<Take<'_>> = keys.iter().map(|(_, key)| key.merging()).collect();
        let now = (self.settings.clock)();
        let unleased = keys.iter().map(|(hash, _)| (*hash, Ahead::default()));
        let along = self.along(&takes, unleased, now);
        self.ask(link, &takes, &along, now, BEHIND).await.map(drop)
    }
}
