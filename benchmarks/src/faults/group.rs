//! Sentinels of one master, and the replica that takes over from it.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::Failure;
use crate::process::{Process, found, free_address, pause};
use crate::redis::{Redis, said};
use crate::secrets::{hex, leave};

/// What they call the master.
const MASTER: &str = "mymaster";
/// How many they are.
const COUNT: usize = 3;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// How often it is looked.
const LOOKS: usize = 400;

/// All of them; they end with it.
pub(super) struct Sentinels {
    sentinels: Vec<(Process, SocketAddr)>,
    _replica: Redis,
    password: String,
    /// The gateway's at the sentinels.
    watch_password: String,
    folder: TempDir,
}

impl Sentinels {
    /// Starts them and a replica of this master, whose users have this password, and waits until they know of each other.
    ///
    /// # Errors
    /// One does not start, or does not hear of the others.
    pub(super) fn of(core: usize, master: &Redis, password: &str) -> Result<Self, Failure> {
        let port = master.address().port().to_string();
        let follows =
            ["--appendonly", "yes", "--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"];
        let replica = Redis::start_with(core, password, &follows)?.ok_or("there is no redis-server")?;
        until("the replica does not follow", || {
            Ok(said(replica.address(), &["INFO", "replication"])?.contains("master_link_status:up"))
        })?;
        let (watch_password, folder) = (hex()?, TempDir::new()?);
        let lines = format!(
            "sentinel monitor {MASTER} 127.0.0.1 {port} 2\nsentinel down-after-milliseconds {MASTER} 1000\n\
             sentinel failover-timeout {MASTER} 4000\n\
             user watch on >{watch_password} -@all +sentinel|master +sentinel|get-master-addr-by-name\n"
        );
        let start = |number: usize| -> Result<(Process, SocketAddr), Failure> {
            let (file, address) = (folder.path().join(format!("{number}.conf")), free_address()?);
            fs::write(&file, &lines)?;
            let mut command = Command::new(found("redis-server").ok_or("there is no redis-server")?);
            command.arg(file).args(["--sentinel", "--bind", "127.0.0.1", "--loglevel", "warning"]);
            command.args(["--port", &address.port().to_string()]).arg("--dir").arg(folder.path());
            Ok((Process::start(core, &mut command, address)?, address))
        };
        let sentinels: Vec<_> = (0..COUNT).map(start).collect::<Result<_, Failure>>()?;
        for (_, address) in &sentinels {
            until("a sentinel does not hear of the others", || {
                let told = said(*address, &["SENTINEL", "MASTER", MASTER])?;
                let field = |name: &str| told.lines().skip_while(|line| *line != name).nth(2);
                Ok((field("num-other-sentinels"), field("num-slaves")) == (Some("2"), Some("1")))
            })?;
        }
        let password = password.to_owned();
        Ok(Self { sentinels, _replica: replica, password, watch_password, folder })
    }

    /// The lines of a configuration that name them in this table.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) fn lines(&self, table: &str) -> Result<String, Failure> {
        let Self { password, watch_password, .. } = self;
        let hosts: Vec<String> = self.sentinels.iter().map(|(_, address)| address.to_string()).collect();
        let url = self.file("url", &format!("redis://cedargate:{password}@{MASTER}/0"))?;
        let watch = format!("redis://watch:{watch_password}@{}", hosts.join(","));
        let sentinels = self.file("sentinels", &watch)?;
        Ok(format!(
            "[{table}]\nurl = \"file:{}\"\nsentinels = \"file:{}\"\n",
            url.display(),
            sentinels.display()
        ))
    }

    fn file(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let file = self.folder.path().join(name);
        leave(&file, text)?;
        Ok(file)
    }
}

/// Looks until it is so.
fn until(otherwise: &str, is_so: impl Fn() -> Result<bool, Failure>) -> Result<(), Failure> {
    for _ in 0..LOOKS {
        if is_so()? {
            return Ok(());
        }
        pause(LOOK);
    }
    Err(otherwise.into())
}
