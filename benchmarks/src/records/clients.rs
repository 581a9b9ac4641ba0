//! Clients of every kind, each request with its number.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::marks::{Marks, header};
use crate::Failure;
use crate::load::{answer_end, closes, connect};
use crate::world::PATH;

/// How long one answer may take before the run fails.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// A path that nobody routes.
const NOWHERE: &str = "/there/is/no/such/route";
/// A path that nobody may spell so.
const MALFORMED: &str = "/api/docs/%2e%2e/list";
/// A path that who asks here may not read.
const DENIED: &str = "/api/rbac/roles";
/// Where an upload goes.
const UPLOAD: &str = "/api/docs/save";

/// What one request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Read,
    Upload,
    Anonymous,
    Denied,
    Unrouted,
    Malformed,
    /// The client leaves when it has asked.
    LeavesHead,
    /// The client leaves in the middle of its upload.
    LeavesBody,
}

impl Kind {
    /// By number: spread evenly, the same in each run. What is refused before anybody is known has few records a
    /// second by design, so it has few here.
    fn of(number: usize) -> Self {
        match number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & 0x3ff {
            0..4 => Self::Malformed,
            4..8 => Self::Unrouted,
            8..110 => Self::Anonymous,
            110..212 => Self::Denied,
            212..262 => Self::LeavesHead,
            262..282 => Self::LeavesBody,
            282..384 => Self::Upload,
            _ => Self::Read,
        }
    }

    /// Its name, for figures.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Upload => "upload",
            Self::Anonymous => "anonymous",
            Self::Denied => "denied",
            Self::Unrouted => "unrouted",
            Self::Malformed => "malformed",
            Self::LeavesHead => "client_left_after_head",
            Self::LeavesBody => "client_left_in_body",
        }
    }

    const fn leaves(self) -> bool {
        matches!(self, Self::LeavesHead | Self::LeavesBody)
    }
}

/// What all clients share.
pub(super) struct Work {
    /// Where they ask.
    pub address: SocketAddr,
    /// Whose session they have.
    pub cookie: String,
    /// The next request's number.
    pub next: AtomicUsize,
    /// How many there are.
    pub total: usize,
    /// Where it is noted.
    pub marks: Arc<Marks>,
}

/// What became of a client's requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// By kind and status; 0 where the client did not wait.
    pub answers: BTreeMap<(Kind, u16), u64>,
    /// Connections that were opened and closed without a byte.
    pub unused: u64,
}

impl Tally {
    /// Adds what another client counted.
    pub(super) fn add(&mut self, other: Self) {
        for (key, count) in other.answers {
            *self.answers.entry(key).or_default() += count;
        }
        self.unused += other.unused;
    }
}

/// One client: asks until there is nothing left to ask. Each has an address of its own, and so ports of its own.
pub(super) async fn client(work: Arc<Work>, number: u8) -> Result<Tally, Failure> {
    let from = Ipv4Addr::new(127, 0, 1, number);
    let (mut tally, mut buffer) = (Tally::default(), Vec::with_capacity(8192));
    let mut kept = None;
    loop {
        let number = work.next.fetch_add(1, Ordering::Relaxed);
        if number >= work.total {
            return Ok(tally);
        }
        if number.is_multiple_of(64) {
            drop(connect(work.address, from).await?);
            tally.unused += 1;
        }
        let kind = Kind::of(number);
        let mut stream = match kept.take().filter(|_| !kind.leaves()) {
            Some(stream) => stream,
            None => connect(work.address, from).await?,
        };
        work.marks.sent(number);
        stream.write_all(&request(&work, kind, number)).await?;
        let mut status = 0;
        if !kind.leaves() {
            let answered = tokio::time::timeout(ANSWER_MAX, answer(&mut stream, &mut buffer)).await;
            status = answered
                .map_err(|_late| format!("no answer to a {kind:?}"))?
                .map_err(|error| format!("{kind:?}: {error}"))?;
            if buffer.ends_with(b"served") {
                work.marks.served(number);
            }
            kept = (!closes(&buffer)).then_some(stream);
        }
        *tally.answers.entry((kind, status)).or_default() += 1;
    }
}

/// Reads a whole answer; its status.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<u16, Failure> {
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err("the gateway closed a connection before its answer".into());
        }
        if answer_end(buffer).is_some_and(|end| buffer.len() >= end) {
            let status = buffer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
            return Ok(status.unwrap_or_default().parse()?);
        }
    }
}

fn request(work: &Work, kind: Kind, number: usize) -> Vec<u8> {
    let (method, path) = match kind {
        Kind::Read | Kind::Anonymous | Kind::LeavesHead => ("GET", PATH),
        Kind::Upload | Kind::LeavesBody => ("POST", UPLOAD),
        Kind::Denied => ("GET", DENIED),
        Kind::Unrouted => ("GET", NOWHERE),
        Kind::Malformed => ("GET", MALFORMED),
    };
    let address = work.address;
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAccept: application/json\r\nSec-Fetch-Site: same-origin\r\n{}",
        header(number)
    );
    if kind != Kind::Anonymous {
        text += &format!("Cookie: {}\r\n", work.cookie);
    }
    if method == "POST" {
        text += &format!("Origin: http://{address}\r\nContent-Type: text/plain\r\nContent-Length: 512\r\n");
    }
    text += "\r\n";
    let body = match kind {
        Kind::Upload => 512,
        Kind::LeavesBody => 100,
        Kind::Read | Kind::Anonymous | Kind::Denied | Kind::Unrouted | Kind::Malformed | Kind::LeavesHead => {
            0
        }
    };
    [text.into_bytes(), vec![b'x'; body]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_share() {
        let mut counts = BTreeMap::<Kind, u32>::new();
        (0..100_000).for_each(|number| *counts.entry(Kind::of(number)).or_default() += 1);
        assert_eq!(counts.len(), 8);
        let early = counts[&Kind::Malformed] + counts[&Kind::Unrouted];
        assert!(early > 500 && early < 1_000, "{counts:?}");
        assert!(counts[&Kind::LeavesHead] > 4_000 && counts[&Kind::LeavesBody] > 1_500, "{counts:?}");
    }
}
