//! What stands under a resource's key and a principal's.
//!
//! A request has a dozen pairs of keys, most of them of no policy. Whatever is in none of the processor's caches takes longer
//! to be read than all that is done with it. So a pair is looked up by one read, in a table by open addressing of which half
//! is empty, and no read waits for the one before, as each step of a search by halves does: they are under way together.
//! Before a place is read, two bits of a word are, which tell nearly all pairs that are nobody's: those of a hundred thousand
//! pairs take 128 KB, their places 8 MB. That was 4 % of a decision by as many policies (1.94 us and 2.01).

use std::ops::Range;

use super::bucket::Bucket;
use super::keys::Key;

/// Odd numbers whose products' high bits tell near numbers apart: 2^64 divided by the golden ratio, and what SplitMix64 and
/// MurmurHash3 multiply by. Keys are numbered in the order of a bundle's policies, so that whoever writes many of those can
/// have all pairs stand in one row by one of them, and by no two at once.
const MULTIPLIERS: [u64; 4] =
    [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 0xff51_afd7_ed55_8ccd];
/// Places that share a word: half of them at least are empty, so that some 16 of its 64 bits are set, or fewer, and a pair
/// that is nobody's finds both of its own set once in sixteen times.
const PLACES_OF_WORD: usize = 16;
/// How far from its first place a pair may stand before another of them is tried. By chance hardly any is as far in a table of
/// which half is empty.
const FAR: usize = 64;

/// Policies by pairs of keys.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// A power of two, at least twice as many as there are pairs.
    slots: Vec<Slot>,
    /// Two bits for each pair, in the word of its first place. A power of two.
    words: Vec<u64>,
    /// What pairs are multiplied by.
    multiplier: u64,
}

/// A pair with its policies; nobody's where it has none. None stands in two of the processor's lines, which are 64 bytes.
#[derive(Clone, Debug, Default)]
#[repr(align(32))]
pub(super) struct Slot {
    pub(super) resource: Key,
    pub(super) principal: Key,
    pub(super) holds: Holds,
    /// The actions of these policies. Most pairs of a request have policies for other actions alone, and nothing else need be
    /// read to find that out.
    pub(super) actions: Actions,
}

/// The policies of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// The same ones for each of its actions, where those have a bit each ([`Actions::are_exact`]): most pairs have one policy.
    Same(Bucket),
    /// In cells, an action's in each; nobody's where there is none.
    Cells(Range<u32>),
}

impl Default for Holds {
    fn default() -> Self {
        Self::Cells(0..0)
    }
}

impl Holds {
    fn is_nothing(&self) -> bool {
        matches!(self, Self::Cells(cells) if cells.is_empty())
    }
}

/// Keys of actions, as far as 64 bits tell them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Actions(u64);

impl Actions {
    /// Whether the keys of so many actions have a bit each, keys being numbered from one. Then two sets that meet have a key in
    /// common, and nothing else has to be asked.
    pub(super) const fn are_exact(count: Key) -> bool {
        count < u64::BITS
    }

    /// Those of these keys.
    pub(super) fn of(keys: impl Iterator<Item = Key>) -> Self {
        Self(keys.fold(0, |all, key| all | 1 << (key % u64::BITS)))
    }

    /// Whether a key may be in both; where it is, always.
    const fn meet(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl Pairs {
    /// Of these, each pair once and none without policies.
    pub(super) fn of(pairs: &[Slot]) -> Self {
        Self::within(pairs, FAR)
    }

    /// Where no multiplier has all of them stand so near, one of them has to do.
    fn within(pairs: &[Slot], far: usize) -> Self {
        let [first, ..] = MULTIPLIERS;
        let mut table = Self::default();
        let is_near = |multiplier: &u64| table.fill(pairs, *multiplier, far);
        if !MULTIPLIERS.iter().any(is_near) {
            table.fill(pairs, first, usize::MAX);
        }
        table
    }

    /// Puts each pair in its place; not all of them where one would stand too far from its first.
    fn fill(&mut self, pairs: &[Slot], multiplier: u64, farthest: usize) -> bool {
        let count = (pairs.len() * 2).next_power_of_two();
        let words = vec![0; (count / PLACES_OF_WORD).max(1)];
        *self = Self { slots: vec![Slot::default(); count], words, multiplier };
        for pair in pairs {
            let hash = self.hash(pair.resource, pair.principal);
            let free = self.places(hash).take(farthest).find(|place| self.is_free(*place));
            let word = high(hash, self.words.len());
            let place = free.and_then(|place| Some((self.slots.get_mut(place)?, self.words.get_mut(word)?)));
            let Some((slot, word)) = place else { return false };
            *slot = pair.clone();
            *word |= bits(hash);
        }
        true
    }

    /// The policies of a pair, if one of these actions may be among theirs; where they are [`Holds::Same`], it is.
    pub(super) fn get(&self, resource: Key, principal: Key, wanted: Actions) -> Option<&Holds> {
        let hash = self.hash(resource, principal);
        let (word, bits) = (self.words.get(high(hash, self.words.len()))?, bits(hash));
        if word & bits != bits {
            return None;
        }
        for place in self.places(hash) {
            let Slot { resource: of, principal: by, holds, actions } = self.slots.get(place)?;
            if holds.is_nothing() {
                return None;
            }
            if (*of, *by) == (resource, principal) {
                return actions.meet(wanted).then_some(holds);
            }
        }
        None
    }

    fn is_free(&self, place: usize) -> bool {
        self.slots.get(place).is_some_and(|slot| slot.holds.is_nothing())
    }

    fn hash(&self, resource: Key, principal: Key) -> u64 {
        ((u64::from(resource) << 32) | u64::from(principal)).wrapping_mul(self.multiplier)
    }

    /// Where the pair of this hash may stand: at the first of these places that was free when it came.
    fn places(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let (slots, first) = (self.slots.len(), high(hash, self.slots.len()));
        (0..slots).map(move |step| first.wrapping_add(step) & slots.wrapping_sub(1))
    }
}

/// As many high bits of a hash as number so many things, a power of two.
fn high(hash: u64, count: usize) -> usize {
    let high = hash.checked_shr(u64::BITS - count.trailing_zeros());
    high.and_then(|high| usize::try_from(high).ok()).unwrap_or_default()
}

/// The bits of a pair in its word. Only the upper half of a product rests on both keys; of that they are numbered by the lower
/// bits, and places by the upper.
const fn bits(hash: u64) -> u64 {
    1 << (hash >> 35 & 63) | 1 << (hash >> 41 & 63)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_pair_has_its_cells_and_no_other_has_any(
            pairs in proptest::collection::btree_map(
                (0..40_u32, 0..40_u32),
                (0..9_u32, 1..5_u32, proptest::collection::vec(0..200_u32, 1..4)),
                0..300,
            ),
            wanted in proptest::collection::vec(0..200_u32, 0..4),
            far in any::<[u32; 2]>(),
            near in 0..3_usize,
        ) {
            let actions: BTreeMap<(Key, Key), Vec<Key>> =
                pairs.iter().map(|(pair, (.., actions))| (*pair, actions.clone())).collect();
            let cells: BTreeMap<(Key, Key), Range<u32>> =
                pairs.into_iter().map(|(pair, (begin, count, _))| (pair, begin..begin + count)).collect();
            let slot = |((resource, principal), cells): (&(Key, Key), &Range<u32>)| Slot {
                resource: *resource,
                principal: *principal,
                holds: Holds::Cells(cells.clone()),
                actions: Actions::of(actions[&(*resource, *principal)].iter().copied()),
            };
            let slots = cells.iter().map(slot).collect::<Vec<_>>();
            let table = if near == 0 { Pairs::of(&slots) } else { Pairs::within(&slots, near) };
            prop_assert!(table.slots.len() >= cells.len() * 2 && table.slots.len().is_power_of_two());
            let asked = (0..41).flat_map(|resource| (0..41).map(move |principal| (resource, principal)));
            for (resource, principal) in asked.chain([far.into(), (far[0], 0), (0, far[1])]) {
                let pair = (resource, principal);
                let all = table.get(resource, principal, Actions(u64::MAX));
                let cells = cells.get(&pair).map(|cells| Holds::Cells(cells.clone()));
                prop_assert_eq!(all, cells.as_ref());
                let some = table.get(resource, principal, Actions::of(wanted.iter().copied()));
                let near = |one: &Key| wanted.iter().any(|other| one % 64 == other % 64);
                let may = actions.get(&pair).is_some_and(|actions| actions.iter().any(near));
                prop_assert_eq!(some, if may { all } else { None });
            }
        }
    }

    #[test]
    fn no_choice_of_keys_has_all_pairs_stand_in_one_row() {
        let first = |table: &Pairs, resource, principal| table.places(table.hash(resource, principal)).next();
        let slots = vec![Slot::default(); 4_096];
        let chosen = Pairs { slots, words: Vec::new(), multiplier: MULTIPLIERS[0] };
        let in_one_row = |resource: &Key| {
            (1..1_000_000)
                .find(|principal| first(&chosen, *resource, *principal).is_some_and(|place| place < 8))
        };
        let pairs: Vec<Slot> = (1..=2_000)
            .filter_map(|resource| {
                let actions = Actions::of(std::iter::once(1));
                Some(Slot {
                    resource,
                    principal: in_one_row(&resource)?,
                    holds: Holds::Cells(resource..resource + 1),
                    actions,
                })
            })
            .collect();
        assert_eq!(pairs.len(), 2_000);
        let table = Pairs::of(&pairs);
        assert_ne!(table.multiplier, MULTIPLIERS[0]);
        for Slot { resource, principal, holds, actions } in pairs {
            assert_eq!(table.get(resource, principal, actions), Some(&holds));
            let mut places = table.places(table.hash(resource, principal)).take(FAR);
            assert!(places.any(|place| table.slots[place].resource == resource), "{resource}");
        }
    }

    #[test]
    fn most_pairs_that_are_nobodys_are_told_by_their_bits() {
        let slot = |number: u32| Slot {
            resource: number % 1_000,
            principal: number / 10,
            holds: Holds::Cells(number..number + 1),
            actions: Actions(1),
        };
        let (table, mut told) = (Pairs::of(&(1..=50_000).map(slot).collect::<Vec<_>>()), 0);
        for (resource, principal) in (0..100).flat_map(|one| (5_001..5_101).map(move |other| (one, other))) {
            let hash = table.hash(resource, principal);
            assert_eq!(table.get(resource, principal, Actions(u64::MAX)), None);
            told += usize::from(table.words[high(hash, table.words.len())] & bits(hash) != bits(hash));
        }
        assert!(told > 9_000, "{told} of 10,000");
    }

    #[test]
    fn two_places_fill_a_line_of_the_processors() {
        assert_eq!((size_of::<Slot>(), align_of::<Slot>()), (32, 32));
    }

    #[test]
    fn an_empty_table_has_nothing() {
        assert_eq!(Pairs::default().get(0, 0, Actions(u64::MAX)), None);
        assert_eq!(Pairs::of(&[]).get(0, 0, Actions(u64::MAX)), None);
    }
}
