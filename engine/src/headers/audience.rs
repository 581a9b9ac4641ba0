//! Whether a person or a program reads the answer.

use http::{HeaderMap, HeaderValue, Method, header};

/// Who reads the answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A person in a browser: a page, and a redirect to the login where one helps.
    Person,
    /// A program: problem+json, and never a redirect, which a script cannot follow across origins.
    Program,
}

/// Tells who reads the answer. `Accept` alone proved unreliable elsewhere, so it is asked last: a program that
/// gets a page breaks, a person who gets JSON can still read it, hence all doubt counts as a program.
#[must_use]
pub fn audience(method: &Method, headers: &HeaderMap) -> Audience {
    // A page that no navigation asked for would be swapped into the middle of another, or be lost.
    let is_scripted =
        ["x-requested-with", "hx-request", "upgrade"].iter().any(|name| headers.contains_key(*name));
    // A browser navigates with these only: links and forms.
    let navigates = matches!(*method, Method::GET | Method::HEAD | Method::POST);
    if is_scripted || !navigates {
        return Audience::Program;
    }
    let is_navigation = match headers.get("sec-fetch-mode") {
        Some(mode) => mode == "navigate" && headers.get("sec-fetch-dest").is_none_or(is_document),
        None => prefers_pages(headers),
    };
    if is_navigation { Audience::Person } else { Audience::Program }
}

fn is_document(destination: &HeaderValue) -> bool {
    ["document", "iframe", "frame", "embed", "object"].iter().any(|document| destination == document)
}

/// Whether `Accept` names HTML and ranks it above JSON. A bare `*/*` says nothing about people.
fn prefers_pages(headers: &HeaderMap) -> bool {
    let (mut page, mut json) = (0, 0);
    for value in headers.get_all(header::ACCEPT) {
        let Ok(value) = value.to_str() else { return false };
        for range in value.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts.find_map(quality_permille).unwrap_or(1000);
            match kind.as_str() {
                "text/html" | "application/xhtml+xml" => page = page.max(quality),
                "application/json" | "application/problem+json" => json = json.max(quality),
                _ => {}
            }
        }
    }
    page > json
}

/// A `q` in thousandths; `None` for another parameter. One that cannot be read counts as unwanted.
fn quality_permille(parameter: &str) -> Option<u16> {
    let text = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="))?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_plain = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths = format!("{fraction:0<3}").parse::<u16>();
    match (whole, thousandths) {
        ("1", Ok(0)) if is_plain => Some(1000),
        ("0", Ok(thousandths)) if is_plain => Some(thousandths),
        _ => Some(0),
    }
}
