//! The demo's configuration: a file like any other, read like any other, with the demo's own secrets.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::directory::{Directory, DirectoryError};
use super::upstream::Target;
use crate::config::Config;
use crate::config::environment::Environment;
use crate::config::fault::Faults;

/// The file's name in the demo's directory.
pub const FILE: &str = "cedargate.toml";

/// Where the demo keeps its bundle.
pub const POLICIES: &str = "policies";

/// How the file begins, by which a later start knows that it may be written over.
const HEAD: &str = "# Written by `cedargate demo` at every start, so changes here are lost.\n";

/// Secrets that are never taken from the environment: a demo must not open what production sealed (threat 16).
const OWN_SECRETS: [&str; 3] =
    ["BOTSERVER_ENCRYPTION_KEY", "BOTSERVER_PREVIOUS_ENCRYPTION_KEYS", "DATABASE_ENCRYPTION_KEY"];

/// The variable that a real BotServer's secret comes in.
const JWT_SECRET: &str = "BOTSERVER_JWT_SECRET";

/// Why the demo cannot be configured.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The directory has a configuration of somebody's.
    #[error("`{0}` was not written by the demo; name another directory with --data-dir")]
    NotOurs(std::path::PathBuf),
    /// The environment says something that cannot be.
    #[error("{0}")]
    Faults(Faults),
}

/// A checked configuration of the demo.
#[derive(Debug)]
pub struct Settings {
    /// The configuration.
    pub config: Config,
    /// Variables of the environment that were left out.
    pub ignored: Vec<&'static str>,
}

/// Writes the file and reads it with the environment, less what the demo keeps to itself.
///
/// # Errors
/// The file cannot be written or is somebody else's, or the environment is at fault.
pub fn settle(
    directory: &Directory,
    listen: SocketAddr,
    admin_listen: SocketAddr,
    target: &Target,
    environment: Environment,
) -> Result<Settings, SettingsError> {
    let path = directory.join(FILE);
    if std::fs::read_to_string(&path).is_ok_and(|text| !text.starts_with(HEAD)) {
        return Err(SettingsError::NotOurs(path));
    }
    let mut ignored = OWN_SECRETS.to_vec();
    if target.standin {
        ignored.push(JWT_SECRET);
    }
    ignored.retain(|name| environment.text(name).is_some());
    let environment = ignored.iter().fold(environment, |rest, name| rest.without(name));
    let scheme = if environment.text("BOTSERVER_TLS_CERT").is_some() { "https" } else { "http" };
    let text = file(directory, listen, admin_listen, target, scheme)?;
    directory.write_private(FILE, &text)?;
    let config = Config::read(&path, &text, &environment).map_err(SettingsError::Faults)?;
    Ok(Settings { config, ignored })
}

fn file(
    directory: &Directory,
    listen: SocketAddr,
    admin_listen: SocketAddr,
    target: &Target,
    scheme: &str,
) -> Result<String, DirectoryError> {
    let hosts: Vec<String> = host_names(listen.ip())
        .iter()
        .map(|host| format!("  {{ public_url = {} }},\n", quoted(&url(scheme, host, listen.port()))))
        .collect();
    let addresses: Vec<String> =
        target.addresses.iter().map(|address| quoted(&address.to_string())).collect();
    let mut text = format!(
        "{HEAD}environment = \"development\"\n\
         listen = {}\nadmin_listen = {}\ndata_dir = {}\npolicies_dir = {}\n\
         # A saved policy file is taken up at once.\npolicies_watch = true\n\
         hosts = [\n{}]\n",
        quoted(&listen.to_string()),
        quoted(&admin_listen.to_string()),
        quoted(&directory.path().to_string_lossy()),
        quoted(&directory.join(POLICIES).to_string_lossy()),
        hosts.concat(),
    );
    if !admin_listen.ip().is_loopback() {
        text.push_str("admin_off_loopback = \"the demo was started with --expose-demo\"\n");
    }
    text.push_str("\n[log]\nlevel = \"info\"\n\n[keys]\n");
    for (key, secret) in [("encryption", "encryption"), ("database", "database"), ("jwt_secret", "identity")]
    {
        let reference = format!("file:{}", directory.secret_file(secret)?.display());
        writeln!(text, "{key} = {}", quoted(&reference)).ok();
    }
    write!(
        text,
        "\n[upstreams.botserver]\naddresses = [{}]\nidentity = \"botserver\"\nhealth_path = \"/health\"\n",
        addresses.join(", ")
    )
    .ok();
    if let Some(name) = &target.tls_name {
        writeln!(text, "tls = {{ name = {} }}", quoted(name)).ok();
    }
    if let Some(reason) = target.insecure {
        writeln!(text, "insecure = {}", quoted(reason)).ok();
    }
    Ok(text)
}

/// The names that the demo answers to. Off loopback there is none more: plain HTTP has no business there, and a
/// container's mapped port is opened as localhost.
fn host_names(listen: IpAddr) -> Vec<String> {
    let mut names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let own = match listen {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    if listen.is_loopback() && !names.contains(&own) {
        names.push(own);
    }
    names
}

/// An origin as browsers spell it: without the scheme's own port.
#[must_use]
pub fn url(scheme: &str, host: &str, port: u16) -> String {
    match (scheme, port) {
        ("http", 80) | ("https", 443) => format!("{scheme}://{host}"),
        _ => format!("{scheme}://{host}:{port}"),
    }
}

/// A TOML string. JSON's escapes are TOML's as well.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
    const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8081);

    fn standin() -> Target {
        Target {
            addresses: vec!["127.0.0.1:9".parse().unwrap()],
            tls_name: None,
            insecure: None,
            standin: true,
        }
    }

    fn settled(target: &Target, environment: Environment) -> (tempfile::TempDir, Settings) {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::open(parent.path()).unwrap();
        let settings = settle(&directory, LISTEN, ADMIN, target, environment).unwrap();
        (parent, settings)
    }

    const FOREIGN: &str = "c95e20ab7f3164d8e2b70a19cd48f56b83f1e60c27a9d4be5130fc8a97e2d64b";

    #[test]
    fn threat_16_the_environments_secrets_are_left_alone() {
        let environment = || {
            Environment::default()
                .with("BOTSERVER_ENCRYPTION_KEY", FOREIGN)
                .with("DATABASE_ENCRYPTION_KEY", "not even a key")
                .with(JWT_SECRET, FOREIGN)
                .with("BOTSERVER_RATE_LIMIT_PER_IP", "7")
        };
        let (_kept, settings) = settled(&standin(), environment());
        assert_eq!(settings.ignored, ["BOTSERVER_ENCRYPTION_KEY", "DATABASE_ENCRYPTION_KEY", JWT_SECRET]);
        assert_ne!(settings.config.keys.jwt_secret.expose(), FOREIGN);
        assert_ne!(settings.config.keys.encryption.expose()[0], 0xc9);
        assert_eq!(settings.config.limits.per_address.count, 7);

        // A BotServer verifies with its own secret, so that one alone may come from outside, and only then.
        let (_kept, settings) = settled(&Target { standin: false, ..standin() }, environment());
        assert_eq!(settings.config.keys.jwt_secret.expose(), FOREIGN);
        assert_ne!(settings.config.keys.encryption.expose()[0], 0xc9);
    }

    #[test]
    fn it_answers_to_loopback_names_alone() {
        let names = |listen: &str| host_names(listen.parse().unwrap());
        assert_eq!(names("127.0.0.1"), ["127.0.0.1", "localhost"]);
        assert_eq!(names("0.0.0.0"), ["127.0.0.1", "localhost"]);
        assert_eq!(names("192.0.2.1"), ["127.0.0.1", "localhost"]);
        assert_eq!(names("::1"), ["127.0.0.1", "localhost", "[::1]"]);
        assert_eq!(url("http", "localhost", 80), "http://localhost");
        assert_eq!(url("https", "localhost", 80), "https://localhost:80");
        let (_kept, settings) = settled(&standin(), Environment::default());
        let hosts: Vec<_> = settings.config.hosts.iter().map(|host| host.name.as_str()).collect();
        assert_eq!(hosts, ["127.0.0.1:8080", "localhost:8080"]);
    }

    #[test]
    fn somebody_elses_configuration_is_not_written_over() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::open(parent.path()).unwrap();
        settle(&directory, LISTEN, ADMIN, &standin(), Environment::default()).unwrap();
        settle(&directory, LISTEN, ADMIN, &standin(), Environment::default()).unwrap();
        std::fs::write(directory.join(FILE), "listen = \"0.0.0.0:80\"\n").unwrap();
        let refused = settle(&directory, LISTEN, ADMIN, &standin(), Environment::default());
        assert!(matches!(refused, Err(SettingsError::NotOurs(_))), "{refused:?}");
    }
}
