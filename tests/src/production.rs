//! `cedargate run`, as an operator starts it: a configuration file, keys in the environment, accounts of its own.

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::audit::AuditLog;
use crate::ports::Port;
use crate::process::{self, Process};
use crate::secrets::Secrets;

/// Hex digits of a key.
const KEY_DIGITS: usize = 64;

/// The host that a production gateway answers to.
pub const HOST: &str = "gateway.example";

/// What is needed to start a production gateway, in a folder of its own.
#[derive(Debug)]
pub struct Production {
    folder: TempDir,
    ports: [Port; 2],
    /// What must stand in no file that it writes, besides its keys.
    pub secrets: Vec<String>,
    /// The environment: the three keys, then what else a test sets.
    pub environment: Vec<(&'static str, String)>,
    /// Where people reach it.
    pub public_url: String,
    /// Lines of its configuration before the first table.
    pub lines: String,
    /// The lines of `[upstreams.botserver]`.
    pub upstream: String,
}

impl Default for Production {
    fn default() -> Self {
        let names = ["BOTSERVER_ENCRYPTION_KEY", "DATABASE_ENCRYPTION_KEY", "BOTSERVER_JWT_SECRET"];
        let mut environment: Vec<_> = names.into_iter().map(|name| (name, random_hex())).collect();
        // No test that waits for something runs into the limit of its address.
        environment.push(("BOTSERVER_RATE_LIMIT_PER_IP", "1000000".to_owned()));
        Self {
            folder: TempDir::new().expect("a folder"),
            ports: [Port::take(), Port::take()],
            secrets: Vec::new(),
            environment,
            public_url: format!("https://{HOST}"),
            lines: String::new(),
            upstream: "addresses = [\"127.0.0.1:9\"]".to_owned(),
        }
    }
}

impl Production {
    /// One that goes by its own limit of an address, and not by that which no test runs into.
    #[must_use]
    pub fn limiting_addresses(mut self) -> Self {
        self.environment.retain(|(name, _)| *name != "BOTSERVER_RATE_LIMIT_PER_IP");
        self
    }

    /// One before this upstream.
    #[must_use]
    pub fn before(upstream: SocketAddr) -> Self {
        Self::default().with_upstream(format!("addresses = [\"{upstream}\"]"))
    }

    /// With these lines before the first table of its configuration.
    #[must_use]
    pub fn with_lines(mut self, lines: String) -> Self {
        self.lines = lines;
        self
    }

    /// With these lines about its upstream.
    #[must_use]
    pub fn with_upstream(mut self, lines: String) -> Self {
        self.upstream = lines;
        self
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.ports[0].address()
    }

    /// Where health and metrics answer.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.ports[1].address()
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its audit log.
    #[must_use]
    pub fn audit(&self) -> AuditLog {
        AuditLog::beside(&self.folder().join("data/audit/audit.jsonl"))
    }

    /// Starts it and waits until it is ready.
    #[must_use]
    pub fn start(&self) -> Process {
        let arguments = ["run".to_owned(), format!("--config={}", self.configuration().display())];
        let environment: Vec<_> =
            self.environment.iter().map(|(name, key)| ((*name).to_owned(), key.clone())).collect();
        Process::start(&arguments, &environment)
            .unwrap_or_else(|said| panic!("it did not get ready:\n{said}"))
    }

    /// Runs a verb with its configuration and keys; whether it was content, and what it said.
    #[must_use]
    pub fn cli(&self, arguments: &[&str], input: &str) -> (bool, String) {
        let file = self.configuration();
        let keys: Vec<(&str, &str)> =
            self.environment.iter().map(|(name, key)| (*name, key.as_str())).collect();
        let (status, said) =
            process::cli(&[arguments, &["--config", &file.to_string_lossy()]].concat(), &keys, input);
        for (name, key) in &keys {
            assert!(key.len() != KEY_DIGITS || !said.contains(key), "{name} is printed: {said}");
        }
        (status.success(), said)
    }

    /// Writes the configuration as it is now.
    fn configuration(&self) -> PathBuf {
        let file = self.folder().join("cedargate.toml");
        let own = self.folder().join("policies");
        let policies = if own.is_dir() { own } else { crate::repository::root().join("policies") };
        let text = format!(
            "listen = \"{}\"\nadmin_listen = \"{}\"\npolicies_dir = {policies:?}\nhosts = [{{ public_url = \"{}\" }}]\n{}\n[upstreams.botserver]\nidentity = \"botserver\"\n{}\n",
            self.ports[0].address(),
            self.ports[1].address(),
            self.public_url,
            self.lines,
            self.upstream,
        );
        fs::write(&file, text).expect("a configuration");
        file
    }
}

impl Drop for Production {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut secrets = Secrets::default();
        for (name, value) in self.environment.iter().filter(|(_, value)| value.len() == KEY_DIGITS) {
            secrets.add(name, value);
        }
        for value in &self.secrets {
            secrets.add("a secret of the test", value);
        }
        let findings = secrets.found_under(self.folder(), &[]);
        assert!(findings.is_empty(), "secrets leaked: {findings:#?}");
    }
}

/// 256 random bits from the kernel.
#[must_use]
pub fn random_hex() -> String {
    let mut bytes = [0; 32];
    fs::File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes)).expect("randomness");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
