//! A sign-in of which the provider is told before the browser is sent there.

use std::sync::{Arc, Mutex};

use storage::Secret;

use super::super::discovery::MetadataFault;
use super::super::flow::Flow;
use super::super::{Fault, HttpFault, Providers};
use super::standin::Standin;
use super::*;

const CALLBACK: &str = "https://app.example/callback";

fn providers(standin: &Standin, change: impl Fn(&mut Provider)) -> Providers {
    let mut settings = provider(Preset::Generic);
    settings.issuer.clone_from(&standin.issuer);
    settings.client_secret = Some(Secret::new("a-secret".to_owned()));
    change(&mut settings);
    Providers::alone(&[settings])
}

fn flow() -> Flow {
    Flow::begin(NOW, &[7; super::super::flow::RANDOM_BYTES], "corp", None)
}

async fn address(providers: &Providers) -> Result<String, Fault> {
    let provider = providers.find("corp").unwrap();
    provider.authorization(&flow(), CALLBACK).await.map(|url| url.query().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn the_browser_carries_a_name_and_the_provider_has_the_rest() {
    let standin = Standin::start().await;
    let told = Arc::new(Mutex::new(String::new()));
    let hears = Arc::clone(&told);
    standin.says(move |_, form| {
        *hears.lock().unwrap() = form.to_owned();
        (201, json!({"request_uri": "urn:x:1&2", "expires_in": 60}).to_string())
    });
    let flow = flow();
    // With a secret in a header, and for a client without one.
    for secret in [true, false] {
        let providers = providers(&standin, |settings| {
            settings.client_secret = settings.client_secret.take().filter(|_| secret);
        });
        assert_eq!(address(&providers).await.unwrap(), "client_id=gateway&request_uri=urn%3Ax%3A1%262");
        let form = told.lock().unwrap().clone();
        let pairs: Vec<(String, String)> = reqwest::Url::parse(&format!("http://x/?{form}"))
            .unwrap()
            .query_pairs()
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        let expected = [
            ("response_type", "code"),
            ("client_id", CLIENT),
            ("redirect_uri", CALLBACK),
            ("scope", "openid"),
            ("state", &flow.state()),
            ("nonce", &flow.nonce()),
            ("code_challenge", &flow.challenge()),
            ("code_challenge_method", "S256"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(pairs, expected, "each once, the client among them: {secret}");
    }
}

#[tokio::test]
async fn there_is_no_second_way_where_a_pushed_request_fails() {
    let standin = Standin::start().await;
    let providers = providers(&standin, |_| {});
    let what = "the endpoint for pushed requests";
    let http = |status| Fault::Http { what, fault: HttpFault::Status(status) };
    let long = "x".repeat(1025);
    for (status, answer, fault) in [
        (201, json!({"request_uri": ""}), Fault::Pushed),
        (201, json!({"request_uri": long}), Fault::Pushed),
        (201, json!({"request_uri": 7}), Fault::Pushed),
        (201, json!({"expires_in": 60}), Fault::Pushed),
        (200, json!([]), Fault::Pushed),
        (400, json!({"error": "invalid_request"}), Fault::Refused("invalid_request")),
        (401, json!({"error": "invalid_client"}), Fault::Refused("invalid_client")),
        (400, json!({"error": "invalid_redirect_uri"}), http(400)),
        (404, json!({}), http(404)),
        (429, json!({}), http(429)),
        (500, json!({"request_uri": "urn:x"}), http(500)),
    ] {
        let text = answer.to_string();
        standin.says(move |_, _| (status, text.clone()));
        assert_eq!(address(&providers).await, Err(fault), "{status} {answer}");
    }
}

#[tokio::test]
async fn an_entry_may_say_that_nothing_is_pushed_unless_the_provider_takes_nothing_else() {
    let standin = Standin::start().await;
    let providers = providers(&standin, |settings| settings.pushed = false);
    let query = address(&providers).await.unwrap();
    assert!(
        query.contains("response_type=code") && query.contains("state=") && !query.contains("request_uri")
    );
    assert_eq!(standin.asked("/par"), 0);
    let metadata =
        changed(Standin::metadata(ISSUER), &[("require_pushed_authorization_requests", json!(true))]);
    let metadata = metadata.to_string().replace("http://", "https://");
    let required = super::super::discovery::Metadata::parse(metadata.as_bytes(), ISSUER).unwrap();
    let provider = providers.find("corp").unwrap();
    let refused = provider.authorization_at(&required, &flow(), CALLBACK, &[]).await;
    assert!(matches!(refused, Err(Fault::Metadata(MetadataFault::Unsupported(_)))), "{refused:?}");
}
