//! Where to go after signing in: a path of ours, or nowhere.

use engine::path::CanonicalPath;
use engine::query::CanonicalQuery;
use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The longest address to return to, in bytes; a longer one is dropped, signing in still works.
pub const RETURN_TO_BYTES_MAX: usize = 2048;

/// Everything but what RFC 3986 leaves unreserved, and `/`, which a query value may hold.
const QUERY_VALUE: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A path, perhaps with a query, on our own host.
///
/// INVARIANT: begins with one `/`, then neither `/` nor `\`; visible ASCII only; path and query in their one
/// canonical spelling. So no browser reads it as an address of another host, however it repairs what it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnTo(String);

impl ReturnTo {
    /// Takes an address that stays here; anything else is `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > RETURN_TO_BYTES_MAX || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (text, None),
        };
        if !path.starts_with('/') || path.starts_with("//") || path.contains('\\') || text.contains('#') {
            return None;
        }
        let same_path =
            CanonicalPath::parse(path.as_bytes()).is_ok_and(|canonical| canonical.as_str() == path);
        let same_query = query.is_none_or(|query| {
            CanonicalQuery::parse(Some(query.as_bytes())).is_ok_and(|canonical| canonical.as_str() == query)
        });
        // A sign-in page to return to would ask again and again.
        let signs_in =
            [super::SIGN_IN_PATH, super::OIDC_START_PATH, super::OIDC_CALLBACK_PATH].contains(&path);
        (same_path && same_query && !signs_in).then(|| Self(text.to_owned()))
    }

    /// As it goes into `Location`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a parameter of a query.
    #[must_use]
    pub fn parameter(&self) -> String {
        format!("return_to={}", utf8_percent_encode(&self.0, QUERY_VALUE))
    }

    /// As `Location`; our own start page if it is no header value, which it always is.
    #[must_use]
    pub fn location(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).unwrap_or(HeaderValue::from_static(super::WHO_AM_I_PATH))
    }
}

/// The address of the sign-in page that returns to `to`.
#[must_use]
pub fn sign_in_address(to: Option<&ReturnTo>) -> String {
    match to {
        Some(to) => format!("{}?{}", super::SIGN_IN_PATH, to.parameter()),
        None => super::SIGN_IN_PATH.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_local_canonical_addresses() {
        for good in ["/", "/api/docs", "/api/docs?id=1&x=2", "/a%20b", "/x?y=%2F%2Fevil.example"] {
            assert_eq!(ReturnTo::parse(good).map(|to| to.0).as_deref(), Some(good), "{good}");
        }
        for bad in [
            "",
            "api",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/../x",
            "/a/./b",
            "/a//b",
            "/a\\b",
            "/a b",
            "/a\tb",
            "/\t/evil.example",
            "/\n/evil.example",
            "/a#b",
            "/%2e%2e/x",
            "/ä",
            " /a",
            "/.cedargate/login",
            "/.cedargate/login?return_to=/",
            "/.cedargate/oidc/start?provider=x",
            "/.cedargate/oidc/callback?code=x",
            "/%5cevil.example",
            "/%09/evil.example",
        ] {
            assert_eq!(ReturnTo::parse(bad), None, "{bad}");
        }
        assert_eq!(ReturnTo::parse(&format!("/{}", "a".repeat(RETURN_TO_BYTES_MAX))), None);
    }

    proptest! {
        /// Whatever is taken, a browser resolves it to our own host.
        #[test]
        fn never_leaves_our_host(text in r"[/\\a-z.:?#@%0-9 \t&=-]{0,40}") {
            if let Some(to) = ReturnTo::parse(&text) {
                let rest = to.as_str().strip_prefix('/').unwrap();
                prop_assert!(!rest.starts_with('/') && !rest.starts_with('\\'));
                prop_assert!(to.as_str().bytes().all(|b| b.is_ascii_graphic() && b != b'\\'));
            }
        }

        /// What goes through the sign-in page's query comes back.
        #[test]
        fn survives_the_query(segment in "[a-z]{1,8}", value in "[a-z0-9]{1,8}") {
            let to = ReturnTo::parse(&format!("/{segment}?q={value}")).unwrap();
            let address = sign_in_address(Some(&to));
            let (_, encoded) = address.split_once("return_to=").unwrap();
            prop_assert!(!encoded.contains(['&', '?', '=', '+']));
            prop_assert_eq!(percent_decode_str(encoded).decode_utf8().unwrap(), to.as_str());
        }
    }
}
