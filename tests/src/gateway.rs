//! Runs the real binary.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tempfile::TempDir;

use crate::audit::AuditLog;
use crate::client::{Client, Request};
use crate::ports::Port;
use crate::secrets::Secrets;
use crate::session::Browser;
use crate::wait;

/// How long a gateway may take until it is ready: a debug build on a machine that compiles beside it.
const START: Duration = Duration::from_secs(90);
/// How long it may take to end after SIGTERM, its own drain included.
const STOP: Duration = Duration::from_secs(60);

/// What `demo` writes for those who want to try it.
#[derive(Clone, Debug, Deserialize)]
pub struct DemoFile {
    /// URL of the gateway.
    pub gateway: String,
    /// URL of the admin listener.
    pub admin: String,
    /// The audit log that is written to.
    pub audit_log: PathBuf,
    /// People who can sign in.
    pub accounts: Vec<Account>,
    /// Programs with their keys.
    pub services: Vec<Service>,
}

/// A person who can sign in.
#[derive(Clone, Debug, Deserialize)]
pub struct Account {
    /// The login.
    pub login: String,
    /// The password.
    pub password: String,
    /// The one role that the account was made for.
    pub roles: Vec<String>,
}

/// A program with its key.
#[derive(Clone, Debug, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its API key.
    pub api_key: String,
}

/// How a demo is to be started.
#[derive(Debug, Default)]
pub struct Setup {
    upstream: Option<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    directory: Option<TempDir>,
    listen: Option<SocketAddr>,
}

/// A running gateway; killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    output: Arc<Mutex<Vec<u8>>>,
    directory: Option<TempDir>,
    demo: DemoFile,
    secrets: Mutex<Secrets>,
    address: SocketAddr,
    admin: SocketAddr,
    _ports: [Port; 2],
}

impl Setup {
    /// A demo with limits that a test suite does not reach.
    ///
    /// Tests of the limits say their own with [`Setup::environment`].
    #[must_use]
    pub fn demo() -> Self {
        Self::default()
            .environment("BOTSERVER_RATE_LIMIT_PER_IP", "1000000")
            .environment("BOTSERVER_RATE_LIMIT_PER_USER", "1000000")
    }

    /// Before this upstream instead of the built-in one.
    #[must_use]
    pub fn upstream(mut self, url: &str) -> Self {
        self.upstream = Some(url.to_owned());
        self
    }

    /// With this variable, which replaces an earlier one of its name.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With one argument more.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// On this address instead of a free one of the harness's choice.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// In a data directory that an earlier gateway has left.
    #[must_use]
    pub fn directory(mut self, directory: TempDir) -> Self {
        self.directory = Some(directory);
        self
    }

    /// Starts it and waits for its line that begins with `ready `.
    #[must_use]
    pub fn start(self) -> Gateway {
        self.try_start().unwrap_or_else(|output| panic!("the gateway did not get ready:\n{output}"))
    }

    /// Starts it; what it said when it ended or got nowhere instead of becoming ready.
    pub fn try_start(self) -> Result<Gateway, String> {
        let directory = self.directory.unwrap_or_else(|| TempDir::new().expect("a data directory"));
        let ports = [Port::take(), Port::take()];
        let address = self.listen.unwrap_or_else(|| ports[0].address());
        let mut command = command(&self.environment);
        command.arg("demo").arg("--data-dir").arg(directory.path());
        command.arg("--listen").arg(address.to_string());
        command.arg("--admin-listen").arg(ports[1].address().to_string());
        if let Some(upstream) = &self.upstream {
            command.arg("--upstream").arg(upstream);
        }
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let output = Arc::new(Mutex::new(Vec::new()));
        let ready = listen(&mut child, &output);
        if ready.recv_timeout(START).is_err() {
            child.kill().ok();
            child.wait().expect("the child's end");
            return Err(text(&output));
        }
        let demo = std::fs::read(directory.path().join("demo.json")).expect("demo.json");
        let demo: DemoFile = serde_json::from_slice(&demo).expect("demo.json as documented");
        let mut secrets = Secrets::default();
        for account in &demo.accounts {
            secrets.add(&format!("password of {}", account.login), &account.password);
        }
        for service in &demo.services {
            secrets.add(&format!("key of {}", service.name), &service.api_key);
        }
        for file in std::fs::read_dir(directory.path().join("secrets")).expect("the demo's own secrets") {
            let file = file.expect("an entry").path();
            let value = std::fs::read_to_string(&file).expect("a secret as text");
            secrets.add(&file.display().to_string(), value.trim());
        }
        let admin = ports[1].address();
        let secrets = Mutex::new(secrets);
        Ok(Gateway {
            child,
            output,
            directory: Some(directory),
            demo,
            secrets,
            address,
            admin,
            _ports: ports,
        })
    }
}

impl Gateway {
    /// Where it listens for requests.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for health and metrics.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// What `demo.json` says.
    #[must_use]
    pub fn demo(&self) -> &DemoFile {
        &self.demo
    }

    /// Its data directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.as_ref().expect("the directory is there until the gateway is consumed").path()
    }

    /// Its audit log.
    #[must_use]
    pub fn audit(&self) -> AuditLog {
        AuditLog::beside(&self.demo.audit_log)
    }

    /// Everything that it has printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        text(&self.output)
    }

    /// The account that was made for this role.
    #[must_use]
    pub fn account(&self, role: &str) -> &Account {
        let of_role = |account: &&Account| account.roles.iter().any(|held| held == role);
        self.demo
            .accounts
            .iter()
            .find(of_role)
            .unwrap_or_else(|| panic!("the demo has an account for {role}"))
    }

    /// The key of its service.
    #[must_use]
    pub fn api_key(&self) -> &str {
        &self.demo.services.first().expect("the demo has a service").api_key
    }

    /// A browser signed in as the account of this role; its session counts among the secrets.
    #[must_use]
    pub fn signed_in(&self, role: &str) -> Browser {
        let account = self.account(role);
        let mut browser = Browser::new(self.address);
        let answer = browser.sign_in(&account.login, &account.password);
        assert!(
            answer.status == 303 || answer.status == 200,
            "{role} cannot sign in: {} {}",
            answer.status,
            answer.text()
        );
        self.remember(&browser);
        browser
    }

    /// Counts a browser's cookies among the secrets that must not leak.
    pub fn remember(&self, browser: &Browser) {
        for (name, value) in browser.cookies() {
            if value.len() >= 20 {
                self.keep_secret(&format!("cookie {name}"), value);
            }
        }
    }

    /// Counts a value among the secrets that must not leak.
    pub fn keep_secret(&self, name: &str, value: &str) {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner).add(name, value);
    }

    /// The most memory that it has held at once so far, in bytes, as the kernel counts it.
    #[must_use]
    pub fn memory_peak_bytes(&self) -> usize {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its status");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("its peak");
        let kibibytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<usize>().ok());
        kibibytes.expect("a number") * 1024
    }

    /// Asks it to end as an init system does.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends a signal to it.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the gateway is ours to signal");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        wait::until("the gateway's end", STOP, || self.child.try_wait().expect("our child"))
    }

    /// Kills it without a word, as a crash would, and hands its data directory on.
    #[must_use]
    pub fn kill(mut self) -> TempDir {
        let told = self.told_by_admin();
        self.child.kill().expect("the gateway is ours to kill");
        self.child.wait().expect("the gateway's end");
        self.check_for_leaks(&told);
        self.directory.take().expect("the directory is there until now")
    }

    /// Runs another `cedargate` with this one's configuration; its exit status and output.
    #[must_use]
    pub fn cli(&self, arguments: &[&str]) -> (ExitStatus, String) {
        self.cli_told(arguments, "")
    }

    /// The same, told this on its standard input.
    #[must_use]
    pub fn cli_told(&self, arguments: &[&str], input: &str) -> (ExitStatus, String) {
        let config = self.directory().join("cedargate.toml");
        cli(&[arguments, &["--config", &config.to_string_lossy()]].concat(), &[], input)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// What it tells of its health and its metrics; nothing when it has ended.
    fn told_by_admin(&self) -> String {
        let tell = |target: &str| {
            TcpStream::connect(self.admin).ok()?;
            let request = Request::new("GET", target).with("Host", &self.admin.to_string());
            Some(Client::connect(self.admin).ask(&request).ok()?.text())
        };
        ["/metrics", "/readyz"].into_iter().filter_map(tell).collect()
    }

    /// Fails when a secret stands in what this gateway printed, told or wrote, the file of the demo's own
    /// secrets aside.
    fn check_for_leaks(&self, told: &str) {
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut findings = secrets.found_in(self.output().as_bytes());
        findings.extend(
            secrets.found_in(told.as_bytes()).into_iter().map(|name| format!("admin listener: {name}")),
        );
        if let Some(directory) = &self.directory {
            let meant_to_hold = [directory.path().join("demo.json"), directory.path().join("secrets")];
            findings.extend(secrets.found_under(directory.path(), &meant_to_hold));
        }
        assert!(findings.is_empty(), "secrets leaked: {findings:#?}");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let ended = self.directory.is_none() || std::thread::panicking();
        let told = if ended { String::new() } else { self.told_by_admin() };
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- the gateway said:\n{}", self.output());
        } else if self.directory.is_some() {
            self.check_for_leaks(&told);
        }
    }
}

/// Runs `cedargate` to its end, with this environment and this on its standard input; its exit status, and its
/// output with the errors after it.
#[must_use]
pub fn cli(arguments: &[&str], environment: &[(&str, &str)], input: &str) -> (ExitStatus, String) {
    let mut command = command(&[]);
    command.args(arguments).envs(environment.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    // One that does not read its input closes it, which is no fault.
    child.stdin.take().expect("stdin is piped").write_all(input.as_bytes()).ok();
    let output = child.wait_with_output().expect("its end");
    let text = [output.stdout, output.stderr].concat();
    (output.status, String::from_utf8_lossy(&text).into_owned())
}

/// The binary with nothing of our environment that it could take for its own configuration.
fn command(environment: &[(String, String)]) -> Command {
    let mut command = Command::new(binary());
    let ours = |name: &str| {
        ["BOTSERVER_", "CEDARGATE_", "ZITADEL_", "DATABASE_", "RUST_LOG"].iter().any(|p| name.starts_with(p))
    };
    for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.current_dir(crate::repository::root());
    command
}

/// The built binary: the one that `tests/run` names, or one that cargo builds now, so that a plain
/// `cargo test` never tries yesterday's.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(named) = std::env::var_os("CEDARGATE_BINARY") {
            return PathBuf::from(named);
        }
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--workspace", "--bin", "cedargate", "--features", "security_tests"])
            .current_dir(crate::repository::root())
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the gateway does not build");
        let test = std::env::current_exe().expect("this test's own path");
        test.ancestors().nth(2).expect("target/<profile>/deps/<test>").join("cedargate")
    })
}

/// Collects what the child prints, and tells once when a line begins with `ready `.
fn listen(child: &mut Child, output: &Arc<Mutex<Vec<u8>>>) -> Receiver<()> {
    let (tell, ready) = sync_channel(1);
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");
    let collected = Arc::clone(output);
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stdout);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            collected.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&line);
            if line.starts_with(b"ready ") {
                tell.try_send(()).ok();
            }
            line.clear();
        }
    });
    let collected = Arc::clone(output);
    std::thread::spawn(move || {
        let mut stderr = stderr;
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = stderr.read(&mut chunk) {
            collected.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..count]);
        }
    });
    ready
}

fn text(output: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&output.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}
