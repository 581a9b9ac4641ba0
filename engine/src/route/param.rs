//! Parameter types: exactly one accepted spelling of each value.

use std::fmt;

use uuid::Uuid;

use super::ParamType;

/// Bytes of a slug, at most.
const SLUG_BYTES_MAX: usize = 128;

impl ParamType {
    /// Whether `value`, decoded, is spelt in the one accepted way.
    ///
    /// Upstreams read `7` and `007`, or a UUID in braces, as the same thing; a policy, a lookup and a limit that
    /// compare text do not (threat 3). So every other spelling is refused here.
    #[must_use]
    pub fn accepts(&self, value: &str) -> bool {
        match self {
            Self::Uuid => is_uuid(value),
            Self::Int => is_int(value),
            Self::Slug => is_slug(value),
            Self::Text => !value.is_empty(),
            Self::Enum(listed) => listed.iter().any(|one| one == value),
        }
    }

    /// Whether one value could be of both types. Errs towards yes.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Enum(listed), other) | (other, Self::Enum(listed)) => {
                listed.iter().any(|one| other.accepts(one))
            }
            (Self::Uuid, Self::Int) | (Self::Int, Self::Uuid) => false,
            (
                Self::Uuid | Self::Int | Self::Slug | Self::Text,
                Self::Uuid | Self::Int | Self::Slug | Self::Text,
            ) => true,
        }
    }

    /// A value of this type.
    pub(crate) fn example(&self) -> String {
        match self {
            Self::Uuid => "4f9c1b52-6a1e-4b7d-9a60-2f2f0d6c1a11".to_owned(),
            Self::Int => "7".to_owned(),
            Self::Slug => "example".to_owned(),
            Self::Text => "an example".to_owned(),
            Self::Enum(listed) => listed.first().cloned().unwrap_or_default(),
        }
    }
}

impl fmt::Display for ParamType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid => f.write_str("a uuid (lower-case, hyphenated)"),
            Self::Int => f.write_str("an int (decimal, no sign, no leading zero)"),
            Self::Slug => f.write_str("a slug (A-Z a-z 0-9 . _ -, not starting with a dot)"),
            Self::Text => f.write_str("text (not empty)"),
            Self::Enum(listed) => write!(f, "one of {}", listed.join(", ")),
        }
    }
}

fn is_uuid(value: &str) -> bool {
    // The library reads five spellings; only one of them is its own way to write.
    let mut buffer = Uuid::encode_buffer();
    Uuid::try_parse(value).is_ok_and(|uuid| uuid.hyphenated().encode_lower(&mut buffer) == value)
}

fn is_int(value: &str) -> bool {
    // Bounded by what Cedar's `Long` holds; a sign is refused because `-0` would be a second zero.
    let plain = value.bytes().all(|byte| byte.is_ascii_digit());
    let shortest = value == "0" || !value.starts_with('0');
    plain && shortest && value.parse::<i64>().is_ok()
}

fn is_slug(value: &str) -> bool {
    let length = 1..=SLUG_BYTES_MAX;
    length.contains(&value.len())
        && !value.starts_with('.')
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}
