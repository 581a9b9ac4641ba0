//! What passes over one connection, seen from under the HTTP parser.
//!
//! The parser answers malformed requests itself, without asking anybody: such a request would leave no
//! record, and its answer would name the parser and carry no security header. So the parser reads and
//! writes through a [`Metered`] stream. It keeps the head of the current request for the record, and until
//! `receive` has admitted the request it replaces whatever the parser writes by our own refusal.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use engine::refusal::Refusal;
use engine::time::UnixMillis;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock;

/// Bytes of a request's head that are kept for its record and for the check of its request line.
/// Past the largest head that is accepted (8 KiB of target, 32 KiB of headers) by a margin.
pub const HEAD_BYTES_MAX: usize = 48 * 1024;

/// For reading away what a refused client still sends.
const LINGER_MAX: Duration = Duration::from_secs(2);
/// Bytes of that which are read: what is on its way in a fast network's buffers.
const LINGER_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What is known of the current request on a connection before the parser has handed it over.
#[derive(Debug, Default)]
pub struct Meter {
    head: Mutex<Vec<u8>>,
    begun: Mutex<Option<Begun>>,
    begin: Notify,
    admitted: AtomicBool,
    lingers: AtomicBool,
    told: Mutex<Option<Told>>,
}

/// What a client was told whose request no stage has seen.
#[derive(Clone, Debug)]
pub struct Told {
    /// The request's id, for its record.
    pub request_id: Uuid,
    /// The refusal.
    pub refusal: Refusal,
    /// Bytes of the answer's body.
    pub body_bytes: u64,
}

impl Meter {
    /// A new request may begin on this connection.
    pub fn reset(&self) {
        lock(&self.head).clear();
        *lock(&self.begun) = None;
        self.admitted.store(false, Ordering::Release);
        *lock(&self.told) = None;
    }

    /// Keeps what a client was told, so that its record says the same.
    pub fn tell(&self, told: Told) {
        *lock(&self.told) = Some(told);
    }

    /// What the client was told; `None` when the connection ended without an answer.
    pub fn told(&self) -> Option<Told> {
        lock(&self.told).clone()
    }

    /// The client may still be sending when this connection ends: what it sends is read away for a moment,
    /// because closing under unread bytes resets the connection and can lose the answer on its way.
    pub fn linger(&self) {
        self.lingers.store(true, Ordering::Release);
    }

    /// Whether a byte of the current request has arrived.
    pub fn begun(&self) -> Option<Begun> {
        *lock(&self.begun)
    }

    /// Resolves when the first byte of the current request arrives.
    pub async fn first_byte(&self) {
        loop {
            let waiting = self.begin.notified();
            if self.begun().is_some() {
                return;
            }
            waiting.await;
        }
    }

    /// The request has reached `receive`: from here on the answers are ours.
    pub fn admit(&self) {
        self.admitted.store(true, Ordering::Release);
    }

    /// Whether the request has reached `receive`.
    pub fn admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire)
    }

    /// Looks at the head's first bytes without copying them.
    pub fn with_head<T>(&self, look: impl FnOnce(&[u8]) -> T) -> T {
        look(&lock(&self.head))
    }

    fn arrived(&self, bytes: &[u8]) {
        if bytes.is_empty() || self.admitted() {
            return;
        }
        let mut head = lock(&self.head);
        // Empty lines before a request are no request: RFC 9112, section 2.2.
        let blank = if head.is_empty() {
            bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
        } else {
            0
        };
        let bytes = bytes.get(blank..).unwrap_or_default();
        if bytes.is_empty() {
            return;
        }
        let room = HEAD_BYTES_MAX.saturating_sub(head.len());
        head.extend(bytes.iter().take(room));
        drop(head);
        if self.begun().is_none() {
            *lock(&self.begun) = Some(Begun { at: clock::now(), instant: clock::instant() });
            self.begin.notify_waiters();
        }
    }
}

/// Nothing that is kept under these locks can be left half-changed by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When a request's first byte arrived.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// By the wall clock.
    pub at: UnixMillis,
    /// By the monotonic clock.
    pub instant: Instant,
}

/// Makes the refusal that replaces what the parser would answer with this status.
pub type Refuse = dyn Fn(u16) -> Bytes + Send + Sync;

/// A connection whose bytes are counted and whose parser is kept from answering by itself.
pub struct Metered {
    inner: Option<Stream>,
    meter: Arc<Meter>,
    refuse: Arc<Refuse>,
    instead: Option<Bytes>,
}

impl Metered {
    /// Puts a meter on a connection. `refuse` makes our own answer where the parser refuses.
    pub fn new(inner: Stream, meter: Arc<Meter>, refuse: Arc<Refuse>) -> Self {
        Self { inner: Some(inner), meter, refuse, instead: None }
    }

    /// The connection. It is gone only while this is being dropped.
    fn inner(&mut self) -> io::Result<&mut Stream> {
        self.inner.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Writes our refusal in place of what the parser wants to write; `Ready` once it is out.
    fn poll_instead(&mut self, parser_writes: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.instead.is_none() {
            self.instead = Some((self.refuse)(status_of(parser_writes)));
        }
        let Some(inner) = self.inner.as_mut() else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        while let Some(rest) = self.instead.as_mut().filter(|rest| rest.has_remaining()) {
            match Pin::new(&mut *inner).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    rest.advance(written);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The status of an answer as the parser writes it; 400 when it cannot be read.
fn status_of(answer: &[u8]) -> u16 {
    answer
        .get(9..12)
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(400)
}

impl std::fmt::Debug for Metered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metered").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        if !self.meter.lingers.load(Ordering::Acquire) {
            return;
        }
        if let (Some(inner), Ok(runtime)) = (self.inner.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(read_away(inner));
        }
    }
}

/// Ends our side and reads away what the client still sends, for a bounded time and amount.
async fn read_away(mut stream: Stream) {
    let reading = async {
        AsyncWriteExt::shutdown(&mut stream).await?;
        tokio::io::copy(&mut (&mut stream).take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await
    };
    if let Ok(Ok(bytes)) = tokio::time::timeout(LINGER_MAX, reading).await {
        tracing::trace!(bytes, "read away what a refused client still sent");
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(self.inner()?).poll_read(cx, buf);
        if matches!(polled, Poll::Ready(Ok(()))) {
            self.meter.arrived(buf.filled().get(before..).unwrap_or_default());
        }
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.meter.admitted() {
            return self.poll_instead(buf, cx).map_ok(|()| buf.len());
        }
        Pin::new(self.inner()?).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.inner()?).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.inner()?).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Metered {
    async fn shutdown(&mut self) {
        if let Some(inner) = &mut self.inner {
            Shutdown::shutdown(&mut **inner).await;
        }
    }
}

impl UniqueID for Metered {
    fn id(&self) -> UniqueIDType {
        self.inner.as_ref().map_or(-1, |inner| inner.id())
    }
}

impl Ssl for Metered {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.as_ref()?.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.as_ref()?.selected_alpn_proto()
    }
}

impl GetTimingDigest for Metered {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.as_ref().map_or_else(Vec::new, |inner| inner.get_timing_digest())
    }
}

impl GetProxyDigest for Metered {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.as_ref()?.get_proxy_digest()
    }
}

impl GetSocketDigest for Metered {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.as_ref()?.get_socket_digest()
    }
}

impl Peek for Metered {}

#[cfg(test)]
mod tests {
    use super::*;

    fn metered() -> (Metered, Arc<Meter>, tokio::io::DuplexStream) {
        let (client, server) = tokio::io::duplex(4096);
        let meter = Arc::new(Meter::default());
        let refuse: Arc<Refuse> = Arc::new(|status| Bytes::from(format!("ours {status}")));
        (Metered::new(Box::new(server), meter.clone(), refuse), meter, client)
    }

    #[tokio::test]
    async fn the_parsers_own_answer_never_leaves() {
        let (mut server, meter, mut client) = metered();
        server.write_all(b"HTTP/1.1 405 Method Not Allowed\r\nServer: Parser\r\n").await.unwrap();
        server.write_all(b"\r\n").await.unwrap();
        drop(server);
        let mut seen = String::new();
        client.read_to_string(&mut seen).await.unwrap();
        assert_eq!(seen, "ours 405");
        assert!(meter.told().is_none(), "nobody has told anything");
    }

    #[tokio::test]
    async fn an_admitted_request_is_answered_as_written() {
        let (mut server, meter, mut client) = metered();
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let mut buf = [0; 64];
        let read = server.read(&mut buf).await.unwrap();
        assert_eq!(read, 16);
        assert!(meter.begun().is_some());
        meter.with_head(|head| assert_eq!(head, b"GET / HTTP/1.1\r\n"));
        meter.admit();
        server.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        drop(server);
        let mut seen = String::new();
        client.read_to_string(&mut seen).await.unwrap();
        assert_eq!(seen, "HTTP/1.1 200 OK\r\n\r\n");
    }

    #[tokio::test]
    async fn a_client_that_still_sends_gets_its_answer_first() {
        let (mut server, meter, mut client) = metered();
        meter.admit();
        server.write_all(b"HTTP/1.1 413 Payload Too Large\r\n\r\n").await.unwrap();
        meter.linger();
        drop(server);
        // More than the pipe holds: without anybody who reads, this would not come to its end.
        client.write_all(&vec![b'x'; 64 * 1024]).await.unwrap();
        let mut seen = String::new();
        client.read_to_string(&mut seen).await.unwrap();
        assert!(seen.starts_with("HTTP/1.1 413"));
    }

    #[tokio::test]
    async fn the_head_is_bounded_and_starts_anew() {
        let (mut server, meter, mut client) = metered();
        tokio::spawn(async move { client.write_all(&vec![b'a'; HEAD_BYTES_MAX + 500]).await });
        let mut all = Vec::new();
        server.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), HEAD_BYTES_MAX + 500);
        assert_eq!(meter.with_head(<[u8]>::len), HEAD_BYTES_MAX);
        meter.reset();
        assert!(meter.begun().is_none());
        assert!(meter.with_head(<[u8]>::is_empty));
    }
}
