//! Percent-escapes, decoded exactly once.

/// A `%` that two hexadecimal digits do not follow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Undecodable;

/// Decodes every escape of `raw` into `decoded`, which is emptied first.
pub(crate) fn decode(raw: &[u8], decoded: &mut Vec<u8>) -> Result<(), Undecodable> {
    decode_with(raw, decoded, |byte| byte)
}

/// Decodes as forms do: a bare `+` is a space.
pub(crate) fn decode_form(raw: &[u8], decoded: &mut Vec<u8>) -> Result<(), Undecodable> {
    decode_with(raw, decoded, |byte| if byte == b'+' { b' ' } else { byte })
}

fn decode_with(raw: &[u8], decoded: &mut Vec<u8>, bare: impl Fn(u8) -> u8) -> Result<(), Undecodable> {
    decoded.clear();
    let mut rest = raw;
    while let Some((byte, after)) = rest.split_first() {
        let (value, after) =
            if *byte == b'%' { escape(after).ok_or(Undecodable)? } else { (bare(*byte), after) };
        decoded.push(value);
        rest = after;
    }
    Ok(())
}

/// Decodes the escapes of a text; what is no escape stands for itself, and what is not UTF-8 becomes U+FFFD.
pub(crate) fn decode_lossy(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let escaped = if *byte == b'%' { escape(after) } else { None };
        let (value, after) = escaped.unwrap_or((*byte, after));
        decoded.push(value);
        rest = after;
    }
    match String::from_utf8(decoded) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}

/// Writes one byte: as it stands where it may, else as an escape with upper-case digits.
pub(crate) fn push_escaped(text: &mut String, byte: u8, stands: impl Fn(u8) -> bool) {
    if stands(byte) {
        text.push(char::from(byte));
    } else {
        text.push('%');
        text.push(digit(byte >> 4));
        text.push(digit(byte & 0x0f));
    }
}

/// The byte that two hexadecimal digits at the front of `rest` name, and what follows them.
pub(crate) fn escape(rest: &[u8]) -> Option<(u8, &[u8])> {
    let [high, low, after @ ..] = rest else { return None };
    Some((value(*high)? << 4 | value(*low)?, after))
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn digit(value: u8) -> char {
    char::from(if value < 10 { b'0' + value } else { b'A' + value - 10 })
}
