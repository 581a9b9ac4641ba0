//! Configuration: one TOML file and the environment, read once, checked whole.
//!
//! Everything that is wrong is reported at once, each with its place and what to do about it. What comes out
//! is a [`Config`] that nobody has to check again.

pub mod client_key;
mod connections;
pub mod environment;
pub mod fault;
mod hosts;
pub mod keys;
mod limits;
mod listeners;
mod oidc;
mod oracle;
pub mod origin;
mod otel;
pub mod providers;
mod questions;
mod reader;
mod records;
mod redis;
mod redis_url;
pub mod secret;
mod secret_file;
pub mod settings;
mod shared_limits;
pub mod telemetry;
pub mod tls_files;
mod upstreams;
mod value;
mod variables;
mod websockets;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use storage::sessions::SharedSessions;
use toml::de::DeTable;

use environment::Environment;
use fault::{Fault, Faults, Place};
use origin::Origin;
use providers::Provider;
use reader::{Reader, Section};
use settings::{
    Audit, Connections, Deployment, Host, Keys, Limits, Log, LoginLimits, Oracle, SessionEnds, SharedLimits,
    Tls, TlsVersion, Upstream, WebSockets,
};
use telemetry::Telemetry;
pub(crate) use value::duration;

/// Everything that can be configured, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it runs as.
    pub deployment: Deployment,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where health and metrics answer; loopback unless the configuration says why not.
    pub admin_listen: SocketAddr,
    /// Where the store, the audit log, the program's log and the control socket live (0700).
    pub data_dir: PathBuf,
    /// The bundle's directory.
    pub policies_dir: PathBuf,
    /// Whether a change of its files is taken up without being asked.
    pub policies_watch: bool,
    /// The hosts that are answered to; at least one.
    pub hosts: Vec<Host>,
    /// Origins besides our own whose cookie-borne writes are taken.
    pub allowed_origins: Vec<Origin>,
    /// Proxies whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The TLS listener; `None` is plain HTTP.
    pub tls: Option<Tls>,
    /// The oldest TLS version that is spoken, by the listener and towards upstreams.
    pub tls_min_version: TlsVersion,
    /// The keys.
    pub keys: Keys,
    /// When sessions end.
    pub session: SessionEnds,
    /// The Redis that gateways share sessions in; `None` keeps them in the store here.
    pub shared_sessions: Option<SharedSessions>,
    /// Whether accounts and keys of the store here are moved to where gateways share theirs.
    pub brings_credentials: bool,
    /// What password guessing meets.
    pub login: LoginLimits,
    /// The identity providers that people may sign in at, in the order of the page.
    pub oidc: Vec<Provider>,
    /// Whether people need a second factor for all that goes to an upstream.
    pub second_factor: bool,
    /// How much is taken.
    pub limits: Limits,
    /// The Redis that gateways share limits in; `None` counts here alone.
    pub shared_limits: Option<SharedLimits>,
    /// How many connections and requests are held at once, and how slow they may be.
    pub connections: Connections,
    /// The bound of a request body in bytes where the route names none.
    pub upload_bytes_max: u64,
    /// What an open WebSocket may do.
    pub websockets: WebSockets,
    /// How many decisions are asked of Cedar as well.
    pub oracle: Oracle,
    /// The upstreams by the name that route files use.
    pub upstreams: BTreeMap<Arc<str>, Upstream>,
    /// The audit log.
    pub audit: Audit,
    /// The program's own log.
    pub log: Log,
    /// What is sent to a collector; `None` sends nothing.
    pub telemetry: Option<Telemetry>,
    /// How long running requests may take to end after SIGTERM.
    pub shutdown_drain: Duration,
    notices: Vec<String>,
}

impl Config {
    /// Reads the file, where there is one, and the environment.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(file: Option<&Path>, environment: &Environment) -> Result<Self, Faults> {
        let Some(file) = file else { return Self::read(Path::new("configuration"), "", environment) };
        match read_bounded(file) {
            Ok(text) => Self::read(file, &text, environment),
            Err(message) => Err(unreadable(file, message)),
        }
    }

    /// Reads the text of a file and the environment; `file` is its name in faults, and relative paths in it start
    /// from where it lies.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn read(file: &Path, text: &str, environment: &Environment) -> Result<Self, Faults> {
        let mut reader = Reader::new(file, text, environment);
        let (document, errors) = DeTable::parse_recoverable(text);
        let broken: Vec<Place> =
            errors.iter().map(|error| reader.in_file(error.span().map(|span| reader.line(&span)))).collect();
        let config = reader.config(document.get_ref());
        let mut faults = reader.faults;
        // What was recovered from a broken line is a guess, and so would be the faults in it.
        faults.retain(|fault| !broken.contains(&fault.place));
        for (error, place) in errors.iter().zip(broken) {
            // Never the error's own `Display`: it quotes the line, which may hold a secret.
            let message = format!("this is not TOML: {}", error.message());
            faults.push(Fault { place, message, remedy: "the form is explained at https://toml.io".into() });
        }
        if faults.is_empty()
            && let Some(config) = config
        {
            return Ok(Self { notices: reader.notices, ..config });
        }
        faults.sort();
        faults.dedup();
        Err(Faults(faults))
    }

    /// The data directory that a file names, without asking for anything else: whoever only speaks to a running
    /// gateway need not hold its keys.
    ///
    /// # Errors
    /// The file cannot be read, or names the directory wrongly.
    pub fn data_dir_of(file: Option<&Path>) -> Result<PathBuf, Faults> {
        Self::directory_of(file, "data_dir", DATA_DIR)
    }

    /// The policies directory that a file names, whatever else is wrong with it.
    ///
    /// # Errors
    /// The file cannot be read, or names the directory wrongly.
    pub fn policies_dir_of(file: Option<&Path>) -> Result<PathBuf, Faults> {
        Self::directory_of(file, "policies_dir", POLICIES_DIR)
    }

    fn directory_of(file: Option<&Path>, key: &'static str, usual: &str) -> Result<PathBuf, Faults> {
        let environment = Environment::default();
        let Some(file) = file else { return Ok(PathBuf::from(usual)) };
        let text = read_bounded(file).map_err(|message| unreadable(file, message))?;
        let mut reader = Reader::new(file, &text, &environment);
        let (document, _) = DeTable::parse_recoverable(&text);
        let mut root = reader.root(document.get_ref());
        let directory = reader.directory(&mut root, key, usual);
        if reader.faults.is_empty() { Ok(directory) } else { Err(Faults(reader.faults)) }
    }

    /// What whoever starts the gateway should know: settings that do less than their name says, and overrides.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }
}

impl Reader<'_> {
    /// Every section, whether or not an earlier one was right.
    fn config(&mut self, document: &DeTable<'_>) -> Option<Config> {
        let mut root = self.root(document);
        let deployment = self.pick(&mut root, "environment", Some("BOTSERVER_ENV"));
        let words = [("production", Deployment::Production), ("development", Deployment::Development)];
        let deployment = self.choice(deployment, &words).unwrap_or(Deployment::Production);
        let (listen, admin_listen) = self.listeners(&mut root);
        let data_dir = self.directory(&mut root, "data_dir", DATA_DIR);
        let policies_dir = self.directory(&mut root, "policies_dir", POLICIES_DIR);
        let policies_watch = self.switch(&mut root, "policies_watch");
        let (tls, tls_min_version) = self.tls(&mut root);
        let hosts = self.hosts(&mut root, deployment, listen, tls.is_some());
        let allowed_origins = self.allowed_origins(&mut root);
        let trusted_proxies = self.trusted_proxies(&mut root);
        let keys = self.keys(&mut root);
        let (session, shared_sessions, brings_credentials) = self.session(&mut root);
        let login = self.login(&mut root);
        let faults = self.faults.len();
        let oidc = self.oidc(&mut root, deployment);
        let are_whole = self.faults.len() == faults;
        self.renewed_alone(&oidc, shared_sessions.is_some());
        let (limits, shared_limits) = self.limits(&mut root);
        let connections = self.connections(&mut root);
        let upload_bytes_max = self.upload_bytes_max(&mut root);
        let websockets = self.websockets(&mut root);
        let oracle = self.oracle(&mut root);
        let upstreams = self.upstreams(&mut root, &[listen, admin_listen]);
        let audit = self.audit(&mut root);
        let log = self.log(&mut root, deployment, &data_dir);
        let telemetry = self.telemetry(audit.export);
        let shutdown_drain = self.shutdown_drain(&mut root);
        self.finish(&root);
        let second_factor = self.second_factor_required(&oidc, are_whole);
        self.variables();
        Some(Config {
            deployment,
            listen,
            admin_listen,
            data_dir,
            policies_dir,
            policies_watch,
            hosts,
            allowed_origins,
            trusted_proxies,
            tls,
            tls_min_version,
            keys: keys?,
            session,
            shared_sessions,
            brings_credentials,
            login,
            oidc,
            second_factor,
            limits,
            shared_limits,
            connections,
            upload_bytes_max,
            websockets,
            oracle,
            upstreams,
            audit,
            log,
            telemetry,
            shutdown_drain,
            notices: Vec::new(),
        })
    }

    fn switch(&mut self, section: &mut Section<'_>, key: &'static str) -> bool {
        let written = self.pick(section, key, None);
        self.boolean(written).unwrap_or(false)
    }

    fn directory(&mut self, section: &mut Section<'_>, key: &'static str, usual: &str) -> PathBuf {
        let written = self.pick(section, key, None);
        self.path(written).unwrap_or_else(|| self.beside_file(usual))
    }
}

/// Where data lies unless the configuration says otherwise.
const DATA_DIR: &str = "data";
/// Where the bundle lies unless the configuration says otherwise.
const POLICIES_DIR: &str = "policies";

fn unreadable(file: &Path, message: String) -> Faults {
    let remedy = "name the configuration with --config, and let the gateway's user read it".into();
    Faults(vec![Fault { place: Place::File { path: file.to_owned(), line: None }, message, remedy }])
}

/// The text of a configuration file of at most 1 MiB: a bound, because the name may be anything's.
fn read_bounded(path: &Path) -> Result<String, String> {
    use std::io::Read;
    const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| format!("it cannot be opened: {error}"))?;
    file.take(CONFIG_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("it cannot be read: {error}"))?;
    if text.len() as u64 > CONFIG_BYTES_MAX {
        return Err(format!("it is larger than {CONFIG_BYTES_MAX} bytes"));
    }
    Ok(text)
}
