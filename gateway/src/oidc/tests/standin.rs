//! A provider that says what a test lets it say, well formed or not, and counts what it was asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Status and body for a path and the form that was sent there.
type Answers = dyn Fn(&str, &str) -> (u16, String) + Send + Sync;

pub(crate) struct Standin {
    pub(crate) issuer: String,
    asked: Arc<Mutex<HashMap<String, usize>>>,
    answers: Arc<Mutex<Arc<Answers>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Standin {
    /// One whose metadata names all that we use of it, and that answers 404 to everything else.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let answers: Arc<Answers> = Arc::new(|_, _| (404, String::new()));
        let (asked, answers) = (Arc::default(), Arc::new(Mutex::new(answers)));
        let shared = (issuer.clone(), Arc::clone(&asked), Arc::clone(&answers));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Self { issuer, asked, answers, serving }
    }

    /// What it says from now on.
    pub(crate) fn says(&self, answers: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static) {
        *self.answers.lock().unwrap() = Arc::new(answers);
    }

    /// The same JSON to every question.
    pub(crate) fn says_this(&self, answer: &Value) {
        let text = answer.to_string();
        self.says(move |_, _| (200, text.clone()));
    }

    /// How often something was asked.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap().get(path).copied().unwrap_or_default()
    }

    /// What it says of itself.
    pub(crate) fn metadata(issuer: &str) -> Value {
        json!({
            "issuer": issuer, "authorization_endpoint": format!("{issuer}/auth"),
            "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/jwks"),
            "introspection_endpoint": format!("{issuer}/introspect"),
            "revocation_endpoint": format!("{issuer}/revoke"),
            "end_session_endpoint": format!("{issuer}/end"),
            "userinfo_endpoint": format!("{issuer}/userinfo"),
            "pushed_authorization_request_endpoint": format!("{issuer}/par"),
        })
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

type Shared = (String, Arc<Mutex<HashMap<String, usize>>>, Arc<Mutex<Arc<Answers>>>);

/// One request a connection.
async fn serve(mut stream: TcpStream, (issuer, asked, answers): Shared) {
    let mut bytes = Vec::new();
    let (head, length) = loop {
        let mut some = [0; 4096];
        let count = stream.read(&mut some).await.unwrap_or(0);
        bytes.extend_from_slice(&some[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            if count == 0 {
                return;
            }
            continue;
        };
        let said = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
        });
        if body.len() >= said.unwrap_or(0) {
            break (head.to_owned(), body.to_owned());
        }
    };
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    *asked.lock().unwrap().entry(path.clone()).or_default() += 1;
    let answers = Arc::clone(&answers.lock().unwrap());
    let (status, body) = match path.as_str() {
        "/.well-known/openid-configuration" => (200, Standin::metadata(&issuer).to_string()),
        _ => answers(&path, &length),
    };
    let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.ok();
    stream.shutdown().await.ok();
}
