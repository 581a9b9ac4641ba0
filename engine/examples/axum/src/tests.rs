//! The server over loopback, spoken to as a client does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use tokio::net::TcpListener;

use super::gate::{self, Gate};

/// Status line, headers and body of one answer.
fn ask(address: SocketAddr, line: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_request_is_decided_by_the_bundle() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let gate = Arc::new(Gate::new(super::bundle().unwrap(), gate::now()));
    let server = super::server(gate).into_make_service_with_connect_info::<SocketAddr>();
    let serving = tokio::spawn(async move { axum::serve(listener, server).await });
    let key = |key: &str| format!("Authorization: Bearer {key}\r\n");
    // The line, the headers, the status and what the answer has in it.
    let table = [
        ("GET /", String::new(), 200, "nobody in particular: front.everybody"),
        ("GET /notes?page=2", key("ada-writes"), 200, "ada: notes.writers"),
        ("GET /notes", key("bob-reads"), 200, "bob: notes.readers"),
        ("PUT /notes/plan", key("ada-writes"), 200, "ada: notes.writers"),
        ("PUT /notes/plan", key("bob-reads"), 403, "refusal:forbidden"),
        ("PUT /notes/plan", key("eve-only-reads"), 403, "refusal:forbidden"),
        ("GET /notes", key("eve-only-reads"), 200, "eve: notes.writers"),
        ("GET /notes", String::new(), 401, "refusal:unauthenticated"),
        ("GET /notes", key("guessed"), 401, "refusal:credential_rejected"),
        ("GET /notes", key("ada-writes") + &key("bob-reads"), 401, "refusal:credential_rejected"),
        // A key on a page that looks at none.
        ("GET /", key("ada-writes"), 401, "refusal:credential_rejected"),
        // Concealed from whoever may not see it, and there for whoever may.
        ("GET /notes/plan", String::new(), 404, "refusal:not_found"),
        ("GET /notes/plan", key("bob-reads"), 200, "bob: notes.readers"),
        // The handlers are there, the routes are not.
        ("GET /forgotten", key("ada-writes"), 404, "refusal:not_found"),
        ("DELETE /notes/plan", key("ada-writes"), 404, "refusal:not_found"),
        // Spellings that a policy would not see through.
        ("GET /notes/../notes", key("ada-writes"), 400, "refusal:path.dot_segment"),
        ("GET /notes/a%2Fb", key("ada-writes"), 400, "refusal:path.encoded_slash"),
        ("GET /notes?page=two", key("ada-writes"), 400, "refusal:query.bad_value"),
    ];
    tokio::task::spawn_blocking(move || {
        for (line, headers, status, told) in table {
            let answer = ask(address, line, &headers);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
            assert!(answer.contains(told), "{line}: `{told}` is not in {answer}");
            let challenged = answer.to_lowercase().contains("www-authenticate: bearer");
            assert_eq!(challenged, status == 401, "{line}: {answer}");
        }
    })
    .await
    .unwrap();
    serving.abort();
}
