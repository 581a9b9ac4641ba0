//! Whether a cookie-borne request may have been sent by another site (threat 12).
//!
//! Asked only where the cookie gives the identity, and only for writes and upgrades. A write is every action
//! that policy does not declare read-only, whatever its method: a `GET` that changes something is one too.

use engine::refusal::CrossSiteFault;
use http::header::{HeaderMap, HeaderName, ORIGIN};

use super::site::{Site, Sites};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Passes requests that our own pages, or pages of an allowed origin, have sent.
///
/// # Errors
/// The fault, when another site may have sent it.
pub fn check(headers: &HeaderMap, site: &Site, sites: &Sites) -> Result<(), CrossSiteFault> {
    let origin = one(headers, &ORIGIN).map_err(|_repeated| CrossSiteFault::Origin)?;
    let fetch_site = one(headers, &SEC_FETCH_SITE).map_err(|_repeated| CrossSiteFault::FetchSite)?;
    let listed = origin.is_some_and(|origin| sites.allows_origin(origin));
    match (fetch_site, origin) {
        // Browsers set this header themselves and no script can; `none` is a person's own navigation.
        (Some("same-origin" | "none"), _) => Ok(()),
        (Some(_), _) if listed => Ok(()),
        (Some(_), _) => Err(CrossSiteFault::FetchSite),
        // `null` is what sandboxed frames and redirects across sites send: anybody's.
        (None, None | Some("null")) => Err(CrossSiteFault::Unproven),
        (None, Some(origin)) if origin == site.origin() || listed => Ok(()),
        (None, Some(_)) => Err(CrossSiteFault::Origin),
    }
}

/// The one value of a header; unreadable bytes count as a value that matches nothing.
fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Repeated> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(|value| value.to_str().unwrap_or("\u{fffd}"));
    match values.next() {
        None => Ok(first),
        Some(_) => Err(Repeated),
    }
}

struct Repeated;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::super::site::tests::{site, sites};
    use super::*;

    /// `Sec-Fetch-Site` values, `Origin` values, what comes of it.
    type Case = (&'static [&'static str], &'static [&'static str], Result<(), CrossSiteFault>);

    #[test]
    fn threat_12_cross_site_table() {
        use CrossSiteFault::{FetchSite, Origin, Unproven};
        let sites = sites(&[("app.example", "https://app.example")], &["https://friend.example"]);
        let site = sites.find("app.example").unwrap();
        let cases: &[Case] = &[
            (&["same-origin"], &[], Ok(())),
            (&["none"], &[], Ok(())),
            (&["same-origin"], &["https://app.example"], Ok(())),
            (&["cross-site"], &["https://friend.example"], Ok(())),
            (&["cross-site"], &["https://app.example"], Err(FetchSite)),
            (&["cross-site"], &[], Err(FetchSite)),
            (&["same-site"], &["https://sub.app.example"], Err(FetchSite)),
            (&["cross-site"], &["null"], Err(FetchSite)),
            (&["Same-Origin"], &[], Err(FetchSite)),
            (&[""], &[], Err(FetchSite)),
            (&["same-origin", "cross-site"], &[], Err(FetchSite)),
            (&[], &["https://app.example"], Ok(())),
            (&[], &["https://friend.example"], Ok(())),
            (&[], &["http://app.example"], Err(Origin)),
            (&[], &["https://app.example:444"], Err(Origin)),
            (&[], &["https://app.example.evil.example"], Err(Origin)),
            (&[], &["https://app.example/"], Err(Origin)),
            (&[], &["https://app.example", "https://evil.example"], Err(Origin)),
            (&[], &["null"], Err(Unproven)),
            (&[], &[], Err(Unproven)),
            (&[], &[""], Err(Origin)),
        ];
        for (fetch_site, origin, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in *fetch_site {
                headers.append(SEC_FETCH_SITE, HeaderValue::from_static(value));
            }
            for value in *origin {
                headers.append(ORIGIN, HeaderValue::from_static(value));
            }
            assert_eq!(&check(&headers, site, &sites), expected, "{fetch_site:?} {origin:?}");
        }
    }

    #[test]
    fn unreadable_bytes_match_nothing() {
        let site = site("https://app.example");
        let mut headers = HeaderMap::new();
        headers.append(SEC_FETCH_SITE, HeaderValue::from_bytes(b"same-origin\xff").unwrap());
        assert_eq!(check(&headers, &site, &Sites::default()), Err(CrossSiteFault::FetchSite));
    }
}
