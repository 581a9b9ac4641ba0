//! Gateways with limits of their own, in front of one upstream.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::Failure;
use crate::builds::repository;
use crate::figures::Figure;
use crate::load::Target;
use crate::process::{Process, free_address, pause};
use crate::secrets::{KEYS, hex};
use crate::world::{PATH, metrics};

/// The host that the gateways answer to.
pub(super) const HOST: &str = "gateway.example";
/// What the gateway's user may do in Redis: the list of docs/operate.md.
pub(super) const GRANTED: &str = "~cedargate:* +eval +evalsha +script|load +get +set +time";
/// The metric that tells what became of the questions to Redis.
const ASKED: &str = "cedargate_limits_redis_total{result=";

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// What gateways are started from.
pub(super) struct House {
    binary: PathBuf,
    upstream: SocketAddr,
    home: TempDir,
    keys: Vec<(&'static str, String)>,
}

/// A gateway that serves a service with a key.
pub(super) struct Serving {
    /// Its process.
    pub(super) process: Process,
    /// What to ask of it.
    pub(super) target: Target,
    admin: SocketAddr,
}

impl House {
    /// With keys of this run.
    ///
    /// # Errors
    /// The system gives no folder or no random bytes.
    pub(super) fn new(binary: PathBuf, upstream: SocketAddr) -> Result<Self, Failure> {
        let keys = KEYS.into_iter().map(|name| Ok((name, hex()?))).collect::<Result<_, Failure>>()?;
        Ok(Self { binary, upstream, home: TempDir::new()?, keys })
    }

    /// Starts a gateway on one core with these lines before all tables and these of `[limits]`, and gives a service a key.
    ///
    /// # Errors
    /// It does not start, or gives no key.
    pub(super) fn start(
        &self,
        core: usize,
        name: &str,
        first: &str,
        limits: &str,
    ) -> Result<Serving, Failure> {
        let (address, admin) = (free_address()?, free_address()?);
        let folder = self.home.path().join(name);
        fs::create_dir(&folder)?;
        let file = folder.join("cedargate.toml");
        let text = format!(
            "listen = \"{address}\"\nadmin_listen = \"{admin}\"\ndata_dir = {:?}\npolicies_dir = {:?}\n\
             hosts = [{{ public_url = \"https://{HOST}\" }}]\n{first}[upstreams.botserver]\nidentity = \"botserver\"\n\
             addresses = [\"{}\"]\n[limits]\n{limits}",
            folder.join("data"),
            repository().join("policies"),
            self.upstream
        );
        fs::write(&file, text)?;
        let process = Process::start(core, self.command().arg("run").arg("--config").arg(&file), address)?;
        let key = self.key(&file)?;
        let request = format!(
            "GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: benchmarks\r\nAccept: application/json\r\n\
             Accept-Encoding: identity\r\nX-API-Key: {key}\r\n\r\n"
        );
        Ok(Serving { process, target: Target { address, request: request.into_bytes().into() }, admin })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.env_clear().envs(self.keys.iter().map(|(name, key)| (name, key)));
        command
    }

    fn key(&self, config: &Path) -> Result<String, Failure> {
        let mut command = self.command();
        command.args([
            "key",
            "add",
            "benchmarks",
            "--scope",
            "docs.*",
            "--role",
            "standard_user",
            "--config",
        ]);
        let output = command.arg(config).output()?;
        if output.status.success() {
            Ok(String::from_utf8(output.stdout)?.trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
        }
    }
}

impl Serving {
    /// Waits until it asks Redis.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn asks_redis(&self) -> Result<(), Failure> {
        const LOOKS: usize = 200;
        for _ in 0..LOOKS {
            if metrics(self.admin)?.lines().any(|line| line == "cedargate_limits_redis_up 1") {
                return Ok(());
            }
            pause(LOOK);
        }
        Err("the gateway does not ask redis".into())
    }

    /// How many questions to Redis were not answered in time, for each that was asked: with anything but 0, the gateway
    /// has counted by itself meanwhile, and the other rows tell too little.
    ///
    /// # Errors
    /// It tells nothing of them.
    pub(super) fn unanswered(&self) -> Result<Figure, Failure> {
        Ok(Figure::once("limits.redis.unanswered", self.others_than("\"answered\"")?, "share"))
    }

    /// How many requests asked Redis where leases should have been enough.
    ///
    /// # Errors
    /// It tells nothing of them.
    pub(super) fn not_leased(&self) -> Result<Figure, Failure> {
        Ok(Figure::once("limits.leased.asked", self.others_than("\"leased\"")?, "share"))
    }

    /// The share of requests with another result than this.
    fn others_than(&self, wanted: &str) -> Result<f64, Failure> {
        let text = metrics(self.admin)?;
        let (mut all, mut others) = (0_u64, 0);
        for line in text.lines().filter_map(|line| line.strip_prefix(ASKED)) {
            let (result, count) = line.split_once("} ").ok_or("a metric without a value")?;
            let count: u64 = count.trim().parse()?;
            all += count;
            others += if result == wanted { 0 } else { count };
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of one run, far below 2^52")]
        Ok(others as f64 / all.max(1) as f64)
    }
}
