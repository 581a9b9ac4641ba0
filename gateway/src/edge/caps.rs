//! How many connections and requests are held at once, of all addresses and of each.
//!
//! A table has one entry for each address that holds something, so what is held bounds its memory: some 64 bytes
//! for each connection or request at the cap.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::time::UnixMillis;
use rustc_hash::FxBuildHasher;

use crate::config::settings::Connections;

/// Between two lines of the log about one cap: a flood is one event, not a line for each connection.
const TOLD_EVERY_MS: u64 = 60_000;
/// Parts of a table, so that connections of different addresses seldom wait for each other.
const SHARDS: usize = 16;

/// The caps of one gateway.
#[derive(Clone, Debug)]
pub struct Caps {
    /// Connections of clients.
    pub connections: Arc<Cap>,
    /// Requests under way.
    pub requests: Arc<Cap>,
}

impl Caps {
    /// Caps at these bounds.
    #[must_use]
    pub fn new(bounds: &Connections) -> Self {
        let cap = |max, per_address_max| Arc::new(Cap::new(max, per_address_max));
        Self {
            connections: cap(bounds.max, bounds.per_address_max),
            requests: cap(bounds.requests_max, bounds.requests_per_address_max),
        }
    }
}

/// Which cap is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The one of all addresses together.
    All,
    /// The one of this address.
    Address,
}

/// What is held of one kind.
#[derive(Debug)]
pub struct Cap {
    max: u32,
    per_address_max: u32,
    held: AtomicU32,
    by_address: [Mutex<HashMap<Network, u32>>; SHARDS],
    refused: AtomicU64,
    told_at: AtomicU64,
}

/// An address, as far as one holder has only one of them: an IPv6 host may choose within its /64 as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Network(IpAddr);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// Something that is held, until this is dropped.
#[derive(Debug)]
pub struct Slot {
    cap: Arc<Cap>,
    network: Option<Network>,
}

impl Cap {
    fn new(max: u32, per_address_max: u32) -> Self {
        Self {
            max,
            per_address_max,
            held: AtomicU32::new(0),
            by_address: std::array::from_fn(|_| Mutex::default()),
            refused: AtomicU64::new(0),
            told_at: AtomicU64::new(0),
        }
    }

    /// Holds one more; of no address in particular where there is none.
    ///
    /// # Errors
    /// The cap that is reached.
    pub fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Slot, Over> {
        let fits = |held: u32| (held < self.max).then(|| held.saturating_add(1));
        if self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_err() {
            return Err(Over::All);
        }
        // From here on the slot gives back what was taken, also when the address has no room.
        let mut slot = Slot { cap: self.clone(), network: None };
        if let Some(network) = address.map(Network::from) {
            if !self.hold(network) {
                return Err(Over::Address);
            }
            slot.network = Some(network);
        }
        Ok(slot)
    }

    /// Holds one more of this address, where it may.
    fn hold(&self, network: Network) -> bool {
        let mut shard = self.shard(network);
        let held = shard.entry(network).or_insert(0);
        let fits = *held < self.per_address_max;
        *held = held.saturating_add(u32::from(fits));
        if *held == 0 {
            // An address that holds nothing takes no memory.
            shard.remove(&network);
        }
        fits
    }

    /// How many are held.
    #[must_use]
    pub fn held(&self) -> u32 {
        self.held.load(Ordering::Acquire)
    }

    /// Counts one that was refused. `Some` when it is time for a line in the log: how many there were since the
    /// last one.
    pub fn refused(&self, now: UnixMillis) -> Option<u64> {
        self.refused.fetch_add(1, Ordering::AcqRel);
        let due =
            |told: u64| (told == 0 || now.0.saturating_sub(told) >= TOLD_EVERY_MS).then_some(now.0.max(1));
        self.told_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, due).ok()?;
        Some(self.refused.swap(0, Ordering::AcqRel))
    }

    fn shard(&self, network: Network) -> MutexGuard<'_, HashMap<Network, u32>> {
        // Which shard is no secret: whoever fills one makes others wait for its lock and nothing else. Within it, the map's
        // own hash is.
        let bits: u64 = match network.0 {
            IpAddr::V4(address) => address.to_bits().into(),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        };
        let shard = usize::try_from(FxBuildHasher.hash_one(bits) % SHARDS as u64).unwrap_or(0);
        let [first, ..] = &self.by_address;
        self.by_address.get(shard).unwrap_or(first).lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(network) = self.network
            && let Entry::Occupied(mut held) = self.cap.shard(network).entry(network)
        {
            match held.get_mut() {
                several @ 2.. => *several = several.saturating_sub(1),
                // An address that holds nothing takes no memory.
                _ => drop(held.remove()),
            }
        }
        self.cap.held.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_cap_holds_to_the_last_and_gives_back_what_is_dropped() {
        let cap = Arc::new(Cap::new(3, 2));
        let first = cap.take(address("192.0.2.1")).unwrap();
        let second = cap.take(address("192.0.2.1")).unwrap();
        assert_eq!(cap.take(address("192.0.2.1")).unwrap_err(), Over::Address);
        assert_eq!(cap.take(address("::ffff:192.0.2.1")).unwrap_err(), Over::Address, "the same host");
        let other = cap.take(address("192.0.2.2")).unwrap();
        assert_eq!(cap.take(address("192.0.2.3")).unwrap_err(), Over::All);
        assert_eq!(cap.held(), 3, "a refused one holds nothing");
        drop(first);
        assert!(cap.take(address("192.0.2.1")).is_ok());
        drop((second, other));
        assert_eq!(cap.held(), 0);
        assert!(cap.by_address.iter().all(|shard| shard.lock().unwrap().is_empty()), "no memory is kept");
    }

    #[test]
    fn an_ipv6_host_is_its_network_and_a_proxy_nobody() {
        let cap = Arc::new(Cap::new(10, 1));
        let _held = cap.take(address("2001:db8::1")).unwrap();
        assert_eq!(cap.take(address("2001:db8::ffff:1")).unwrap_err(), Over::Address);
        let _next = cap.take(address("2001:db8:0:1::1")).unwrap();
        let proxied: Vec<_> = (0..8).map(|_| cap.take(None)).collect();
        assert!(proxied.iter().all(Result::is_ok));
        assert_eq!(cap.take(None).unwrap_err(), Over::All);
    }

    #[test]
    fn a_flood_is_told_once_in_a_while() {
        let cap = Cap::new(0, 0);
        assert_eq!(cap.refused(UnixMillis(1_000)), Some(1));
        assert_eq!(cap.refused(UnixMillis(2_000)), None);
        assert_eq!(cap.refused(UnixMillis(60_999)), None);
        assert_eq!(cap.refused(UnixMillis(61_000)), Some(3));
    }
}
