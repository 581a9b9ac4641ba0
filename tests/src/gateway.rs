//! The demo, as a process of its own.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};

use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::audit::AuditLog;
use crate::client::{Client, Request};
use crate::disk::Disk;
use crate::ports::Port;
use crate::process::{self, Process};
use crate::secrets::Secrets;
use crate::session::Browser;
use crate::wait::{self, PATIENCE};

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
    disk: Option<(&'static str, usize)>,
}

/// A running gateway; killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    process: Process,
    // Taken off before the directory that it is mounted in.
    disk: Option<Disk>,
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

    /// With a file system of this many bytes for this folder of its data directory.
    #[must_use]
    pub fn disk(mut self, folder: &'static str, bytes: usize) -> Self {
        self.disk = Some((folder, bytes));
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
        let disk = self.disk.map(|(folder, bytes)| Disk::mount(&directory.path().join(folder), bytes));
        let mut arguments = vec![
            "demo".to_owned(),
            format!("--data-dir={}", directory.path().display()),
            format!("--listen={address}"),
            format!("--admin-listen={}", ports[1].address()),
        ];
        arguments.extend(self.upstream.iter().map(|url| format!("--upstream={url}")));
        arguments.extend(self.arguments);
        let process = Process::start(&arguments, &self.environment)?;
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
            process,
            disk,
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

    /// Waits until it is ready: it listens before its upstream has shown that it reads our identities. What it says then.
    #[must_use]
    pub fn gets_ready(&self) -> Value {
        let request = Request::new("GET", "/readyz").with("Host", &self.admin.to_string());
        wait::until("a gateway that is ready", PATIENCE, || {
            let answer = Client::connect(self.admin).ask(&request).expect("an answer");
            (answer.status == 200).then(|| answer.json())
        })
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The file system that was made for it.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("it was started with a disk")
    }

    /// Everything that it has printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        self.process.output()
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

    /// Fails when a secret stands in what somebody else got from this gateway.
    pub fn check_told(&self, whom: &str, bytes: &[u8]) {
        let findings = self.secrets.lock().unwrap_or_else(PoisonError::into_inner).found_in(bytes);
        assert!(findings.is_empty(), "secrets leaked to {whom}: {findings:#?}");
    }

    /// Sends a signal to it.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// Kills it without a word, as a crash would, and hands its data directory on.
    #[must_use]
    pub fn kill(mut self) -> TempDir {
        let told = self.told_by_admin();
        self.process.kill();
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
        process::cli(&[arguments, &["--config", &config.to_string_lossy()]].concat(), &[], input)
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
        self.process.kill();
        if std::thread::panicking() {
            eprintln!("--- the gateway said:\n{}", self.output());
        } else if self.directory.is_some() {
            self.check_for_leaks(&told);
        }
    }
}
