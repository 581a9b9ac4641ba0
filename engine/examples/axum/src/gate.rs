//! The layer that asks the bundle.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use engine::asked::Caller;
use engine::authz::Permit;
use engine::bundle::Bundle;
use engine::identity::{Identity, LOCAL_ISSUER, Principal, PrincipalKind};
use engine::refusal::{CredentialFault, Refusal};
use engine::time::UnixMillis;

/// Who may ask, and what decides.
pub(crate) struct Gate {
    bundle: Bundle,
    keys: HashMap<&'static str, Arc<Principal>>,
}

impl Gate {
    /// A gate whose callers are known by three keys. A server of its own would look up sessions here.
    pub(crate) fn new(bundle: Bundle, now: UnixMillis) -> Self {
        let service = |name: &str, role: &str| {
            Arc::new(Principal {
                roles: [role.to_owned()].into(),
                // The key may be used for whatever its role permits.
                scopes: ["*".to_owned()].into(),
                ..Principal::named(PrincipalKind::Service, LOCAL_ISSUER, name, now)
            })
        };
        let scoped =
            Principal { scopes: ["notes.read".to_owned()].into(), ..(*service("eve", "writer")).clone() };
        let keys = [
            ("ada-writes", service("ada", "writer")),
            ("bob-reads", service("bob", "reader")),
            ("eve-only-reads", Arc::new(scoped)),
        ];
        Self { bundle, keys: keys.into() }
    }

    /// Who sends a request. A credential that does not hold is refused, never taken for none.
    fn identity(&self, headers: &HeaderMap) -> Result<Identity, Refusal> {
        let mut sent = headers.get_all(header::AUTHORIZATION).iter();
        let Some(first) = sent.next() else { return Ok(Identity::Anonymous) };
        let rejected = |fault| Err(Refusal::CredentialRejected(fault));
        if sent.next().is_some() {
            return rejected(CredentialFault::Conflicting);
        }
        let key = first.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
        match key.and_then(|key| self.keys.get(key)) {
            Some(principal) => Ok(Identity::Known(Arc::clone(principal))),
            None => rejected(CredentialFault::KeyUnknown),
        }
    }

    fn permit(&self, request: &Request, peer: SocketAddr) -> Result<Permit, Refusal> {
        // As it was sent: `path` of a router may be decoded already.
        let target = request.uri().path_and_query().map(|target| target.as_str()).unwrap_or_default();
        let asked = self.bundle.asked(request.method(), target)?;
        let identity = self.identity(request.headers())?;
        asked.permitted(&Caller { identity: &identity, client: peer.ip(), tls: false, now: now() })
    }
}

/// Lets a request through with its permit, or answers it.
pub(crate) async fn decide(
    State(gate): State<Arc<Gate>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    match gate.permit(&request, peer) {
        Ok(permit) => {
            request.extensions_mut().insert(permit);
            next.run(request).await
        }
        Err(refusal) => refused(&refusal),
    }
}

/// The engine's answer as RFC 9457 has it: what was refused, and what to do about it. Who decided is for records alone; here
/// they go to standard error.
fn refused(refusal: &Refusal) -> Response {
    eprintln!("refused: {}", refusal.detail_for_record());
    let answer = refusal.answer();
    let problem = serde_json::json!({
        "type": format!("urn:cedargate:refusal:{}", answer.code),
        "title": answer.title,
        "status": answer.status,
        "detail": answer.detail,
        "remedy": answer.remedy,
    });
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::FORBIDDEN);
    let mut response = (status, Body::from(problem.to_string())).into_response();
    let mut set = |name, value: &'static str| {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    };
    set(header::CONTENT_TYPE, "application/problem+json");
    if answer.challenge {
        set(header::WWW_AUTHENTICATE, "Bearer");
    }
    response
}

/// Who it is, for people.
pub(crate) fn name(identity: &Identity) -> &str {
    match identity {
        Identity::Anonymous => "nobody in particular",
        Identity::Known(principal) => &principal.name,
    }
}

/// The time of day: the engine has no clock of its own.
#[expect(clippy::disallowed_methods, reason = "the one clock of this program")]
pub(crate) fn now() -> UnixMillis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
