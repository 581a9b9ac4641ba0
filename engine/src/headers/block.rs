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
    for (at, line) in lines.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return Err(Malformed::FRAMING_LINES);
        };
        if line.contains(&b'\r') || line.contains(&0) || line.is_empty() {
            return Err(Malformed::FRAMING_LINES);
        }
        if at == 0 {
            request_line(line)?;
            continue;
        }
        let name = header_name(line)?;
        lengths += usize::from(name.eq_ignore_ascii_case(b"content-length"));
        codings += usize::from(name.eq_ignore_ascii_case(b"transfer-encoding"));
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
    let parts = line.split(u8::is_ascii_whitespace);
    let parts: Vec<&[u8]> = parts.take(4).collect();
    if parts.len() == 3 && parts.iter().all(|part| !part.is_empty()) {
        Ok(())
    } else {
        Err(Malformed::FRAMING_LINES)
    }
}

/// The name before the colon. A line that begins with a blank continues the one before it in some servers, a
/// blank before the colon hides the name from others.
fn header_name(line: &[u8]) -> Result<&[u8], Malformed> {
    let mut parts = line.splitn(2, |byte| *byte == b':');
    match (parts.next(), parts.next()) {
        (Some(name), Some(_)) if !name.is_empty() && !name.iter().any(u8::is_ascii_whitespace) => Ok(name),
        _ => Err(Malformed::FRAMING_LINES),
    }
}
