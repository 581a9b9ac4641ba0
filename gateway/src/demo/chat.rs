//! The stand-in's chat: a page, and the socket that it talks over.

use axum::extract::FromRequestParts as _;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::request::Parts;
use axum::response::{Html, IntoResponse as _, Response};

use super::caller::Caller;

/// Where the page stands.
pub(super) const PAGE: &str = "/suite/chat";
/// Bytes of what is said at once, at most; the gateway's own bound is larger.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The answer to who wants to see the page or open the socket; `None` to everybody else.
pub(super) async fn answer(parts: &mut Parts, caller: &Caller) -> Option<Response> {
    let path = parts.uri.path();
    if path == PAGE {
        return Some(Html(include_str!("chat.html")).into_response());
    }
    if path != "/ws" && !path.starts_with("/ws/") {
        return None;
    }
    let upgrade = WebSocketUpgrade::from_request_parts(parts, &()).await.ok()?;
    let name = match caller {
        Caller::Anonymous(_) => "stranger".to_owned(),
        Caller::Known(known) => known.username.clone().unwrap_or_default(),
    };
    Some(upgrade.max_message_size(MESSAGE_BYTES_MAX).on_upgrade(|socket| talk(socket, name)))
}

/// Greets, then repeats what it is told.
async fn talk(mut socket: WebSocket, name: String) {
    let greeting = format!("Hello, {name}. I repeat what you say.");
    if socket.send(Message::text(greeting)).await.is_err() {
        return;
    }
    // Pings and the last word are answered below this.
    while let Some(Ok(message)) = socket.recv().await {
        let sent = match message {
            Message::Text(_) | Message::Binary(_) => socket.send(message).await,
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => Ok(()),
        };
        if sent.is_err() {
            return;
        }
    }
}
