//! Texts that many things have in common, each held once.
//!
//! What requests read should be what other requests have just read: the same name in a thousand places is a thousand places
//! that the processor has to fetch.

use std::sync::Arc;

use rustc_hash::FxHashSet;

/// Texts that were met. Hashed without a secret: a bundle's author has them all.
#[derive(Debug, Default)]
pub(crate) struct Shared(FxHashSet<Arc<str>>);

impl Shared {
    /// The first that was met of texts like this.
    pub(crate) fn one(&mut self, text: Arc<str>) -> Arc<str> {
        if let Some(known) = self.0.get(&text) {
            return Arc::clone(known);
        }
        self.0.insert(Arc::clone(&text));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_texts_are_one() {
        let mut shared = Shared::default();
        let [first, again, other] =
            ["docs.read", "docs.read", "docs.write"].map(|text| shared.one(text.into()));
        assert!(Arc::ptr_eq(&first, &again) && !Arc::ptr_eq(&first, &other));
        assert_eq!((&*again, &*other), ("docs.read", "docs.write"));
    }
}
