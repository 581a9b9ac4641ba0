//! Gateways with the keys of one run, in front of one upstream, each configured by lines of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use gateway::config::environment::Environment;
use gateway::{clock, shared_sessions};
use storage::Secret;
use storage::credentials::{Login, NewAccount, PasswordHash};
use storage::sessions::{CreatedSession, NewSession};
use tempfile::TempDir;

use crate::builds::repository;
use crate::load::Target;
use crate::process::{self, Process, free_address, pause};
use crate::secrets::{KEYS, hex};
use crate::stores::Stores;
use crate::world::{PATH, metrics};
use crate::{Failure, callgrind};

/// The host that they answer to.
pub(crate) const HOST: &str = "gateway.example";
/// A table of limits that never bind, and are counted like any other.
pub(crate) const COUNTED: &str = "[limits]\nper_address = \"1000000/1s\"\nper_user = \"1000000/1s\"\n";
/// What tells that shared limits, and that shared sessions, are asked for.
pub(crate) const LIMITS_UP: &str = "cedargate_limits_redis_up 1";
pub(crate) const SESSIONS_UP: &str = "cedargate_sessions_redis_up 1";
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// What they are started from.
pub(crate) struct Gateways {
    binary: PathBuf,
    upstream: SocketAddr,
    home: TempDir,
    keys: Vec<(&'static str, String)>,
    profiles: Option<PathBuf>,
}

/// One that serves.
pub(crate) struct Running {
    /// Its process.
    pub(crate) process: Process,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where its metrics are.
    pub(crate) admin: SocketAddr,
    /// Its data directory.
    pub(crate) data: PathBuf,
}

/// One that is about to.
struct Configured {
    config: PathBuf,
    address: SocketAddr,
    admin: SocketAddr,
    data: PathBuf,
}

impl Gateways {
    /// With keys of this run.
    ///
    /// # Errors
    /// The system gives no folder or no random bytes.
    pub(crate) fn new(binary: PathBuf, upstream: SocketAddr) -> Result<Self, Failure> {
        let keys = KEYS.into_iter().map(|name| Ok((name, hex()?))).collect::<Result<_, Failure>>()?;
        Ok(Self { binary, upstream, home: TempDir::new()?, keys, profiles: None })
    }

    /// The same, each of which is started to be counted, and leaves its profile in this folder.
    #[must_use]
    pub(crate) fn profiled(self, folder: PathBuf) -> Self {
        Self { profiles: Some(folder), ..self }
    }

    /// Starts one on a core with these lines before all tables and these tables.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn start(
        &self,
        core: usize,
        name: &str,
        first: &str,
        tables: &str,
    ) -> Result<Running, Failure> {
        self.run(core, name, self.configured(name, first, tables)?)
    }

    /// The same, with a service that has a key of it: and what that asks.
    ///
    /// # Errors
    /// It gives no key, or does not start.
    pub(crate) fn start_serving(
        &self,
        core: usize,
        name: &str,
        first: &str,
        tables: &str,
    ) -> Result<(Running, Target), Failure> {
        let configured = self.configured(name, first, tables)?;
        // Before it runs: under an instrument it is too slow for whoever orders it.
        let key = self.key(&configured)?;
        let request = format!(
            "GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: benchmarks\r\nAccept: application/json\r\n\
             Accept-Encoding: identity\r\nX-API-Key: {key}\r\n\r\n"
        );
        let target = Target { address: configured.address, request: request.into_bytes().into() };
        Ok((self.run(core, name, configured)?, target))
    }

    fn configured(&self, name: &str, first: &str, tables: &str) -> Result<Configured, Failure> {
        let (address, admin) = (free_address()?, free_address()?);
        let folder = self.folder(name)?;
        let (config, data) = (folder.join("cedargate.toml"), folder.join("data"));
        let text = format!(
            "listen = \"{address}\"\nadmin_listen = \"{admin}\"\ndata_dir = {data:?}\npolicies_dir = {:?}\n\
             hosts = [{{ public_url = \"https://{HOST}\" }}]\n{first}[upstreams.botserver]\nidentity = \"botserver\"\n\
             addresses = [\"{}\"]\n{tables}",
            repository().join("policies"),
            self.upstream
        );
        fs::write(&config, text)?;
        Ok(Configured { config, address, admin, data })
    }

    fn key(&self, configured: &Configured) -> Result<String, Failure> {
        let words = ["key", "add", "benchmarks", "--scope", "docs.*", "--role", "standard_user", "--config"];
        let output = self.under(&[]).args(words).arg(&configured.config).output()?;
        if output.status.success() {
            Ok(String::from_utf8(output.stdout)?.trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
        }
    }

    fn run(&self, core: usize, name: &str, configured: Configured) -> Result<Running, Failure> {
        let Configured { config, address, admin, data } = configured;
        let (words, patience) = match self.profile(name) {
            Some(profile) => (callgrind::words(&profile), callgrind::START_MAX),
            None => (Vec::new(), process::START_MAX),
        };
        let mut command = self.under(&words);
        command.arg("run").arg("--config").arg(&config);
        let process = Process::start_within(core, &mut command, address, patience)?;
        Ok(Running { process, address, admin, data })
    }

    /// Signs so many people in, past all pages: in the store that these tables name, which gateways share.
    ///
    /// # Errors
    /// The configuration is not taken, or the store does not answer.
    pub(crate) async fn signed_in(
        &self,
        name: &str,
        tables: &str,
        count: usize,
    ) -> Result<Vec<CreatedSession>, Failure> {
        let environment =
            self.keys.iter().fold(Environment::default(), |all, (name, key)| all.with(name, key));
        let stores = Stores::open(&self.folder(name)?, tables, &environment).await?;
        let (accounts, _keys) = shared_sessions::credentials(&stores.store, &stores.sessions);
        let password = PasswordHash::new(&Secret::new(hex()?))?;
        let mut sessions = Vec::with_capacity(count);
        for number in 0..count {
            let (login, now) = (Login::parse(&format!("person-{number}"))?, clock::now());
            let roles = ["standard_user".to_owned()].into();
            let new = NewAccount { login, password: password.clone(), roles, groups: [].into() };
            let account = accounts.create(new, now).await?;
            sessions.push(stores.sessions.create(NewSession::of(account.id, now), now).await?);
        }
        Ok(sessions)
    }

    /// Where one that is counted leaves its profile.
    pub(crate) fn profile(&self, name: &str) -> Option<PathBuf> {
        Some(self.profiles.as_ref()?.join(format!("{name}.callgrind")))
    }

    fn folder(&self, name: &str) -> Result<PathBuf, Failure> {
        let folder = self.home.path().join(name);
        fs::create_dir(&folder)?;
        Ok(folder)
    }

    /// Itself, started by these words.
    fn under(&self, words: &[String]) -> Command {
        let mut command = process::under(words, &self.binary);
        command.env_clear().envs(self.keys.iter().map(|(name, key)| (name, key)));
        if !words.is_empty() {
            command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
        }
        command
    }
}

/// What the browser of somebody asks who has signed in, with these lines more.
#[must_use]
pub(crate) fn get_with(session: &CreatedSession, path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: benchmarks\r\nAccept: application/json\r\n\
         Accept-Encoding: identity\r\nSec-Fetch-Site: same-origin\r\nCookie: __Host-cedargate={}\r\n{more}\r\n",
        *session.secret.reveal()
    )
}

impl Running {
    /// Waits until it tells this metric.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn tells(&self, wanted: &str) -> Result<(), Failure> {
        const LOOKS: usize = 200;
        for _ in 0..LOOKS {
            // Its metrics are there a moment after it listens.
            if metrics(self.admin).is_ok_and(|text| text.lines().any(|line| line == wanted)) {
                return Ok(());
            }
            pause(LOOK);
        }
        Err(format!("the gateway does not tell {wanted}").into())
    }

    /// Where its records are.
    #[must_use]
    pub(crate) fn audit(&self) -> PathBuf {
        self.data.join("audit/audit.jsonl")
    }
}
