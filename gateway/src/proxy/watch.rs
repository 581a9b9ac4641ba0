//! Watches the upstreams: whether they answer, and whether BotServer reads the identity that we sign.
//!
//! BotServer falls back to "any string is a user" where a token fails, so a wrong secret would look well
//! from outside. The probe signs an identity with a random subject and must read exactly that back; one that
//! is signed with the secret that BotServer's source publishes must not come back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Certificate, Client, Response, StatusCode};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use super::upstreams::{Backend, Upstream, Upstreams};
use crate::admin::health::{Health, IdentityState};
use crate::admin::metrics::Metrics;
use crate::clock;
use crate::config::keys::BOTSERVER_DEV_SECRET;
use crate::config::secret::Secret;
use crate::config::settings::UpstreamIdentity;
use crate::identity::botserver::Signer;

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(5);
/// For one question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of an answer to the identity probe that are read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The path at which BotServer says who it takes the caller for.
const WHO_AM_I: &str = "/api/auth/me";

/// One address of an upstream with the client that asks it.
struct Asked {
    upstream: Arc<Upstream>,
    index: usize,
    client: Option<(Client, String)>,
}

/// Asks every upstream again and again until `stop` says true.
pub async fn watch(
    upstreams: Arc<Upstreams>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    jwt_secret: Secret<String>,
    mut stop: watch::Receiver<bool>,
) {
    let ours = Signer::new(&jwt_secret);
    let published = Signer::new(&Secret::new(BOTSERVER_DEV_SECRET.to_owned()));
    let all: Vec<Vec<Asked>> = upstreams.iter().map(asked).collect();
    loop {
        let next = Instant::now() + ROUND;
        for addresses in &all {
            round(addresses, &ours, &published, &health, &metrics).await;
        }
        if timeout_at(next, stop.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
    }
}

fn asked(upstream: &Arc<Upstream>) -> Vec<Asked> {
    let addresses = upstream.backends().iter().enumerate();
    addresses
        .map(|(index, backend)| Asked {
            upstream: upstream.clone(),
            index,
            client: client(upstream, backend.address),
        })
        .collect()
}

/// Asks one upstream's addresses and says how it is.
async fn round(addresses: &[Asked], ours: &Signer, published: &Signer, health: &Health, metrics: &Metrics) {
    let Some(upstream) = addresses.first().map(|asked| asked.upstream.clone()) else { return };
    let mut well = 0_usize;
    let mut worst: Option<IdentityState> = None;
    for asked in addresses {
        let Some(backend) = upstream.backends().get(asked.index) else { continue };
        let answers = match (&upstream.settings.health_path, &asked.client) {
            (Some(path), Some((client, base))) => answers_well(client, &format!("{base}{path}")).await,
            (Some(_), None) => false,
            (None, _) => connects(backend.address).await,
        };
        note(&upstream, backend, answers);
        backend.pool.sweep(clock::instant(), upstream.settings.timeouts.idle);
        well += usize::from(backend.is_well());
        if let (true, UpstreamIdentity::BotServer, Some((client, base))) =
            (answers, upstream.identity(), &asked.client)
        {
            let state = probe(client, &format!("{base}{WHO_AM_I}"), ours, published).await;
            worst = Some(worst.map_or(state, |before| worse(before, state)));
        }
    }
    if let Some(state) = worst
        && health.identity(&upstream.name, state)
        && state != IdentityState::Verified
    {
        tracing::error!(upstream = %upstream.name, state = state.name(),
            "the upstream does not read the identity that we sign");
    }
    metrics.upstream_up(&upstream.name, well > 0);
    health.upstream(&upstream.name, well, addresses.len());
}

/// Of two addresses' answers, the one that an operator must hear of: one address that does not read what we
/// sign is reached by its share of the requests.
fn worse(one: IdentityState, other: IdentityState) -> IdentityState {
    let severity = |state| match state {
        IdentityState::Verified => 0,
        IdentityState::NoAnswer => 1,
        IdentityState::NotRead => 2,
        IdentityState::PublishedSecretAccepted => 3,
    };
    if severity(other) > severity(one) { other } else { one }
}

fn note(upstream: &Upstream, backend: &Backend, answers: bool) {
    if !backend.probed(answers) {
        return;
    }
    if answers {
        tracing::info!(upstream = %upstream.name, address = %backend.address, "an upstream's address is well again");
    } else {
        tracing::warn!(upstream = %upstream.name, address = %backend.address, "an upstream's address does not answer");
    }
}

async fn connects(address: SocketAddr) -> bool {
    matches!(timeout(ANSWER_TIMEOUT, tokio::net::TcpStream::connect(address)).await, Ok(Ok(_)))
}

async fn answers_well(client: &Client, url: &str) -> bool {
    client.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
}

/// Whether the upstream reads our identities, and only ours.
async fn probe(client: &Client, url: &str, ours: &Signer, published: &Signer) -> IdentityState {
    let subject = Uuid::new_v4();
    match reads_back(client, url, &ours.probe(subject, clock::now()), subject).await {
        None => return IdentityState::NoAnswer,
        Some(false) => return IdentityState::NotRead,
        Some(true) => {}
    }
    let stranger = Uuid::new_v4();
    match reads_back(client, url, &published.probe(stranger, clock::now()), stranger).await {
        Some(true) => IdentityState::PublishedSecretAccepted,
        Some(false) => IdentityState::Verified,
        // Silence excludes nothing.
        None => IdentityState::NoAnswer,
    }
}

/// Whether the answer names the subject; `None` when there is no answer to read.
async fn reads_back(client: &Client, url: &str, token: &str, subject: Uuid) -> Option<bool> {
    let answer = client.get(url).bearer_auth(token).send().await.ok()?;
    if !matches!(answer.status(), StatusCode::OK | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return None;
    }
    let bytes = within(answer, ANSWER_BYTES_MAX).await?;
    let Ok(body) = serde_json::from_slice::<Value>(&bytes) else { return Some(false) };
    Some(names(&body, &subject.to_string()))
}

/// An answer's body if it ends within `bytes_max`. What comes past that is not read: an upstream that never ends would
/// otherwise fill the memory of the gateway that asks how it is.
async fn within(mut answer: Response, bytes_max: usize) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.ok()? {
        if piece.len() > bytes_max - body.len() {
            return None;
        }
        body.extend_from_slice(&piece);
    }
    Some(body)
}

/// Whether a JSON value holds this text as an id, at its top or one level below.
fn names(body: &Value, subject: &str) -> bool {
    let is_id = |value: &Value| {
        ["id", "user_id", "sub"].iter().any(|key| value.get(key).and_then(Value::as_str) == Some(subject))
    };
    is_id(body) || body.as_object().is_some_and(|fields| fields.values().any(is_id))
}

/// A client that reaches one address under the upstream's name, and the base of its URLs.
fn client(upstream: &Upstream, address: SocketAddr) -> Option<(Client, String)> {
    let builder =
        Client::builder().timeout(ANSWER_TIMEOUT).redirect(reqwest::redirect::Policy::none()).no_proxy();
    let Some(tls) = &upstream.settings.tls else {
        return Some((builder.build().ok()?, format!("http://{address}")));
    };
    let mut builder = match &tls.name {
        Some(name) => builder.resolve(name, address),
        None => builder.tls_danger_accept_invalid_certs(true),
    };
    if let Some(path) = &tls.ca {
        let pem = std::fs::read(path).ok()?;
        builder = builder.tls_certs_only(Certificate::from_pem_bundle(&pem).ok()?);
    }
    let host = tls.name.clone().unwrap_or_else(|| address.ip().to_string());
    Some((builder.build().ok()?, format!("https://{host}:{}", address.port())))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::config::settings::TlsVersion;

    /// Answers one request with a body of this many bytes and tells how many of them could be sent.
    fn answering(bytes: usize) -> (SocketAddr, std::thread::JoinHandle<usize>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sent = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n").unwrap();
            let piece = [b' '; 64 * 1024];
            let mut sent = 0;
            while sent < bytes {
                let piece = piece.get(..bytes - sent).unwrap_or(&piece);
                match stream.write(piece) {
                    Ok(written) => sent += written,
                    Err(_) => break,
                }
            }
            sent
        });
        (address, sent)
    }

    #[tokio::test]
    async fn no_more_of_an_answer_is_read_than_its_bound() {
        const ENDLESS: usize = 256 * 1024 * 1024;
        crate::tls::install_provider(TlsVersion::V1_3).unwrap();
        for (bytes, expected) in [
            (0, Some(0)),
            (ANSWER_BYTES_MAX, Some(ANSWER_BYTES_MAX)),
            (ANSWER_BYTES_MAX + 1, None),
            (ENDLESS, None),
        ] {
            let (address, sent) = answering(bytes);
            let client = Client::builder().no_proxy().build().unwrap();
            let answer = client.get(format!("http://{address}/")).send().await.unwrap();
            let body = within(answer, ANSWER_BYTES_MAX).await;
            assert_eq!(body.map(|body| body.len()), expected, "{bytes}");
            drop(client);
            // What the sockets between the two hold is sent without being read.
            let sent = tokio::task::spawn_blocking(|| sent.join().unwrap()).await.unwrap();
            assert!(sent < ENDLESS / 2, "{sent} bytes of {bytes} were taken");
        }
    }

    #[test]
    fn threat_07_one_address_that_misreads_decides_for_its_upstream() {
        use IdentityState::{NoAnswer, NotRead, PublishedSecretAccepted, Verified};
        for (one, other, expected) in [
            (Verified, Verified, Verified),
            (Verified, NoAnswer, NoAnswer),
            (NotRead, Verified, NotRead),
            (NoAnswer, NotRead, NotRead),
            (PublishedSecretAccepted, Verified, PublishedSecretAccepted),
            (NotRead, PublishedSecretAccepted, PublishedSecretAccepted),
        ] {
            assert_eq!(worse(one, other), expected);
            assert_eq!(worse(other, one), expected);
        }
    }

    #[test]
    fn threat_07_a_subject_is_read_back_only_as_an_id() {
        let subject = Uuid::from_u128(7).to_string();
        let check =
            |body: serde_json::Value, expected| assert_eq!(names(&body, &subject), expected, "{body}");
        check(serde_json::json!({ "id": subject }), true);
        check(serde_json::json!({ "user": { "user_id": subject } }), true);
        check(serde_json::json!({ "sub": subject, "id": "other" }), true);
        check(serde_json::json!({ "echo": subject }), false);
        check(serde_json::json!({ "id": "other" }), false);
        check(serde_json::json!([subject]), false);
        check(serde_json::json!(null), false);
    }
}
