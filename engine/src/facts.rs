//! What the client sent, bounded and canonical.

use std::net::IpAddr;

use http::{HeaderMap, Method};
use uuid::Uuid;

use crate::path::CanonicalPath;
use crate::query::CanonicalQuery;
use crate::time::UnixMillis;

/// What the later stages may know of a request. Made by `receive`, and by nothing else.
#[derive(Debug)]
pub struct RequestFacts<'a> {
    /// The method, upper-case as sent.
    pub method: &'a Method,
    /// The host asked for: lower-case, with the port as sent, on the allow-list.
    pub host: &'a str,
    /// The one spelling of the path that is routed, decided and forwarded.
    pub path: &'a CanonicalPath,
    /// The one spelling of the query.
    pub query: &'a CanonicalQuery,
    /// The headers as sent; `headers::inspect` has passed them.
    pub headers: &'a HeaderMap,
    /// The address of the client: the peer, or what a trusted proxy says.
    pub client: IpAddr,
    /// Whether the client's connection is encrypted (ours, or a trusted proxy's by its word).
    pub tls: bool,
    /// When the request line arrived.
    pub received_at: UnixMillis,
    /// Our id of this request (UUID v7).
    pub request_id: Uuid,
    /// Bytes that `Content-Length` announces; `None` for chunked or no body.
    pub content_length: Option<u64>,
    /// Whether the client asks to change the protocol.
    pub upgrade: bool,
}
