//! Numbers that look random and are the same on every machine, so that everybody measures the same policies.

/// A generator of 64 bits at a time: a Weyl sequence whose steps are mixed.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// The one of this seed.
    #[must_use]
    pub(super) const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 where there is none.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % bound).unwrap_or_default()
    }

    /// True in so many of a hundred cases.
    pub(super) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of them; the default where there is none.
    pub(super) fn of<T: Copy + Default>(&mut self, items: &[T]) -> T {
        items.get(self.below(items.len())).copied().unwrap_or_default()
    }

    /// The place in a list of weights that sum to a hundred.
    pub(super) fn weighted(&mut self, weights: &[usize]) -> usize {
        let mut left = self.below(100);
        for (place, weight) in weights.iter().enumerate() {
            match left.checked_sub(*weight) {
                Some(rest) => left = rest,
                None => return place,
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_and_weights_are_kept() {
        let taken = |seed| {
            let mut random = Random::seeded(seed);
            (0..5).map(|_| random.below(1_000)).collect::<Vec<_>>()
        };
        assert_eq!(taken(1), taken(1));
        assert_ne!(taken(1), taken(2));
        let mut random = Random::seeded(7);
        let mut found = [0; 3];
        for _ in 0..10_000 {
            found[random.weighted(&[75, 20, 5])] += 1;
        }
        assert!((7_300..7_700).contains(&found[0]) && (400..600).contains(&found[2]), "{found:?}");
    }
}
