//! An upstream that costs next to nothing: it answers every head with the same bytes.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{Failure, cores};

/// A small JSON answer, as an API's read gives.
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nDate: Wed, 25 Nov 2026 00:00:00 GMT\r\nContent-Type: application/json\r\n\
Content-Length: 64\r\nVary: Accept\r\nX-Powered-By: none\r\n\r\n\
{\"documents\":[{\"id\":1,\"title\":\"a document\"},{\"id\":2,\"title\":\"b\"}]}";

/// Starts it on a core of its own choice; it lives as long as the process.
///
/// # Errors
/// It cannot listen.
pub(crate) fn start(core: usize) -> Result<SocketAddr, Failure> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        if let Err(failure) = cores::pin(core).and_then(|()| serve(listener)) {
            eprintln!("benchmarks: the upstream ended: {failure}");
        }
    });
    Ok(address)
}

fn serve(listener: std::net::TcpListener) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(answer(stream));
        }
    })
}

/// Answers until the other side closes. Requests have no body here, so each ends with an empty line.
async fn answer(mut stream: TcpStream) {
    let mut head = Vec::with_capacity(4096);
    while let Ok(1..) = stream.read_buf(&mut head).await {
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            if stream.write_all(ANSWER).await.is_err() {
                return;
            }
        }
    }
}
