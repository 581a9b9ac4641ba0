//! A redis-server of one run.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::Failure;
use crate::process::{Process, found, free_address};
use crate::secrets::{hex, leave};

/// What the gateway's user may do: the lines of docs/operate.md.
pub(crate) const GRANTED: &str = "~cedargate:* &cedargate:* +eval +evalsha +script|load +get +set +time +del +exists +hget +hmget +hset \
    +pexpire +pttl +zadd +zcount +zrange +zrangebyscore +zrem +zscore +sadd +smembers +srem +publish +subscribe +role";
/// How long it has for an answer to its administrator.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// It ends when this is dropped.
pub(crate) struct Redis {
    /// Goes before the folder that it works in.
    process: Option<Process>,
    binary: PathBuf,
    core: usize,
    arguments: Vec<String>,
    address: SocketAddr,
    password: String,
    folder: TempDir,
}

impl Redis {
    /// One on this core; `None` where there is none to start.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn start(core: usize) -> Result<Option<Self>, Failure> {
        Self::start_with(core, &hex()?, &["--appendonly", "no"])
    }

    /// The same with this password of the gateway's user, and these arguments.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn start_with(core: usize, password: &str, more: &[&str]) -> Result<Option<Self>, Failure> {
        let Some(binary) = found("redis-server") else { return Ok(None) };
        let arguments = more.iter().map(|argument| (*argument).to_owned()).collect();
        let (address, folder) = (free_address()?, TempDir::new()?);
        let password = password.to_owned();
        let mut redis = Self { process: None, binary, core, arguments, address, password, folder };
        redis.restart()?;
        Ok(Some(redis))
    }

    /// Starts it where it has ended.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn restart(&mut self) -> Result<(), Failure> {
        self.kill();
        let mut command = Command::new(&self.binary);
        command.args(["--bind", "127.0.0.1", "--port", &self.address.port().to_string()]);
        command.args(["--save", "", "--loglevel", "warning"]).arg("--dir").arg(self.folder.path());
        command.args(&self.arguments);
        command.args(["--user", "cedargate", "on", &format!(">{}", self.password)]);
        command.args(GRANTED.split_whitespace());
        self.process = Some(Process::start(self.core, &mut command, self.address)?);
        Ok(())
    }

    /// Ends it, as a crash does.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Its process, while there is one.
    pub(crate) const fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has it do something.
    ///
    /// # Errors
    /// It says anything but that it is done.
    pub(crate) fn order(&self, words: &[&str]) -> Result<(), Failure> {
        let answer = said(self.address, words)?;
        if answer.starts_with("+OK") { Ok(()) } else { Err(format!("{words:?}: {answer}").into()) }
    }

    /// The lines of a configuration that name it in this table. Its budget is one that no busy machine exceeds by itself:
    /// what is measured is a gateway that asks.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn lines(&self, table: &str) -> Result<String, Failure> {
        Ok(self.lines_at(self.address, table)? + "budget = \"1s\"\n")
    }

    /// The same with the usual budget, and where whatever leads to it listens.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn lines_at(&self, address: SocketAddr, table: &str) -> Result<String, Failure> {
        let url = self.folder.path().join(format!("{table}.{}", address.port()));
        if !url.is_file() {
            leave(&url, &format!("redis://cedargate:{}@{address}/0", self.password))?;
        }
        Ok(format!("[{table}]\nurl = \"file:{}\"\n", url.display()))
    }
}

/// What a server answers to its administrator.
///
/// # Errors
/// It does not.
pub(crate) fn said(server: SocketAddr, words: &[&str]) -> Result<String, Failure> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let spelt: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    stream.write_all(format!("*{}\r\n{spelt}", words.len()).as_bytes())?;
    // There is no more: the answer ends with the connection.
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
