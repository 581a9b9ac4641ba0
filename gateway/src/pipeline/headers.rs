//! Changes to a message's headers, as data: stages say what, the proxy does it.

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// Changes to headers: removals first, then what is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Names to remove, every value.
    pub remove: Vec<HeaderName>,
    /// Values that replace whatever stands under their name.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Values that stand beside what is there.
    pub append: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderEdits {
    /// Removes every value of a name.
    pub fn remove(&mut self, name: HeaderName) {
        self.remove.push(name);
    }

    /// Sets one value in the place of whatever stands under the name. A value that is no header value is left out: it
    /// could only be ours, never a client's.
    pub fn set(&mut self, name: HeaderName, value: impl TryInto<HeaderValue>) {
        match value.try_into() {
            Ok(value) => self.set.push((name, value)),
            Err(_no_value) => self.remove(name),
        }
    }

    /// Whether what stands under a name goes: it is removed, or replaced.
    #[must_use]
    pub fn removes(&self, name: &HeaderName) -> bool {
        self.remove.contains(name) || self.set.iter().any(|(set, _)| set == name)
    }

    /// Room for as many changes as most messages get.
    #[must_use]
    pub fn with_room() -> Self {
        Self { remove: Vec::with_capacity(16), set: Vec::with_capacity(12), append: Vec::new() }
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
