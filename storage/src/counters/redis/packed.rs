//! Numbers as the script is told them and tells them: in one word, doubles with the little end first, as Lua reckons in them.
//!
//! A word for each number costs a gateway more than making the question does: each is spelt in digits, counted and copied, and
//! those of an answer are read digit by digit.

/// What a double holds exactly is below this (IEEE 754: 53 bits).
const EXACT_MAX: u64 = 1 << 53;
/// Bytes of one.
const BYTES: usize = size_of::<f64>();

/// A word of numbers.
#[derive(Debug, Default)]
pub(super) struct Packed(Vec<u8>);

impl Packed {
    /// With room for so many.
    pub(super) fn with_capacity(numbers: usize) -> Self {
        Self(Vec::with_capacity(numbers * BYTES))
    }

    /// One more. What is past the exact ones is the largest of them.
    #[expect(clippy::cast_precision_loss, reason = "it is below 2^53")]
    pub(super) fn push(&mut self, number: u64) {
        self.0.extend((number.min(EXACT_MAX - 1) as f64).to_le_bytes());
    }

    /// One more, or in its place a number below nothing.
    pub(super) fn push_some(&mut self, number: Option<u64>) {
        match number {
            Some(number) => self.push(number),
            None => self.0.extend((-1_f64).to_le_bytes()),
        }
    }

    /// The word.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The numbers of a word; `None` where one of them is none that is counted by, or where something is over.
pub(super) fn numbers(word: &[u8]) -> Option<Vec<u64>> {
    let (numbers, []) = word.as_chunks::<BYTES>() else { return None };
    numbers.iter().map(|bytes| whole(f64::from_le_bytes(*bytes))).collect()
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is whole, not below nothing, and below 2^53"
)]
fn whole(number: f64) -> Option<u64> {
    let counts = (0.0..EXACT_MAX as f64).contains(&number) && number.fract() == 0.0;
    counts.then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_is_read_as_it_was(list in proptest::collection::vec(0..EXACT_MAX, 0..40)) {
            let mut packed = Packed::with_capacity(list.len());
            list.iter().for_each(|number| packed.push(*number));
            prop_assert_eq!(numbers(packed.as_bytes()), Some(list));
        }

        #[test]
        fn no_word_is_read_as_anything_else(word in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(read) = numbers(&word) {
                let mut packed = Packed::default();
                read.iter().for_each(|number| packed.push(*number));
                let sign_of_zero = |byte: (usize, &u8)| byte.0 % BYTES == BYTES - 1 && *byte.1 & 0x7f == 0;
                let packed = packed.as_bytes().iter().enumerate().zip(&word);
                prop_assert!(packed.clone().count() == word.len());
                prop_assert!(packed.into_iter().all(|(mine, theirs)| mine.1 == theirs || sign_of_zero(mine)));
            }
        }
    }

    #[test]
    fn what_is_not_counted_by_is_no_number() {
        let read = |number: f64| numbers(&number.to_le_bytes());
        for nonsense in
            [-1.0, 0.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 9_007_199_254_740_992.0, 5e-324]
        {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
        assert_eq!(read(-0.0), Some(vec![0]));
        assert_eq!(read(9_007_199_254_740_991.0), Some(vec![EXACT_MAX - 1]));
        assert_eq!(numbers(&[0; 9]), None);
        let mut packed = Packed::default();
        packed.push(u64::MAX);
        assert_eq!(numbers(packed.as_bytes()), Some(vec![EXACT_MAX - 1]));
        packed.push_some(None);
        assert_eq!(numbers(packed.as_bytes()), None);
    }
}
