//! What a gateway under test starts from: a data directory with accounts, somebody signed in, and a bundle.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::Failure;
use crate::load::Target;
use crate::process::{Process, free_address, under};

/// What is asked for: a read of the kind that most requests are.
pub(crate) const PATH: &str = "/api/docs/list";
/// The role of who asks, by which every bundle here permits the read.
const ROLE: &str = "standard_user";
/// Policies in one generated file, far below what a bundle takes of one.
const POLICIES_PER_FILE: usize = 1_000;
/// Where people sign in.
const LOGIN: &str = "/.cedargate/login";

/// Which policies decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bundle {
    /// One grant, and one guardrail: no bundle is taken without.
    Line,
    /// The shipped BotServer bundle.
    Shipped,
    /// This many policies: three quarters grants by role, an eighth with a condition, an eighth guardrails.
    Generated(usize),
}

/// A data directory that was made once, with a session in it.
pub(crate) struct World {
    binary: PathBuf,
    upstream: SocketAddr,
    home: TempDir,
    cookie: String,
}

/// A gateway that serves, and what to ask of it.
pub(crate) struct Gateway {
    /// Its process.
    pub process: Process,
    /// What to ask.
    pub target: Target,
    /// Where its metrics are.
    pub admin: SocketAddr,
    /// Its data directory.
    pub directory: PathBuf,
}

/// How a gateway is started.
struct How<'a> {
    instrument: &'a [String],
    patience: Duration,
    collector: Option<SocketAddr>,
}

impl Default for How<'_> {
    fn default() -> Self {
        Self { instrument: &[], patience: Duration::from_secs(120), collector: None }
    }
}

impl World {
    /// Makes accounts and signs one of them in by the form, as a person does.
    ///
    /// # Errors
    /// The gateway does not start, or does not let anybody in.
    pub(crate) fn make(binary: PathBuf, upstream: SocketAddr, core: usize) -> Result<Self, Failure> {
        let mut world = Self { binary, upstream, home: TempDir::new()?, cookie: String::new() };
        let directory = world.home.path().join("first");
        let (mut command, address, _) = world.command(&directory, &[])?;
        let process = Process::start(core, &mut command, address)?;
        // It listens a moment before it has told how to get in.
        process.wait_for(&directory.join("demo.json"))?;
        world.cookie = sign_in(address, &directory)?;
        process.stop()?;
        Ok(world)
    }

    /// Starts a gateway in a copy of the directory, with this bundle.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn start(&self, core: usize, name: &str, bundle: Bundle) -> Result<Gateway, Failure> {
        self.started(core, name, bundle, How::default())
    }

    /// The same, sending its telemetry to a collector.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn start_sending(
        &self,
        core: usize,
        name: &str,
        bundle: Bundle,
        collector: SocketAddr,
    ) -> Result<Gateway, Failure> {
        self.started(core, name, bundle, How { collector: Some(collector), ..How::default() })
    }

    /// The same under an instrument, whose command comes first.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn start_under(
        &self,
        core: usize,
        name: &str,
        bundle: Bundle,
        instrument: &[String],
        patience: Duration,
    ) -> Result<Gateway, Failure> {
        self.started(core, name, bundle, How { instrument, patience, collector: None })
    }

    fn started(&self, core: usize, name: &str, bundle: Bundle, how: How<'_>) -> Result<Gateway, Failure> {
        let directory = self.home.path().join(name);
        copy(&self.home.path().join("first"), &directory)?;
        write_bundle(&directory.join("policies"), bundle)?;
        let (mut command, address, admin) = self.command(&directory, how.instrument)?;
        if let Some(collector) = how.collector {
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}"));
        }
        let process = Process::start_within(core, &mut command, address, how.patience)?;
        let request = format!(
            "GET {PATH} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: benchmarks\r\nAccept: application/json\r\n\
             Accept-Encoding: identity\r\nSec-Fetch-Site: same-origin\r\nCookie: {}\r\n\r\n",
            self.cookie
        );
        let target = Target { address, request: request.into_bytes().into() };
        Ok(Gateway { process, target, admin, directory })
    }

    /// The session of who asks.
    #[must_use]
    pub(crate) fn cookie(&self) -> &str {
        &self.cookie
    }

    /// Keys of as many services that may chat, for a running gateway.
    ///
    /// # Errors
    /// It gives none.
    pub(crate) fn keys(&self, gateway: &Gateway, count: usize) -> Result<Vec<String>, Failure> {
        let key = |number: usize| {
            let name = format!("service-{number}");
            let mut command = Command::new(&self.binary);
            command.args(["key", "add", &name, "--scope", "chat.*", "--role", ROLE, "--data-dir"]);
            let output = command.arg(&gateway.directory).output()?;
            if output.status.success() {
                Ok(String::from_utf8(output.stdout)?.trim().to_owned())
            } else {
                Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
            }
        };
        (0..count).map(key).collect()
    }

    fn command(
        &self,
        directory: &Path,
        instrument: &[String],
    ) -> Result<(Command, SocketAddr, SocketAddr), Failure> {
        let (address, admin) = (free_address()?, free_address()?);
        let mut command = under(instrument, &self.binary);
        // The limits are counted like any other, they only never bind.
        command
            .args(["demo", &format!("--upstream=http://{}", self.upstream)])
            .arg(format!("--data-dir={}", directory.display()))
            .args([format!("--listen={address}"), format!("--admin-listen={admin}")])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .envs(["BOTSERVER_RATE_LIMIT_PER_IP", "BOTSERVER_RATE_LIMIT_PER_USER"].map(|it| (it, "1000000")));
        Ok((command, address, admin))
    }
}

/// A request that a proxy without an identity is asked: the same but for the session.
#[must_use]
pub(crate) fn plain_request(address: SocketAddr) -> Arc<[u8]> {
    format!(
        "GET {PATH} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: benchmarks\r\nAccept: application/json\r\n\
         Accept-Encoding: identity\r\nSec-Fetch-Site: same-origin\r\nCookie: {}\r\n\r\n",
        // As many bytes as a session has.
        "s".repeat(64)
    )
    .into_bytes()
    .into()
}

/// Asks for a page and gives the whole answer.
///
/// # Errors
/// Nobody answers.
pub(crate) fn fetch(address: SocketAddr, request: &str) -> Result<String, Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// What a gateway has counted under this name, over all labels.
///
/// # Errors
/// It tells nothing of that name.
pub(crate) fn metric(admin: SocketAddr, name: &str) -> Result<u64, Failure> {
    let text = metrics(admin)?;
    let mut values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = rest.strip_prefix(' ').or_else(|| Some(rest.strip_prefix('{')?.split_once("} ")?.1))?;
        value.trim().parse::<u64>().ok()
    });
    let first = values.next().ok_or_else(|| format!("the gateway tells no {name}"))?;
    Ok(first + values.sum::<u64>())
}

/// All that a gateway has counted.
///
/// # Errors
/// It does not tell.
pub(crate) fn metrics(admin: SocketAddr) -> Result<String, Failure> {
    fetch(admin, &format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n"))
}

/// The session's cookie, by the login page's own form.
fn sign_in(address: SocketAddr, directory: &Path) -> Result<String, Failure> {
    let (login, password) = account(directory)?;
    let common = format!(
        "Host: {address}\r\nSec-Fetch-Site: same-origin\r\nAccept: text/html\r\nConnection: close\r\n"
    );
    let page = fetch(address, &format!("GET {LOGIN} HTTP/1.1\r\n{common}\r\n"))?;
    let hidden = page.split("name=\"token\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    let form = format!("login={login}&password={password}&token={}", hidden.unwrap_or_default());
    let cookies = cookies(&page).join("; ");
    let answer = fetch(
        address,
        &format!(
            "POST {LOGIN} HTTP/1.1\r\n{common}Origin: http://{address}\r\nCookie: {cookies}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        ),
    )?;
    let session = cookies_named(&answer, "session");
    session
        .ok_or_else(|| format!("nobody is signed in: {}", answer.lines().next().unwrap_or_default()).into())
}

/// Login and password of the account that has the role.
fn account(directory: &Path) -> Result<(String, String), Failure> {
    let told: serde_json::Value = serde_json::from_str(&fs::read_to_string(directory.join("demo.json"))?)?;
    let accounts = told.get("accounts").and_then(serde_json::Value::as_array);
    let text = |account: &serde_json::Value, key| {
        account.get(key).and_then(serde_json::Value::as_str).map(str::to_owned)
    };
    accounts
        .and_then(|accounts| accounts.iter().find(|it| text(it, "login").as_deref() == Some(ROLE)))
        .and_then(|account| Some((text(account, "login")?, text(account, "password")?)))
        .ok_or_else(|| "the demo names no account of the role".into())
}

fn cookies(answer: &str) -> Vec<String> {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines
        .filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"))
        .filter_map(|(_, value)| value.split(';').next().map(str::to_owned))
        .collect()
}

fn cookies_named(answer: &str, part: &str) -> Option<String> {
    cookies(answer).into_iter().find(|cookie| {
        cookie.split_once('=').is_some_and(|(name, value)| name.contains(part) && !value.is_empty())
    })
}

/// Copies a directory's files; sockets and locks of the process that has ended are left out.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Changes the shipped policies in `folder` to this bundle. Routes and schema stay as they are.
fn write_bundle(folder: &Path, bundle: Bundle) -> Result<(), Failure> {
    let count = match bundle {
        Bundle::Shipped => return Ok(()),
        Bundle::Line => 2,
        Bundle::Generated(count) => count,
    };
    for part in ["grants", "guardrails", "tests"] {
        let part = folder.join(part);
        if part.is_dir() {
            fs::remove_dir_all(&part)?;
        }
    }
    let guardrails = (count / 8).max(1);
    let roles = (count / 10).max(1);
    let (mut grants, mut forbids) = (String::new(), String::new());
    for number in 0..guardrails.saturating_sub(1) {
        policy(&mut forbids, "forbid", number, roles, "")?;
    }
    write!(
        forbids,
        "@id(\"suspended\")\n@reason(\"Suspended.\")\n@owner(\"benchmarks\")\n\
         forbid (principal is User, action, resource) unless {{ principal has suspended && !principal.suspended }};\n"
    )?;
    for number in 0..count - guardrails - 1 {
        let condition =
            if number % 7 == 0 { " when { context.tls || context.method == \"GET\" }" } else { "" };
        policy(&mut grants, "permit", guardrails + number, roles, condition)?;
    }
    write!(
        grants,
        "@id(\"read\")\n@reason(\"Staff read.\")\n@owner(\"benchmarks\")\n\
         permit (principal in Role::\"{ROLE}\", action == Action::\"docs.read\", resource);\n"
    )?;
    fs::create_dir_all(folder.join("grants"))?;
    fs::create_dir_all(folder.join("guardrails"))?;
    for (part, text) in [("grants", grants), ("guardrails", forbids)] {
        let policies: Vec<&str> = text.split_inclusive(";\n").collect();
        for (number, file) in policies.chunks(POLICIES_PER_FILE).enumerate() {
            fs::write(folder.join(part).join(format!("{number}.cedar")), file.concat())?;
        }
    }
    add_roles(&folder.join("entities/roles.json"), if bundle == Bundle::Line { 0 } else { roles })
}

/// One policy that does not concern who asks here, scoped by role, action and module as most real ones are.
fn policy(
    text: &mut String,
    effect: &str,
    number: usize,
    roles: usize,
    condition: &str,
) -> Result<(), Failure> {
    const MODULES: [&str; 6] = ["docs", "sheet", "slides", "tasks", "calendar", "analytics"];
    const ACTIONS: [&str; 4] = ["docs.read", "docs.write", "docs.share", "docs.comment"];
    let of = |names: &[&'static str], by: usize| names.get(by % names.len()).copied().unwrap_or_default();
    let (module, action) = (of(&MODULES, number), of(&ACTIONS, number / 3));
    Ok(write!(
        text,
        "@id(\"generated.{number}\")\n@reason(\"Generated.\")\n@owner(\"benchmarks\")\n{effect} (principal in \
         Role::\"generated_{}\", action == Action::\"{action}\", resource == Module::\"{module}\"){condition};\n",
        number % roles
    )?)
}

fn add_roles(file: &Path, count: usize) -> Result<(), Failure> {
    let mut roles: Vec<serde_json::Value> = serde_json::from_str(&fs::read_to_string(file)?)?;
    roles.extend((0..count).map(|number| {
        serde_json::json!({
            "uid": { "type": "Role", "id": format!("generated_{number}") },
            "attrs": { "botserver": "user" },
            "parents": [],
        })
    }));
    Ok(fs::write(file, serde_json::to_string(&roles)?)?)
}
