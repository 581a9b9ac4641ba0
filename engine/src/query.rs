//! One query, one spelling.

/// The one spelling of a query that is decided and forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalQuery {
    text: String,
}

impl CanonicalQuery {
    /// The canonical serialised form, without the question mark.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}
