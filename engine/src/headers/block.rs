//! The header block as it came over the wire, before a parser repaired it.

use crate::refusal::Malformed;

/// Judges the bytes of a header block, from the request line to the blank line.
///
/// A parser that follows RFC 9112 leniently drops `Content-Length` beside `Transfer-Encoding`, collapses equal
/// lengths and takes a bare LF for a line end. What stands behind us may not, so this looks at what was sent.
///
/// # Errors
/// A [`Malformed`] whose reason begins with `framing.`.
pub fn inspect_block(block: &[u8]) -> Result<(), Malformed> {
    let mut rest = block;
    // Empty lines before a request are left over from a body and ignored by RFC 9112.
    while let Some(after) = rest.strip_prefix(b"\r\n") {
        rest = after;
    }
    // Without the blank line, so that every line that is left has a name.
    let Some(lines) = rest.strip_suffix(b"\r\n") else {
        return Err(Malformed::FRAMING_LINES);
    };
    let (mut lengths, mut codings) = (0_usize, 0_usize);
    let mut begin = 0_usize;
    // One walk: what ends a line or may not stand in one is searched for together, many bytes at a time.
    let mut marks = memchr::memchr3_iter(b'\r', b'\n', 0, lines);
    while begin < lines.len() {
        let (Some(end), Some(feed)) = (marks.next(), marks.next()) else {
            return Err(Malformed::FRAMING_LINES);
        };
        let line = lines.get(begin..end).unwrap_or_default();
        let ends = lines.get(end) == Some(&b'\r') && lines.get(feed) == Some(&b'\n');
        if !ends || feed != end.saturating_add(1) || line.is_empty() {
            return Err(Malformed::FRAMING_LINES);
        }
        if begin == 0 {
            request_line(line)?;
        } else {
            let name = header_name(line)?;
            lengths += usize::from(name.eq_ignore_ascii_case(b"content-length"));
            codings += usize::from(name.eq_ignore_ascii_case(b"transfer-encoding"));
        }
        begin = feed.saturating_add(1);
    }
    match (lengths, codings) {
        (0 | 1, 0) | (0, 1) => Ok(()),
        (0, _) => Err(Malformed::FRAMING_TRANSFER_ENCODING),
        (_, 0) => Err(Malformed::FRAMING_CONTENT_LENGTH_REPEATED),
        (_, _) => Err(Malformed::FRAMING_BOTH_LENGTHS),
    }
}

/// Three parts with one space between: where there are more, servers disagree about which is the target.
fn request_line(line: &[u8]) -> Result<(), Malformed> {
    let mut parts = line.split(u8::is_ascii_whitespace);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some([_, ..]), Some([_, ..]), Some([_, ..]), None) => Ok(()),
        _ => Err(Malformed::FRAMING_LINES),
    }
}

/// The name before the colon. A line that begins with a blank continues the one before it in some servers, a
/// blank before the colon hides the name from others.
fn header_name(line: &[u8]) -> Result<&[u8], Malformed> {
    let name = memchr::memchr(b':', line).and_then(|colon| line.get(..colon)).unwrap_or_default();
    if name.is_empty() || name.iter().any(u8::is_ascii_whitespace) {
        return Err(Malformed::FRAMING_LINES);
    }
    Ok(name)
}
