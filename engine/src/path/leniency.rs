//! Spellings that a route may allow by name.

use crate::refusal::Malformed;

/// Spellings that are refused unless a route allows them by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Leniencies {
    /// `%2F` or `%5C` inside a segment; kept escaped.
    pub encoded_slash: bool,
    /// `;` inside a segment; forwarded as `%3B`, so it is a character and never begins path parameters.
    pub semicolon: bool,
    /// `%25`: a percent sign that could be decoded twice.
    pub encoded_percent: bool,
    /// The `//` of a URL that stands in a tail as it is: after `http:` or `https:`, and nowhere else.
    pub url_in_tail: bool,
    /// A query name that occurs more than once.
    pub repeated_query: bool,
}

impl Leniencies {
    /// What either of the two needs or allows.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            encoded_slash: self.encoded_slash || other.encoded_slash,
            semicolon: self.semicolon || other.semicolon,
            encoded_percent: self.encoded_percent || other.encoded_percent,
            url_in_tail: self.url_in_tail || other.url_in_tail,
            repeated_query: self.repeated_query || other.repeated_query,
        }
    }

    /// Why a request that needs these is refused on a route that allows `allowed`; `None` when it is not.
    #[must_use]
    pub fn refused_by(self, allowed: Self) -> Option<Malformed> {
        [
            (self.encoded_percent && !allowed.encoded_percent, Malformed::PATH_DOUBLE_ENCODING),
            (self.encoded_slash && !allowed.encoded_slash, Malformed::PATH_ENCODED_SLASH),
            (self.semicolon && !allowed.semicolon, Malformed::PATH_SEMICOLON),
            (self.url_in_tail && !allowed.url_in_tail, Malformed::PATH_EMPTY_SEGMENT),
            (self.repeated_query && !allowed.repeated_query, Malformed::QUERY_REPEATED),
        ]
        .into_iter()
        .find_map(|(refused, reason)| refused.then_some(reason))
    }
}
