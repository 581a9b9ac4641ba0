//! The control socket: `control.sock` (0600) in the data directory (0700).

use std::fs::{self, DirBuilder, File, Permissions};
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::execute::{Backend, Operator, execute};
use super::line::{self, LineError};
use super::reply::{Code, Problem, Reply};
use crate::clock;

/// The socket's name in the data directory.
pub const SOCKET_NAME: &str = "control.sock";

/// Bytes of a socket's path that the system takes, its end included.
const SOCKET_PATH_BYTES_MAX: usize = 108;
/// Connections at a time: people and their scripts.
const CONNECTIONS_MAX: usize = 16;
/// How long a connection may say nothing.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How long the other side may take to read an answer.
const WRITE_MAX: Duration = Duration::from_secs(10);

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody answers there: another gateway of this data directory runs.
    #[error("another gateway answers on `{0}`")]
    Live(PathBuf),
    /// Something else than a socket is in its place.
    #[error("`{0}` is not a socket; move it away")]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("the control socket `{path}` cannot be opened")]
    Io {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The open socket. Its file goes when this does.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    backend: Arc<Backend>,
}

impl Server {
    /// Opens the socket of a data directory. The file of a process that is gone is replaced.
    ///
    /// # Errors
    /// Somebody answers there, or the file cannot be made.
    pub fn bind(data_dir: &Path, backend: Arc<Backend>) -> Result<Self, BindError> {
        let path = data_dir.join(SOCKET_NAME);
        make_way(&path)?;
        match listen(&path) {
            Ok(listener) => Ok(Self { listener, path, backend }),
            Err(source) => Err(BindError::Io { path, source }),
        }
    }

    /// Answers until `stop` completes; a verb that is under way is finished and answered.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let (stopping, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        tokio::pin!(stop);
        loop {
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, self.listener.accept().await)
            };
            tokio::select! {
                () = &mut stop => break,
                (Ok(place), accepted) = next => match accepted {
                    Ok((stream, _)) => {
                        let (backend, stopped) = (Arc::clone(&self.backend), stopped.clone());
                        connections.spawn(async move {
                            serve(stream, &backend, stopped).await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the control socket could not accept");
                        // Out of descriptors, most likely: asking again at once would only spin.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
            while connections.try_join_next().is_some() {}
        }
        stopping.send_replace(true);
        while connections.join_next().await.is_some() {}
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        fs::remove_file(&self.path).ok();
    }
}

/// Opens a socket at a path, with no moment in which others could reach it.
///
/// A socket is made with whatever the umask leaves open, so it is made in a directory of its own (0700), closed to
/// others there, and moved into place.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let private = path.with_extension("new");
    match fs::remove_dir_all(&private) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    DirBuilder::new().mode(0o700).create(&private)?;
    let made = private.join("s");
    let listener = within_bounds(&made, |short| UnixListener::bind(short))?;
    fs::set_permissions(&made, Permissions::from_mode(0o600))?;
    fs::rename(&made, path)?;
    fs::remove_dir(&private)?;
    Ok(listener)
}

/// Calls with a path to a socket that the system takes: one of a data directory that lies too deep is reached
/// through its open parent.
pub(super) fn within_bounds<T>(path: &Path, call: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() < SOCKET_PATH_BYTES_MAX {
        return call(path);
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return call(path) };
    let parent = File::open(parent)?;
    call(&Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name))
}

/// Removes the socket of a process that is gone.
fn make_way(path: &Path) -> Result<(), BindError> {
    let failed = |source| BindError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(BindError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match within_bounds(path, |short| std::os::unix::net::UnixStream::connect(short)) {
        Ok(_) => Err(BindError::Live(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

async fn serve(stream: UnixStream, backend: &Backend, mut stopped: watch::Receiver<bool>) {
    // Who asks is what the kernel says of the peer, never what the peer says.
    let operator = match stream.peer_cred() {
        Ok(peer) => Operator { uid: peer.uid() },
        Err(error) => {
            tracing::warn!(%error, "the peer of the control socket is not known");
            return;
        }
    };
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let line = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            line = timeout(IDLE_MAX, line::read(&mut reader, line::REQUEST_BYTES_MAX)) => line,
        };
        let (reply, goes_on) = match line {
            // Asked of a gateway that hung: whoever did has been told that nothing is known of it, and may have done without.
            Ok(Ok(_)) if is_gone(&writer).await => return,
            Ok(Ok(line)) => (answer(&line, backend, operator).await, true),
            Ok(Err(error @ LineError::TooLong(_))) => {
                (Reply::Refused(Problem::new(Code::Invalid, error.to_string())), false)
            }
            Ok(Err(LineError::Closed { .. } | LineError::Io(_))) | Err(_) => return,
        };
        if send(&mut writer, &reply).await.is_none() || !goes_on {
            return;
        }
    }
}

/// Whether nobody is left to answer. One who has only said all that they want to say is there.
async fn is_gone(writer: &OwnedWriteHalf) -> bool {
    if writer.writable().await.is_err() {
        return true;
    }
    // Writes nothing, and breaks where the other end is closed.
    writer.try_write(&[]).is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
}

async fn answer(line: &[u8], backend: &Backend, operator: Operator) -> Reply {
    match serde_json::from_slice(line) {
        Ok(verb) => execute(verb, backend, operator, clock::now()).await,
        // The parser's message names fields and places, never values.
        Err(error) => {
            Reply::Refused(Problem::new(Code::Invalid, format!("not a request: {}", place(&error))))
        }
    }
}

/// Where a request is wrong. serde_json quotes what it found for some faults, and that may be a password.
fn place(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Data => "a verb or field is unknown, missing or of another type",
        serde_json::error::Category::Syntax | serde_json::error::Category::Eof => "it is not one JSON object",
        serde_json::error::Category::Io => "it could not be read",
    };
    format!("{kind} (column {})", error.column())
}

async fn send(writer: &mut OwnedWriteHalf, reply: &Reply) -> Option<()> {
    let mut line = zeroize::Zeroizing::new(serde_json::to_vec(reply).ok()?);
    line.push(b'\n');
    timeout(WRITE_MAX, writer.write_all(&line)).await.ok()?.ok()
}
