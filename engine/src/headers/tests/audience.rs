use http::Method;

use super::super::{Audience, audience};
use super::headers;

const PAGES: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

#[test]
fn the_audience_is_told_by_how_the_request_was_made() {
    use Audience::{Person, Program};
    let navigate = ("Sec-Fetch-Mode", "navigate");
    let accept = ("Accept", PAGES);
    for (method, lines, expected) in [
        (Method::GET, &[navigate, ("Sec-Fetch-Dest", "document"), accept][..], Person),
        (Method::POST, &[navigate, ("Sec-Fetch-Dest", "document"), accept], Person),
        (Method::GET, &[navigate, ("Sec-Fetch-Dest", "iframe")], Person),
        (Method::GET, &[navigate], Person),
        (Method::GET, &[navigate, ("Sec-Fetch-Dest", "empty"), accept], Program),
        (Method::GET, &[("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Dest", "empty"), accept], Program),
        (Method::GET, &[("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image"), accept], Program),
        (Method::GET, &[("Sec-Fetch-Mode", "websocket"), accept], Program),
        (Method::GET, &[accept], Person),
        (Method::POST, &[accept], Person),
        (Method::HEAD, &[("Accept", "text/html")], Person),
        (Method::PUT, &[accept], Program),
        (Method::DELETE, &[navigate, accept], Program),
        (Method::GET, &[], Program),
        (Method::GET, &[("Accept", "*/*")], Program),
        (Method::GET, &[("Accept", "text/*")], Program),
        (Method::GET, &[("Accept", "application/json")], Program),
        (Method::GET, &[("Accept", "application/json, text/html")], Program),
        (Method::GET, &[("Accept", "text/html;q=0")], Program),
        (Method::GET, &[("Accept", "text/html;q=0.5, application/json;q=0.6")], Program),
        (Method::GET, &[("Accept", "text/html;q=0.6, application/json;q=0.5")], Person),
        (Method::GET, &[("Accept", "text/html;q=x")], Program),
        (Method::GET, &[("Accept", "TEXT/HTML; charset=utf-8; Q=1.000")], Person),
        (Method::GET, &[accept, ("X-Requested-With", "XMLHttpRequest")], Program),
        (Method::GET, &[navigate, accept, ("HX-Request", "true")], Program),
        (Method::GET, &[navigate, accept, ("Upgrade", "websocket")], Program),
    ] {
        assert_eq!(audience(&method, &headers(lines)), expected, "{method} {lines:?}");
    }
}
