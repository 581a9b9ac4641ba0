//! A redis-server of one run.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::Failure;
use crate::process::{Process, found, free_address};
use crate::secrets::{hex, leave};

/// It ends when this is dropped.
pub(crate) struct Redis {
    /// Goes before the folder that it works in.
    _process: Process,
    url: PathBuf,
    _folder: TempDir,
}

impl Redis {
    /// One on this core, for a user who may do this there; `None` where there is none to start.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn start(core: usize, granted: &str) -> Result<Option<Self>, Failure> {
        let Some(binary) = found("redis-server") else { return Ok(None) };
        let (address, password, folder) = (free_address()?, hex()?, TempDir::new()?);
        let mut command = Command::new(binary);
        command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--loglevel", "warning"]);
        command.arg("--dir").arg(folder.path());
        command.args(["--user", "cedargate", "on", &format!(">{password}")]).args(granted.split_whitespace());
        let process = Process::start(core, &mut command, address)?;
        let url = folder.path().join("url");
        leave(&url, &format!("redis://cedargate:{password}@{address}/0"))?;
        Ok(Some(Self { _process: process, url, _folder: folder }))
    }

    /// The lines of a configuration that name it in this table. Its budget is one that no busy machine exceeds by itself:
    /// what is measured is a gateway that asks.
    pub(crate) fn lines(&self, table: &str) -> String {
        format!("[{table}]\nurl = \"file:{}\"\nbudget = \"1s\"\n", self.url.display())
    }
}
