//! An upstream that dies under way and comes back: it notes whatever reaches it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::marks::{Marks, number_in};
use crate::upstream::{request_end, serve};
use crate::{Failure, cores};

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\nX-Upstream: 1\r\n\r\nserved";

/// The upstream.
pub(super) struct Mortal {
    address: SocketAddr,
    core: usize,
    marks: Arc<Marks>,
    life: Option<Life>,
}

struct Life {
    end: oneshot::Sender<()>,
    thread: JoinHandle<Result<(), Failure>>,
}

impl Mortal {
    /// Starts it on a core, noting in `marks` what it sees.
    pub(super) fn start(core: usize, marks: Arc<Marks>) -> Result<Self, Failure> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let mut mortal = Self { address: listener.local_addr()?, core, marks, life: None };
        mortal.live(listener)?;
        Ok(mortal)
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it with all its connections, whatever they are at, as the kernel does with a process that is killed.
    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        let Some(Life { end, thread }) = self.life.take() else { return Ok(()) };
        end.send(()).ok();
        thread.join().map_err(|_panic| "the upstream panicked")?
    }

    /// Brings it back on the same port.
    pub(super) fn revive(&mut self) -> Result<(), Failure> {
        self.live(std::net::TcpListener::bind(self.address)?)
    }

    fn live(&mut self, listener: std::net::TcpListener) -> Result<(), Failure> {
        let (core, marks) = (self.core, self.marks.clone());
        let (end, ended) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            cores::run_on(core, || async {
                tokio::select! {
                    _ = ended => Ok(()),
                    served = serve(listener, |stream| answer(stream, marks.clone())) => served,
                }
            })
        });
        self.life = Some(Life { end, thread });
        Ok(())
    }
}

/// Answers each head once its body is whole, until the other side closes.
async fn answer(mut stream: TcpStream, marks: Arc<Marks>) {
    let mut bytes = Vec::with_capacity(4096);
    let mut noted = false;
    while let Ok(1..) = stream.read_buf(&mut bytes).await {
        let Some(end) = request_end(&bytes) else { continue };
        if !std::mem::replace(&mut noted, true)
            && let Some(number) = number_in(&bytes)
        {
            marks.forwarded(number);
        }
        if bytes.len() < end {
            continue;
        }
        bytes.clear();
        noted = false;
        if stream.write_all(ANSWER).await.is_err() {
            return;
        }
    }
}
