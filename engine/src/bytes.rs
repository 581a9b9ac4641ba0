//! What bytes are of, eight at a time: nearly every text has nothing in it that would have to be looked at, and seeing that
//! byte by byte is a good part of what reading or writing it costs.

/// Bytes that are looked at together.
const LANES: usize = 8;
/// The same byte in every lane.
const fn each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; LANES])
}

/// Whether all of these are printable ASCII: blanks and what has a shape, no tab.
pub(crate) fn are_plain(bytes: &[u8]) -> bool {
    none(bytes, |word| below_blank(word) | is(word, 0x7f))
}

/// Whether a text of JSON may hold these as they are: no control, no quote and no backslash.
pub(crate) fn are_json(bytes: &[u8]) -> bool {
    // What is beyond ASCII is a part of a character, and stands as it is.
    none(bytes, |word| (below_blank(word) & !word) | is(word, b'"') | is(word, b'\\'))
}

/// Whether a text of JSON may not hold this byte as it is.
pub(crate) const fn is_escaped_in_json(byte: u8) -> bool {
    matches!(byte, 0..=0x1f | b'"' | b'\\')
}

/// Whether no lane of any word is marked in its highest bit.
fn none(bytes: &[u8], marks: impl Fn(u64) -> u64) -> bool {
    let (words, rest) = bytes.as_chunks::<LANES>();
    let mut found = words.iter().fold(0, |found, word| found | marks(u64::from_le_bytes(*word)));
    // What is left with the bytes before it: they are looked at twice, which tells nothing new.
    found |= match bytes.last_chunk::<LANES>() {
        Some(last) => marks(u64::from_le_bytes(*last)),
        None => {
            let word = rest.iter().fold(each(b' '), |word, byte| (word << 8) | u64::from(*byte));
            marks(word)
        }
    };
    found & each(0x80) == 0
}

/// Marks lanes below a blank, and those beyond ASCII.
const fn below_blank(word: u64) -> u64 {
    // A lane beyond ASCII is marked by itself, and keeps its loan within it.
    (((word | each(0x80)) - each(b' ')) ^ each(0x80)) | word
}

/// Marks lanes that are this byte, which is of ASCII.
const fn is(word: u64, byte: u8) -> u64 {
    let differs = word ^ each(byte);
    // All lanes that are not zero get their highest bit, and no lane carries into the next.
    !(((differs & each(0x7f)) + each(0x7f)) | differs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(bytes: &[u8]) {
        let plain = bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
        assert_eq!(are_plain(bytes), plain, "{}", bytes.escape_ascii());
        let json = !bytes.iter().any(|byte| matches!(byte, 0..=0x1f | b'"' | b'\\'));
        assert_eq!(are_json(bytes), json, "{}", bytes.escape_ascii());
        assert_eq!(!bytes.iter().copied().any(is_escaped_in_json), json, "{}", bytes.escape_ascii());
    }

    #[test]
    fn every_byte_is_seen_wherever_it_stands() {
        for length in 0..20 {
            let plain = vec![b'a'; length];
            check(&plain);
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut bytes = plain.clone();
                    bytes[at] = byte;
                    check(&bytes);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn neighbours_change_nothing(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0x1f), Just(0x7f), Just(0x80), Just(b'"')], 0..24),
        ) {
            check(&bytes);
        }
    }
}
