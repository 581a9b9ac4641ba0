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

/// Spellings that are refused unless a route allows them by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Leniencies {
    /// `%2F` or `%5C` inside a segment; kept escaped.
    pub encoded_slash: bool,
    /// `;` inside a segment.
    pub semicolon: bool,
    /// `%25`: a percent sign that could be decoded twice.
    pub encoded_percent: bool,
    /// A query name that occurs more than once.
    pub repeated_query: bool,
}
