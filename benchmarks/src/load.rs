//! The load: connections that ask one after the other, as fast as they are answered or by the clock.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gateway::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep_until;

use crate::{Failure, cores};

/// How long one answer may take before the run fails.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// What is asked, and of whom.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Where the proxy listens.
    pub address: SocketAddr,
    /// The whole request, ending with an empty line.
    pub request: Arc<[u8]>,
}

/// One keep-alive connection.
pub(crate) struct Connection {
    target: Target,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub(crate) async fn open(target: &Target) -> Result<Self, Failure> {
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { target: target.clone(), stream, buffer: Vec::with_capacity(4096) })
    }

    /// Asks once and reads the whole answer. Connects anew where the last answer closed the connection.
    ///
    /// # Errors
    /// The connection breaks, or the answer is anything but a 200: a refusal costs less than what is measured.
    pub(crate) async fn ask(&mut self) -> Result<(), Failure> {
        let request = self.target.request.clone();
        self.ask_for(&request, |status| status == 200).await.map(drop)
    }

    /// The same for another request, which may have other answers; the status of the one that it had.
    ///
    /// # Errors
    /// The connection breaks, or the answer is another.
    pub(crate) async fn ask_for(&mut self, request: &[u8], may: fn(u16) -> bool) -> Result<u16, Failure> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        let end = loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the proxy closed a connection before its answer".into());
            }
            if let Some(end) = answer_end(&self.buffer)
                && self.buffer.len() >= end
            {
                break end;
            }
        };
        let status = status(&self.buffer).filter(|status| may(*status) && self.buffer.len() == end);
        let Some(status) = status else {
            return Err(
                format!("not an answer that was wanted: {}", String::from_utf8_lossy(&self.buffer)).into()
            );
        };
        if closes(&self.buffer) {
            *self = Self::open(&self.target).await?;
        }
        Ok(status)
    }
}

fn status(answer: &[u8]) -> Option<u16> {
    std::str::from_utf8(answer.strip_prefix(b"HTTP/1.1 ")?.get(..3)?).ok()?.parse().ok()
}

/// Where the answer ends, once its head is whole.
pub(crate) fn answer_end(buffer: &[u8]) -> Option<usize> {
    let head = find(buffer, b"\r\n\r\n")?.checked_add(4)?;
    let length = find(buffer, b"ontent-length: ").or_else(|| find(buffer, b"ontent-Length: "))?;
    let digits = buffer.get(length.checked_add(15)?..)?.split(|byte| *byte == b'\r').next()?;
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    head.checked_add(length)
}

/// Whether the connection ends with this answer.
pub(crate) fn closes(answer: &[u8]) -> bool {
    find(answer, b"onnection: close").is_some()
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|bytes| bytes == wanted)
}

/// Connects from an address of loopback: each has ports of its own.
///
/// # Errors
/// Nobody listens, or all ports are taken.
pub(crate) async fn connect(to: SocketAddr, from: Ipv4Addr) -> Result<TcpStream, Failure> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// How requests were answered that were sent by the clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Their latencies in microseconds, sorted.
    pub latencies_us: Vec<u64>,
}

impl Outcome {
    /// Of these answers.
    #[must_use]
    pub(crate) fn of(answers: &[Answer]) -> Self {
        let mut latencies_us: Vec<u64> = answers.iter().map(|answer| answer.latency_us).collect();
        latencies_us.sort_unstable();
        Self { latencies_us }
    }

    /// The latency at a percentile.
    #[must_use]
    pub(crate) fn percentile_us(&self, percent: usize) -> u64 {
        let last = self.latencies_us.len().saturating_sub(1);
        self.latencies_us.get(last * percent / 100).copied().unwrap_or_default()
    }
}

/// Asks a fixed number of times, over connections that each ask their share.
///
/// # Errors
/// An answer is late, cut or not a 200.
pub(crate) fn counted(core: usize, target: &Target, connections: u64, requests: u64) -> Result<(), Failure> {
    on_core(core, || async {
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..connections {
            let mut connection = Connection::open(target).await?;
            asking.spawn(async move {
                for _ in 0..requests / connections {
                    tokio::time::timeout(ANSWER_MAX, connection.ask()).await??;
                }
                Ok::<(), Failure>(())
            });
        }
        ended(asking).await.map(drop)
    })
}

/// Asks `per_second` times a second, whatever the answers do. A request that has to wait for the one before it on
/// its connection is late from when it was due; one that is due on an idle connection counts from when it was sent,
/// so that the timer's coarseness is not the proxy's.
///
/// # Errors
/// An answer is late, cut or not a 200.
pub(crate) fn open_loop(
    core: usize,
    target: &Target,
    connections: u32,
    per_second: u32,
    time: Duration,
) -> Result<Outcome, Failure> {
    let request = target.request.clone();
    let asked = Asked { next: Arc::new(move || request.clone()), may: |status| status == 200 };
    let answers = by_the_clock(core, target, Pace { connections, per_second, time }, &asked)?;
    Ok(Outcome::of(&answers))
}

/// How often is asked, over how many connections, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Connections.
    pub connections: u32,
    /// Requests a second.
    pub per_second: u32,
    /// For so long.
    pub time: Duration,
}

/// What is asked each time, and with what it may be answered.
#[derive(Clone)]
pub(crate) struct Asked {
    /// The next request.
    pub next: Arc<dyn Fn() -> Arc<[u8]> + Send + Sync>,
    /// Whether an answer may have this status.
    pub may: fn(u16) -> bool,
}

/// The answer to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its status.
    pub status: u16,
    /// After how many microseconds it was there.
    pub latency_us: u64,
}

/// As [`open_loop`], with requests that change and answers of more than one kind.
///
/// # Errors
/// An answer is late, cut or another.
pub(crate) fn by_the_clock(
    core: usize,
    target: &Target,
    pace: Pace,
    asked: &Asked,
) -> Result<Vec<Answer>, Failure> {
    let Pace { connections, per_second, time } = pace;
    let interval = Duration::from_secs(1) * connections / per_second;
    on_core(core, || async {
        let mut asking = tokio::task::JoinSet::new();
        let begun = clock::instant() + Duration::from_millis(50);
        for number in 0..connections {
            let mut connection = Connection::open(target).await?;
            let (first, Asked { next, may }) = (begun + interval * number / connections, asked.clone());
            asking.spawn(async move {
                let mut answers = Vec::new();
                let mut due = first;
                while due < begun + time {
                    let late = clock::instant() > due;
                    sleep_until(due.into()).await;
                    let counted_from = if late { due } else { clock::instant() };
                    let status = connection.ask_for(&next(), may).await?;
                    answers.push(Answer { status, latency_us: micros(clock::instant() - counted_from) });
                    due += interval;
                }
                Ok::<Vec<Answer>, Failure>(answers)
            });
        }
        Ok(ended(asking).await?.into_iter().flatten().collect())
    })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Opens connections that each ask once and then idle until `while_open` returns.
///
/// # Errors
/// An answer is late, cut or not a 200, or `while_open` fails.
pub(crate) fn idle<T: Send>(
    core: usize,
    target: &Target,
    connections: usize,
    while_open: impl FnOnce() -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    on_core(core, || async {
        let mut open = Vec::new();
        for _ in 0..connections {
            let mut connection = Connection::open(target).await?;
            tokio::time::timeout(ANSWER_MAX, connection.ask()).await??;
            open.push(connection);
        }
        let outcome = while_open();
        drop(open);
        outcome
    })
}

/// Opens a WebSocket for each of these requests, which idle until `while_open` returns.
///
/// # Errors
/// One does not open, or `while_open` fails.
pub(crate) fn idle_sockets<T: Send>(
    core: usize,
    address: SocketAddr,
    requests: &[String],
    while_open: impl FnOnce() -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    on_core(core, || async {
        let mut open = Vec::new();
        for request in requests {
            open.push(socket(address, request).await?);
        }
        let outcome = while_open();
        drop(open);
        outcome
    })
}

/// Opens a WebSocket with this request.
///
/// # Errors
/// It does not open.
pub(crate) async fn socket(address: SocketAddr, request: &str) -> Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while find(&answer, b"\r\n\r\n").is_none() {
        let read = tokio::time::timeout(ANSWER_MAX, stream.read_buf(&mut answer)).await??;
        if read == 0 || !b"HTTP/1.1 101".starts_with(answer.get(..12).unwrap_or(b"HTTP/1.1 101")) {
            return Err(format!("no WebSocket: {}", String::from_utf8_lossy(&answer)).into());
        }
    }
    Ok(stream)
}

/// What all of them have come to.
///
/// # Errors
/// One has failed, or they do not end.
pub(crate) async fn ended<T: 'static>(
    mut asking: tokio::task::JoinSet<Result<T, Failure>>,
) -> Result<Vec<T>, Failure> {
    let mut all = Vec::new();
    let waiting = async {
        while let Some(one) = asking.join_next().await {
            all.push(one??);
        }
        Ok::<(), Failure>(())
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await??;
    Ok(all)
}

/// Runs on a thread and a runtime of its own that stay on one core.
///
/// # Errors
/// What the work says, or that it panicked.
pub(crate) fn on_core<T, F>(core: usize, work: impl FnOnce() -> F + Send) -> Result<T, Failure>
where
    T: Send,
    F: Future<Output = Result<T, Failure>>,
{
    let ended = std::thread::scope(|scope| {
        let running = scope.spawn(|| cores::run_on(core, work));
        running.join()
    });
    ended.unwrap_or_else(|_panic| Err("the load panicked".into()))
}
