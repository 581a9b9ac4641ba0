//! Changes to a message's headers, as data: stages say what, the proxy does it.

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// Names of headers, in lower case. Most names that are looked for among them are not there, and nearly all of those have
/// a length that none of them has.
#[derive(Debug)]
pub struct Names<const N: usize> {
    names: [&'static str; N],
    lengths: Lengths,
}

/// Which lengths some names have, one bit each; those past the last bit share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lengths(u64);

impl Lengths {
    const fn with(self, name: &str) -> Self {
        let last = u64::BITS as usize - 1;
        Self(self.0 | 1 << if name.len() < last { name.len() } else { last })
    }

    const fn has(self, name: &str) -> bool {
        self.with(name).0 == self.0
    }
}

impl<const N: usize> Names<N> {
    /// These.
    #[must_use]
    pub const fn new(names: [&'static str; N]) -> Self {
        let (mut lengths, mut rest) = (Lengths(0), names.as_slice());
        while let [name, others @ ..] = rest {
            (lengths, rest) = (lengths.with(name), others);
        }
        Self { names, lengths }
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn contains(&self, name: &HeaderName) -> bool {
        let name = name.as_str();
        self.lengths.has(name) && self.names.contains(&name)
    }

    /// Removes all of them.
    pub fn remove_from(&self, headers: &mut HeaderMap) {
        for name in self.names {
            headers.remove(name);
        }
    }
}

/// Changes to headers: removals first, then what is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    append: Vec<(HeaderName, HeaderValue)>,
    /// Of the names that are removed or set.
    lengths: Lengths,
}

impl HeaderEdits {
    /// Removes every value of a name.
    pub fn remove(&mut self, name: HeaderName) {
        self.lengths = self.lengths.with(name.as_str());
        self.remove.push(name);
    }

    /// Sets one value in the place of whatever stands under the name. A value that is no header value is left out: it
    /// could only be ours, never a client's.
    pub fn set(&mut self, name: HeaderName, value: impl TryInto<HeaderValue>) {
        match value.try_into() {
            Ok(value) => {
                self.lengths = self.lengths.with(name.as_str());
                self.set.push((name, value));
            }
            Err(_no_value) => self.remove(name),
        }
    }

    /// Puts a value beside what stands under the name.
    pub fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.append.push((name, value));
    }

    /// What is put where something was removed, and beside what was not, in its order. Set twice, the later value stands.
    pub fn added(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        let set = self.set.iter().enumerate().filter(|(at, (name, _))| {
            let later = self.set.get(at.saturating_add(1)..).unwrap_or_default();
            !later.iter().any(|(other, _)| other == name)
        });
        set.map(|(_, set)| set).chain(&self.append)
    }

    /// Whether what stands under a name goes: it is removed, or replaced.
    #[must_use]
    pub fn removes(&self, name: &HeaderName) -> bool {
        self.lengths.has(name.as_str())
            && (self.remove.contains(name) || self.set.iter().any(|(set, _)| set == name))
    }

    /// Room for as many changes as most messages get.
    #[must_use]
    pub fn with_room() -> Self {
        Self { remove: Vec::with_capacity(16), set: Vec::with_capacity(12), ..Self::default() }
    }

    /// Applies the changes to a map: for tests and for answers that we make ourselves.
    pub fn apply(self, headers: &mut HeaderMap) {
        for name in self.remove {
            headers.remove(name);
        }
        for (name, value) in self.set {
            headers.insert(name, value);
        }
        for (name, value) in self.append {
            headers.append(name, value);
        }
    }
}

/// An id as it stands in a header.
#[must_use]
pub fn spelt_id(id: Uuid) -> String {
    id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    static SOME: Names<3> = Names::new([
        "via",
        "x-request-id",
        "the-longest-of-all-that-has-more-letters-than-there-are-bits-in-a-word",
    ]);

    #[test]
    fn a_name_is_among_others_by_all_of_its_letters() {
        let check = |name: &str, expected| {
            assert_eq!(SOME.contains(&HeaderName::try_from(name).unwrap()), expected, "{name}");
        };
        for name in SOME.names {
            check(name, true);
        }
        for name in ["te", "age", "via-", "x-request-ix", &"x".repeat(63), &"x".repeat(70), &"x".repeat(200)]
        {
            check(name, false);
        }
        let mut headers = HeaderMap::new();
        for name in ["via", "age", "x-request-id"] {
            headers.append(name, HeaderValue::from_static("x"));
            headers.append(name, HeaderValue::from_static("y"));
        }
        SOME.remove_from(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["age"]);
    }

    #[test]
    fn what_is_removed_or_set_takes_the_place_of_what_came() {
        let mut edits = HeaderEdits::default();
        edits.remove(HeaderName::from_static("via"));
        edits.set(HeaderName::from_static("age"), "1");
        edits.append(HeaderName::from_static("x-a"), HeaderValue::from_static("2"));
        for (name, expected) in [("via", true), ("age", true), ("x-a", false), ("vib", false)] {
            assert_eq!(edits.removes(&HeaderName::try_from(name).unwrap()), expected, "{name}");
        }
    }
}
