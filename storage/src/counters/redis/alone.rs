//! What one gateway does by itself while the store is away: it enforces its part of each limit.

use engine::limit::{Left, share};
use engine::time::UnixMillis;

use super::super::memory::farthest_ms;
use super::super::{Outcome, Take, Taken, WhenAway};
use super::Redis;

impl Redis {
    /// What the limits do without the store.
    pub(super) fn without(&self, takes: &[Take<'_>], now: UnixMillis) -> Taken {
        let left = |take: &Take<'_>| self.left_of_part(take, now);
        Taken::of(takes, |takes| self.enforced_without(takes, now), left)
    }

    fn enforced_without(&self, takes: &[Take<'_>], now: UnixMillis) -> Outcome {
        if takes.iter().any(|take| take.away == WhenAway::Closed) {
            return Outcome::Away;
        }
        let local: Vec<(usize, Take<'_>)> = takes
            .iter()
            .enumerate()
            .filter(|(_, take)| take.away == WhenAway::Local)
            .map(|(index, take)| (index, self.part(take)))
            .collect();
        let shares: Vec<Take<'_>> = local.iter().map(|(_, take)| *take).collect();
        match self.memory.take(&shares, now) {
            Outcome::Refused { index, retry_after_ms } => {
                let index = local.get(index).map_or(index, |(index, _)| *index);
                Outcome::Refused { index, retry_after_ms }
            }
            Outcome::Admitted => {
                for take in takes.iter().filter(|take| take.away == WhenAway::Local) {
                    self.owing.add(self.memory.hash(&take.key), take);
                }
                Outcome::Admitted
            }
            Outcome::Away => Outcome::Away,
        }
    }

    /// This gateway's part of a limit. Of a window, each take weighs as much as all gateways take together when they are
    /// asked alike: so "wholly spent" is the same here and there, as it is for rates. A part that could admit nothing
    /// would be a refusal.
    fn part<'a>(&self, take: &Take<'a>) -> Take<'a> {
        let gateways = self.settings.gateways;
        if take.key.sliding {
            return take.costing(take.cost.saturating_mul(gateways).min(take.rate.count));
        }
        // What costs more than the part is paid for at the pace of the part all the same: forgotten sooner, it would be let
        // through again sooner, and whoever was told to wait would be told too little or too much.
        let farthest_ms = farthest_ms(take.period_ms, gateways);
        Take { rate: share(take.rate, gateways, take.cost), farthest_ms, ..*take }
    }

    /// What is left of this gateway's part of a limit.
    pub(super) fn left_of_part(&self, take: &Take<'_>, now: UnixMillis) -> Left {
        // What one request costs is not the unit of a limit.
        let part = self.part(&take.costing(1));
        let left = self.memory.left(&part, now);
        if take.key.sliding {
            let each = part.cost.max(1);
            return Left { count: left.count / each, of: left.of / each, ..left };
        }
        left
    }
}
