//! An upstream of our own that records exactly what it received and misbehaves on demand.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::wait::{self, PATIENCE};

/// A listening upstream; ends when dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    acceptor: Option<JoinHandle<()>>,
}

/// One request as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Every byte of the head, up to and with the empty line.
    pub head: Vec<u8>,
    /// The method.
    pub method: String,
    /// The target, as it stood on the wire.
    pub target: String,
    /// Header lines in order; names as they stood.
    pub headers: Vec<(String, String)>,
    /// The body, without its transfer coding; as much as came.
    pub body: Vec<u8>,
    /// Whether the body came whole.
    pub complete: bool,
    /// Whether it was answered as it should be, and not by a misbehaviour.
    pub answered: bool,
    /// Which connection it came over, counted from the first that was made.
    pub connection: usize,
}

/// What the upstream does with a request.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Answers 200 with these header lines and this body.
    Answer(Vec<(String, String)>, Vec<u8>),
    /// Sends exactly these bytes once the request is whole, and closes.
    Raw(Vec<u8>),
    /// Sends exactly these bytes once the request is whole, and takes the next one.
    RawThenNext(Vec<u8>),
    /// Sends these bytes before it reads the request's body, and takes the next request after it.
    Early(Vec<u8>),
    /// Sends these bytes before it reads the request's body, and closes without having read any of it.
    EarlyThenClose(Vec<u8>),
    /// Sends these bytes and keeps the connection open without a further one.
    RawThenSilent(Vec<u8>),
    /// Closes the connection as soon as a byte has come.
    CloseAtOnce,
    /// Closes after the request, without an answer.
    CloseUnanswered,
    /// Announces 1,000 bytes of body, sends ten, and closes.
    CloseInBody,
    /// Announces 1,000 bytes of body, sends ten, and keeps the connection.
    StallInBody,
    /// Takes the request and never answers.
    Silent,
}

impl Received {
    /// The first value of a header, by name in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether a client of the gateway caused it, and not the gateway itself.
    fn is_forwarded(&self) -> bool {
        self.header("x-request-id").is_some()
    }
}

#[derive(Debug)]
struct Shared {
    behaviour: Behaviour,
    script: VecDeque<Behaviour>,
    received: Vec<Received>,
    connections: usize,
    open: Vec<TcpStream>,
    ended: bool,
}

impl Upstream {
    /// Starts one that answers every request with `ok`.
    #[must_use]
    pub fn start() -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// Starts one at this address, where another may have ended.
    #[must_use]
    pub fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("a port for the upstream");
        let address = listener.local_addr().expect("its address");
        let behaviour = Behaviour::Answer(vec![("Content-Type".into(), "text/plain".into())], b"ok".to_vec());
        let shared = Arc::new(Mutex::new(Shared {
            behaviour,
            script: VecDeque::new(),
            received: Vec::new(),
            connections: 0,
            open: Vec::new(),
            ended: false,
        }));
        let theirs = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listener, &theirs));
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// As the gateway is told of it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what it does with requests from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        lock(&self.shared).behaviour = behaviour;
    }

    /// What it does with the next requests of the gateway's clients, one after the other, before it goes on as ever.
    pub fn script(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        lock(&self.shared).script = behaviours.into_iter().collect();
    }

    /// What has arrived so far; each request stands here as soon as its first byte has come.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared).received.clone()
    }

    /// What the gateway's clients caused, without its own health checks.
    #[must_use]
    pub fn forwarded(&self) -> Vec<Received> {
        self.received().into_iter().filter(Received::is_forwarded).collect()
    }

    /// Forgets what has arrived.
    pub fn forget(&self) {
        lock(&self.shared).received.clear();
    }

    /// Waits until a request that `wanted` recognises has arrived.
    pub fn wait(&self, what: &str, wanted: impl Fn(&Received) -> bool) -> Received {
        wait::until(what, PATIENCE, || self.received().into_iter().find(&wanted))
    }

    /// Closes every connection that is open.
    pub fn drop_connections(&self) {
        for stream in lock(&self.shared).open.drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        lock(&self.shared).ended = true;
        // The acceptor waits for a connection; this one tells it to look at `ended`.
        drop(TcpStream::connect(self.address));
        self.drop_connections();
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().ok();
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, shared: &Arc<Mutex<Shared>>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let mut state = lock(shared);
        if state.ended {
            return;
        }
        if let Ok(copy) = stream.try_clone() {
            state.open.push(copy);
        }
        let number = state.connections;
        state.connections += 1;
        drop(state);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || while serve(&stream, number, &shared).is_some() {});
    }
}

/// Takes one request and answers it; `None` when the connection is over.
fn serve(mut stream: &TcpStream, connection: usize, shared: &Mutex<Shared>) -> Option<()> {
    let mut head = vec![0];
    stream.read_exact(&mut head).ok()?;
    let index = {
        let mut state = lock(shared);
        state.received.push(Received { head: head.clone(), connection, ..Received::default() });
        if matches!(state.behaviour, Behaviour::CloseAtOnce) {
            stream.shutdown(Shutdown::Both).ok();
            return None;
        }
        state.received.len() - 1
    };
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let received = Received { connection, ..parse(&head) };
    note(shared, index, |noted| *noted = received.clone());
    let behaviour = behaviour(shared, &received);
    if let Behaviour::Early(bytes) | Behaviour::EarlyThenClose(bytes) = &behaviour {
        stream.write_all(bytes).ok()?;
    }
    if matches!(behaviour, Behaviour::EarlyThenClose(_)) {
        stream.shutdown(Shutdown::Both).ok();
        return None;
    }
    read_body(stream, &received, |bytes| note(shared, index, |noted| noted.body.extend_from_slice(bytes)))?;
    note(shared, index, |noted| noted.complete = true);
    let answered = matches!(behaviour, Behaviour::Answer(..));
    note(shared, index, |noted| noted.answered = answered);
    answer(stream, &received, behaviour)
}

/// What is done with this request.
fn behaviour(shared: &Mutex<Shared>, received: &Received) -> Behaviour {
    let mut state = lock(shared);
    let scripted = if received.is_forwarded() { state.script.pop_front() } else { None };
    scripted.unwrap_or_else(|| state.behaviour.clone())
}

/// Changes a request that was noted, unless the test has forgotten it meanwhile.
fn note(shared: &Mutex<Shared>, index: usize, change: impl FnOnce(&mut Received)) {
    if let Some(noted) = lock(shared).received.get_mut(index) {
        change(noted);
    }
}

fn answer(mut stream: &TcpStream, received: &Received, behaviour: Behaviour) -> Option<()> {
    let promise = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789";
    match behaviour {
        Behaviour::Answer(headers, body) => {
            let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len()).into_bytes();
            for (name, value) in headers {
                bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
            bytes.extend_from_slice(b"\r\n");
            if received.method != "HEAD" {
                bytes.extend_from_slice(&body);
            }
            return stream.write_all(&bytes).ok();
        }
        Behaviour::Raw(bytes) => stream.write_all(&bytes).ok()?,
        Behaviour::RawThenNext(bytes) => return stream.write_all(&bytes).ok(),
        Behaviour::Early(_said) => return Some(()),
        Behaviour::EarlyThenClose(_said) => {}
        Behaviour::RawThenSilent(bytes) => {
            stream.write_all(&bytes).ok()?;
            return read_on(stream);
        }
        Behaviour::CloseInBody => stream.write_all(promise).ok()?,
        Behaviour::StallInBody => {
            stream.write_all(promise).ok()?;
            return read_on(stream);
        }
        Behaviour::Silent => return read_on(stream),
        Behaviour::CloseAtOnce | Behaviour::CloseUnanswered => {}
    }
    stream.shutdown(Shutdown::Both).ok();
    None
}

/// Keeps the connection until the other side gives it up.
fn read_on(mut stream: &TcpStream) -> Option<()> {
    let mut chunk = [0; 1024];
    while stream.read(&mut chunk).ok()? > 0 {}
    None
}

fn parse(head: &[u8]) -> Received {
    let text: String = head.iter().map(|&byte| char::from(byte)).collect();
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let headers = lines.filter_map(|line| line.split_once(':'));
    Received {
        head: head.to_vec(),
        method: words.next().unwrap_or_default().to_owned(),
        target: words.next().unwrap_or_default().to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect(),
        ..Received::default()
    }
}

fn read_body(mut stream: &TcpStream, received: &Received, mut take: impl FnMut(&[u8])) -> Option<()> {
    if received.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        loop {
            let size = usize::from_str_radix(read_line(stream)?.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).ok()?;
            take(&chunk[..size]);
            if size == 0 {
                return Some(());
            }
        }
    }
    let mut left: usize =
        received.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut chunk = [0; 16 * 1024];
    while left > 0 {
        let count = stream.read(&mut chunk[..left.min(16 * 1024)]).ok().filter(|count| *count > 0)?;
        take(&chunk[..count]);
        left -= count;
    }
    Some(())
}

fn read_line(mut stream: &TcpStream) -> Option<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        line.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&line).into_owned())
}
