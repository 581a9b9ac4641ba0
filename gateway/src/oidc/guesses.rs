//! How often one address may present a token that nobody has issued, each of which is a question to the provider.
//!
//! A rate of its own beside the limits of requests: somebody who sends made-up tokens would otherwise have the provider
//! asked as often as they may send requests. Only wrong ones are counted, so a server with a thousand people's tokens is
//! not held up; how many questions are under way at once is bounded elsewhere, and that is all that a burst can go past it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use engine::time::UnixMillis;
use storage::address_bucket;

/// Wrong tokens of one address at once: a program whose tokens were all revoked may try each.
pub(super) const BURST: u64 = 20;
/// Until one more is admitted, in milliseconds: 20 a minute.
pub(super) const EVERY_MS: u64 = 3_000;
/// Addresses that are counted: a megabyte. Past them all others share one.
pub(super) const ADDRESSES_MAX: usize = 16_384;

/// Whom the others are counted as.
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The wrong tokens of late, by address: until when each has paid for them.
#[derive(Default)]
pub(super) struct Guesses(Mutex<HashMap<IpAddr, UnixMillis>>);

impl Guesses {
    /// The milliseconds after which an address may guess again, where it has to wait.
    pub(super) fn wait_ms(&self, address: IpAddr, now: UnixMillis) -> Option<u64> {
        let seen = self.seen();
        let key = address_bucket(address);
        let key = if seen.contains_key(&key) || seen.len() < ADDRESSES_MAX { key } else { OTHERS };
        let ahead = seen.get(&key).map_or(0, |paid| paid.since(now));
        let wait = (ahead + EVERY_MS).saturating_sub(BURST * EVERY_MS);
        (wait > 0).then_some(wait)
    }

    /// Counts a wrong token.
    pub(super) fn count(&self, address: IpAddr, now: UnixMillis) {
        let mut seen = self.seen();
        let mut key = address_bucket(address);
        if !seen.contains_key(&key) && seen.len() >= ADDRESSES_MAX {
            seen.retain(|_, paid| *paid > now);
            if seen.len() >= ADDRESSES_MAX {
                key = OTHERS;
            }
        }
        let paid = seen.entry(key).or_insert(now);
        *paid = (*paid).max(now).plus(EVERY_MS);
    }

    /// No change under this lock can be left half done by a panic.
    fn seen(&self) -> MutexGuard<'_, HashMap<IpAddr, UnixMillis>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(number))
    }

    #[test]
    fn an_address_guesses_so_often_and_then_waits_alone() {
        let guesses = Guesses::default();
        let (one, other) = (address(1), address(2));
        for number in 0..BURST {
            assert_eq!(guesses.wait_ms(one, NOW), None, "{number}");
            guesses.count(one, NOW);
        }
        assert_eq!(guesses.wait_ms(one, NOW), Some(EVERY_MS));
        assert_eq!(guesses.wait_ms(other, NOW), None, "another address");
        assert_eq!(guesses.wait_ms(one, NOW.plus(EVERY_MS - 1)), Some(1));
        assert_eq!(guesses.wait_ms(one, NOW.plus(EVERY_MS)), None);
        guesses.count(one, NOW.plus(EVERY_MS));
        assert_eq!(guesses.wait_ms(one, NOW.plus(EVERY_MS)), Some(EVERY_MS), "one came back, and not all");
        // An IPv6 subscriber has one network, whichever address of it they take.
        let (first, second) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        for _ in 0..BURST {
            guesses.count(first, NOW);
        }
        assert_eq!(guesses.wait_ms(second, NOW), Some(EVERY_MS));
    }

    #[test]
    fn addresses_are_bounded_and_those_past_the_bound_share() {
        let guesses = Guesses::default();
        let count = ADDRESSES_MAX as u32;
        for number in 1..=count {
            guesses.count(address(number), NOW);
        }
        for number in 1..=BURST as u32 {
            assert_eq!(guesses.wait_ms(address(count + number), NOW), None);
            guesses.count(address(count + number), NOW);
        }
        assert_eq!(guesses.wait_ms(address(count * 2), NOW), Some(EVERY_MS), "one that was never seen");
        assert_eq!(guesses.wait_ms(address(1), NOW), None, "one that has its own");
        assert_eq!(guesses.seen().len(), ADDRESSES_MAX + 1);
        // Those that have paid make room.
        let later = NOW.plus(EVERY_MS * BURST * 2);
        guesses.count(address(count * 2), later);
        assert_eq!(guesses.seen().len(), 1);
    }
}
