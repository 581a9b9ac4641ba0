//! Answers that the gateway gives itself: its pages, its refusals, and what becomes of a failed upstream.

use std::panic::AssertUnwindSafe;

use bytes::Bytes;
use engine::audit::End;
use engine::headers::{Audience, audience};
use engine::refusal::{Answer, Malformed, Refusal, UpstreamFault};
use engine::route::{Page, StepUp, Target};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use pingora_core::{Error, ErrorSource, ErrorType, Result};

use super::Parts;
use super::http1::{self, Outgoing, ServerSession};
use super::request::{RequestContext, panicked};
use crate::authn::bearer;
use crate::clock;
use crate::edge::meter::Told;
use crate::edge::pace::Late;
use crate::edge::{Connection, raw_answer};
use crate::pages::return_to::ReturnTo;
use crate::pages::{Frame, PageRequest, Rendered, problem, refusal_page};
use crate::pipeline::respond::{Place, own};
use crate::pipeline::{Stage, respond};

/// Bytes of a body that one of our own pages reads: far past a login and a password of 1 KiB each, escaped.
const PAGE_BODY_BYTES_MAX: u64 = 16 * 1024;
/// Bytes of a refused request's body that are read away so that its connection can be used again.
const DRAIN_BYTES_MAX: u64 = 64 * 1024;

/// What is known of an answer's place.
pub fn place<'a>(parts: &Parts, ctx: &'a RequestContext) -> Place<'a> {
    let host = ctx.received.as_ref().map(|received| received.host.as_str());
    Place {
        request_id: ctx.trail.request_id,
        https: is_https(parts, host),
        known: ctx.passage.as_ref().is_some_and(|it| crate::pipeline::forward::speaks_for(it).is_some()),
        route: ctx.passage.as_ref().map(|passage| &*passage.matched().route),
        limits: ctx.passage.as_ref().map_or(&[], |passage| passage.limits()),
    }
}

fn is_https(parts: &Parts, host: Option<&str>) -> bool {
    let hosts = &parts.config.hosts;
    let named = hosts.iter().find(|candidate| Some(candidate.name.as_str()) == host);
    named.or_else(|| hosts.first()).is_some_and(|host| host.public_url.is_https())
}

/// Answers what the stages have decided. A panic on the way is answered as well, as long as nothing was sent.
pub async fn guarded(
    parts: &Parts,
    session: &mut ServerSession,
    ctx: &mut RequestContext,
    decided: Result<Target, Refusal>,
) -> Result<()> {
    let answering = async {
        match decided {
            Ok(Target::Page(own)) => page(parts, session, ctx, own).await,
            // An upstream answers for itself.
            Ok(Target::Upstream(_)) => Ok(()),
            Err(refused) => refusal(parts, session, ctx, &refused).await,
        }
    };
    match AssertUnwindSafe(answering).catch_unwind().await {
        Ok(answered) => answered,
        Err(_panic) => {
            panicked(ctx);
            if session.answered().is_some() {
                return Error::e_explain(ErrorType::InternalError, "a stage panicked under its answer");
            }
            refusal(parts, session, ctx, &Refusal::Faulted).await
        }
    }
}

/// Answers with one of our own pages.
pub async fn page(
    parts: &Parts,
    session: &mut ServerSession,
    ctx: &mut RequestContext,
    page: Page,
) -> Result<()> {
    let body = match body(session, ctx).await? {
        Ok(body) => body,
        Err(refused) => return refusal(parts, session, ctx, &refused).await,
    };
    let (Some(passage), Some(received)) = (ctx.passage.clone(), ctx.received.clone()) else {
        return refusal(parts, session, ctx, &Refusal::Faulted).await;
    };
    let request = PageRequest {
        page,
        method: received.method.clone(),
        host: received.host.clone(),
        client: received.client,
        headers: session.head().headers.clone(),
        query: received.query.clone(),
        body,
        request_id: ctx.trail.request_id,
        audience: audience(&received.method, &session.head().headers),
    };
    let answered = parts.pages.answer(clock::now(), &passage, request).await;
    for note in answered.notes {
        ctx.trail.note(note);
    }
    if let Some(refused) = &answered.refusal {
        ctx.trail.refused(refused);
    }
    if let Some(refused) = answered.refusal.filter(|_| answered.body.is_empty()) {
        return refusal(parts, session, ctx, &refused).await;
    }
    let rendered = Rendered { headers: answered.headers, body: answered.body };
    write(parts, session, ctx, answered.status, rendered).await
}

/// Reads the body of a request for a page. The outer error is the connection's, the inner one a refusal.
async fn body(session: &mut ServerSession, ctx: &mut RequestContext) -> Result<Result<Bytes, Refusal>> {
    if !ctx.received.as_ref().is_some_and(|received| received.has_body()) {
        return Ok(Ok(Bytes::new()));
    }
    if ctx.received.as_ref().is_some_and(|received| received.expects_continue) {
        session.go_on().await.map_err(|error| error.into_down())?;
    }
    let mut whole = Vec::new();
    while let Some(chunk) = session.piece().await.map_err(|error| error.into_down())? {
        ctx.trail.bytes_in(chunk.len() as u64);
        if ctx.trail.bytes_in_so_far() > PAGE_BODY_BYTES_MAX {
            return Ok(Err(Refusal::TooLarge { bytes_max: PAGE_BODY_BYTES_MAX }));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(Ok(Bytes::from(whole)))
}

/// Answers with a refusal: RFC 9457 for programs, a page for people.
pub async fn refusal(
    parts: &Parts,
    session: &mut ServerSession,
    ctx: &mut RequestContext,
    refusal: &Refusal,
) -> Result<()> {
    ctx.trail.refused(refusal);
    let told = if ctx.conceal { refusal.clone().concealed() } else { refusal.clone() };
    let answer = told.answer();
    if answer.close || session.is_last() || !drains(session, ctx) {
        session.ends();
        ctx.connection.meter.linger();
        if answer.close && matches!(refusal, Refusal::Malformed(_)) {
            ctx.connection.meter.distrust();
        }
    } else {
        // What is left of the body is read away before the connection is used again.
        session.drains();
    }
    let asks = if let Refusal::StepUp(asks) = &told { Some(asks) } else { None };
    let header = session.head();
    let mut rendered = match audience(&header.method, &header.headers) {
        Audience::Person => {
            let frame = Frame { notice: parts.pages.notice(), request_id: Some(ctx.trail.request_id) };
            refusal_page(&answer, frame, return_to(parts, session, ctx).as_ref(), asks)
        }
        Audience::Program => problem(&answer, ctx.trail.request_id),
    };
    rendered.headers.extend(refusal_headers(parts, &answer, asks, session));
    rendered.headers.extend(respond::limited(&told, parts.config.limits.headers));
    write(parts, session, ctx, answer.status, rendered).await
}

/// The address to come back to after signing in.
fn asked(ctx: &RequestContext) -> Option<String> {
    let received = ctx.received.as_ref()?;
    let query = received.query.as_str();
    let path = received.path.as_str();
    (received.method == Method::GET)
        .then(|| if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") })
}

/// The page to come back to: the one that was asked for, or the one of ours that a form was sent from. What was sent is not
/// sent again.
fn return_to(parts: &Parts, session: &ServerSession, ctx: &RequestContext) -> Option<ReturnTo> {
    if let Some(asked) = asked(ctx) {
        return ReturnTo::parse(&asked);
    }
    let hosts = &parts.config.hosts;
    let host = ctx.received.as_ref().map(|received| received.host.as_str())?;
    let own = hosts.iter().find(|candidate| candidate.name == host)?.public_url.as_str();
    let from = session.head().headers.get(header::REFERER)?.to_str().ok()?;
    ReturnTo::parse(from.strip_prefix(own)?)
}

fn refusal_headers(
    parts: &Parts,
    answer: &Answer,
    asks: Option<&StepUp>,
    session: &ServerSession,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    if let Some(seconds) = answer.retry_after_s {
        headers.push((header::RETRY_AFTER, HeaderValue::from(seconds)));
    }
    if answer.status == 426 {
        headers.push((header::UPGRADE, HeaderValue::from_static("websocket")));
        headers.push((header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")));
    }
    if answer.challenge {
        let presented = session.head().headers.contains_key(header::AUTHORIZATION);
        let challenge = match asks {
            Some(asks) => bearer::step_up(asks, &parts.config.oidc),
            None => bearer::challenge(answer, presented),
        };
        headers.push((header::WWW_AUTHENTICATE, challenge));
        // Who is signed in goes nowhere without wanting to: a part of a page that asks every few seconds would take the page,
        // and what is written in it, away to the provider.
        if asks.is_none() && session.head().headers.contains_key("hx-request") {
            // htmx follows this one; a redirect would be followed by the fetch underneath, out of sight.
            let sign_in = HeaderValue::from_static(crate::pages::SIGN_IN_PATH);
            headers.push((HeaderName::from_static("hx-redirect"), sign_in));
        }
    }
    headers
}

/// Whether what is left of the request can be read away, so that its connection stays in step.
fn drains(session: &ServerSession, ctx: &RequestContext) -> bool {
    let headers = &session.head().headers;
    if headers.contains_key(header::UPGRADE) {
        return false;
    }
    let length = headers
        .get(header::CONTENT_LENGTH)
        .map(|value| value.to_str().ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(u64::MAX));
    let bodyless = length.unwrap_or(0) == 0 && !headers.contains_key(header::TRANSFER_ENCODING);
    // Who waits for `100 Continue` may or may not send the body after a refusal.
    let waits = headers.contains_key(header::EXPECT);
    bodyless
        || (!waits
            && length
                .is_some_and(|length| length <= DRAIN_BYTES_MAX.saturating_sub(ctx.trail.bytes_in_so_far())))
}

/// Writes an answer of our own.
async fn write(
    parts: &Parts,
    session: &mut ServerSession,
    ctx: &mut RequestContext,
    status: u16,
    rendered: Rendered,
) -> Result<()> {
    ctx.trail.enter(Stage::Respond);
    ctx.trail.status(status);
    let length = rendered.body.len() as u64;
    let answer = http1::Answer {
        status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        reason: None,
        headers: &HeaderMap::new(),
        edits: &own(&place(parts, ctx), &rendered.headers),
        body: if length > 0 { Outgoing::Length(length) } else { Outgoing::None },
        length: Some(length),
    };
    session.answers(&answer).await?;
    if length > 0 && session.head().method != Method::HEAD {
        session.say(&rendered.body).await?;
        ctx.trail.bytes_out(length);
    }
    // It leaves once its record is made: whoever has read an answer of ours finds its record before those of later ones.
    Ok(())
}

/// What becomes of a request whose upstream, client or body failed on the way.
pub async fn failed(parts: &Parts, session: &mut ServerSession, ctx: &mut RequestContext, error: &Error) {
    let late = ctx.connection.meter.late();
    if let Some(late) = late {
        ctx.trail.ends(End::Deadline);
        ctx.refusal = match late {
            Late::Body => Some(Refusal::Malformed(Malformed::BODY_TOO_SLOW)),
            Late::Route => Some(Refusal::NoUpstream(UpstreamFault::Timeout)),
            // Who takes nothing is not told either; and a head that is late is no request.
            Late::Reader | Late::Head => None,
        };
    } else if error.esource() == &ErrorSource::Downstream && error.etype() == &ErrorType::WriteTimedout {
        ctx.trail.ends(End::Deadline);
    }
    let broken = ctx.connection.meter.body_fault();
    if let Some(fault) = broken {
        ctx.refusal = Some(Refusal::Malformed(Malformed::BODY_FRAMING));
        ctx.trail.detail(format!("what is wrong: {fault}"));
    }
    let refusal_of = ctx.refusal.take().or_else(|| by_source(error));
    if !matches!(refusal_of, Some(Refusal::TooLarge { .. } | Refusal::Malformed(_))) {
        // What the refusal itself does not tell: which error it was.
        let what = match late {
            Some(Late::Route) => "the route's deadline".to_owned(),
            Some(Late::Body | Late::Reader | Late::Head) => "the client is too slow".to_owned(),
            None => format!("{}: {}", error.esource().as_str(), error.etype().as_str()),
        };
        ctx.trail.detail(what);
    }
    let begun = session.answered().is_some_and(|status| !status.is_informational());
    let Some(refused) = refusal_of.filter(|_| !begun) else {
        // The answer has begun or nobody is left to read one: closing is all that is honest.
        return;
    };
    session.ends();
    ctx.trail.ends(ended(error));
    // The connection ends with it, and would not wait for what is held.
    let told = match refusal(parts, session, ctx, &refused).await {
        Ok(()) => session.flush().await,
        failed => failed,
    };
    if let Err(error) = told {
        tracing::debug!(%error, "a refusal could not be delivered");
    }
}

fn by_source(error: &Error) -> Option<Refusal> {
    use ErrorType::{ConnectTimedout, ConnectionClosed, ReadError, ReadTimedout, WriteError, WriteTimedout};
    let kind = error.etype();
    match error.esource() {
        ErrorSource::Upstream if matches!(kind, ReadTimedout | WriteTimedout | ConnectTimedout) => {
            Some(Refusal::NoUpstream(UpstreamFault::Timeout))
        }
        ErrorSource::Upstream => Some(Refusal::NoUpstream(UpstreamFault::Broken)),
        // Nobody is left to answer.
        ErrorSource::Downstream
            if matches!(kind, WriteError | ReadError | ConnectionClosed | WriteTimedout) =>
        {
            None
        }
        ErrorSource::Downstream if *kind == ReadTimedout => {
            Some(Refusal::Malformed(Malformed::BODY_TOO_SLOW))
        }
        ErrorSource::Downstream => Some(Refusal::Malformed(Malformed::BODY_FRAMING)),
        ErrorSource::Internal | ErrorSource::Unset => Some(Refusal::Faulted),
    }
}

fn ended(error: &Error) -> End {
    match error.esource() {
        ErrorSource::Upstream => End::UpstreamDied,
        ErrorSource::Downstream | ErrorSource::Internal | ErrorSource::Unset => End::Complete,
    }
}

/// The refusal of a request that the HTTP parser could not read, as bytes: no session is left to write it.
pub fn unparsed(connection: &Connection, parts: &Parts, refusal: Refusal) -> Bytes {
    let answer = refusal.answer();
    let request_id = crate::random::request_id(clock::now());
    let rendered = problem(&answer, request_id);
    let place = Place { request_id, https: is_https(parts, None), known: false, route: None, limits: &[] };
    let mut headers = http::HeaderMap::new();
    respond::own(&place, &rendered.headers).apply(&mut headers);
    if let Some(seconds) = answer.retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    headers.extend(respond::limited(&refusal, parts.config.limits.headers));
    let headers: Vec<(&str, &str)> =
        headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect();
    let reason = http::StatusCode::from_u16(answer.status).ok().and_then(|status| status.canonical_reason());
    connection.meter.tell(Told { request_id, refusal, body_bytes: rendered.body.len() as u64 });
    raw_answer(answer.status, reason.unwrap_or_default(), &headers, &rendered.body)
}
