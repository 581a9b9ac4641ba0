//! How a page or a refusal is written: markup, media type and the headers that a page of ours needs.

use askama::Template;
use bytes::Bytes;
use engine::refusal::Answer;
use engine::route::StepUp;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
};
use serde::Serialize;
use uuid::Uuid;

use super::return_to::{ReturnTo, sign_in_address};
use super::step_up;

/// What a page of ours may do: show itself, with our style sheet, and post to us. No script, no frame around it.
pub const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// A body with the headers that belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// What to answer besides the headers that every answer gets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
}

/// What surrounds every page.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frame<'a> {
    /// Said at the top of every page, for example that this is a demonstration which others can reach.
    pub notice: Option<&'a str>,
    /// The request's id, shown where somebody may need it.
    pub request_id: Option<Uuid>,
}

/// A refusal for a person: what happened, what they can do, and the number to ask about.
///
/// `return_to` is the address to come back to; a 401 offers to return there after signing in, or after proving what `asks`
/// names.
#[must_use]
pub fn refusal_page(
    answer: &Answer,
    frame: Frame<'_>,
    return_to: Option<&ReturnTo>,
    asks: Option<&StepUp>,
) -> Rendered {
    let sign_in = || Way { address: sign_in_address(return_to), title: "Sign in" };
    let confirm = |asks| Way { address: step_up::address(asks, return_to), title: "Confirm who you are" };
    page(&RefusalPage {
        frame,
        answer,
        wait: answer.retry_after_s.map(wait_in_words),
        way: asks.map(confirm).or_else(|| (answer.status == 401).then(sign_in)),
    })
}

/// A refusal for a program: RFC 9457.
#[must_use]
pub fn problem(answer: &Answer, request_id: Uuid) -> Rendered {
    let problem = Problem {
        kind: format!("urn:cedargate:refusal:{}", answer.code),
        title: answer.title,
        status: answer.status,
        detail: answer.detail,
        remedy: answer.remedy,
        request_id,
    };
    json(&problem, PROBLEM)
}

/// A JSON document that nobody keeps.
pub(super) fn json(value: &impl Serialize, content_type: HeaderValue) -> Rendered {
    // Our own types serialise; were one not to, an empty body is better than a panic.
    let body = serde_json::to_vec(value).unwrap_or_default();
    Rendered { headers: vec![(CONTENT_TYPE, content_type), (CACHE_CONTROL, NO_STORE)], body: body.into() }
}

/// A page that nobody keeps and nobody frames.
pub(super) fn page(template: &impl Template) -> Rendered {
    let headers = vec![
        (CONTENT_TYPE, HTML),
        (CACHE_CONTROL, NO_STORE),
        (CONTENT_SECURITY_POLICY, PAGE_POLICY),
        // `no-referrer` would make browsers post our own forms with `Origin: null`.
        (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    ];
    Rendered { headers, body: template.render().unwrap_or_default().into() }
}

/// Seconds as people say them, rounded up.
pub(super) fn wait_in_words(seconds: u32) -> String {
    match seconds {
        0 | 1 => "1 second".to_owned(),
        2..=90 => format!("{seconds} seconds"),
        91..=5400 => format!("{} minutes", seconds.div_ceil(60)),
        _ => format!("{} hours", seconds.div_ceil(3600)),
    }
}

#[derive(Template)]
#[template(path = "refusal.html")]
struct RefusalPage<'a> {
    frame: Frame<'a>,
    answer: &'a Answer,
    wait: Option<String>,
    way: Option<Way>,
}

/// Where a person goes on from a refusal.
struct Way {
    address: String,
    title: &'static str,
}

#[derive(Serialize)]
struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'static str>,
    remedy: &'static str,
    request_id: Uuid,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, detail: Option<&'static str>, retry_after_s: Option<u32>) -> Answer {
        Answer {
            status,
            code: "some_code",
            title: "A title",
            remedy: "Do <something>.",
            detail,
            retry_after_s,
            challenge: status == 401,
            close: false,
        }
    }

    fn text(rendered: &Rendered) -> &str {
        std::str::from_utf8(&rendered.body).unwrap()
    }

    #[test]
    fn refusals_for_people() {
        let id = Uuid::from_u128(7);
        let frame = Frame { notice: Some("A <demo>"), request_id: Some(id) };
        let check = |answer: Answer, asked: Option<&str>, holds: &[&str], lacks: &[&str]| {
            let return_to = asked.and_then(ReturnTo::parse);
            let rendered = refusal_page(&answer, frame, return_to.as_ref(), None);
            for part in holds {
                assert!(text(&rendered).contains(part), "{part} in {}", text(&rendered));
            }
            for part in lacks {
                assert!(!text(&rendered).contains(part), "{part} in {}", text(&rendered));
            }
            assert!(rendered.headers.contains(&(CONTENT_SECURITY_POLICY, PAGE_POLICY)));
        };
        let always = ["A title", "Do &#60;something&#62;.", "A &#60;demo&#62;", &id.to_string()];
        check(
            answer(403, None, None),
            Some("/x"),
            &always,
            &["Sign in", "Try again", "Reason", "<script", "style="],
        );
        check(answer(401, None, None), Some("/x?y=1"), &["/.cedargate/login?return_to=/x%3Fy%3D1"], &[]);
        check(answer(401, None, None), Some("//evil.example"), &["href=\"/.cedargate/login\""], &["evil"]);
        let asks = StepUp { max_age_s: Some(300), ..StepUp::SECOND_FACTOR };
        let page = refusal_page(&answer(401, None, None), frame, ReturnTo::parse("/x").as_ref(), Some(&asks));
        let way = "/.cedargate/oidc/start?assurance=2&#38;max_age=300&#38;return_to=/x";
        assert!(text(&page).contains(way) && text(&page).contains("Confirm who you are"), "{}", text(&page));
        check(answer(429, None, Some(61)), None, &["Try again in 61 seconds"], &["Sign in"]);
        check(answer(400, Some("path.nul"), None), None, &["path.nul"], &[]);
    }

    #[test]
    fn refusals_for_programs() {
        let id = Uuid::from_u128(7);
        let rendered = problem(&answer(400, Some("path.nul"), None), id);
        let value: serde_json::Value = serde_json::from_slice(&rendered.body).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "type": "urn:cedargate:refusal:some_code", "title": "A title", "status": 400, "detail": "path.nul",
                "remedy": "Do <something>.", "request_id": id.to_string(),
            })
        );
        assert!(rendered.headers.contains(&(CONTENT_TYPE, PROBLEM)));
        assert!(!text(&problem(&answer(403, None, None), id)).contains("detail"));
    }

    #[test]
    fn waits() {
        for (seconds, words) in [
            (0, "1 second"),
            (2, "2 seconds"),
            (90, "90 seconds"),
            (91, "2 minutes"),
            (1800, "30 minutes"),
            (7200, "2 hours"),
        ] {
            assert_eq!(wait_in_words(seconds), words);
        }
    }
}
