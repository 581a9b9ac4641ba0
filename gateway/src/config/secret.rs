//! A value that is never shown: no `Debug`, `Display`, `Serialize` or comparison, and wiped when dropped.

use std::sync::Arc;

use zeroize::{Zeroize, Zeroizing};

/// A secret. Whoever needs the value says so by name ([`Secret::expose`]), which is what a reviewer greps for.
///
/// Clones share one allocation, so that there is one copy to wipe.
pub struct Secret<T: Zeroize>(Arc<Zeroizing<T>>);

impl<T: Zeroize> Secret<T> {
    /// Takes the value into custody.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(Arc::new(Zeroizing::new(value)))
    }

    /// The value, for the one call that needs it. Never bind it to something that outlives that call.
    #[must_use]
    pub fn expose(&self) -> &T {
        &self.0
    }
}

// Not derived: `T` need not be `Clone`, the allocation is shared.
impl<T: Zeroize> Clone for Secret<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
