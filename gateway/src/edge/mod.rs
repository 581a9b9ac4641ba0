//! The edge: accepts connections, hands requests to the proxy, and sees to it that each of them ends in
//! exactly one record, also when the proxy never asks anybody.
//!
//! The accept loop is ours and not pingora's server: that one binds with SO_REUSEPORT (a second
//! gateway would silently take half of the traffic), sleeps for a fixed time at shutdown whatever is still
//! in flight, and panics where a port is taken.

pub mod caps;
pub mod descriptors;
pub mod framing;
pub mod lasting;
pub mod meter;
pub mod metered;
pub mod pace;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use engine::audit::End;
use futures_util::FutureExt;
use futures_util::future::{MaybeDone, maybe_done};
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::stream::Stream as L4Stream;
use pingora_core::server::ShutdownWatch;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::authn::recall::Recall;
use crate::config::settings::Connections;
use crate::pipeline::record::Unparsed;
use crate::proxy::Gateway;
use crate::proxy::http1::ServerSession;
use crate::proxy::serve::serve;
use caps::Over;
use lasting::Lasting;
use meter::Meter;
use metered::Metered;
use pace::Late;

/// For the whole TLS handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of an answer that the kernel holds for a client that does not fetch them, beside what is under way to it. Without
/// it a send buffer grows to 4 MB (Linux' `tcp_wmem`), so that a few hundred readers that never read take a gigabyte
/// from the upstream and from memory at once. 128 KiB is a few round trips' worth of scheduling, and no bound of
/// throughput: what is under way is not counted.
const UNSENT_BYTES_MAX: u32 = 128 * 1024;
/// Connections over a cap whose clients are read from for a moment, so that they see why they are closed. A flood
/// of more is closed at once.
const COURTESIES_MAX: usize = 64;
/// For each of them.
const COURTESY: Duration = Duration::from_secs(1);

/// After the listener is closed, how long connections without a request are kept. A client that was accepted a
/// moment ago, or holds an idle connection, may be sending: what arrives in this time is still served.
const LINGER: Duration = Duration::from_millis(500);

/// One client connection.
#[derive(Debug)]
pub struct Connection {
    /// The other end.
    pub peer: SocketAddr,
    /// Whether it is encrypted.
    pub tls: bool,
    /// What passes over it.
    pub meter: Arc<Meter>,
    /// What outlasts its current request's decision.
    pub lasting: Lasting,
    /// The session cookie that it has presented last.
    pub recall: Recall,
}

impl Connection {
    /// A connection that has carried nothing yet.
    pub fn new(peer: SocketAddr, tls: bool, meter: Arc<Meter>) -> Self {
        Self { peer, tls, meter, lasting: Lasting::default(), recall: Recall::default() }
    }
}

/// The data listener.
pub struct Edge {
    gateway: Gateway,
    acceptor: Option<Arc<Acceptor>>,
    bounds: Connections,
    courtesies: Arc<Semaphore>,
    /// Whether connections that wait for a request are closed.
    closing: watch::Sender<bool>,
}

impl Edge {
    /// An edge before this gateway; encrypted when there is an acceptor.
    pub fn new(gateway: Gateway, acceptor: Option<Acceptor>) -> Self {
        Self {
            bounds: gateway.bounds(),
            gateway,
            acceptor: acceptor.map(Arc::new),
            courtesies: Arc::new(Semaphore::new(COURTESIES_MAX)),
            closing: watch::Sender::new(false),
        }
    }

    /// Accepts until `stop` says true, then drains: what is in the backlog is still served, idle connections
    /// are closed, requests in flight have `drain` to end. Past that they are cut, and recorded as cut.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: watch::Receiver<bool>, drain: Duration) {
        let mut connections = JoinSet::new();
        let mut stopping = stop.clone();
        loop {
            tokio::select! {
                biased;
                changed = stopping.wait_for(|stop| *stop) => {
                    if changed.is_err() {
                        tracing::warn!("the stop signal is gone; stopping");
                    }
                    break;
                }
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.clone().spawn(&mut connections, stream, peer, &stop),
                    Err(error) => accept_failed(&error).await,
                },
                Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
            }
        }
        self.serve_backlog(listener, &mut connections, &stop);
        let linger = LINGER.min(drain);
        let mut drained = ended_within(linger, &mut connections).await;
        // Never under a head that is half there.
        self.closing.send_replace(true);
        drained = drained || ended_within(drain.saturating_sub(linger), &mut connections).await;
        if !drained {
            tracing::warn!(connections = connections.len(), "drain time is over; cutting what is left");
            self.gateway.cut();
            connections.shutdown().await;
        }
    }

    /// Connections whose handshake the kernel has finished were accepted in the client's eyes. The listener is asked
    /// itself, past the runtime's memory of when it was last ready, and closed once it has none left.
    fn serve_backlog(
        self: &Arc<Self>,
        listener: TcpListener,
        connections: &mut JoinSet<()>,
        stop: &watch::Receiver<bool>,
    ) {
        let Ok(listener) = listener.into_std() else { return };
        while let Ok((stream, peer)) = listener.accept() {
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            match stream {
                Ok(stream) => self.clone().spawn(connections, stream, peer, stop),
                Err(error) => tracing::warn!(%error, %peer, "an accepted connection could not be served"),
            }
        }
    }

    fn spawn(
        self: Arc<Self>,
        connections: &mut JoinSet<()>,
        stream: TcpStream,
        peer: SocketAddr,
        stop: &watch::Receiver<bool>,
    ) {
        match self.gateway.hold_connection(peer.ip()) {
            Ok(slot) => {
                let stop = stop.clone();
                connections.spawn(async move {
                    let _slot = slot;
                    self.connection(stream, peer, stop).await;
                });
            }
            Err(over) => self.turn_away(stream, peer, over),
        }
    }

    /// A connection over a cap is told so where that is possible, and closed.
    fn turn_away(&self, stream: TcpStream, peer: SocketAddr, over: Over) {
        let answer = self.gateway.refuse_connection(peer, over);
        // Under TLS nothing can be said before a handshake, which costs more than the connection.
        if self.acceptor.is_some() || stream.try_write(&answer).is_err() {
            return;
        }
        if let Ok(courtesy) = self.courtesies.clone().try_acquire_owned() {
            tokio::spawn(async move {
                let _courtesy = courtesy;
                metered::read_away(stream, COURTESY).await;
            });
        }
    }

    async fn connection(&self, stream: TcpStream, peer: SocketAddr, stop: ShutdownWatch) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection ended before it began");
            return;
        }
        let Some(inner) = self.handshake(stream.into(), peer).await else { return };
        let meter = Arc::new(Meter::default());
        let connection = Arc::new(Connection::new(peer, self.acceptor.is_some(), meter.clone()));
        let refuse = {
            let gateway = self.gateway.clone();
            let connection = connection.clone();
            Arc::new(move |status| gateway.refuse_unparsed(&connection, status))
        };
        let stream: Stream = Box::new(Metered::new(inner, meter, refuse, self.bounds));
        self.requests(stream, connection, stop).await;
    }

    async fn handshake(&self, stream: L4Stream, peer: SocketAddr) -> Option<Stream> {
        let Some(acceptor) = &self.acceptor else { return Some(Box::new(stream)) };
        match tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.tls_handshake(stream)).await {
            Ok(Ok(stream)) => Some(Box::new(stream)),
            Ok(Err(error)) => {
                self.gateway.metrics().handshake_failed();
                tracing::info!(%peer, %error, "TLS handshake failed");
                None
            }
            Err(_elapsed) => {
                self.gateway.metrics().handshake_failed();
                tracing::info!(%peer, "TLS handshake took too long");
                None
            }
        }
    }

    /// Serves one request after the other on a connection.
    async fn requests(&self, stream: Stream, connection: Arc<Connection>, stop: ShutdownWatch) {
        // Declared first, so that it is dropped last, also when the drain cuts the connection.
        let _left = LeftOver { gateway: &self.gateway, connection: &connection };
        let mut session = ServerSession::new(stream, self.bounds.idle);
        let mut closing = self.closing.subscribe();
        let closing = async { closing.wait_for(|closing| *closing).await.is_ok() };
        let mut closing = Box::pin(maybe_done(closing));
        let mut asked = false;
        loop {
            connection.meter.reset();
            connection.lasting.reset();
            let already = std::mem::replace(&mut asked, true);
            let closed = closed_idle(closing.as_mut(), &connection.meter);
            if !self.request(&mut session, &connection, &stop, already, closed).await {
                break;
            }
        }
        // The stream under it hands itself over as it goes.
        drop(session);
        // A bridge may last for hours, and asks by the session's id.
        connection.recall.forget();
        self.bridge(&connection, stop).await;
    }

    /// Runs the bridge that the connection's last request has left, where it has.
    async fn bridge(&self, connection: &Connection, stop: ShutdownWatch) {
        if let (Some(bridge), Some(handed)) =
            (connection.lasting.take_bridge(), connection.meter.take_handed())
        {
            self.gateway.run(*bridge, handed, stop).await;
        }
    }

    /// Serves one request, where one comes; `asked` says whether the connection has carried one before. What the proxy
    /// did not bring to a record is recorded here.
    async fn request(
        &self,
        session: &mut ServerSession,
        connection: &Arc<Connection>,
        stop: &ShutdownWatch,
        asked: bool,
        closed_idle: impl Future<Output = ()>,
    ) -> bool {
        let mut unadmitted = Unadmitted { gateway: &self.gateway, connection, asked, end: End::Deadline };
        // In its place, and not moved there: it is as large as all that a request may come to.
        let served = pin!(serve(&self.gateway, connection, session, stop));
        let served = AssertUnwindSafe(served).catch_unwind();
        let (outcome, end) = tokio::select! {
            // What has been received already has begun before it is asked whether anything has.
            biased;
            outcome = served => match outcome {
                Ok(goes_on) => (goes_on, unadmitted_end(connection.meter.late())),
                Err(_panic) => (false, End::Panic),
            },
            // Both look at what the request has left behind, and so come after it.
            () = closed_idle => (false, End::Complete),
            // Past the runtime's budget: an answer that never waits for either side spends all of it.
            () = tokio::task::unconstrained(self.gateway.denied(connection)) => (false, End::Revoked),
        };
        unadmitted.end = end;
        outcome
    }
}

/// Sees to a request that never reached `receive`; dropped as it is when the drain cuts the connection.
struct Unadmitted<'a> {
    gateway: &'a Gateway,
    connection: &'a Connection,
    asked: bool,
    end: End,
}

impl Drop for Unadmitted<'_> {
    fn drop(&mut self) {
        let meter = &self.connection.meter;
        // An admitted request is recorded by its own context, at the latest as that is dropped.
        if meter.admitted() {
            return;
        }
        if meter.begun().is_some() {
            self.gateway.record_unparsed(&Unparsed { connection: self.connection, end: self.end });
        } else if !self.asked {
            self.gateway.metrics().connection_without_request();
        }
    }
}

/// Sees to requests that were sent ahead over a connection that has closed: the first of them is recorded.
struct LeftOver<'a> {
    gateway: &'a Gateway,
    connection: &'a Connection,
}

impl Drop for LeftOver<'_> {
    fn drop(&mut self) {
        if self.connection.meter.take_left() {
            self.gateway.record_unparsed(&Unparsed { connection: self.connection, end: End::Unserved });
        }
    }
}

/// Whether all connections end in this time.
async fn ended_within(time: Duration, connections: &mut JoinSet<()>) -> bool {
    tokio::time::timeout(time, async { while connections.join_next().await.is_some() {} }).await.is_ok()
}

/// How a request ended that no stage has seen, and that nobody broke off.
const fn unadmitted_end(late: Option<Late>) -> End {
    match late {
        Some(Late::Head) => End::Deadline,
        Some(Late::Body | Late::Reader | Late::Route) | None => End::Protocol,
    }
}

/// Resolves when connections that wait for a request are closed, and this one does; asked after the request, and anew each time
/// that this is. `closing` says whether they are, once it is known, and goes on from request to request.
fn closed_idle<F: Future<Output = bool>>(
    mut closing: Pin<&mut MaybeDone<F>>,
    meter: &Meter,
) -> impl Future<Output = ()> {
    poll_fn(move |cx| {
        ready!(closing.as_mut().poll(cx));
        let are_closed = closing.as_mut().output_mut().is_some_and(|closed| *closed);
        if are_closed && meter.begun().is_none() { Poll::Ready(()) } else { Poll::Pending }
    })
}

/// Out of descriptors, `accept` fails at once and for ever: give the others a moment to end.
async fn accept_failed(error: &io::Error) {
    tracing::error!(%error, "a connection could not be accepted");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Binds the listener without sharing its port. Its connections take a bounded amount of what a client does not fetch.
///
/// # Errors
/// When the address is taken or not ours, or the kernel refuses the bound.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await?;
    // Accepted connections inherit it.
    SockRef::from(&listener).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    Ok(listener)
}

/// An HTTP/1.1 answer as bytes, for where no session is left to write it.
#[must_use]
pub fn raw_answer(status: u16, reason: &str, headers: &[(&str, &str)], body: &[u8]) -> Bytes {
    let mut answer = format!("HTTP/1.1 {status} {reason}\r\n").into_bytes();
    for (name, value) in headers {
        answer.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    answer
        .extend_from_slice(format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()).as_bytes());
    answer.extend_from_slice(body);
    Bytes::from(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_does_not_read_is_given_no_more_than_the_bound() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut taken = 0;
        // What was taken becomes under way as the client's side makes room for it, until it has none left.
        while tokio::time::timeout(Duration::from_millis(200), stream.writable()).await.is_ok() {
            taken += stream.try_write(&[0; 16 * 1024]).unwrap_or(0);
        }
        assert!((1..1024 * 1024).contains(&taken), "{taken} bytes are held for it");
    }
}
