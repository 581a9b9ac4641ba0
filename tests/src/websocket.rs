//! WebSockets from both sides: an independent client and server, and a client that sends exactly the bytes it is
//! given.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::client::{Client, Lost, Request, Response};
use crate::gateway::Gateway;
use crate::peer::installed;
use crate::repository;
use crate::session::Browser;
use crate::tls::Certificate;
use crate::wait::{self, PATIENCE};

/// The handshake's headers; the key is the example of RFC 6455.
pub const HANDSHAKE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// Where PyPI `websockets` was installed, as `tests/run` does it.
fn peer(arguments: &[&OsStr]) -> (Child, ChildStdin, BufReader<ChildStdout>) {
    let script = repository::root().join("tests/peers/websocket.py");
    let child = Command::new("python3")
        .arg(script)
        .args(arguments)
        .env("PYTHONPATH", installed("websockets"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.expect("python3 starts");
    let stdin = child.stdin.take().expect("its input");
    let stdout = BufReader::new(child.stdout.take().expect("its output"));
    (child, stdin, stdout)
}

fn line(stdout: &mut BufReader<ChildStdout>) -> Option<Value> {
    let mut line = String::new();
    let read = stdout.read_line(&mut line).expect("the peer's output is text");
    (read > 0).then(|| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}")))
}

/// An independent upstream that echoes; ended when dropped.
#[derive(Debug)]
pub struct PeerServer {
    child: Child,
    address: SocketAddr,
    events: Arc<Mutex<Vec<Value>>>,
    _stdin: ChildStdin,
}

impl PeerServer {
    /// Starts it.
    #[must_use]
    pub fn start() -> Self {
        Self::serve(&["serve".as_ref()])
    }

    /// Starts one that speaks over TLS, with this certificate.
    #[must_use]
    pub fn over_tls(certificate: &Certificate) -> Self {
        Self::serve(&["serve".as_ref(), certificate.cert.as_os_str(), certificate.key.as_os_str()])
    }

    fn serve(arguments: &[&OsStr]) -> Self {
        let (child, stdin, mut stdout) = peer(arguments);
        let port = line(&mut stdout).expect("the server says its port")["port"].as_u64();
        let events = Arc::new(Mutex::new(Vec::new()));
        let theirs = events.clone();
        std::thread::spawn(move || {
            while let Some(event) = line(&mut stdout) {
                theirs.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
        });
        let port = u16::try_from(port.expect("a port")).expect("a port");
        Self { child, address: (Ipv4Addr::LOCALHOST, port).into(), events, _stdin: stdin }
    }

    /// As the gateway is told of it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for something to happen to it.
    pub fn wait(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait::until(what, PATIENCE, || {
            self.events
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
                .find(|event| wanted(event))
                .cloned()
        })
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for PeerServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An independent client with any number of sockets; ended when dropped.
#[derive(Debug)]
pub struct PeerClient {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl PeerClient {
    /// Starts it.
    #[must_use]
    pub fn start() -> Self {
        let (child, stdin, stdout) = peer(&["drive".as_ref()]);
        Self { child, stdin, stdout }
    }

    /// Lets it do something, and says what came of it.
    pub fn ask(&mut self, order: &Value) -> Value {
        writeln!(self.stdin, "{order}").expect("the client takes orders");
        line(&mut self.stdout).unwrap_or_else(|| panic!("the client ended at {order}"))
    }

    /// The same where it cannot fail.
    pub fn must(&mut self, order: &Value) -> Value {
        let said = self.ask(order);
        for fault in ["error", "status", "closed"] {
            assert!(said.get(fault).is_none(), "{order}: {said}");
        }
        said
    }

    /// Opens one socket as this browser's own page does; its number.
    pub fn connect(&mut self, gateway: &Gateway, browser: &Browser, target: &str) -> u64 {
        self.must(&connect(gateway, browser, target))["id"].as_u64().expect("a number")
    }

    /// Sends a text on a socket and reads the answer.
    pub fn echo(&mut self, id: u64, text: &str) -> String {
        self.must(&json!({"do": "send", "id": id, "text": text}));
        self.must(&json!({"do": "receive", "id": id}))["text"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits for a socket's end: code and reason.
    pub fn closed(&mut self, id: u64) -> (u64, String) {
        let said = self.must(&json!({"do": "closed", "id": id}));
        (said["code"].as_u64().unwrap_or_default(), said["reason"].as_str().unwrap_or_default().to_owned())
    }
}

impl Drop for PeerClient {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The order to open a socket as this browser's own page does.
#[must_use]
pub fn connect(gateway: &Gateway, browser: &Browser, target: &str) -> Value {
    json!({
        "do": "connect",
        "url": format!("ws://{}{target}", gateway.address()),
        "origin": format!("http://{}", gateway.address()),
        "headers": {"Cookie": browser.cookie_header()},
    })
}

/// A socket whose frames are written by hand.
#[derive(Debug)]
pub struct RawSocket {
    client: Client,
    unread: Vec<u8>,
    /// The answer to the handshake.
    pub answer: Response,
}

impl RawSocket {
    /// Opens one as this browser's own page does.
    #[must_use]
    pub fn open(gateway: &Gateway, browser: &Browser, target: &str) -> Self {
        let request = browser.request("GET", target).with("Origin", &format!("http://{}", gateway.address()));
        Self::upgrade(Client::connect(gateway.address()), request)
    }

    /// Opens one with this request, which needs no handshake yet.
    #[must_use]
    pub fn upgrade(mut client: Client, mut request: Request) -> Self {
        for (name, value) in HANDSHAKE {
            request = request.with(name, value);
        }
        let answer = client.ask(&request).expect("an answer to the handshake");
        assert_eq!(answer.status, 101, "{}", answer.text());
        Self { client, unread: Vec::new(), answer }
    }

    /// Sends these bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.client.send(bytes);
    }

    /// Sends a masked frame: first byte, payload.
    pub fn frame(&mut self, first: u8, payload: &[u8]) {
        self.client.send(&frame(first, payload));
    }

    /// Reads one frame: first byte, payload.
    pub fn receive(&mut self) -> Result<(u8, Vec<u8>), Lost> {
        loop {
            if let [first, short, rest @ ..] = self.unread.as_slice() {
                let (length, at) = match short {
                    126 if rest.len() >= 2 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), 4),
                    126 => (usize::MAX / 2, 0),
                    short => (usize::from(*short), 2),
                };
                if self.unread.len() >= length + at {
                    let (first, payload) = (*first, self.unread[at..at + length].to_vec());
                    self.unread.drain(..at + length);
                    return Ok((first, payload));
                }
            }
            let more = self.client.read_some()?;
            self.unread.extend(more);
        }
    }

    /// Reads on to the close frame: code and reason.
    pub fn closed(&mut self) -> (u16, String) {
        loop {
            let (first, payload) = self.receive().unwrap_or_else(|lost| panic!("no close frame: {lost:?}"));
            if first == 0x88 {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                let reason = payload.get(2..).unwrap_or_default();
                return (code, String::from_utf8_lossy(reason).into_owned());
            }
        }
    }

    /// The connection, to see its end.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// A masked frame: first byte, payload.
#[must_use]
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        short @ ..126 => frame.push(0x80 | u8::try_from(short).expect("short")),
        medium @ ..0x1_0000 => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(medium).expect("medium").to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}
