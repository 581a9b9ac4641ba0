//! HTTP/1.1 on both sides of the gateway: what is read of a client and said to it, and the same of an upstream.
//!
//! Heads are read into one map each and written from it with a stage's changes, without a copy between; bodies are framed
//! anew on each side. What may come of a client is judged by `receive`, by the bytes of its head: a reader that refused
//! them here would have to name the reason a second time. docs/decisions/0023 says why it is ours.

mod alarm;
mod client;
mod head;
mod incoming;
mod outgoing;
mod server;

#[cfg(test)]
mod tests;

pub use client::ClientSession;
pub use head::{RequestHead, ResponseHead};
pub use outgoing::{Outgoing, request};
pub use server::{Answer, ServerSession};

use http::{HeaderMap, HeaderValue, header};

use crate::pipeline::headers::Names;

/// Headers that speak of one hop, and never go on to the next (RFC 9110, section 7.6.1). How a body is framed is said
/// anew by whoever writes it.
pub static HOP: Names<10> = Names::new([
    "connection",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    "proxy-authenticate",
    "proxy-authorization",
    "keep-alive",
    "proxy-connection",
    "http2-settings",
]);

/// What a message says of its connection: whether it goes on after it; `None` where it says nothing.
fn keeps_alive(headers: &HeaderMap) -> Option<bool> {
    let mut said = None;
    let words = headers.get_all(header::CONNECTION).iter().map(HeaderValue::as_bytes);
    for word in words.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii) {
        if word.eq_ignore_ascii_case(b"close") {
            return Some(false);
        }
        if word.eq_ignore_ascii_case(b"keep-alive") {
            said = Some(true);
        }
    }
    said
}
