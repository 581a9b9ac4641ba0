//! The policy index and Cedar's `Authorizer`.

use std::sync::LazyLock;

use crate::compare::{Seen, compare};
use crate::generate::{Case, Source, Words};

/// Requests of a case: few, so that an input is tried quickly.
const REQUESTS: usize = 16;

static WORDS: LazyLock<Words> = LazyLock::new(Words::new);

/// Whatever policies, entities and requests the bytes choose, the index answers as Cedar does.
pub fn cedar(bytes: &[u8]) {
    let case = Case::generate(&mut Source::spelt(bytes), &WORDS, REQUESTS);
    if let Err(difference) = compare(&case, &mut Seen::nothing()) {
        panic!("{difference}");
    }
}

#[cfg(test)]
mod tests {
    /// Every byte once, in a few orders: what is generated is more than the first of all choices.
    #[test]
    fn the_index_answers_as_cedar_does_whatever_the_bytes() {
        super::cedar(b"");
        for step in [1_u8, 7, 31, 85, 199] {
            let bytes: Vec<u8> =
                (0..4096_u32).map(|place| (place as u8).wrapping_mul(step) ^ (place >> 5) as u8).collect();
            super::cedar(&bytes);
        }
    }
}
