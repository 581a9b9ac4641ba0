//! Other proxies, where this machine has them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::Failure;
use crate::load::Target;
use crate::process::{Process, found, free_address};
use crate::world::{PATH, fetch, plain_request};

/// A peer that serves.
pub(crate) struct Peer {
    /// Its process.
    pub process: Process,
    /// What to ask.
    pub target: Target,
    _folder: Option<TempDir>,
}

/// The pass-through before this upstream.
///
/// # Errors
/// It does not start.
pub(crate) fn bare(core: usize, binary: &Path, upstream: SocketAddr) -> Result<Peer, Failure> {
    let listen = free_address()?;
    let mut command = Command::new(binary);
    command.args([listen.to_string(), upstream.to_string()]);
    let process = Process::start(core, &mut command, listen)?;
    Ok(Peer { process, target: Target { address: listen, request: plain_request(listen) }, _folder: None })
}

/// nginx as a plain proxy; `None` where there is none.
///
/// # Errors
/// It is there and does not start.
pub(crate) fn nginx(
    core: usize,
    named: Option<&Path>,
    upstream: SocketAddr,
) -> Result<Option<Peer>, Failure> {
    let Some(binary) = named.map(Path::to_owned).or_else(|| found("nginx")).or_else(in_sbin) else {
        return Ok(None);
    };
    let (listen, folder) = (free_address()?, TempDir::new()?);
    let text = include_str!("../peers/nginx.conf")
        .replace("LISTEN", &listen.to_string())
        .replace("UPSTREAM", &upstream.to_string())
        .replace("FOLDER", &folder.path().display().to_string());
    let file = folder.path().join("nginx.conf");
    fs::write(&file, text)?;
    let mut command = Command::new(binary);
    command.arg("-c").arg(file).arg("-p").arg(folder.path());
    let process = Process::start(core, &mut command, listen)?;
    let target = Target { address: listen, request: plain_request(listen) };
    Ok(Some(Peer { process, target, _folder: Some(folder) }))
}

/// Debian keeps it out of a plain user's search path.
fn in_sbin() -> Option<PathBuf> {
    let place = PathBuf::from("/usr/sbin/nginx");
    place.is_file().then_some(place)
}

/// Envoy with a gateway's duties; `None` where there is none. It is seen to refuse before it is measured.
///
/// # Errors
/// It is there and does not start, or lets somebody in whom it must refuse.
pub(crate) fn envoy(
    core: usize,
    named: Option<&Path>,
    upstream: SocketAddr,
) -> Result<Option<Peer>, Failure> {
    let Some(binary) = named.map(Path::to_owned).or_else(|| found("envoy")) else { return Ok(None) };
    let (listen, folder) = (free_address()?, TempDir::new()?);
    let text = include_str!("../peers/envoy.yaml")
        .replace("port_value: LISTEN", &format!("port_value: {}", listen.port()))
        .replace("port_value: UPSTREAM", &format!("port_value: {}", upstream.port()))
        .replace("path: LOG", &format!("path: {}", folder.path().join("access.log").display()));
    let file = folder.path().join("envoy.yaml");
    fs::write(&file, text)?;
    let mut command = Command::new(binary);
    command.arg("-c").arg(file).args(["--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]);
    let process = Process::start(core, &mut command, listen)?;
    let token = include_str!("../peers/token.txt").trim();
    let request = |path: &str, token: &str, connection: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: {listen}\r\nUser-Agent: benchmarks\r\nAccept: application/json\r\n\
             Accept-Encoding: identity\r\nSec-Fetch-Site: same-origin\r\n{connection}\
             Authorization: Bearer {token}\r\n\r\n"
        )
    };
    for (path, token, expected) in [(PATH, "no.token.here", " 401 "), ("/api/other", token, " 403 ")] {
        let answer = fetch(listen, &request(path, token, "Connection: close\r\n"))?;
        if !answer.lines().next().is_some_and(|line| line.contains(expected)) {
            return Err(format!("envoy does not refuse {path} with{expected}").into());
        }
    }
    let target = Target { address: listen, request: request(PATH, token, "").into_bytes().into() };
    Ok(Some(Peer { process, target, _folder: Some(folder) }))
}
