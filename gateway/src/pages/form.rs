//! The body of a form: `application/x-www-form-urlencoded`, bounded, each field once.

use engine::refusal::{Malformed, Refusal};
use http::header::{CONTENT_TYPE, HeaderMap};
use zeroize::Zeroizing;

/// The longest form that is read, in bytes.
pub const FORM_BYTES_MAX: usize = 8 * 1024;

/// The most fields; our forms have under five.
pub const FORM_FIELDS_MAX: usize = 16;

const MEDIA_TYPE: &str = "application/x-www-form-urlencoded";

/// The fields of a form. Values are wiped when it is dropped: one of them is a password.
pub struct Form(Vec<(String, Zeroizing<String>)>);

impl Form {
    /// Reads a form.
    ///
    /// # Errors
    /// It is too large, of another media type, has a bad escape, or names a field twice: which of two values
    /// counts is a question that two programs answer differently.
    pub fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, Refusal> {
        if body.len() > FORM_BYTES_MAX {
            return Err(Refusal::TooLarge { bytes_max: FORM_BYTES_MAX as u64 });
        }
        if !is_form(headers) {
            return Err(malformed("form.content_type"));
        }
        let mut fields: Vec<(String, Zeroizing<String>)> = Vec::new();
        for pair in body.split(|b| *b == b'&').filter(|pair| !pair.is_empty()) {
            let at = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
            let (name, value) = pair.split_at_checked(at).unwrap_or((pair, b""));
            let name = decode(name)?.as_str().to_owned();
            let value = decode(value.strip_prefix(b"=").unwrap_or(value))?;
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(malformed("form.repeated_field"));
            }
            if fields.len() == FORM_FIELDS_MAX {
                return Err(malformed("form.too_many_fields"));
            }
            fields.push((name, value));
        }
        Ok(Self(fields))
    }

    /// A field that must be there.
    ///
    /// # Errors
    /// It is not.
    pub fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.optional(name).ok_or_else(|| malformed("form.missing_field"))
    }

    /// A field that may be there.
    #[must_use]
    pub fn optional(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn malformed(reason: &'static str) -> Refusal {
    Refusal::Malformed(Malformed { reason, status: 400 })
}

fn is_form(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let Ok(text) = value.to_str() else { return false };
    let (media_type, parameters) = text.split_once(';').unwrap_or((text, ""));
    let parameters = parameters.trim();
    media_type.trim().eq_ignore_ascii_case(MEDIA_TYPE)
        && (parameters.is_empty() || parameters.eq_ignore_ascii_case("charset=utf-8"))
}

/// Strict where the standard algorithm is lenient: a broken escape or broken UTF-8 is refused, not repaired.
fn decode(bytes: &[u8]) -> Result<Zeroizing<String>, Refusal> {
    // Never longer than its escaped form, so it is not moved, and no copy of a password is left behind.
    let mut decoded = Zeroizing::new(Vec::with_capacity(bytes.len()));
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (rest.next().and_then(hex), rest.next().and_then(hex));
                let (Some(high), Some(low)) = (high, low) else { return Err(malformed("form.bad_escape")) };
                high.wrapping_mul(16).wrapping_add(low)
            }
            other => *other,
        });
    }
    let text = std::str::from_utf8(&decoded).map_err(|_invalid| malformed("form.bad_utf8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn hex(byte: &u8) -> Option<u8> {
    char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(content_type: &'static str) -> HeaderMap {
        let mut map = HeaderMap::new();
        map.append(CONTENT_TYPE, HeaderValue::from_static(content_type));
        map
    }

    fn reason(result: Result<Form, Refusal>) -> &'static str {
        match result {
            Ok(_) => "ok",
            Err(Refusal::Malformed(malformed)) => malformed.reason,
            Err(Refusal::TooLarge { .. }) => "too_large",
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn reading_forms() {
        let form =
            Form::parse(&headers(MEDIA_TYPE), b"login=a%40b+c&password=%C3%A4%2B&empty=&bare&&").unwrap();
        assert_eq!(form.required("login"), Ok("a@b c"));
        assert_eq!(form.optional("password"), Some("ä+"));
        assert_eq!((form.optional("empty"), form.optional("bare")), (Some(""), Some("")));
        assert!(form.required("absent").is_err());

        let check =
            |body: &[u8], expected| assert_eq!(reason(Form::parse(&headers(MEDIA_TYPE), body)), expected);
        check(b"", "ok");
        check(b"login=a&login=a", "form.repeated_field");
        check(b"login=a&log%69n=b", "form.repeated_field");
        check(b"a=%", "form.bad_escape");
        check(b"a=%4", "form.bad_escape");
        check(b"a=%zz", "form.bad_escape");
        check(b"a=%ff", "form.bad_utf8");
        check(b"a=\xff", "form.bad_utf8");
        check(&b"a".repeat(FORM_BYTES_MAX), "ok");
        check(&b"a".repeat(FORM_BYTES_MAX + 1), "too_large");
        let fields = |count: usize| (0..count).map(|i| format!("f{i}=1")).collect::<Vec<_>>().join("&");
        check(fields(FORM_FIELDS_MAX).as_bytes(), "ok");
        check(fields(FORM_FIELDS_MAX + 1).as_bytes(), "form.too_many_fields");
    }

    #[test]
    fn media_types() {
        for (content_type, expected) in [
            ("application/x-www-form-urlencoded", "ok"),
            ("Application/X-WWW-Form-Urlencoded; charset=UTF-8", "ok"),
            ("application/x-www-form-urlencoded; charset=utf-7", "form.content_type"),
            ("text/plain", "form.content_type"),
            ("multipart/form-data; boundary=x", "form.content_type"),
            ("", "form.content_type"),
        ] {
            assert_eq!(reason(Form::parse(&headers(content_type), b"a=b")), expected, "{content_type}");
        }
        assert_eq!(reason(Form::parse(&HeaderMap::new(), b"a=b")), "form.content_type");
        let mut twice = headers(MEDIA_TYPE);
        twice.append(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        assert_eq!(reason(Form::parse(&twice, b"a=b")), "form.content_type");
    }

    proptest! {
        /// No body panics.
        #[test]
        fn any_body_is_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..400)) {
            drop(Form::parse(&headers(MEDIA_TYPE), &body));
        }

        /// What a browser encodes is what we read.
        #[test]
        fn encoded_then_read(value in "\\PC{0,40}") {
            let encoded = percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC);
            let form = Form::parse(&headers(MEDIA_TYPE), format!("password={encoded}").as_bytes()).unwrap();
            prop_assert_eq!(form.required("password"), Ok(value.as_str()));
        }
    }
}
