//! Where the generator's choices come from.

/// A row of choices: those of a seed, which never end, or those that bytes spell. Where the bytes are spent every
/// choice is the first, so that a short input is a small case.
#[derive(Debug)]
pub struct Source<'a>(Choices<'a>);

#[derive(Debug)]
enum Choices<'a> {
    Seeded(u64),
    Spelt(&'a [u8]),
}

impl<'a> Source<'a> {
    /// The choices of a seed and a number, unrelated to those of any other pair.
    #[must_use]
    pub fn seeded(seed: u64, number: u64) -> Self {
        let mut apart = seed;
        let seed = mixed(&mut apart) ^ number;
        Self(Choices::Seeded(seed))
    }

    /// One choice for each byte.
    #[must_use]
    pub fn spelt(bytes: &'a [u8]) -> Self {
        Self(Choices::Spelt(bytes))
    }

    /// A number under `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        match &mut self.0 {
            // The upper bits, and a bias that no bound of a few dozen can feel.
            Choices::Seeded(state) => ((mixed(state) >> 32) as usize) % bound,
            Choices::Spelt(bytes) => {
                let Some((first, rest)) = bytes.split_first() else { return 0 };
                *bytes = rest;
                usize::from(*first) % bound
            }
        }
    }

    /// True once in `times`, and never where the bytes are spent.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) + 1 == times
    }

    /// One of several, which are not none.
    pub fn one_of<T: Copy>(&mut self, several: &[T]) -> T {
        several[self.below(several.len())]
    }
}

/// The next output of SplitMix64: a counter that is stirred. It is no secret, only well spread.
fn mixed(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
