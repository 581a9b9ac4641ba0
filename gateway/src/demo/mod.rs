//! The demo: a gateway with keys and accounts of its own before an upstream that tells what it saw.
//!
//! Nothing of it is worth anything elsewhere: its secrets are random for each directory, its store carries a mark
//! that `run` refuses, and it stays on loopback unless it is told not to (threat 16).

pub mod announce;
pub mod caller;
mod chat;
pub mod credentials;
pub mod directory;
pub mod enrol;
pub mod settings;
pub mod standin;
pub mod upstream;

use std::io::{self, IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use storage::{Keyring, Mark, OpenError, Store};

use crate::app::{self, RunError, Start};
use crate::config::Config;
use crate::config::environment::Environment;
use crate::logging::{self, LogError};
use crate::{bundle_dir, clock};
use announce::Announcement;
use credentials::Credentials;
use directory::{Directory, DirectoryError};
use enrol::{EnrolError, Enrolled};
use settings::{Settings, SettingsError};
use standin::StandIn;
use upstream::{Target, UpstreamError};

/// What is said wherever an exposed demo is met.
const EXPOSED: &str = "This is a demo that others can reach. Its accounts are not worth trusting.";

/// The secret that signs identities for the upstream.
const IDENTITY_SECRET: &str = "identity";

/// What `cedargate demo` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Where the gateway listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where health and metrics answer
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    pub admin_listen: SocketAddr,
    /// Keys, accounts, policies and logs; made if absent
    #[arg(long, value_name = "DIRECTORY", default_value = "cedargate-demo")]
    pub data_dir: PathBuf,
    /// A BotServer to stand before, not the stand-in
    #[arg(long, value_name = "URL")]
    pub upstream: Option<String>,
    /// Let the demo listen or forward off loopback
    #[arg(long)]
    pub expose_demo: bool,
}

/// Why the demo did not start, or did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// It would be reachable by others, and nobody said that this is meant.
    #[error("`{0}` is off loopback: whoever reaches it and reads demo.json is a global administrator")]
    OffLoopback(SocketAddr),
    /// No port is free.
    #[error("no port is free")]
    Port(#[source] io::Error),
    /// Its directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// `--upstream` is not taken.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The environment or the directory's configuration is at fault.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The log cannot begin.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The stand-in cannot start.
    #[error("the stand-in upstream cannot start")]
    StandIn(#[source] io::Error),
    /// The shipped bundle cannot be written.
    #[error(transparent)]
    Bundle(#[from] bundle_dir::WriteError),
    /// The store is not this demo's, or is held.
    #[error("the demo's store cannot be opened")]
    Store(#[source] OpenError),
    /// The accounts cannot be made.
    #[error("the demo's accounts cannot be made")]
    Enrol(#[from] EnrolError),
    /// The gateway did not start or end well.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl DemoError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::OffLoopback(_) => "listen on 127.0.0.1, or add --expose-demo if that is meant",
            Self::Upstream(UpstreamError::OffLoopback) => "add --expose-demo if that is meant",
            Self::Upstream(_) => "name the upstream as http://127.0.0.1:PORT",
            Self::Store(OpenError::Held { .. }) => "end the other demo first, or name another --data-dir",
            Self::Settings(SettingsError::Faults(_)) => "mend or unset the variables named above",
            Self::Directory(_) | Self::Settings(_) | Self::Bundle(_) | Self::Store(_) | Self::Log(_) => {
                "name another directory with --data-dir"
            }
            Self::Port(_) | Self::Run(_) => "name other addresses with --listen and --admin-listen",
            Self::StandIn(_) | Self::Enrol(_) => "see whether the machine is out of memory, files or disk",
        }
    }
}

/// Runs the demo until a signal ends it.
///
/// # Errors
/// It cannot start, or the gateway could not end cleanly.
pub fn run(args: &DemoArgs) -> Result<(), DemoError> {
    let listen = settled(args.listen, args.expose_demo)?;
    let admin_listen = settled(args.admin_listen, args.expose_demo)?;
    let directory = Directory::open(&args.data_dir)?;
    directory.secret_file(IDENTITY_SECRET)?;
    // Held to the end: the stand-in ends when this goes, after the gateway has drained.
    let standin = match args.upstream {
        Some(_) => None,
        None => Some(StandIn::start(&directory.secret(IDENTITY_SECRET)?).map_err(DemoError::StandIn)?),
    };
    let target = match (&standin, &args.upstream) {
        (Some(standin), _) => Target::standin(standin.address()),
        (None, url) => Target::named(url.as_deref().unwrap_or_default(), args.expose_demo)?,
    };
    let environment = Environment::of_process();
    let Settings { config, ignored } =
        settings::settle(&directory, listen, admin_listen, &target, environment)?;
    let log = logging::begin(&config.log)?;
    for name in ignored {
        tracing::warn!("{name} is set and left alone: a demo has secrets of its own");
    }
    for notice in config.notices() {
        tracing::warn!("{notice}");
    }
    if !config.policies_dir.exists() {
        bundle_dir::write_to(&config.policies_dir)?;
    }
    let enrolled = enrolled(&directory, &config)?;
    let outcome = serve(args, &directory, config, enrolled, &target);
    drop(standin);
    drop(log);
    outcome
}

fn serve(
    args: &DemoArgs,
    directory: &Directory,
    config: Config,
    enrolled: Enrolled,
    target: &Target,
) -> Result<(), DemoError> {
    let far = |address: &SocketAddr| !address.ip().is_loopback();
    let exposed = [args.listen, args.admin_listen].iter().chain(&target.addresses).any(far);
    if exposed {
        tracing::warn!("{EXPOSED}");
    }
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let notice = exposed.then(|| EXPOSED.to_owned());
    app::run(Start { config, mark: Mark::Demo, notice }, |ready| {
        let credentials = Credentials {
            gateway: url_of(scheme, ready.gateway),
            admin: url_of("http", ready.admin),
            audit_log: ready.audit_log.to_string_lossy().into_owned(),
            accounts: enrolled.accounts,
            services: enrolled.services,
        };
        if let Err(error) = credentials.write(directory) {
            tracing::error!(%error, "demo.json could not be written, so nobody can sign in");
            return;
        }
        let addresses: Vec<String> = target.addresses.iter().map(ToString::to_string).collect();
        let kind = if target.standin { "the stand-in, which tells what it received, on " } else { "" };
        let announcement = Announcement {
            credentials: &credentials,
            directory: directory.path(),
            upstream: &format!("{kind}{}", addresses.join(", ")),
            program: &program(),
            exposed,
            to_person: io::stdout().is_terminal(),
        };
        say(&format!("{}ready {}\n", announcement.text(), credentials.gateway));
    })?;
    Ok(())
}

/// The address to use: with a port, because the hosts that are answered to are named by it, and on loopback.
fn settled(address: SocketAddr, expose: bool) -> Result<SocketAddr, DemoError> {
    if !address.ip().is_loopback() && !expose {
        return Err(DemoError::OffLoopback(address));
    }
    if address.port() != 0 {
        return Ok(address);
    }
    let free =
        TcpListener::bind(address).and_then(|listener| listener.local_addr()).map_err(DemoError::Port)?;
    Ok(SocketAddr::new(address.ip(), free.port()))
}

/// Opens the store, which the gateway opens again after this has let go of it.
fn enrolled(directory: &Directory, config: &Config) -> Result<Enrolled, DemoError> {
    let keyring = Keyring::from_master(config.keys.encryption.expose());
    let store = Store::open(&config.data_dir, &keyring, Mark::Demo).map_err(DemoError::Store)?;
    let earlier = Credentials::earlier(directory);
    let to_person = io::stdout().is_terminal();
    let mut told = false;
    let progress = |done: usize, all: usize| {
        // A line that is written over is for eyes alone.
        match (to_person, told) {
            (true, _) => say(&format!("\rmaking accounts: {} of {all} ", done + 1)),
            (false, false) => say("making accounts\n"),
            (false, true) => {}
        }
        told = true;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| DemoError::Run(RunError::Process(error)))?;
    let enrolled = runtime.block_on(enrol::enrol(&store, earlier.as_ref(), clock::now(), progress))?;
    if told && to_person {
        say("\n");
    }
    Ok(enrolled)
}

/// Where a browser on this machine finds a listener.
fn url_of(scheme: &str, address: SocketAddr) -> String {
    let host = if scheme == "https" {
        // A certificate names hosts, and no other name of this machine is answered to.
        "localhost".to_owned()
    } else if !address.ip().is_loopback() {
        Ipv4Addr::LOCALHOST.to_string()
    } else if address.is_ipv6() {
        format!("[{}]", address.ip())
    } else {
        address.ip().to_string()
    };
    settings::url(scheme, &host, address.port())
}

/// This binary, by a path that works from another terminal: `cargo run` puts it on nobody's PATH.
fn program() -> String {
    std::env::current_exe().map_or_else(|_| "cedargate".into(), |path| path.display().to_string())
}

/// A closed standard output is no reason to end.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threat_16_off_loopback_is_asked_for_by_name() {
        let refused = |address: &str, expose| {
            matches!(settled(address.parse().unwrap(), expose), Err(DemoError::OffLoopback(_)))
        };
        for address in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:0", "10.0.0.1:80"] {
            assert!(refused(address, false), "{address}");
            assert!(address.starts_with("192") || !refused(address, true), "{address}");
        }
        assert!(!refused("127.0.0.1:8080", false) && !refused("[::1]:8080", false));
        assert_ne!(settled("127.0.0.1:0".parse().unwrap(), false).unwrap().port(), 0);
    }

    #[test]
    fn urls_are_those_that_are_answered() {
        let url = |scheme, address: &str| url_of(scheme, address.parse().unwrap());
        assert_eq!(url("http", "127.0.0.1:8080"), "http://127.0.0.1:8080");
        assert_eq!(url("http", "0.0.0.0:8080"), "http://127.0.0.1:8080");
        assert_eq!(url("http", "[::1]:8080"), "http://[::1]:8080");
        assert_eq!(url("https", "127.0.0.1:443"), "https://localhost");
    }
}
