//! One query, one spelling.
//!
//! Escapes of unreserved characters are decoded, hexadecimal digits are upper-case, empty parameters (`&&`)
//! fall away, and a bare `;` is escaped, because some servers split parameters at it. `+` stays: it is a space
//! to servers that read forms, and [`CanonicalQuery::value`] reads it as one. Other reserved characters stay
//! as they were sent, escaped or not: they can mean something to the upstream, and nothing is decided by
//! their spelling, because names and values are read decoded.

mod identity;

#[cfg(test)]
mod tests;

pub use identity::{IDENTITY_NAMES, is_identity_name};

use std::borrow::Cow;
use std::ops::Range;

use smol_str::SmolStr;

use crate::path::{Undecodable, decode_form, decode_lossy, escape, push_escaped};
use crate::refusal::Malformed;

/// Bytes of a query, as sent and as forwarded, at most: as much as a path.
pub const QUERY_BYTES_MAX: usize = 8 * 1024;

/// Parameters of a query, at most.
pub const QUERY_PARAMETERS_MAX: usize = 100;

/// Bytes of a decoded parameter name, at most. Names stand in records.
pub const QUERY_NAME_BYTES_MAX: usize = 128;

/// The one spelling of a query that is decided and forwarded.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CanonicalQuery {
    text: String,
    parameters: Vec<Parameter>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parameter {
    /// Decoded. Nearly all names stand in place.
    name: SmolStr,
    /// Where the value stands in the canonical text; empty without `=`.
    value: Range<usize>,
}

impl CanonicalQuery {
    /// Reads the query of a request target: the bytes after the first `?`, or nothing.
    ///
    /// # Errors
    /// A [`Malformed`] that names what no query contains, or the bound that it exceeds. Repeated names and
    /// names of identities are accepted here and reported by [`CanonicalQuery::repeated`] and
    /// [`CanonicalQuery::identity_name`]: whether they pass is the route's choice.
    pub fn parse(raw: Option<&[u8]>) -> Result<Self, Malformed> {
        let raw = raw.unwrap_or_default();
        if raw.len() > QUERY_BYTES_MAX {
            return Err(Malformed::QUERY_TOO_LONG);
        }
        refuse_raw(raw)?;
        let mut query = Self { text: String::with_capacity(raw.len()), parameters: Vec::new() };
        let mut scratch = Vec::new();
        for parameter in raw.split(|byte| *byte == b'&').filter(|parameter| !parameter.is_empty()) {
            query.push(parameter, &mut scratch)?;
        }
        if query.text.len() > QUERY_BYTES_MAX {
            return Err(Malformed::QUERY_TOO_LONG);
        }
        Ok(query)
    }

    /// The canonical serialised form, without the question mark. Empty when there is nothing to ask: then the
    /// target is forwarded without a question mark.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The decoded names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().map(|parameter| parameter.name.as_str())
    }

    /// The decoded names that stand before a `=`, in order. A parameter without one may be a token as it stands.
    pub fn assigned_names(&self) -> impl Iterator<Item = &str> {
        // A value that begins at the text's very beginning has no name before it, so there is no `=`.
        self.parameters
            .iter()
            .filter(|parameter| parameter.value.start > 0)
            .map(|parameter| parameter.name.as_str())
    }

    /// The decoded value of the first parameter of this name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        let parameter = self.parameters.iter().find(|parameter| parameter.name == name)?;
        let raw = self.text.get(parameter.value.clone()).unwrap_or_default();
        if memchr::memchr2(b'%', b'+', raw.as_bytes()).is_none() {
            return Some(Cow::Borrowed(raw));
        }
        Some(Cow::Owned(decode_lossy(&raw.replace('+', " "))))
    }

    /// The canonical form with these parameters in place of whatever was sent under their names. Names and values
    /// are of characters that stand for themselves.
    #[must_use]
    pub fn with_set(&self, set: &[(&str, String)]) -> String {
        let is_set = |name: &str| set.iter().any(|(known, _)| *known == name);
        // Parameter by parameter: the canonical text has one for each, and no other `&`.
        let sent = self.text.split('&').zip(&self.parameters);
        let kept = sent.filter(|(_, parameter)| !is_set(&parameter.name)).map(|(text, _)| text.to_owned());
        let ours = set.iter().map(|(name, value)| format!("{name}={value}"));
        kept.chain(ours).collect::<Vec<_>>().join("&")
    }

    /// The first name that occurs more than once.
    #[must_use]
    pub fn repeated(&self) -> Option<&str> {
        // At most QUERY_PARAMETERS_MAX names, so comparing all pairs is cheap.
        self.parameters.iter().enumerate().find_map(|(at, parameter)| {
            let earlier = self.parameters.iter().take(at);
            earlier.into_iter().any(|other| other.name == parameter.name).then_some(parameter.name.as_str())
        })
    }

    /// The first name that says who someone is and that the route does not let the client send (threat 2).
    /// `client_sets` holds names exactly as the route spells them; a variant of an allowed name stays refused.
    #[must_use]
    pub fn identity_name(&self, client_sets: &[String]) -> Option<&str> {
        self.names().find(|name| is_identity_name(name) && !client_sets.iter().any(|allowed| allowed == name))
    }

    fn push(&mut self, parameter: &[u8], scratch: &mut Vec<u8>) -> Result<(), Malformed> {
        if self.parameters.len() == QUERY_PARAMETERS_MAX {
            return Err(Malformed::QUERY_TOO_MANY);
        }
        let mut parts = parameter.splitn(2, |byte| *byte == b'=');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next());
        let name_read = decoded(name, scratch)?;
        if name_read.contains(char::is_control) {
            return Err(Malformed::QUERY_CONTROL);
        }
        if name_read.len() > QUERY_NAME_BYTES_MAX {
            return Err(Malformed::QUERY_NAME_TOO_LONG);
        }
        if identity::is_method_name(name_read) {
            return Err(Malformed::QUERY_METHOD_OVERRIDE);
        }
        let name_read = SmolStr::from(name_read);
        if !self.text.is_empty() {
            self.text.push('&');
        }
        self.write(name);
        let mut range = 0..0;
        if let Some(value) = value {
            decoded(value, scratch)?;
            self.text.push('=');
            range.start = self.text.len();
            self.write(value);
            range.end = self.text.len();
        }
        self.parameters.push(Parameter { name: name_read, value: range });
        Ok(())
    }

    /// Writes a name or value in canonical spelling. Its escapes are known to be whole.
    fn write(&mut self, raw: &[u8]) {
        let mut rest = raw;
        while let Some((byte, after)) = rest.split_first() {
            rest = match if *byte == b'%' { escape(after) } else { None } {
                Some((value, after)) => {
                    push_escaped(&mut self.text, value, is_unreserved);
                    after
                }
                None => {
                    push_escaped(&mut self.text, *byte, stands);
                    after
                }
            };
        }
    }
}

/// Refuses raw bytes that no query contains.
fn refuse_raw(raw: &[u8]) -> Result<(), Malformed> {
    for byte in raw {
        match byte {
            0 => return Err(Malformed::QUERY_NUL),
            0x01..=0x1f | 0x7f => return Err(Malformed::QUERY_CONTROL),
            b' ' => return Err(Malformed::QUERY_SPACE),
            b'#' => return Err(Malformed::QUERY_FRAGMENT),
            0x80.. => return Err(Malformed::QUERY_NOT_ASCII),
            _ => {}
        }
    }
    Ok(())
}

/// Decodes a name or value as forms do, and refuses what cannot be text. A value may contain line breaks and
/// tabs: people type them.
fn decoded<'s>(raw: &[u8], scratch: &'s mut Vec<u8>) -> Result<&'s str, Malformed> {
    decode_form(raw, scratch).map_err(|Undecodable| Malformed::QUERY_BAD_ESCAPE)?;
    let text = std::str::from_utf8(scratch).map_err(|_| Malformed::QUERY_BAD_UTF8)?;
    if text.contains('\0') {
        return Err(Malformed::QUERY_NUL);
    }
    Ok(text)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether a bare character stays as it was sent.
fn stands(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(byte, b'!' | b'$' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=')
        || matches!(byte, b'/' | b'?' | b':' | b'@')
}
