//! One side of a bridge: what came from it and what waits to go to it.

use std::io;
use std::time::Duration;

use engine::websocket::{Close, Receiver, Sender, Writer};
use pingora_core::protocols::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::Instant;

use crate::clock;

/// Bytes of room to read into while a side says little: the memory of an idle socket.
const ROOM_MIN: usize = 1024;
/// Bytes of room while it says much; also the largest piece that is passed on.
const ROOM_MAX: usize = 16 * 1024;
/// Bytes that may wait for one side before the other is read no further: pongs, behind what a read has brought.
const WAITING_MAX: usize = 2 * ROOM_MAX;

/// One side of a bridge.
pub(super) struct Leg {
    pub(super) reader: ReadHalf<Stream>,
    pub(super) writer: WriteHalf<Stream>,
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    pub(super) receiver: Receiver,
    pub(super) frames: Writer,
    /// Whether it has said its last word.
    pub(super) is_done: bool,
    /// Whether it was told ours.
    pub(super) is_told: bool,
    masks: bool,
}

/// Bytes that came and were not passed on.
#[derive(Debug)]
pub(super) struct Incoming {
    bytes: Vec<u8>,
    at: usize,
    room: usize,
}

/// Frames that wait to be sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    is_flushed: bool,
    /// When it last took something, while more waits.
    pub(super) since: Instant,
}

impl Leg {
    /// The side that sends as `sender`, on this connection, which has already sent `rest`.
    pub(super) fn new(stream: Stream, sender: Sender, rest: Vec<u8>, message_bytes_max: u64) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            reader,
            writer,
            incoming: Incoming { bytes: rest, at: 0, room: ROOM_MIN },
            outgoing: Outgoing { bytes: Vec::new(), sent: 0, is_flushed: true, since: now() },
            receiver: Receiver::new(sender, message_bytes_max),
            frames: Writer::default(),
            is_done: false,
            is_told: false,
            masks: sender == Sender::Server,
        }
    }

    /// A fresh mask, where what goes to it is masked.
    pub(super) fn key(&self) -> Option<[u8; 4]> {
        self.masks.then(crate::random::bytes)
    }

    /// Tells it our last word, once.
    pub(super) fn tell(&mut self, close: Option<&Close>) {
        if !std::mem::replace(&mut self.is_told, true) {
            let key = self.key();
            self.outgoing.write(|out| Writer::close(close, key, out));
        }
    }

    /// Whether all that waited for it is sent.
    pub(super) fn is_drained(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Sends what waits, then the end of our side.
    pub(super) async fn finish(&mut self, within: Duration) -> io::Result<()> {
        let finishing = async {
            while !self.outgoing.is_empty() {
                self.outgoing.send(&mut self.writer).await?;
            }
            self.writer.shutdown().await
        };
        tokio::time::timeout(within, finishing).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads away what it still sends, until it ends its side: closing under unread bytes resets the connection, and
    /// our last word can be lost with it.
    pub(super) async fn read_away(&mut self, within: Duration) {
        let mut nowhere = tokio::io::sink();
        let reading = tokio::io::copy(&mut self.reader, &mut nowhere);
        if let Ok(Ok(bytes)) = tokio::time::timeout(within, reading).await {
            tracing::trace!(bytes, "read away what came after the last word");
        }
    }
}

impl Incoming {
    /// Reads what has come; 0 when the side has ended. May be dropped at any time.
    pub(super) async fn read(&mut self, reader: &mut ReadHalf<Stream>) -> io::Result<usize> {
        if self.at == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(self.room);
        } else {
            self.bytes.drain(..self.at);
        }
        self.at = 0;
        self.bytes.reserve_exact(self.room);
        let read = reader.read_buf(&mut self.bytes).await?;
        let full = read >= self.room;
        self.room = if full { self.room.saturating_mul(4).min(ROOM_MAX) } else { ROOM_MIN };
        Ok(read)
    }

    /// What was not passed on.
    pub(super) fn rest(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.at..).unwrap_or_default()
    }

    /// So many bytes of it were passed on.
    pub(super) fn take(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes).min(self.bytes.len());
    }
}

impl Outgoing {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.is_flushed
    }

    /// Whether more may wait.
    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() < WAITING_MAX
    }

    /// Lets frames wait.
    pub(super) fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.is_empty() {
            self.since = now();
        }
        write(&mut self.bytes);
        self.is_flushed = false;
    }

    /// Sends some of what waits. May be dropped at any time.
    pub(super) async fn send(&mut self, writer: &mut WriteHalf<Stream>) -> io::Result<()> {
        if self.bytes.is_empty() {
            writer.flush().await?;
            self.is_flushed = true;
            return Ok(());
        }
        let sent = writer.write(self.bytes.get(self.sent..).unwrap_or_default()).await?;
        if sent == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.since = now();
        self.sent = self.sent.saturating_add(sent);
        if self.sent >= self.bytes.len() {
            // The memory goes with it: a socket that falls silent keeps none.
            self.bytes = Vec::new();
            self.sent = 0;
        }
        Ok(())
    }
}

/// Now, by the clock of timers.
pub(super) fn now() -> Instant {
    Instant::from_std(clock::instant())
}
