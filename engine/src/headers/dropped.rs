//! Which headers from outside reach no upstream.

use super::HEADER_NAME_BYTES_MAX;
use super::families::{CORRELATION, EXACT, FORWARDING, IDENTITY, METHOD_OVERRIDES, PLAIN, SUSPECT_WORDS};

/// Why a header from outside is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// It says who someone is, or what they may do.
    Identity,
    /// It says where a request came from, by which host, scheme or path, or how a proxy should treat it.
    Forwarding,
    /// It ties a request to others in logs and traces; ours are set anew, and `traceparent` is continued.
    Correlation,
    /// Its name has more than letters, digits and single hyphens: `_`, `.` and others become `-` in some
    /// servers, and so another header. A route may allow one by name.
    Odd,
    /// A word in its name suggests an identity that we do not know. A route may allow one by name.
    Suspect,
}

impl DropReason {
    /// Whether a route may let a header pass that is dropped for this reason.
    #[must_use]
    pub const fn can_be_allowed(self) -> bool {
        matches!(self, Self::Odd | Self::Suspect)
    }
}

/// Why a header of this name is dropped; `None` when it passes.
#[must_use]
pub fn drop_reason(name: &str) -> Option<DropReason> {
    if is_plain(name) {
        return None;
    }
    let folded = Folded::of(name);
    if folded.is_as_sent && is_plain(folded.dashed()) {
        return None;
    }
    folded.family().or_else(|| {
        if !folded.is_as_sent {
            return Some(DropReason::Odd);
        }
        has_suspect_word(folded.dashed()).then_some(DropReason::Suspect)
    })
}

/// Whether a header of this name is dropped.
#[must_use]
pub fn is_dropped(name: &str) -> bool {
    drop_reason(name).is_some()
}

/// Whether a header of this name goes upstream on a route that allows `allowed` by name.
#[must_use]
pub fn survives(name: &str, allowed: &[String]) -> bool {
    match drop_reason(name) {
        None => true,
        Some(reason) => {
            reason.can_be_allowed() && allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
        }
    }
}

/// Whether a header of this name asks an upstream to take the request for one of another method.
pub(super) fn overrides_method(name: &str) -> bool {
    !is_plain(name) && METHOD_OVERRIDES.contains(&Folded::of(name).squeezed())
}

/// Whether nothing further is asked of this name. Header maps hold lower-case names, so this ends the search
/// for nearly every header of a browser.
pub(super) fn is_plain(name: &str) -> bool {
    // Few of them have the same length, and fewer begin alike.
    let (names, from) = &PLAIN_BY_LENGTH;
    let bounds = from.get(name.len()).zip(from.get(name.len().saturating_add(1)));
    let alike = bounds.and_then(|(begin, end)| names.get(*begin..*end)).unwrap_or_default();
    let first = name.as_bytes().first();
    alike.iter().any(|plain| plain.as_bytes().first() == first && *plain == name)
}

/// The plain names in the order of their lengths, and where those of each length begin.
static PLAIN_BY_LENGTH: ([&str; PLAIN.len()], [usize; PLAIN_BYTES_MAX + 2]) = plain_by_length();

/// Letters of the longest plain name, at most.
const PLAIN_BYTES_MAX: usize = 40;

#[expect(
    clippy::indexing_slicing,
    reason = "it runs where it is compiled, and there an index past the end is an error"
)]
const fn plain_by_length() -> ([&'static str; PLAIN.len()], [usize; PLAIN_BYTES_MAX + 2]) {
    let (mut names, mut from) = ([""; PLAIN.len()], [0; PLAIN_BYTES_MAX + 2]);
    let (mut length, mut placed) = (0, 0);
    while length <= PLAIN_BYTES_MAX {
        let mut rest = PLAIN;
        while let [name, others @ ..] = rest {
            if name.len() == length {
                names[placed] = name;
                placed += 1;
            }
            rest = others;
        }
        length += 1;
        from[length] = placed;
    }
    assert!(placed == PLAIN.len(), "a plain name is longer than the longest");
    (names, from)
}

fn has_suspect_word(name: &str) -> bool {
    // One walk over the name: a search for each word costs more than all else here.
    let mut rest = name.as_bytes();
    while !rest.is_empty() {
        if SUSPECT_WORDS.iter().any(|word| begins(rest, word)) {
            return true;
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    false
}

/// `starts_with` that looks at two telling bytes first, because most families begin with `x-`.
fn begins(text: &[u8], with: &str) -> bool {
    let with = with.as_bytes();
    with.first() == text.first()
        && with.get(2).is_none_or(|third| text.get(2) == Some(third))
        && text.starts_with(with)
}

/// A header name as the most generous server would read it.
struct Folded {
    /// Lower-case letters and digits, with one hyphen for all that stands between them.
    dashed: Text,
    /// The same without hyphens.
    squeezed: Text,
    /// Whether the name consists of letters, digits and single hyphens between them.
    is_as_sent: bool,
}

impl Folded {
    fn of(name: &str) -> Self {
        let mut folded = Self { dashed: Text::new(), squeezed: Text::new(), is_as_sent: true };
        let mut is_between = false;
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() {
                if is_between && !folded.dashed.is_empty() {
                    folded.push_dash();
                }
                is_between = false;
                folded.push(byte.to_ascii_lowercase());
            } else {
                folded.is_as_sent &= byte == b'-' && !is_between && !folded.dashed.is_empty();
                is_between = true;
            }
        }
        folded.is_as_sent &= !is_between && !folded.dashed.is_empty();
        folded
    }

    fn push(&mut self, byte: u8) {
        self.is_as_sent &= self.dashed.push(byte) && self.squeezed.push(byte);
    }

    fn push_dash(&mut self) {
        self.is_as_sent &= self.dashed.push(b'-');
    }

    fn dashed(&self) -> &str {
        self.dashed.as_str()
    }

    fn squeezed(&self) -> &str {
        self.squeezed.as_str()
    }

    fn family(&self) -> Option<DropReason> {
        let (dashed, squeezed) = (self.dashed(), self.squeezed());
        if let Some((_, reason)) = EXACT.iter().find(|(name, _)| *name == squeezed) {
            return Some(*reason);
        }
        [
            (IDENTITY, DropReason::Identity),
            (FORWARDING, DropReason::Forwarding),
            (CORRELATION, DropReason::Correlation),
        ]
        .into_iter()
        .find(|(families, _)| families.iter().any(|family| begins(dashed.as_bytes(), family)))
        .map(|(_, reason)| reason)
    }
}

/// ASCII text of at most [`HEADER_NAME_BYTES_MAX`] bytes, without an allocation for each header.
struct Text {
    bytes: [u8; HEADER_NAME_BYTES_MAX],
    length: usize,
}

impl Text {
    const fn new() -> Self {
        Self { bytes: [0; HEADER_NAME_BYTES_MAX], length: 0 }
    }

    fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends a byte; `false` when there is no place.
    fn push(&mut self, byte: u8) -> bool {
        match self.bytes.get_mut(self.length) {
            Some(place) => {
                *place = byte;
                self.length += 1;
                true
            }
            None => false,
        }
    }

    fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}
