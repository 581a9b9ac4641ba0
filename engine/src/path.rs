//! One path, one spelling.

/// The one spelling of a path that is routed, decided and forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalPath {
    text: String,
}

impl CanonicalPath {
    /// The canonical serialised form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}
