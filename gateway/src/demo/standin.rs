//! The stand-in upstream: tells what it received, and refuses whom BotServer would refuse.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::caller::{self, Caller};
use super::chat;

/// A running stand-in. It ends when this is dropped.
#[derive(Debug)]
pub struct StandIn {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl StandIn {
    /// Starts on a free loopback port, on a thread of its own; `secret` is the text that signs identities.
    ///
    /// # Errors
    /// The port cannot be bound or the thread cannot be started.
    pub fn start(secret: &str) -> io::Result<Self> {
        // Loopback only: a stand-in echoes whatever headers it was sent.
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let router = router(secret);
        let thread = std::thread::Builder::new().name("stand-in".into()).spawn(move || {
            let outcome = runtime.block_on(async {
                let listener = TcpListener::from_std(listener)?;
                tokio::select! {
                    served = axum::serve(listener, router) => served,
                    _ = stopped => Ok(()),
                }
            });
            if let Err(error) = outcome {
                tracing::error!(%error, "the stand-in upstream ended");
            }
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // An error means that it has ended by itself.
            stop.send(()).ok();
        }
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn router(secret: &str) -> Router {
    let secret = Arc::new(Zeroizing::new(secret.as_bytes().to_vec()));
    Router::new().fallback(answer).with_state(secret)
}

async fn answer(State(secret): State<Arc<Zeroizing<Vec<u8>>>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let caller = caller::read(&parts.headers, &secret, crate::clock::now());
    if let Some(answer) = chat::answer(&mut parts, &caller).await {
        return answer;
    }
    let path = parts.uri.path();
    // The whole body is taken before anything is answered, so that a refusal does not look like a
    // connection that broke; it is counted and dropped piece by piece.
    let Some(body_bytes) = count(body).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    if let Caller::Anonymous(reason) = &caller
        && !is_open(&parts.method, path)
    {
        let refusal = json!({"error": "unauthorized", "message": reason});
        return (StatusCode::UNAUTHORIZED, Json(refusal)).into_response();
    }
    let mut received = json!({
        "method": parts.method.as_str(),
        "path": path,
        "query": parts.uri.query().unwrap_or_default(),
        "headers": echoed(&parts.headers),
        "body_bytes": body_bytes,
    });
    if path == "/api/auth/me"
        && let Value::Object(members) = &mut received
    {
        members.extend(identity(&caller));
    }
    Json(received).into_response()
}

/// Counts the bytes of a body without keeping them; `None` when it breaks off.
async fn count(mut body: Body) -> Option<u64> {
    let mut bytes = 0_u64;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Some(data) = frame.ok()?.data_ref() {
            bytes = bytes.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        }
    }
    Some(bytes)
}

/// Names are lower-case already; a name that came more than once has its values joined.
fn echoed(headers: &HeaderMap) -> Map<String, Value> {
    headers
        .keys()
        .map(|name| {
            let values: Vec<_> =
                headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
            (name.to_string(), Value::String(values.join(", ")))
        })
        .collect()
}

/// The identity as it was read: what a readiness probe compares with what it sent.
fn identity(caller: &Caller) -> Map<String, Value> {
    let (id, username, roles) = match caller {
        Caller::Anonymous(_) => (None, None, &[][..]),
        Caller::Known(known) => (Some(known.id), known.username.as_deref(), known.roles.as_slice()),
    };
    [
        ("authenticated", json!(id.is_some())),
        ("id", json!(id)),
        ("username", json!(username)),
        ("roles", json!(roles)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// What BotServer answers without an identity, and what its own pages need from it without one.
fn is_open(method: &Method, path: &str) -> bool {
    const EXACT: [&str; 12] = [
        "/",
        "/health",
        "/api/health",
        "/api/product",
        "/api/manifest",
        "/api/bot/config",
        "/api/auth",
        "/api/auth/me",
        "/api/sessions",
        "/api/client-errors",
        "/api/legal/cookies/policy",
        "/ws",
    ];
    const UNDER: [&str; 14] = [
        "/ws/",
        "/api/i18n/",
        "/api/email/tracking/pixel/",
        "/api/email/click/",
        "/api/marketing/track/",
        "/api/legal/consent",
        "/webhook/",
        "/auth/",
        "/static/",
        "/suite/",
        "/themes/",
        "/apps/",
        "/js/",
        "/favicon.",
    ];
    let sign_in = ["/api/auth/login", "/api/auth/refresh", "/api/auth/bootstrap"];
    EXACT.contains(&path)
        || UNDER.iter().any(|prefix| path.starts_with(prefix))
        || (method == Method::POST && sign_in.contains(&path))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    /// Sends raw bytes and returns status and JSON: no client library tidies the request up.
    fn exchange(standin: &StandIn, request: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(standin.address()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    #[test]
    fn it_tells_what_it_received_to_the_byte() {
        let standin = StandIn::start("s").unwrap();
        let (status, received) = exchange(
            &standin,
            "POST /static/a%2fb//%7Ec?x=%41&x=2&y HTTP/1.1\r\nHost: h\r\nX-One: a\r\nx-one: b\r\n\
             Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        );
        assert_eq!(status, 200);
        assert_eq!(received["method"], "POST");
        assert_eq!(received["path"], "/static/a%2fb//%7Ec");
        assert_eq!(received["query"], "x=%41&x=2&y");
        assert_eq!(received["headers"]["x-one"], "a, b");
        assert_eq!(received["body_bytes"], 5);
        assert_eq!(received.as_object().unwrap().len(), 5);
    }

    #[test]
    fn it_refuses_whom_botserver_would_refuse() {
        let standin = StandIn::start("s").unwrap();
        let cases = [
            ("GET /health", 200),
            ("GET /", 200),
            ("GET /api/auth/me", 200),
            ("POST /api/auth/login", 200),
            ("GET /api/auth/login", 401),
            ("GET /api/docs/list", 401),
            ("GET /api/healthy", 401),
            ("GET /nothing", 401),
        ];
        for (target, expected) in cases {
            let request = format!("{target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
            let (status, answer) = exchange(&standin, &request);
            assert_eq!(status, expected, "{target}");
            assert_eq!(answer["error"] == "unauthorized", expected == 401, "{target}");
        }
        let (_, me) = exchange(
            &standin,
            "GET /api/auth/me HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer x\r\n\r\n",
        );
        assert_eq!((&me["authenticated"], &me["id"]), (&json!(false), &Value::Null));
    }
}
