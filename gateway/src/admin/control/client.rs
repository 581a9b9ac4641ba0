//! The other end of the control socket, for the command line.

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zeroize::Zeroizing;

use super::line::{self, LineError};
use super::reply::Reply;
use super::server::{SOCKET_NAME, within_bounds};
use super::verb::Verb;

/// A connection to a running gateway.
pub struct Client {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

/// Why a gateway could not be asked.
///
/// None of these says that no gateway runs: only holding the store's lock does (threat 18).
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers at the socket.
    #[error("no gateway answers on `{path}`")]
    NoAnswer {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The request could not be sent.
    #[error("the request could not be sent")]
    Send(#[source] io::Error),
    /// No whole answer came; what was asked for may have been done.
    #[error("the gateway did not answer; look at the audit log whether it was done")]
    Receive(#[source] LineError),
    /// The answer is none.
    #[error("the gateway's answer cannot be read")]
    Answer(#[source] serde_json::Error),
}

impl Client {
    /// Connects to the gateway of a data directory.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn connect(data_dir: &Path) -> Result<Self, ClientError> {
        let path = data_dir.join(SOCKET_NAME);
        let connected = within_bounds(&path, |short| std::os::unix::net::UnixStream::connect(short));
        let stream = connected.and_then(|stream| {
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        });
        let stream = stream.map_err(|source| ClientError::NoAnswer { path, source })?;
        let (reader, writer) = stream.into_split();
        Ok(Self { reader: BufReader::new(reader), writer })
    }

    /// Asks one thing.
    ///
    /// # Errors
    /// There is no answer. What was asked for may have been done.
    pub async fn ask(&mut self, verb: &Verb) -> Result<Reply, ClientError> {
        let mut line = Zeroizing::new(serde_json::to_vec(verb).map_err(ClientError::Answer)?);
        line.push(b'\n');
        self.writer.write_all(&line).await.map_err(ClientError::Send)?;
        let answer =
            line::read(&mut self.reader, line::REPLY_BYTES_MAX).await.map_err(ClientError::Receive)?;
        serde_json::from_slice(&answer).map_err(ClientError::Answer)
    }
}
