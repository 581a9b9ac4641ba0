//! Questions to a provider: bounded in time and in bytes, and led nowhere else.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Url};
use zeroize::Zeroizing;

use crate::config::providers::Provider;

/// Time for TCP and TLS together.
const CONNECT: Duration = Duration::from_secs(3);
/// Time for one whole question.
const WHOLE: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read: a hundred keys with their certificates stay below.
pub(super) const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Asks one provider.
pub(super) struct Http {
    client: reqwest::Client,
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The authorities' file cannot be read.
    #[error("the provider's certificate file cannot be read")]
    File(#[source] std::io::Error),
    /// What was read makes no client.
    #[error("the client cannot be made")]
    Client(#[source] reqwest::Error),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpFault {
    /// It did not answer in time.
    #[error("it did not answer in time")]
    Timeout,
    /// It cannot be reached, or its certificate does not hold.
    #[error("it cannot be reached, or its certificate is not trusted")]
    Connect,
    /// The connection broke.
    #[error("the connection broke")]
    Broken,
    /// It answered with another status.
    #[error("it answered {0}")]
    Status(u16),
    /// Its answer is longer than 256 KiB.
    #[error("its answer has more than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
}

/// An answer, read whole.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Http {
    pub(super) fn new(provider: &Provider) -> Result<Self, ClientError> {
        // A redirect would carry code and secret to wherever it leads, and so would a proxy of the environment.
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(WHOLE)
            .redirect(Policy::none())
            .no_proxy()
            .https_only(provider.issuer.starts_with("https://"))
            .user_agent("cedargate")
            .pool_max_idle_per_host(4);
        if let Some(path) = &provider.ca {
            let pem = std::fs::read(path).map_err(ClientError::File)?;
            let authorities = Certificate::from_pem_bundle(&pem).map_err(ClientError::Client)?;
            builder = builder.tls_certs_only(authorities);
        }
        Ok(Self { client: builder.build().map_err(ClientError::Client)? })
    }

    /// A document; with a bearer token where one is needed.
    pub(super) async fn get(&self, url: &Url, bearer: Option<&str>) -> Result<Zeroizing<Vec<u8>>, HttpFault> {
        let request = self.client.get(url.clone()).header(http::header::ACCEPT, "application/json");
        let request = match bearer {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let answer = whole(request).await?;
        if answer.status == 200 { Ok(answer.body) } else { Err(HttpFault::Status(answer.status)) }
    }

    /// What an address answers to a browser: the status, and where it leads.
    pub(super) async fn seen(&self, url: &Url) -> Result<(u16, Option<String>), HttpFault> {
        let request = self.client.get(url.clone()).header(http::header::ACCEPT, "text/html");
        let answer = request.send().await.map_err(|error| told(&error))?;
        let location = answer.headers().get(http::header::LOCATION);
        let location = location.and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok((answer.status().as_u16(), location))
    }

    /// What a form is answered with, whatever its status.
    pub(super) async fn post(
        &self,
        url: &Url,
        form: Zeroizing<String>,
        basic: Option<(&str, &str)>,
    ) -> Result<Answer, HttpFault> {
        let request = self
            .client
            .post(url.clone())
            .header(http::header::ACCEPT, "application/json")
            .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.as_bytes().to_vec());
        let request = match basic {
            Some((name, secret)) => request.basic_auth(name, Some(secret)),
            None => request,
        };
        whole(request).await
    }
}

async fn whole(request: reqwest::RequestBuilder) -> Result<Answer, HttpFault> {
    let mut answer = request.send().await.map_err(|error| told(&error))?;
    let status = answer.status().as_u16();
    let mut body = Zeroizing::new(Vec::with_capacity(8 * 1024));
    while let Some(chunk) = answer.chunk().await.map_err(|error| told(&error))? {
        if body.len().saturating_add(chunk.len()) > ANSWER_BYTES_MAX {
            return Err(HttpFault::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, body })
}

/// What went wrong, without the URL.
fn told(error: &reqwest::Error) -> HttpFault {
    if error.is_timeout() {
        HttpFault::Timeout
    } else if error.is_connect() {
        HttpFault::Connect
    } else {
        HttpFault::Broken
    }
}
