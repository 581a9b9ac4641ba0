//! One export: a POST of protobuf, and what the collector makes of it.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use prost::Message;
use reqwest::Certificate;
use reqwest::redirect::Policy;

use crate::config::telemetry::Destination;

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The longest wait that a collector may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// Sends one signal's exports to its destination.
pub(super) struct Client {
    http: reqwest::Client,
    url: reqwest::Url,
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The authorities' file cannot be read.
    #[error("the collector's certificate file cannot be read")]
    File(#[source] io::Error),
    /// What was read makes no client.
    #[error("the client cannot be made")]
    Client(#[source] reqwest::Error),
}

/// What became of an export.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Taken, but for so many items.
    Taken {
        /// Items that the collector refused.
        refused: u64,
    },
    /// Refused whole; it would be again.
    Refused(String),
    /// Not taken this time; in so long, where the collector said.
    Later(String, Option<Duration>),
}

/// The answer of every signal's service: field 1 tells of items that were refused. One type reads all three.
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    refused: i64,
}

impl Client {
    pub(super) fn new(to: &Destination) -> Result<Self, ClientError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        for (name, value) in &to.headers {
            if let Ok(mut value) = HeaderValue::try_from(value.expose().as_str()) {
                value.set_sensitive(true);
                headers.insert(name.clone(), value);
            }
        }
        // A redirect would carry the credentials to wherever it leads, and so would a proxy of the environment.
        let mut builder = reqwest::Client::builder()
            .default_headers(headers)
            .timeout(to.timeout)
            .redirect(Policy::none())
            .no_proxy();
        if let Some(path) = &to.certificate {
            let pem = std::fs::read(path).map_err(ClientError::File)?;
            builder =
                builder.tls_certs_only(Certificate::from_pem_bundle(&pem).map_err(ClientError::Client)?);
        }
        Ok(Self { http: builder.build().map_err(ClientError::Client)?, url: to.url.clone() })
    }

    /// Sends one export.
    pub(super) async fn post(&self, body: Bytes) -> Outcome {
        match self.http.post(self.url.clone()).body(body).send().await {
            Ok(answer) => judged(answer).await,
            Err(error) => Outcome::Later(told(&error), None),
        }
    }
}

async fn judged(mut answer: reqwest::Response) -> Outcome {
    let status = answer.status();
    if status.is_success() {
        let mut body = Vec::new();
        while body.len() < ANSWER_BYTES_MAX {
            match answer.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Outcome::Taken { refused: refused(&body) },
                // What it would have said of the batch is not known: once more is better than not at all.
                Err(error) => return Outcome::Later(told(&error), None),
            }
        }
        return Outcome::Taken { refused: 0 };
    }
    let again = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ];
    let why = format!("the collector answers {}", status.as_u16());
    if again.contains(&status) {
        Outcome::Later(why, retry_after(answer.headers()))
    } else {
        Outcome::Refused(why)
    }
}

/// How many items a successful answer refuses. An answer that is none refuses nothing.
fn refused(body: &[u8]) -> u64 {
    let told = Answer::decode(body).ok().and_then(|answer| answer.partial_success);
    told.map_or(0, |partial| u64::try_from(partial.refused).unwrap_or(0))
}

/// Seconds that the collector asks to wait; a date is left to our own pace.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// What went wrong on the way, without the URL: its query may hold a credential.
fn told(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        "the collector did not answer in time".to_owned()
    } else if error.is_connect() {
        "the collector cannot be reached".to_owned()
    } else {
        "the connection to the collector broke".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_how_many_items_it_refuses() {
        use opentelemetry_proto::tonic::collector::logs::v1::{
            ExportLogsPartialSuccess, ExportLogsServiceResponse,
        };
        let check = |rejected_log_records, expected| {
            let error_message = "too old".to_owned();
            let partial = ExportLogsPartialSuccess { rejected_log_records, error_message };
            let answer = ExportLogsServiceResponse { partial_success: Some(partial) };
            assert_eq!(refused(&answer.encode_to_vec()), expected);
        };
        check(0, 0);
        check(3, 3);
        check(-1, 0);
        assert_eq!(refused(b""), 0);
        assert_eq!(refused(b"<html>"), 0);
    }

    #[test]
    fn a_wait_is_taken_in_seconds_and_within_a_bound() {
        let check = |value: &'static str, expected: Option<u64>| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            assert_eq!(retry_after(&headers), expected.map(Duration::from_secs), "{value}");
        };
        check("2", Some(2));
        check("0", Some(0));
        check("99999999", Some(300));
        check("-1", None);
        check("Wed, 21 Oct 2026 07:28:00 GMT", None);
    }
}
