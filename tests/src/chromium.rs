//! A real browser without a window, driven over the WebDriver protocol.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Client, Request};
use crate::ports::Port;
use crate::wait::{self, PATIENCE};

/// The key under which WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// One browser with a profile of its own; ended when dropped.
#[derive(Debug)]
pub struct Chromium {
    driver: Child,
    address: SocketAddr,
    session: String,
    _port: Port,
    _profile: TempDir,
}

impl Chromium {
    /// Starts one.
    #[must_use]
    pub fn start() -> Self {
        let port = Port::take();
        let address = port.address();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={}", address.port()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is installed (tests/run installs it)");
        let profile = TempDir::new().expect("a folder for the profile");
        let mut browser = Self { driver, address, session: String::new(), _port: port, _profile: profile };
        wait::until("chromedriver", PATIENCE, || std::net::TcpStream::connect(address).ok());
        let data = format!("--user-data-dir={}", browser._profile.path().display());
        // Without the background switches it asks its vendor's hosts at every start.
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1000,800",
            data.as_str(),
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": arguments}}}});
        let session = browser.call("POST", "/session", &wanted);
        session["sessionId"].as_str().expect("a session").clone_into(&mut browser.session);
        browser
    }

    /// Opens an address and waits until its page has loaded.
    pub fn open(&self, url: &str) {
        self.command("/url", &json!({"url": url}));
    }

    /// The address that is open.
    #[must_use]
    pub fn url(&self) -> String {
        self.call("GET", &format!("/session/{}/url", self.session), &Value::Null)
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Types into the one element that this CSS selector names.
    pub fn type_into(&self, selector: &str, text: &str) {
        let element = self.find(selector);
        self.command(&format!("/element/{element}/value"), &json!({"text": text}));
    }

    /// Clicks on the one element that this CSS selector names.
    pub fn click(&self, selector: &str) {
        let element = self.find(selector);
        self.command(&format!("/element/{element}/click"), &json!({}));
    }

    /// The visible text of the page.
    #[must_use]
    pub fn text(&self) -> String {
        self.run("return document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Runs a function body in the page and waits for what it returns.
    #[must_use]
    pub fn run(&self, script: &str) -> Value {
        self.command("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Keeps a picture of the page.
    pub fn screenshot(&self, file: &Path) {
        let picture = self.call("GET", &format!("/session/{}/screenshot", self.session), &Value::Null);
        let picture = STANDARD.decode(picture.as_str().expect("a picture")).expect("base64");
        std::fs::write(file, picture).expect("a place for the picture");
    }

    fn find(&self, selector: &str) -> String {
        let found = self.command("/element", &json!({"using": "css selector", "value": selector}));
        found[ELEMENT].as_str().expect("an element").to_owned()
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        self.call("POST", &format!("/session/{}{path}", self.session), body)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let request = Request::new(method, path).with("Host", &self.address.to_string());
        let request = if body.is_null() {
            request
        } else {
            request.body("application/json", body.to_string().as_bytes())
        };
        let answer = Client::connect(self.address).ask(&request).expect("chromedriver answers");
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        answer.json()["value"].clone()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Ends the browser itself, which is the driver's child and not ours.
        let end = Request::new("DELETE", &format!("/session/{}", self.session))
            .with("Host", &self.address.to_string());
        Client::connect(self.address).ask(&end).ok();
        self.driver.kill().ok();
        self.driver.wait().ok();
    }
}
