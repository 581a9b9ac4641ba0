//! The admin listener: health and metrics, and nothing that changes anything (threat 19).

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use super::health::Health;
use super::metrics::Metrics;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Answers `/livez`, `/readyz` and `/metrics` until `stop` completes.
///
/// # Errors
/// The listener breaks.
pub async fn serve(
    listener: TcpListener,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let own = listener.local_addr()?;
    axum::serve(listener, router(own, health, metrics)).with_graceful_shutdown(stop).await
}

/// The routes of a listener at this address.
fn router(own: SocketAddr, health: Arc<Health>, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(readyz).with_state(health))
        .route("/metrics", get(text).with_state(metrics))
        .layer(middleware::from_fn_with_state(own, guard))
}

async fn readyz(State(health): State<Arc<Health>>) -> Response {
    let report = health.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::to_string(&report).unwrap_or_default();
    (status, [(CONTENT_TYPE, JSON)], body).into_response()
}

async fn text(State(metrics): State<Arc<Metrics>>) -> Response {
    match metrics.text() {
        Ok(text) => ([(CONTENT_TYPE, PROMETHEUS)], text).into_response(),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "metrics cannot be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Stops what a web page could send here: a name that it has pointed at this address, or a write.
async fn guard(State(own): State<SocketAddr>, request: Request, next: Next) -> Response {
    let mut response = if !is_own_host(own, request.headers()) {
        StatusCode::MISDIRECTED_REQUEST.into_response()
    } else if !matches!(*request.method(), Method::GET | Method::HEAD) {
        (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD")]).into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Whether `Host` is this listener's address, or `localhost`, with its port.
fn is_own_host(own: SocketAddr, headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(HOST).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let Ok(host) = value.to_str() else { return false };
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()),
        Some(_) | None => (host, Some(80)),
    };
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    let named = match bare.parse::<IpAddr>() {
        // A page cannot point an address elsewhere, so a listener on all of them takes any.
        Ok(address) => own.ip().is_unspecified() || address == own.ip(),
        Err(_name) => {
            name.eq_ignore_ascii_case("localhost") && (own.ip().is_loopback() || own.ip().is_unspecified())
        }
    };
    named && port == Some(own.port())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    use super::super::health::{Part, Status};
    use super::*;

    #[test]
    fn threat_19_hosts() {
        let check = |own: &str, host: &str, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.append(HOST, HeaderValue::from_str(host).unwrap());
            assert_eq!(is_own_host(own.parse().unwrap(), &headers), expected, "{own} {host}");
        };
        check("127.0.0.1:9090", "127.0.0.1:9090", true);
        check("127.0.0.1:9090", "localhost:9090", true);
        check("127.0.0.1:9090", "LOCALHOST:9090", true);
        check("127.0.0.1:80", "localhost", true);
        check("[::1]:9090", "[::1]:9090", true);
        check("0.0.0.0:9090", "10.0.0.5:9090", true);
        check("127.0.0.1:9090", "127.0.0.1", false);
        check("127.0.0.1:9090", "127.0.0.1:9091", false);
        check("127.0.0.1:9090", "evil.example:9090", false);
        check("127.0.0.1:9090", "localhost.evil.example:9090", false);
        check("127.0.0.1:9090", "127.0.0.2:9090", false);
        check("0.0.0.0:9090", "evil.example:9090", false);
        check("10.0.0.5:9090", "localhost:9090", false);
        check("127.0.0.1:9090", "", false);
        check("127.0.0.1:9090", ":9090", false);
        assert!(!is_own_host("127.0.0.1:9090".parse().unwrap(), &HeaderMap::new()));
        let mut twice = HeaderMap::new();
        twice.append(HOST, HeaderValue::from_static("127.0.0.1:9090"));
        twice.append(HOST, HeaderValue::from_static("127.0.0.1:9090"));
        assert!(!is_own_host("127.0.0.1:9090".parse().unwrap(), &twice));
    }

    async fn ask(address: SocketAddr, line: &str, host: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request =
            format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }

    #[tokio::test]
    async fn threat_19_only_health_and_metrics_are_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let health = Arc::new(Health::new([Part::Store], Vec::new()));
        let (stop, stopped) = oneshot::channel::<()>();
        let metrics = Arc::new(Metrics::new().unwrap());
        let server = tokio::spawn(serve(listener, Arc::clone(&health), metrics, async move {
            stopped.await.ok();
        }));
        let own = address.to_string();
        for (line, host, expected) in [
            ("GET /livez", own.as_str(), 200),
            ("HEAD /livez", own.as_str(), 200),
            ("GET /metrics", own.as_str(), 200),
            ("GET /readyz", own.as_str(), 503),
            ("POST /livez", own.as_str(), 405),
            ("DELETE /metrics", own.as_str(), 405),
            ("OPTIONS /metrics", own.as_str(), 405),
            ("GET /", own.as_str(), 404),
            ("GET /debug", own.as_str(), 404),
            ("GET /livez", "evil.example", 421),
            ("GET /metrics", "evil.example:80", 421),
        ] {
            assert_eq!(ask(address, line, host).await.0, expected, "{line} {host}");
        }
        health.set(Part::Store, Status::Up(String::new()));
        let (status, answer) = ask(address, "GET /readyz", &own).await;
        assert!(
            status == 200 && answer.contains("\"ready\":true") && answer.contains("no-store"),
            "{answer}"
        );
        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
    }
}
