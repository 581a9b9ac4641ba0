//! Who the caller is, as JSON for a program and as a page for a person.

use std::collections::BTreeSet;

use askama::Template;
use engine::headers::Audience;
use engine::identity::{Identity, PrincipalKind};
use engine::refusal::Refusal;
use http::HeaderValue;
use serde::Serialize;
use uuid::Uuid;

use super::render::{Frame, json, page};
use super::{At, PageAnswer};
use crate::clock::rfc3339;

pub(super) fn show(at: &At<'_>) -> PageAnswer {
    let Identity::Known(principal) = at.caller.identity else {
        return PageAnswer::refused(Refusal::Unauthenticated);
    };
    let who = Who {
        id: principal.id,
        name: &principal.name,
        kind: principal.kind,
        roles: &principal.roles,
        groups: &principal.groups,
        assurance: principal.assurance,
        session: at.caller.session.map(|session| Session {
            id: session.id,
            created: rfc3339(session.created_at),
            absolute_end: rfc3339(session.absolute_end),
        }),
    };
    PageAnswer::new(
        200,
        match at.request.audience {
            Audience::Program => json(&who, HeaderValue::from_static("application/json")),
            Audience::Person => page(&WhoAmIPage {
                frame: at.frame(),
                kind: match principal.kind {
                    PrincipalKind::User => "person",
                    PrincipalKind::Service => "service",
                    PrincipalKind::Operator => "operator",
                },
                assurance: match principal.assurance {
                    0 | 1 => "one factor",
                    2 => "two factors",
                    3.. => "phishing-resistant",
                },
                who,
            }),
        },
    )
}

#[derive(Serialize)]
struct Who<'a> {
    id: Uuid,
    name: &'a str,
    kind: PrincipalKind,
    roles: &'a BTreeSet<String>,
    groups: &'a BTreeSet<String>,
    assurance: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Session>,
}

#[derive(Serialize)]
struct Session {
    id: Uuid,
    created: String,
    absolute_end: String,
}

#[derive(Template)]
#[template(path = "who_am_i.html")]
struct WhoAmIPage<'a> {
    frame: Frame<'a>,
    kind: &'static str,
    assurance: &'static str,
    who: Who<'a>,
}
