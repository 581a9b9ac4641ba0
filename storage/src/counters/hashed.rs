//! Keys as tables of counters hold them: 112 bits of a hash that nobody outside can reckon, so that two clients never share
//! a counter by accident or on purpose.

use std::collections::HashMap;
use std::net::IpAddr;

use rustc_hash::FxBuildHasher;
use siphasher::sip128::{Hash128, SipHasher13};

use super::{LimitKey, Subject};
use crate::random::random;

/// The bits of the first word that are a hash's: a table keeps something of its own in the others.
pub(super) const FIRST: u64 = (1 << 48) - 1;
/// Bytes of a key before the name of its limit.
const BEFORE_NAME: usize = 18;
/// A key whose limit has a name of up to 46 bytes is laid out in place: a class's has 32 at most (`engine::limit`).
const IN_PLACE: usize = 64;

/// Things by the hash of their key. Whoever does not know the key of that hash cannot have many of them in one place, so that
/// to hash it again needs no key of its own.
pub(super) type ByKey<T> = HashMap<[u64; 2], T, FxBuildHasher>;

/// Hashes keys, all of a table under one key of its own.
///
/// SipHash-1-3, whose 64 bits the standard library's tables rest on, in its form of 128 bits. Every request is counted under
/// some keys, and two passes of 64 bits cost twice as much. Nobody sees a hash, so that nobody can look for two keys of one.
pub(super) struct Hashing(SipHasher13);

impl Hashing {
    /// Under a key that is made now.
    pub(super) fn new() -> Self {
        Self(SipHasher13::new_with_key(&random()))
    }

    /// The hash of a key. No two keys are laid out alike: what comes before the name has one length.
    pub(super) fn of(&self, key: &LimitKey<'_>) -> [u64; 2] {
        let (before, name, mut place) = (before(key), key.limit.as_bytes(), [0; IN_PLACE]);
        let Some(bytes) = place.get_mut(..BEFORE_NAME.saturating_add(name.len())) else {
            return self.over(&[&before, name].concat());
        };
        let (start, end) = bytes.split_at_mut(BEFORE_NAME);
        start.copy_from_slice(&before);
        end.copy_from_slice(name);
        self.over(bytes)
    }

    fn over(&self, bytes: &[u8]) -> [u64; 2] {
        let Hash128 { h1, h2 } = self.0.hash(bytes);
        [h1 & FIRST, h2]
    }
}

/// What is counted, but for the name of the limit.
fn before(key: &LimitKey<'_>) -> [u8; BEFORE_NAME] {
    let (kind, whose) = match key.subject {
        Subject::Address(IpAddr::V4(address)) => (0, address.to_bits().into()),
        Subject::Address(IpAddr::V6(address)) => (1, address.to_bits()),
        Subject::Principal(id) => (2, id.as_u128()),
        Subject::Everybody => (3_u8, 0),
    };
    let mut before = [0; BEFORE_NAME];
    let [first, second, rest @ ..] = &mut before;
    (*first, *second, *rest) = (kind, key.sliding.into(), whose.to_le_bytes());
    before
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn subjects() -> impl Strategy<Value = Subject> {
        // Numbers of which many are alike in all but what they number.
        let number = 0..3_u32;
        prop_oneof![
            number.clone().prop_map(|number| Subject::Address(Ipv4Addr::from_bits(number).into())),
            number.clone().prop_map(|number| Subject::Address(IpAddr::V6(u128::from(number).into()))),
            number.prop_map(|number| Subject::Principal(Uuid::from_u128(number.into()))),
            Just(Subject::Everybody),
        ]
    }

    proptest! {
        #[test]
        fn keys_have_one_hash_exactly_where_they_are_equal(
            subjects in [subjects(), subjects()],
            limits in ["[ab]{0,3}|[a]{44,48}", "[ab]{0,3}|[a]{44,48}"],
            sliding in any::<[bool; 2]>(),
        ) {
            let key = |at: usize| LimitKey { limit: &limits[at], subject: subjects[at], sliding: sliding[at] };
            let (hashing, other) = (Hashing::new(), Hashing::new());
            prop_assert_eq!(hashing.of(&key(0)) == hashing.of(&key(1)), key(0) == key(1));
            prop_assert_ne!(hashing.of(&key(0)), other.of(&key(0)), "each table has a key of its own");
            prop_assert_eq!(hashing.of(&key(0))[0] & !FIRST, 0);
            // Wherever a key is laid out, the same bytes are hashed.
            let whole = [&before(&key(0)), limits[0].as_bytes()].concat();
            prop_assert_eq!(hashing.of(&key(0)), hashing.over(&whole));
        }
    }
}
