//! One path, one spelling.
//!
//! A path is decoded once, judged by what it decodes to, and written anew: what is routed, decided and
//! forwarded is one text, never a copy of what came over the wire. What two servers could read differently is
//! refused by name. The canonical spelling is a function of the decoded segments, so that two paths that
//! decode alike are spelt alike (threat 3):
//!
//! - letters, digits and `- . _ ~ ! $ & ' ( ) * , = : @` stand as they are;
//! - all else is escaped with upper-case hexadecimal digits. `+` too, because some servers read a bare one as
//!   a space; `;` too, because some servers cut a segment at a bare one.
//!
//! There is no Unicode normalisation: text is compared byte by byte, as the upstream will.

mod escape;
mod leniency;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub use leniency::Leniencies;

pub(crate) use escape::{Undecodable, decode, decode_form, decode_lossy, escape, push_escaped};

use crate::refusal::Malformed;

/// Bytes of a path, as sent and as forwarded, at most. Browsers and proxies agree on about this much.
pub const PATH_BYTES_MAX: usize = 8 * 1024;

/// Segments of a path, at most: eight times the deepest route of BotServer, with room for folders in a tail.
pub const SEGMENTS_MAX: usize = 64;

/// The one spelling of a path that is routed, decided and forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalPath {
    text: String,
    lenient: Leniencies,
}

impl CanonicalPath {
    /// Reads the path of a request target: the bytes before the first `?`, see [`split_target`].
    ///
    /// # Errors
    /// A [`Malformed`] that names what is ambiguous. Escaped slashes, semicolons, escaped percent signs and the
    /// `//` of one URL are accepted here and reported by [`CanonicalPath::lenient`]: whether they pass is the route's choice.
    pub fn parse(raw: &[u8]) -> Result<Self, Malformed> {
        if raw.len() > PATH_BYTES_MAX {
            return Err(Malformed::PATH_TOO_LONG);
        }
        let Some(rest) = raw.strip_prefix(b"/") else {
            return Err(Malformed::PATH_NOT_ORIGIN_FORM);
        };
        if let Some(text) = as_sent(raw, rest) {
            return Ok(Self { text: text.to_owned(), lenient: Leniencies::default() });
        }
        let mut path = Self { text: String::with_capacity(raw.len()), lenient: Leniencies::default() };
        let mut decoded = Vec::new();
        let mut segments = rest.split(|byte| *byte == b'/').enumerate().peekable();
        while let Some((at, segment)) = segments.next() {
            if at == SEGMENTS_MAX {
                return Err(Malformed::PATH_TOO_MANY_SEGMENTS);
            }
            if segment.is_empty() && segments.peek().is_some() {
                if path.lenient.url_in_tail || !path.ends_in_scheme() {
                    return Err(Malformed::PATH_EMPTY_SEGMENT);
                }
                path.lenient.url_in_tail = true;
            }
            path.push(segment, &mut decoded)?;
        }
        if path.text.len() > PATH_BYTES_MAX {
            return Err(Malformed::PATH_TOO_LONG);
        }
        Ok(path)
    }

    /// The canonical serialised form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The segments in canonical spelling. `/` has one empty segment; a path that ends in `/` ends in an empty
    /// segment, which makes it another path.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.text.get(1..).unwrap_or_default().split('/')
    }

    /// The leniencies that this path needs.
    #[must_use]
    pub fn lenient(&self) -> Leniencies {
        self.lenient
    }

    /// Whether a URL may begin here. Its scheme is lower-case, as every browser writes it.
    fn ends_in_scheme(&self) -> bool {
        self.text.ends_with("/https:") || self.text.ends_with("/http:")
    }

    fn push(&mut self, segment: &[u8], decoded: &mut Vec<u8>) -> Result<(), Malformed> {
        read(segment, decoded)?;
        let text = std::str::from_utf8(decoded).map_err(|_| Malformed::PATH_BAD_UTF8)?;
        self.lenient = self.lenient.or(judge(text)?);
        self.text.push('/');
        for byte in text.bytes() {
            push_escaped(&mut self.text, byte, stands);
        }
        Ok(())
    }
}

/// Splits a request target at its first `?` into path and query. A fragment stays where it is and is refused
/// there.
#[must_use]
pub fn split_target(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut parts = target.splitn(2, |byte| *byte == b'?');
    (parts.next().unwrap_or_default(), parts.next())
}

/// Decodes one canonical segment to the text that a route parameter has.
#[must_use]
pub fn decode_segment(segment: &str) -> Cow<'_, str> {
    if segment.contains('%') { Cow::Owned(decode_lossy(segment)) } else { Cow::Borrowed(segment) }
}

/// The path as it was sent, where it is in canonical spelling already, as most are: then no segment is decoded and
/// judged. `rest` is what comes after the first slash.
fn as_sent<'a>(raw: &'a [u8], rest: &[u8]) -> Option<&'a str> {
    let mut segments = rest.split(|byte| *byte == b'/').enumerate().peekable();
    while let Some((at, segment)) = segments.next() {
        let is_empty = segment.is_empty() && segments.peek().is_some();
        let is_plain = segment.iter().all(|byte| stands(*byte)) && !matches!(segment, b"." | b"..");
        if at == SEGMENTS_MAX || is_empty || !is_plain {
            return None;
        }
    }
    std::str::from_utf8(raw).ok()
}

/// Whether a character of a segment stands for itself in the canonical spelling.
fn stands(byte: u8) -> bool {
    STANDS.get(usize::from(byte)).is_some_and(|stands| *stands)
}

/// Of every byte whether it stands for itself. It is asked of each byte of each path.
#[expect(clippy::indexing_slicing, reason = "below 128 of 256, and reckoned by the compiler")]
static STANDS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let stands = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')')
            || matches!(byte, b'*' | b',' | b'=' | b':' | b'@');
        table[byte as usize] = stands;
        byte += 1;
    }
    table
};

/// Decodes the raw bytes of a segment, and refuses those that no segment has.
fn read(segment: &[u8], decoded: &mut Vec<u8>) -> Result<(), Malformed> {
    for byte in segment {
        match byte {
            0 => return Err(Malformed::PATH_NUL),
            0x01..=0x1f | 0x7f => return Err(Malformed::PATH_CONTROL),
            b' ' => return Err(Malformed::PATH_SPACE),
            b'\\' => return Err(Malformed::PATH_BACKSLASH),
            b'#' => return Err(Malformed::PATH_FRAGMENT),
            b'?' => return Err(Malformed::PATH_QUESTION_MARK),
            0x80.. => return Err(Malformed::PATH_NOT_ASCII),
            _ => {}
        }
    }
    decode(segment, decoded).map_err(|Undecodable| Malformed::PATH_BAD_ESCAPE)
}

/// Judges a segment by what it decodes to, and says which leniencies it needs.
fn judge(text: &str) -> Result<Leniencies, Malformed> {
    if text.contains('\0') {
        return Err(Malformed::PATH_NUL);
    }
    // Also the C1 controls, which some terminals obey.
    if text.contains(char::is_control) {
        return Err(Malformed::PATH_CONTROL);
    }
    if has_dot_piece(text) {
        return Err(Malformed::PATH_DOT_SEGMENT);
    }
    if has_empty_piece(text) {
        return Err(Malformed::PATH_EMPTY_SEGMENT);
    }
    let mut needs = Leniencies {
        encoded_slash: text.contains(['/', '\\']),
        semicolon: text.contains(';'),
        encoded_percent: text.contains('%'),
        ..Leniencies::default()
    };
    if needs.encoded_percent {
        needs = needs.or(judge_hidden(text)?);
    }
    Ok(needs)
}

/// Whether a server that takes `/` or `\` for separators after decoding, cuts at `;` or trims, would find `.`
/// or `..`. Never allowed, because no leniency could say what is meant.
fn has_dot_piece(text: &str) -> bool {
    text.split(['/', '\\'])
        .filter_map(|piece| piece.split(';').next())
        .any(|name| matches!(name.trim(), "." | ".."))
}

/// Whether such a server would find an empty segment anywhere but at the end: the rule for bare slashes holds
/// for escaped ones too.
fn has_empty_piece(text: &str) -> bool {
    let mut pieces = text.split(['/', '\\']).peekable();
    while let Some(piece) = pieces.next() {
        if piece.is_empty() && pieces.peek().is_some() {
            return true;
        }
    }
    false
}

/// Decodings past the first one that are looked through; an escape below those is refused.
const HIDDEN_DEPTH_MAX: usize = 2;

/// Judges what a server finds that decodes again: a leniency for `%25` is one for a percent sign, not for
/// hiding what is refused when it is in plain sight.
fn judge_hidden(text: &str) -> Result<Leniencies, Malformed> {
    let mut needs = Leniencies::default();
    let mut text = text.to_owned();
    for _ in 0..HIDDEN_DEPTH_MAX {
        let again = decode_lossy(&text);
        if again == text {
            return Ok(needs);
        }
        if has_dot_piece(&again)
            || again.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER)
        {
            return Err(Malformed::PATH_DOUBLE_ENCODING);
        }
        needs.encoded_slash |= again.contains(['/', '\\']);
        needs.semicolon |= again.contains(';');
        text = again;
    }
    if decode_lossy(&text) == text { Ok(needs) } else { Err(Malformed::PATH_DOUBLE_ENCODING) }
}
