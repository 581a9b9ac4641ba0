//! Texts and lists that many things have in common, each held once.
//!
//! What requests read should be what other requests have just read: the same name in a thousand places is a thousand places
//! that the processor has to fetch.

use std::hash::Hash;
use std::sync::Arc;

use rustc_hash::FxHashSet;

/// What was met. Hashed without a secret: a bundle's author has it all.
#[derive(Debug)]
pub(crate) struct Shared<T: ?Sized>(FxHashSet<Arc<T>>);

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Self(FxHashSet::default())
    }
}

impl<T: ?Sized + Eq + Hash> Shared<T> {
    /// The first that was met of those like this.
    pub(crate) fn one(&mut self, like: Arc<T>) -> Arc<T> {
        if let Some(known) = self.0.get(&like) {
            return Arc::clone(known);
        }
        self.0.insert(Arc::clone(&like));
        like
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_texts_are_one() {
        let mut shared = Shared::default();
        let [first, again, other] =
            ["docs.read", "docs.read", "docs.write"].map(|text| shared.one(Arc::<str>::from(text)));
        assert!(Arc::ptr_eq(&first, &again) && !Arc::ptr_eq(&first, &other));
        assert_eq!((&*again, &*other), ("docs.read", "docs.write"));
    }
}
