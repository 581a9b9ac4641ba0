//! An HTTP/1.1 client that sends exactly the bytes it is given and says exactly what came back.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::wait::PATIENCE;

/// One connection to the gateway.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// One answer, framed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header lines in order; names as sent.
    pub headers: Vec<(String, String)>,
    /// The body, without its transfer coding.
    pub body: Vec<u8>,
    /// Statuses of interim answers before it.
    pub interim: Vec<u16>,
}

/// No whole answer came.
#[derive(Debug, PartialEq, Eq)]
pub enum Lost {
    /// The peer closed or reset the connection; what had come until then.
    Closed(Vec<u8>),
    /// Nothing came within [`PATIENCE`].
    Silent,
}

impl Client {
    /// Connects.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).expect("the gateway accepts connections")
    }

    /// The same to one that may not be there.
    ///
    /// # Errors
    /// It accepts no connection.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a write timeout");
        stream.set_nodelay(true).expect("no delay");
        Ok(Self { stream, unread: Vec::new() })
    }

    /// Sends these bytes; a peer that has closed already is not an error here, the answer tells.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).ok();
    }

    /// Sends these bytes and says whether the peer still took them.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Says that nothing more will be sent, and stays to listen.
    pub fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).ok();
    }

    /// Reads one answer to a request that was not `HEAD`.
    pub fn receive(&mut self) -> Result<Response, Lost> {
        self.receive_to("GET")
    }

    /// Reads one answer to a request with this method, which decides whether a body follows.
    pub fn receive_to(&mut self, method: &str) -> Result<Response, Lost> {
        let mut interim = Vec::new();
        loop {
            let head = self.read_head()?;
            let (status, headers) = parse_head(&head);
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            let mut response = Response { status, headers, body: Vec::new(), interim };
            response.body = self.read_body(method, &response)?;
            return Ok(response);
        }
    }

    /// Sends a request and reads its answer.
    pub fn ask(&mut self, request: &Request) -> Result<Response, Lost> {
        self.send(&request.to_bytes());
        self.receive_to(&request.method)
    }

    /// Reads until the peer closes; `None` when it has not within `limit`.
    pub fn rest(&mut self, limit: Duration) -> Option<Vec<u8>> {
        self.stream.set_read_timeout(Some(limit)).expect("a read timeout");
        let mut rest = std::mem::take(&mut self.unread);
        let mut chunk = [0; 16 * 1024];
        let closed = loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => break true,
                Ok(count) => rest.extend_from_slice(&chunk[..count]),
                Err(error) => break !is_timeout(&error),
            }
        };
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
        if closed {
            return Some(rest);
        }
        self.unread = rest;
        None
    }

    /// Reads at least one byte more of what the peer sends.
    pub fn read_some(&mut self) -> Result<Vec<u8>, Lost> {
        if self.unread.is_empty() {
            self.fill()?;
        }
        Ok(std::mem::take(&mut self.unread))
    }

    fn fill(&mut self) -> Result<(), Lost> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(Lost::Closed(std::mem::take(&mut self.unread))),
            Ok(count) => {
                self.unread.extend_from_slice(&chunk[..count]);
                Ok(())
            }
            Err(error) if is_timeout(&error) => Err(Lost::Silent),
            Err(_) => Err(Lost::Closed(std::mem::take(&mut self.unread))),
        }
    }

    fn read_head(&mut self) -> Result<Vec<u8>, Lost> {
        loop {
            if let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                return Ok(self.unread.drain(..end + 4).collect());
            }
            self.fill()?;
        }
    }

    fn read_exactly(&mut self, count: usize) -> Result<Vec<u8>, Lost> {
        while self.unread.len() < count {
            self.fill()?;
        }
        Ok(self.unread.drain(..count).collect())
    }

    fn read_line(&mut self) -> Result<String, Lost> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.fill()?;
        }
    }

    fn read_body(&mut self, method: &str, response: &Response) -> Result<Vec<u8>, Lost> {
        if method == "HEAD" || matches!(response.status, 101 | 204 | 304) {
            return Ok(Vec::new());
        }
        if response.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return self.read_chunks();
        }
        if let Some(length) = response.header("content-length") {
            return self.read_exactly(length.parse().expect("a content length"));
        }
        match self.rest(PATIENCE) {
            Some(body) => Ok(body),
            None => Err(Lost::Silent),
        }
    }

    fn read_chunks(&mut self) -> Result<Vec<u8>, Lost> {
        let mut body = Vec::new();
        loop {
            let size = self.read_line()?;
            let size = usize::from_str_radix(size.trim(), 16).expect("a chunk size");
            if size == 0 {
                while !self.read_line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.read_exactly(size)?);
            self.read_exactly(2)?;
        }
    }
}

impl Response {
    /// The first value of a header, by name in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Every value of a header, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// The id under which the gateway recorded this request.
    #[must_use]
    pub fn request_id(&self) -> String {
        self.header("x-request-id").expect("every answer carries x-request-id").to_owned()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }
}

/// A request to be spelt on the wire. The order of headers is the order of calls.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// A request with this method and target, and no header yet.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.to_owned(), target: target.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    /// With one header line more.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a body and its length.
    #[must_use]
    pub fn body(self, kind: &str, body: &[u8]) -> Self {
        let mut request = self.with("Content-Type", kind).with("Content-Length", &body.len().to_string());
        request.body = body.to_vec();
        request
    }

    /// With a body in chunks, one of all of it, or none where it is empty.
    #[must_use]
    pub fn in_chunks(self, kind: &str, body: &[u8]) -> Self {
        let mut request = self.with("Content-Type", kind).with("Transfer-Encoding", "chunked");
        if !body.is_empty() {
            request.body = [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat();
        }
        request.body.extend_from_slice(b"0\r\n\r\n");
        request
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

fn parse_head(head: &[u8]) -> (u16, Vec<(String, String)>) {
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status in {status_line:?}"));
    let headers = lines
        .take_while(|line| !line.is_empty())
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}"));
            (name.to_owned(), value.trim().to_owned())
        })
        .collect();
    (status, headers)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
