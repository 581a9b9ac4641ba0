//! Our cookies: their names, how they are read and how they are set.

use http::header::{COOKIE, HeaderMap, HeaderValue};

use super::site::Site;

/// The most bytes of one cookie value of ours that are looked at; ours are under 200.
pub const COOKIE_VALUE_BYTES_MAX: usize = 512;

/// Cookies of sign-ins under way that are looked at; we never set as many.
pub const FLOWS_READ_MAX: usize = 32;

/// Which of our cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookie {
    /// The session's secret.
    Session,
    /// What a sign-in form is bound to, before there is a session.
    Form,
    /// A browser that has signed in before (threat 11).
    Device,
}

impl Cookie {
    /// Its name at a site. On TLS the `__Host-` prefix keeps sibling domains and plain HTTP from setting it.
    #[must_use]
    pub fn name(self, site: &Site) -> &'static str {
        match (self, site.is_secure()) {
            (Self::Session, true) => "__Host-cedargate",
            (Self::Session, false) => "cedargate_session",
            (Self::Form, true) => "__Host-cedargate_form",
            (Self::Form, false) => "cedargate_form",
            (Self::Device, true) => "__Host-cedargate_device",
            (Self::Device, false) => "cedargate_device",
        }
    }

    /// The header value that sets it; `max_age_s` of 0 removes it, `None` keeps it until the browser ends.
    ///
    /// `None` when the value is not made of cookie characters, which ours always are.
    #[must_use]
    pub fn set(self, site: &Site, value: &str, max_age_s: Option<u64>) -> Option<HeaderValue> {
        set(self.name(site), site, value, max_age_s)
    }
}

/// The name of the cookie of a sign-in at a provider that is under way, by the flow's id.
#[must_use]
pub fn flow_name(site: &Site, id: &str) -> String {
    format!("{}{id}", flow_prefix(site))
}

/// Every flow's cookie of this browser, at most [`FLOWS_READ_MAX`]: the flow's id and the value as sent.
pub fn flows<'h>(headers: &'h HeaderMap, site: &Site) -> impl Iterator<Item = (&'h str, &'h str)> {
    let prefix = flow_prefix(site);
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs
        .filter_map(move |(name, value)| Some((name.trim().strip_prefix(prefix)?, value.trim())))
        .take(FLOWS_READ_MAX)
}

fn flow_prefix(site: &Site) -> &'static str {
    if site.is_secure() { "__Host-cedargate_flow_" } else { "cedargate_flow_" }
}

/// The header value that sets a cookie of ours; see [`Cookie::set`].
#[must_use]
pub fn set(name: &str, site: &Site, value: &str, max_age_s: Option<u64>) -> Option<HeaderValue> {
    let secure = if site.is_secure() { "; Secure" } else { "" };
    let age = max_age_s.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
    let safe = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{age}");
    safe.then(|| HeaderValue::from_str(&text).ok()).flatten()
}

/// Whether a cookie name is one of ours, in either form and in any case: an upstream never sets or sees these.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    let lower = name.trim().to_ascii_lowercase();
    let bare = lower.strip_prefix("__host-").or_else(|| lower.strip_prefix("__secure-")).unwrap_or(&lower);
    bare.strip_prefix("cedargate").is_some_and(|rest| rest.is_empty() || rest.starts_with(['_', '-', '.']))
}

/// What a request carries under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'h> {
    /// Nothing.
    None,
    /// One value.
    One(&'h [u8]),
    /// More than one, of whatever values: a sibling domain may have planted one, so none is believed.
    Many,
}

/// Looks a name up in every `Cookie` header, exactly as spelt.
#[must_use]
pub fn find<'h>(headers: &'h HeaderMap, name: &str) -> Found<'h> {
    let mut found = Found::None;
    let pairs = headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|b| *b == b';'));
    for pair in pairs {
        let pair = pair.trim_ascii();
        let Some(rest) = pair.strip_prefix(name.as_bytes()) else { continue };
        // `name` without `=` is a cookie without a name whose value is `name`: not ours.
        let Some(value) = rest.trim_ascii_start().strip_prefix(b"=") else { continue };
        found = match found {
            Found::None => Found::One(value.trim_ascii()),
            Found::One(_) | Found::Many => Found::Many,
        };
    }
    found
}

/// The one value of a name as text, when there is exactly one and it is short ASCII.
#[must_use]
pub fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    match find(headers, name) {
        Found::One(value) if value.len() <= COOKIE_VALUE_BYTES_MAX && value.is_ascii() => {
            std::str::from_utf8(value).ok()
        }
        Found::One(_) | Found::None | Found::Many => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::site::tests::site;
    use super::*;

    fn headers(lines: &[&[u8]]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for line in lines {
            map.append(COOKIE, HeaderValue::from_bytes(line).unwrap());
        }
        map
    }

    #[test]
    fn reading() {
        let check = |lines: &[&[u8]], expected: Found<'_>| {
            assert_eq!(find(&headers(lines), "cedargate_session"), expected, "{lines:?}");
        };
        check(&[], Found::None);
        check(&[b"a=b"], Found::None);
        check(&[b"cedargate_session=x"], Found::One(b"x"));
        check(&[b"a=b;cedargate_session = x ; c=d"], Found::One(b"x"));
        check(&[b"cedargate_session="], Found::One(b""));
        check(&[b"cedargate_session"], Found::None);
        check(&[b"Cedargate_Session=x"], Found::None);
        check(&[b"cedargate_session2=x"], Found::None);
        check(&[b"xcedargate_session=x"], Found::None);
        check(&[b"a=\"; cedargate_session=x; \""], Found::One(b"x"));
        check(&[b"cedargate_session=x; cedargate_session=x"], Found::Many);
        check(&[b"cedargate_session=x", b"cedargate_session=y"], Found::Many);
        check(&[b"cedargate_session=\xff\xfe"], Found::One(b"\xff\xfe"));
        check(&[b";;;=;= ;"], Found::None);
    }

    #[test]
    fn setting() {
        let check = |url: &str, age, expected: &str| {
            let site = site(url);
            assert_eq!(Cookie::Session.set(&site, "abc-_9", age).unwrap(), expected);
        };
        check("https://a.example", None, "__Host-cedargate=abc-_9; Path=/; HttpOnly; SameSite=Lax; Secure");
        check(
            "http://localhost:1",
            Some(0),
            "cedargate_session=abc-_9; Path=/; HttpOnly; SameSite=Lax; Max-Age=0",
        );
        let site = site("http://localhost");
        for bad in ["a b", "a;b", "a\r\nSet-Cookie: x=y", "ä", "a,b", "\""] {
            assert_eq!(Cookie::Device.set(&site, bad, None), None, "{bad:?}");
        }
    }

    #[test]
    fn our_names() {
        for name in
            ["__Host-cedargate", "cedargate_session", "CEDARGATE_device", "__secure-cedargate", " cedargate"]
        {
            assert!(is_ours(name), "{name}");
        }
        for name in ["session_id", "cedargated", "x_cedargate", "__Host-", ""] {
            assert!(!is_ours(name), "{name}");
        }
    }

    proptest! {
        /// No bytes panic, and what is found is a part of what was sent.
        #[test]
        fn any_cookie_header_is_read(line in proptest::collection::vec(32_u8..=255, 0..200)) {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                let mut map = HeaderMap::new();
                map.append(COOKIE, value);
                if let Found::One(found) = find(&map, "cedargate_session") {
                    prop_assert!(found.is_empty() || line.windows(found.len()).any(|w| w == found));
                }
            }
        }

        /// A value that is set is the value that is read back.
        #[test]
        fn set_then_read(value in "[A-Za-z0-9_.-]{1,64}", secure: bool) {
            let site = site(if secure { "https://a" } else { "http://a" });
            let set = Cookie::Form.set(&site, &value, Some(60)).unwrap();
            let pair = set.to_str().unwrap().split(';').next().unwrap().to_owned();
            let map = headers(&[b"z=1", pair.as_bytes()]);
            prop_assert_eq!(text(&map, Cookie::Form.name(&site)), Some(value.as_str()));
        }
    }
}
