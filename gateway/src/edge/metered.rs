//! The stream that the HTTP parser reads and writes.
//!
//! The parser answers malformed requests itself, without asking anybody: such a request would leave no record,
//! and its answer would name the parser and carry no security header. It also drops what was sent past a request.
//! So it reads and writes through a [`Metered`] stream, which keeps the head of the current request for the
//! record, replaces whatever the parser writes by our own refusal until `receive` has admitted the request, and
//! holds back what belongs to the next request until its turn.

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::framing::Turn;
use super::meter::{Handed, Meter};
use super::pace::Late;
use crate::config::settings::Connections;

/// Bytes that are read past the current request, so that a client that leaves is noticed while its request is
/// under way. One read of the parser can add what its buffer holds (64 KiB).
pub const AHEAD_BYTES_MAX: usize = 16 * 1024;

/// Bytes of an answer that are held until more comes, the writer is done, or anybody waits for the client: a head and a
/// short body then are one write, which is what most of the time of a small answer goes to.
const HELD_BYTES_MAX: usize = 4 * 1024;

/// For reading away what a refused client still sends.
const LINGER_MAX: Duration = Duration::from_secs(2);
/// Bytes of that which are read: what is on its way in a fast network's buffers.
const LINGER_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Makes the refusal that replaces what the parser would answer with this status.
pub type Refuse = dyn Fn(u16) -> Bytes + Send + Sync;

/// A connection whose bytes are counted and whose parser is kept from answering by itself.
pub struct Metered {
    inner: Option<Stream>,
    meter: Arc<Meter>,
    refuse: Arc<Refuse>,
    /// Whether our refusal stands in the place of what the parser writes.
    replaced: bool,
    /// What was written and the connection has not been given yet.
    held: BytesMut,
    /// What came after the end of the current request.
    ahead: BytesMut,
    /// Whether the client has ended its side.
    ended: bool,
    bounds: Connections,
    /// Wakes whoever reads or writes when their time is over.
    alarm: Option<Pin<Box<Sleep>>>,
    /// Since when the client has taken nothing of what is written.
    stalled: Option<Instant>,
}

impl Metered {
    /// Puts a meter on a connection. `refuse` makes our own answer where the parser refuses, `bounds` says how
    /// slow the client may be.
    pub fn new(inner: Stream, meter: Arc<Meter>, refuse: Arc<Refuse>, bounds: Connections) -> Self {
        Self {
            inner: Some(inner),
            meter,
            refuse,
            replaced: false,
            held: BytesMut::new(),
            ahead: BytesMut::new(),
            ended: false,
            bounds,
            alarm: None,
            stalled: None,
        }
    }

    /// The connection. It is gone only while this is being dropped.
    fn inner(&mut self) -> io::Result<&mut Stream> {
        self.inner.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Writes our refusal in place of what the parser wants to write; `Ready` once it is out.
    fn poll_instead(&mut self, parser_writes: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.replaced, true) {
            self.held.extend_from_slice(&(self.refuse)(status_of(parser_writes)));
        }
        self.poll_out(cx, |_, _| Poll::Ready(Ok(())))
    }

    /// Holds what is written, or writes it with what is held before it.
    fn poll_held(&mut self, cx: &mut Context<'_>, written: &[u8]) -> Poll<io::Result<usize>> {
        if self.held.len() + written.len() <= HELD_BYTES_MAX {
            self.held.extend_from_slice(written);
            return Poll::Ready(Ok(written.len()));
        }
        let Some(inner) = self.inner.as_mut() else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        while !self.held.is_empty() {
            let both = [IoSlice::new(&self.held), IoSlice::new(written)];
            let sent = ready!(Pin::new(&mut *inner).poll_write_vectored(cx, &both))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let beyond = sent.saturating_sub(self.held.len());
            self.held.advance(sent - beyond);
            if beyond > 0 {
                return Poll::Ready(Ok(beyond));
            }
        }
        Pin::new(inner).poll_write(cx, written)
    }

    /// Gives the connection what is held, and does this with it.
    fn poll_out(
        &mut self,
        cx: &mut Context<'_>,
        then: impl FnOnce(Pin<&mut Stream>, &mut Context<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        let Some(inner) = self.inner.as_mut() else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        while !self.held.is_empty() {
            let sent = ready!(Pin::new(&mut *inner).poll_write(cx, &self.held))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(sent);
        }
        then(Pin::new(inner), cx)
    }

    /// Delivers what belongs to the current request, or the end of the stream. `false`: there is something to
    /// deliver, and none of it belongs to the current request.
    fn poll_deliver(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        if !self.ahead.is_empty() {
            let room = buf.remaining().min(self.ahead.len());
            let taken = self.meter.arrived(self.ahead.get(..room).unwrap_or_default());
            buf.put_slice(&self.ahead.split_to(taken));
            self.meter.ahead(&self.ahead);
            return Poll::Ready(Ok(taken > 0));
        }
        if self.ended {
            return Poll::Ready(Ok(true));
        }
        let before = buf.filled().len();
        ready!(Pin::new(self.inner()?).poll_read(cx, buf))?;
        let arrived = buf.filled().get(before..).unwrap_or_default();
        self.ended = arrived.is_empty();
        let taken = self.meter.arrived(arrived);
        self.ahead.extend_from_slice(arrived.get(taken..).unwrap_or_default());
        self.meter.ahead(&self.ahead);
        buf.set_filled(before.saturating_add(taken));
        Poll::Ready(Ok(self.ended || taken > 0))
    }

    /// The parser waits for the client to leave: reads what comes into the room for later requests. `Ready` when
    /// the client has left and has not asked for anything more.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.ended && self.ahead.len() < AHEAD_BYTES_MAX {
            let mut space = [MaybeUninit::uninit(); 4096];
            let mut read = ReadBuf::uninit(&mut space);
            ready!(Pin::new(self.inner()?).poll_read(cx, &mut read))?;
            self.ended = read.filled().is_empty();
            self.ahead.extend_from_slice(read.filled());
            self.meter.ahead(&self.ahead);
        }
        // With requests left to serve nobody needs to be woken: the current one ends, and then it is their turn.
        if self.ahead.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl Metered {
    /// Nothing has come: waits on, as long as there is time.
    fn poll_late_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let until = self.meter.reads_until(&self.bounds);
        self.poll_alarm(until, cx)
    }

    /// What became of an attempt to write. While the client takes nothing, waits on as long as there is time.
    fn poll_taken<T>(&mut self, attempt: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if attempt.is_ready() {
            self.stalled = None;
            return attempt;
        }
        let since = *self.stalled.get_or_insert_with(Instant::now);
        let until = self.meter.writes_until(since, &self.bounds);
        self.poll_alarm(until, cx).map(|ended| ended.and(Err(io::ErrorKind::TimedOut.into())))
    }

    fn poll_alarm(&mut self, until: Option<(Instant, Late)>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((until, late)) = until else { return Poll::Pending };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if alarm.deadline() != until {
            alarm.as_mut().reset(until);
        }
        ready!(alarm.as_mut().poll(cx));
        self.meter.is_late(late);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "too slow")))
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
        // An answer that was broken off: what there is of it still goes out, if the client takes it at once.
        let mut nobody = Context::from_waker(Waker::noop());
        drop(self.poll_out(&mut nobody, |inner, cx| inner.poll_flush(cx)));
        if self.meter.is_handed_over() {
            let ahead = std::mem::take(&mut self.ahead);
            return self.meter.handed(self.inner.take().map(|stream| Handed { stream, ahead }));
        }
        self.meter.ends_with(&self.ahead);
        if !self.meter.lingers() {
            return;
        }
        if let (Some(inner), Ok(runtime)) = (self.inner.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(read_away(inner, LINGER_MAX));
        }
    }
}

/// Ends our side and reads away what the client still sends, for a bounded time and amount.
pub(super) async fn read_away<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, time: Duration) {
    let reading = async {
        AsyncWriteExt::shutdown(&mut stream).await?;
        tokio::io::copy(&mut (&mut stream).take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await
    };
    if let Ok(Ok(bytes)) = tokio::time::timeout(time, reading).await {
        tracing::trace!(bytes, "read away what a refused client still sent");
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Whoever waits for the client has written all that there is. Where it takes nothing, the next write or flush
        // waits for it, and has a time for that.
        if let Poll::Ready(sent) = self.poll_out(cx, |inner, cx| inner.poll_flush(cx)) {
            sent?;
        }
        loop {
            match self.meter.turn() {
                Turn::Deliver if buf.remaining() == 0 => return Poll::Ready(Ok(())),
                Turn::Deliver => match self.poll_deliver(cx, buf) {
                    Poll::Ready(Ok(true)) => return Poll::Ready(Ok(())),
                    Poll::Ready(Ok(false)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return self.poll_late_read(cx),
                },
                Turn::Hold => {
                    let ahead = self.poll_ahead(cx);
                    return if ahead.is_ready() { ahead } else { self.poll_late_read(cx) };
                }
                Turn::OutOfStep => {
                    if !self.meter.admitted() {
                        ready!(self.poll_instead(b"", cx))?;
                        ready!(self.as_mut().poll_flush(cx))?;
                    }
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "out of step")));
                }
                Turn::Broken(fault) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault)));
                }
            }
        }
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let attempt = if self.meter.admitted() {
            self.poll_held(cx, buf)
        } else {
            self.poll_instead(buf, cx).map_ok(|()| buf.len())
        };
        self.poll_taken(attempt, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let attempt = self.poll_out(cx, |inner, cx| inner.poll_flush(cx));
        self.poll_taken(attempt, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.meter.is_handed_over() {
            return Poll::Ready(Ok(()));
        }
        let attempt = self.poll_out(cx, |inner, cx| inner.poll_shutdown(cx));
        self.poll_taken(attempt, cx)
    }
}

#[async_trait]
impl Shutdown for Metered {
    async fn shutdown(&mut self) {
        if self.meter.is_handed_over() {
            return;
        }
        if let Err(error) = self.flush().await {
            tracing::debug!(%error, "a connection ended before all of its answer was taken");
        }
        if let Some(inner) = self.inner.as_mut() {
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
mod tests;
