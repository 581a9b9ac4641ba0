//! Keys as tables of counters hold them: 112 bits of a hash that nobody outside can reckon, so that two clients never share
//! a counter by accident or on purpose.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use rustc_hash::FxBuildHasher;
use siphasher::sip128::{Hash128, SipHasher13};

use super::{LimitKey, Subject};
use crate::random::random;

/// The bits of the first word that are a hash's: a table keeps something of its own in the others.
pub(super) const FIRST: u64 = (1 << 48) - 1;
/// Bytes of a key before the name of its limit.
const BEFORE_NAME: usize = 18;
/// A key whose limit has a name of up to 46 bytes, which is all that are configured, is laid out in place.
const IN_PLACE: usize = 64;

/// Things by the hash of their key. Whoever does not know the key of that hash cannot have many of them in one place, so that
/// to hash it again needs no key of its own.
pub(super) type ByKey<T> = HashMap<[u64; 2], T, FxBuildHasher>;

/// Hashes keys, all of a table under one key of its own.
///
/// SipHash-1-3, as the standard library's tables have it, with 128 bits of one pass. Every request is counted under some
/// keys, and two passes of half the bits cost twice as much.
pub(super) struct Hashing(SipHasher13);

impl Hashing {
    /// Under a key that is made now.
    pub(super) fn new() -> Self {
        Self(SipHasher13::new_with_key(&random()))
    }

    /// The hash of a key. No two keys are laid out alike: what comes before the name has one length.
    pub(super) fn of(&self, key: &LimitKey<'_>) -> [u64; 2] {
        let (kind, whose) = match key.subject {
            Subject::Address(IpAddr::V4(address)) => (0, address.to_bits().into()),
            Subject::Address(IpAddr::V6(address)) => (1, address.to_bits()),
            Subject::Principal(id) => (2, id.as_u128()),
            Subject::Everybody => (3_u8, 0),
        };
        let mut before = [0; BEFORE_NAME];
        let [first, second, rest @ ..] = &mut before;
        (*first, *second, *rest) = (kind, key.sliding.into(), whose.to_le_bytes());
        let (mut place, name) = ([0; IN_PLACE], key.limit.as_bytes());
        let length = BEFORE_NAME.saturating_add(name.len());
        let Hash128 { h1, h2 } = match place.get_mut(..length) {
            Some(bytes) => {
                let (start, end) = bytes.split_at_mut(BEFORE_NAME);
                start.copy_from_slice(&before);
                end.copy_from_slice(name);
                self.0.hash(bytes)
            }
            None => self.0.hash(&[&before, name].concat()),
        };
        [h1 & FIRST, h2]
    }
}

/// Without its key.
impl fmt::Debug for Hashing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hashing")
    }
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
            limits in ["[ab]{0,3}|[a]{60,62}", "[ab]{0,3}|[a]{60,62}"],
            sliding in any::<[bool; 2]>(),
        ) {
            let key = |at: usize| LimitKey { limit: &limits[at], subject: subjects[at], sliding: sliding[at] };
            let (hashing, other) = (Hashing::new(), Hashing::new());
            prop_assert_eq!(hashing.of(&key(0)) == hashing.of(&key(1)), key(0) == key(1));
            prop_assert_ne!(hashing.of(&key(0)), other.of(&key(0)), "each table has a key of its own");
            prop_assert_eq!(hashing.of(&key(0))[0] & !FIRST, 0);
        }
    }
}
