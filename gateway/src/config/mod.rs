//! Configuration: one TOML file and the environment, read once, checked whole.
//!
//! Everything that is wrong is reported at once, each with its place and what to do about it. What comes out
//! is a [`Config`] that nobody has to check again.

pub mod origin;
pub mod secret;
pub mod settings;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use origin::Origin;
use settings::{Audit, Deployment, Host, Keys, Limits, Log, LoginLimits, SessionEnds, Tls, Upstream};

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
    /// The keys.
    pub keys: Keys,
    /// When sessions end.
    pub session: SessionEnds,
    /// What password guessing meets.
    pub login: LoginLimits,
    /// How much is taken.
    pub limits: Limits,
    /// The bound of a request body in bytes where the route names none.
    pub upload_bytes_max: u64,
    /// The upstreams by the name that route files use.
    pub upstreams: BTreeMap<Arc<str>, Upstream>,
    /// The audit log.
    pub audit: Audit,
    /// The program's own log.
    pub log: Log,
    /// How long running requests may take to end after SIGTERM.
    pub shutdown_drain: Duration,
    notices: Vec<String>,
}

impl Config {
    /// What whoever starts the gateway should know: settings that do less than their name says, and overrides.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }
}
