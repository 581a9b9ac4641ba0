//! An upstream that costs next to nothing: it answers every request with the same bytes, and agrees to every
//! WebSocket, over which it says nothing.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{Failure, cores};

/// A small JSON answer, as an API's read gives.
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nDate: Wed, 25 Nov 2026 00:00:00 GMT\r\nContent-Type: application/json\r\n\
Content-Length: 66\r\nVary: Accept\r\nX-Powered-By: none\r\n\r\n\
{\"documents\":[{\"id\":1,\"title\":\"a document\"},{\"id\":2,\"title\":\"b\"}]}";

/// The path whose answer is more than the buffers between two sockets hold.
pub(crate) const LARGE: &str = "/static/large.bin";
const LARGE_BYTES: usize = 16 * 1024 * 1024;
const UNSENT_BYTES_MAX: u32 = 128 * 1024;
static LARGE_PIECE: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// Starts it on a core; it lives as long as the process.
///
/// # Errors
/// It cannot listen.
pub(crate) fn start(core: usize) -> Result<SocketAddr, Failure> {
    start_answering(core, answer)
}

/// Starts something that answers each connection in this way.
///
/// # Errors
/// It cannot listen.
pub(crate) fn start_answering<F>(
    core: usize,
    answer: impl Fn(TcpStream) -> F + Send + 'static,
) -> Result<SocketAddr, Failure>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    // As the gateway's own: what an upstream's kernel makes room for on the load's core is not the gateway's to answer for.
    SockRef::from(&listener).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        if let Err(failure) = cores::run_on(core, || serve(listener, answer)) {
            eprintln!("benchmarks: what listens on {address} ended: {failure}");
        }
    });
    Ok(address)
}

/// Accepts for ever, and answers each connection in this way.
///
/// # Errors
/// Nothing more can be accepted.
pub(crate) async fn serve<F>(
    listener: std::net::TcpListener,
    answer: impl Fn(TcpStream) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = ()> + Send + 'static,
{
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(answer(stream));
    }
}

/// Answers until the other side closes.
async fn answer(mut stream: TcpStream) {
    let mut request = Vec::with_capacity(4096);
    while let Ok(1..) = stream.read_buf(&mut request).await {
        if request_end(&request).is_none_or(|end| request.len() < end) {
            continue;
        }
        let written = match header(&request, "sec-websocket-key") {
            Some(key) => stream.write_all(agreed(&key).as_bytes()).await,
            None if request.starts_with(format!("GET {LARGE} ").as_bytes()) => large(&mut stream).await,
            None => stream.write_all(ANSWER).await,
        };
        if written.is_err() {
            return;
        }
        request.clear();
    }
}

async fn large(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE_BYTES}\r\n\r\n").as_bytes()).await?;
    // Never whole in memory: hundreds ask for it at once, and making room for them would be seen by everybody.
    for _ in 0..LARGE_BYTES / LARGE_PIECE.len() {
        stream.write_all(&LARGE_PIECE).await?;
    }
    Ok(())
}

fn agreed(key: &str) -> String {
    let proof =
        digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        STANDARD.encode(proof)
    )
}

/// Where a request ends, body included, once its head is whole. Here every body is announced by its length.
pub(crate) fn request_end(request: &[u8]) -> Option<usize> {
    let head = request.windows(4).position(|four| four == b"\r\n\r\n")?;
    let length = header(request, "content-length").map_or(Some(0), |length| length.parse().ok())?;
    head.checked_add(4)?.checked_add(length)
}

/// A header's value in a request whose head is whole.
fn header(request: &[u8], wanted: &str) -> Option<String> {
    let lines = request.split(|byte| *byte == b'\n').skip(1).take_while(|line| line.len() > 1);
    let mut lines = lines.filter_map(|line| std::str::from_utf8(line).ok()?.split_once(':'));
    let (_, value) = lines.find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
    Some(value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_with_its_body() {
        assert_eq!(request_end(b"GET / HTTP/1.1\r\nHost: a\r\n"), None);
        assert_eq!(request_end(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Some(27));
        assert_eq!(request_end(b"POST / HTTP/1.1\r\ncontent-Length: 3\r\n\r\nab"), Some(41));
        assert_eq!(header(b"GET / HTTP/1.1\r\n\r\nX: not a header\r\n", "x"), None);
    }

    #[test]
    fn the_example_of_rfc_6455_is_agreed_to() {
        assert!(agreed("dGhlIHNhbXBsZSBub25jZQ==").contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    /// A byte past what is announced, and a proxy uses no connection twice: it would be connecting that is measured.
    #[test]
    fn the_answer_is_as_long_as_it_says() {
        let text = std::str::from_utf8(ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let announced = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        assert_eq!(announced, body.len().to_string());
    }
}
