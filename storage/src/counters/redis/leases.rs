//! Leases: some of a limit that is asked for often is taken ahead, in the same question, and spent here without asking.
//!
//! What is leased is taken from the store already, so that gateways together never spend more than it has granted. What
//! is spent here is spent later than it was taken: over a span of time, one gateway may let through what it held at the
//! span's beginning besides, and that is its share of the limit at most. A sliding window's lease ends with the part of
//! the period that it was counted in, and so adds nothing to any period.
//!
//! A key has a lease when it is asked for again before it has been idle: of 1, then of twice as many each time, up to the
//! share; and the store grants less and less as a limit comes to its end. What is left of an idle one goes back.

use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::limit::Rate;
use engine::window::width_ms;
use smallvec::SmallVec;

use super::super::Take;
use super::super::hashed::ByKey;
use super::owing::OwnKey;

const SHARDS: usize = 64;
/// Keys of a shard: 16,384 in all, some 200 bytes each. A key past them has no lease, and asks each time.
const KEYS_MAX: usize = 256;
/// Parts of a window that are shorter end before a lease of them is worth its while.
const PART_MIN_MS: u64 = 100;
/// Few requests take from more limits.
const TOGETHER: usize = 4;
/// What a whole millisecond leaves open at each end of a lease: when it began, and when it is looked at.
const ROUNDING_MS: u64 = 2;

/// How much may be taken ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// The most that a gateway holds of one limit, in hundredths of it. A limit of which that is less than one has no
    /// leases.
    pub percent: u32,
    /// After how long without a request what is left of a lease goes back.
    pub idle: Duration,
}

/// What is left of a lease and goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Back {
    /// When it was leased, by the store's clock.
    pub(super) granted_ms: u64,
    pub(super) count: u32,
    /// The limit that it was leased of.
    pub(super) rate: Rate,
}

/// What a question takes ahead of a key, and brings back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ahead {
    pub(super) lease: u32,
    pub(super) back: Option<Back>,
}

type Shard = ByKey<Lease>;

/// Leases by the hash of their key. Times are milliseconds of a clock that never goes back.
pub(super) struct Leases {
    shards: Box<[Mutex<Shard>]>,
    percent: u32,
    idle_ms: u64,
}

/// What a request reads of it stands together: whose it is stands elsewhere, because only what goes back has to say it.
struct Lease {
    key: Box<OwnKey>,
    /// The limit that it is of, which is its key's: both are made of one take, and none is changed.
    rate: Rate,
    left: u32,
    /// How many the next question asks for.
    next: u32,
    granted_ms: u64,
    touched_ms: u64,
    ends_ms: u64,
    /// Whether a question asks for more: so there is never a second lease of one key.
    asking: bool,
}

/// A question that is under way. However it ends, the next may ask again.
pub(super) struct Asking<'a> {
    leases: &'a Leases,
    at: u64,
    ahead: Vec<([u64; 2], Ahead)>,
}

impl Leases {
    pub(super) fn new(settings: LeaseSettings) -> Self {
        Self {
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
            percent: settings.percent.min(100),
            idle_ms: u64::try_from(settings.idle.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// The most that is held of a limit.
    fn share(&self, take: &Take<'_>) -> u32 {
        if take.key.sliding && width_ms(take.rate) < PART_MIN_MS {
            return 0;
        }
        let share = u64::from(take.rate.count) * u64::from(self.percent) / 100;
        u32::try_from(share).unwrap_or(u32::MAX)
    }

    /// Whether all of these may be leased: a request that has to ask for one may ask for all.
    pub(super) fn serve(&self, takes: &[Take<'_>]) -> bool {
        !takes.is_empty() && takes.iter().all(|take| take.cost > 0 && self.share(take) >= take.cost)
    }

    /// Spends from the leases of all keys, or of none.
    pub(super) fn spend(&self, takes: &[Take<'_>], hash: impl Fn(&Take<'_>) -> [u64; 2], at: u64) -> bool {
        let mut spent: SmallVec<[_; TOGETHER]> = SmallVec::new();
        for take in takes {
            let hash = hash(take);
            if let Some(granted_ms) = self.spend_one(hash, take, at) {
                spent.push((hash, take.cost, granted_ms));
                continue;
            }
            for (hash, cost, granted_ms) in spent {
                self.unspend(hash, cost, granted_ms);
            }
            return false;
        }
        true
    }

    fn spend_one(&self, hash: [u64; 2], take: &Take<'_>, at: u64) -> Option<u64> {
        let mut shard = self.shard(hash)?;
        let lease = shard.get_mut(&hash).filter(|lease| lease.holds(take, at, self.idle_ms))?;
        lease.left = lease.left.checked_sub(take.cost)?;
        lease.touched_ms = at;
        Some(lease.granted_ms)
    }

    /// Puts back what was just spent, unless that lease has gone meanwhile: into another it would live for too long.
    fn unspend(&self, hash: [u64; 2], cost: u32, granted_ms: u64) {
        let Some(mut shard) = self.shard(hash) else { return };
        if let Some(lease) = shard.get_mut(&hash).filter(|lease| lease.granted_ms == granted_ms) {
            lease.left = lease.left.saturating_add(cost);
        }
    }

    /// A question asks for all of these: what it takes ahead, and what it brings back.
    pub(super) fn ask(
        &self,
        takes: &[Take<'_>],
        hash: impl Fn(&Take<'_>) -> [u64; 2],
        at: u64,
    ) -> Asking<'_> {
        let ahead = takes.iter().map(|take| {
            let hash = hash(take);
            (hash, self.ahead(take, hash, at))
        });
        Asking { leases: self, at, ahead: ahead.collect() }
    }

    fn ahead(&self, take: &Take<'_>, hash: [u64; 2], at: u64) -> Ahead {
        let Some(mut shard) = self.shard(hash) else { return Ahead::default() };
        let is_full = shard.len() >= KEYS_MAX;
        let lease = match shard.entry(hash) {
            Entry::Occupied(lease) => lease.into_mut(),
            Entry::Vacant(place) => {
                if !is_full {
                    place.insert(Lease::none(take, at));
                }
                return Ahead::default();
            }
        };
        if lease.asking {
            return Ahead::default();
        }
        let is_idle = lease.is_idle(at, self.idle_ms);
        let back = lease.back();
        if lease.rate != take.rate {
            *lease = Lease::none(take, at);
            return Ahead { lease: 0, back };
        }
        lease.touched_ms = at;
        if is_idle {
            lease.next = take.cost;
            return Ahead { lease: 0, back };
        }
        let share = self.share(take);
        let count = lease.next.max(take.cost).min(share);
        lease.next = count.saturating_mul(2).min(share);
        lease.asking = true;
        Ahead { lease: count, back }
    }

    /// How much of a limit is held here.
    pub(super) fn held(&self, hash: [u64; 2], take: &Take<'_>, at: u64) -> u32 {
        let Some(shard) = self.shard(hash) else { return 0 };
        shard.get(&hash).filter(|lease| lease.holds(take, at, self.idle_ms)).map_or(0, |lease| lease.left)
    }

    /// What is left here of a key, to go back with a question about it.
    pub(super) fn give_up(&self, hash: [u64; 2]) -> Option<Back> {
        self.shard(hash)?.remove(&hash)?.back()
    }

    /// Up to so many leases that are idle, to go back. Those of which nothing is left are forgotten.
    pub(super) fn idle(&self, at: u64, count: usize) -> Vec<(OwnKey, Back)> {
        let mut idle = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, lease| {
                if lease.asking || !lease.is_idle(at, self.idle_ms) || idle.len() >= count {
                    return true;
                }
                idle.extend(lease.back().map(|back| ((*lease.key).clone(), back)));
                false
            });
        }
        idle
    }

    fn shard(&self, [low, _]: [u64; 2]) -> Option<MutexGuard<'_, Shard>> {
        let shard = self.shards.get(usize::try_from(low % SHARDS as u64).ok()?)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Lease {
    fn none(take: &Take<'_>, at: u64) -> Self {
        Self {
            key: Box::new(OwnKey::of(take)),
            rate: take.rate,
            left: 0,
            next: take.cost,
            granted_ms: 0,
            touched_ms: at,
            ends_ms: 0,
            asking: false,
        }
    }

    const fn is_idle(&self, at: u64, idle_ms: u64) -> bool {
        at.saturating_sub(self.touched_ms) >= idle_ms
    }

    /// Whether any of it may be spent. What was leased of a limit that was another is none of this one.
    fn holds(&self, take: &Take<'_>, at: u64, idle_ms: u64) -> bool {
        self.rate == take.rate && at < self.ends_ms && !self.is_idle(at, idle_ms)
    }

    const fn back(&mut self) -> Option<Back> {
        let back = Back { granted_ms: self.granted_ms, count: self.left, rate: self.rate };
        self.left = 0;
        if back.count > 0 { Some(back) } else { None }
    }
}

impl Asking<'_> {
    /// What goes along with each key, by its hash and in the order that was asked in.
    pub(super) fn ahead(&self) -> &[([u64; 2], Ahead)] {
        &self.ahead
    }

    /// The store has granted so many of each, at this time of its own.
    pub(super) fn granted(self, takes: &[Take<'_>], leased: &[u32], granted_ms: u64) {
        for (((hash, ahead), take), count) in self.ahead.iter().zip(takes).zip(leased) {
            let Some(mut shard) = self.leases.shard(*hash) else { continue };
            let Some(lease) = shard.get_mut(hash).filter(|_| ahead.lease > 0) else { continue };
            // What was forgotten meanwhile and asked for anew by another limit is not this one's to hold.
            if lease.rate != take.rate {
                continue;
            }
            lease.left = (*count).min(ahead.lease);
            lease.granted_ms = granted_ms;
            // It was granted after it was asked for, so that its part ends no sooner than this.
            lease.ends_ms = match take.key.sliding {
                false => u64::MAX,
                true => {
                    let width_ms = width_ms(take.rate);
                    let rest = width_ms.saturating_sub(granted_ms % width_ms);
                    self.at.saturating_add(rest).saturating_sub(ROUNDING_MS)
                }
            };
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        for (hash, _) in self.ahead.iter().filter(|(_, ahead)| ahead.lease > 0) {
            if let Some(lease) = self.leases.shard(*hash).as_mut().and_then(|shard| shard.get_mut(hash)) {
                lease.asking = false;
            }
        }
    }
}

#[cfg(test)]
mod tests;
