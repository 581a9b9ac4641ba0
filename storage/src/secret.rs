//! A value that is never shown.

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Something secret: no `Debug`, no `Display`, no `Serialize`, wiped when dropped.
///
/// A struct that holds one cannot derive those traits either, so a secret does not get into a log line,
/// a panic message or a record by accident.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes the value over.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, for the one place that needs it.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}
