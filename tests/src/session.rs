//! Signs in as a person does: with the login page's own form.

use std::net::SocketAddr;

use crate::client::{Client, Request, Response};

/// Where the login form stands.
pub const LOGIN: &str = "/.cedargate/login";
/// Where a session is ended.
pub const LOGOUT: &str = "/.cedargate/logout";
/// Who the gateway takes us for.
pub const WHOAMI: &str = "/.cedargate/whoami";

/// A browser's cookies of one person, and the connection details that every request of theirs needs.
#[derive(Clone, Debug)]
pub struct Browser {
    address: SocketAddr,
    cookies: Vec<(String, String)>,
}

impl Browser {
    /// A browser that has never been here.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, cookies: Vec::new() }
    }

    /// A request as this browser's own pages send it.
    #[must_use]
    pub fn request(&self, method: &str, target: &str) -> Request {
        let request = Request::new(method, target)
            .with("Host", &self.address.to_string())
            .with("Sec-Fetch-Site", "same-origin")
            .with("Accept", "application/json");
        if self.cookies.is_empty() { request } else { request.with("Cookie", &self.cookie_header()) }
    }

    /// Sends a request on a connection of its own and keeps the cookies of the answer.
    pub fn ask(&mut self, request: &Request) -> Response {
        let answer = Client::connect(self.address).ask(request);
        let answer = answer.unwrap_or_else(|lost| panic!("no answer to {request:?}: {lost:?}"));
        for cookie in answer.all("set-cookie") {
            let (pair, attributes) = cookie.split_once(';').unwrap_or((cookie, ""));
            let (name, value) = pair.split_once('=').expect("a cookie has a value");
            self.cookies.retain(|(known, _)| known != name);
            if !value.is_empty() && !attributes.to_ascii_lowercase().contains("max-age=0") {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        answer
    }

    /// Asks for a page of this origin.
    pub fn get(&mut self, target: &str) -> Response {
        let request = self.request("GET", target);
        self.ask(&request)
    }

    /// Fills the login form in and sends it.
    pub fn sign_in(&mut self, login: &str, password: &str) -> Response {
        let page = self.navigate(LOGIN);
        let form = form(&[("login", login), ("password", password)], &page.text());
        let request = self
            .request("POST", LOGIN)
            .with("Origin", &format!("http://{}", self.address))
            .body("application/x-www-form-urlencoded", form.as_bytes());
        self.ask(&request)
    }

    /// Asks for a page as a navigation does.
    pub fn navigate(&mut self, target: &str) -> Response {
        self.navigate_from("none", target)
    }

    /// The same from where the browser is now: `same-origin`, `cross-site` or `none`.
    pub fn navigate_from(&mut self, site: &str, target: &str) -> Response {
        let mut request = Request::new("GET", target)
            .with("Host", &self.address.to_string())
            .with("Sec-Fetch-Site", site)
            .with("Sec-Fetch-Mode", "navigate")
            .with("Sec-Fetch-Dest", "document")
            .with("Accept", "text/html");
        if !self.cookies.is_empty() {
            request = request.with("Cookie", &self.cookie_header());
        }
        self.ask(&request)
    }

    /// The `Cookie` header.
    #[must_use]
    pub fn cookie_header(&self) -> String {
        self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    /// The cookies by name.
    #[must_use]
    pub fn cookies(&self) -> &[(String, String)] {
        &self.cookies
    }

    /// Forgets one cookie whose name ends so.
    pub fn forget(&mut self, ending: &str) {
        self.cookies.retain(|(name, _)| !name.ends_with(ending));
    }

    /// Puts a cookie there, as an attacker or an older visit might.
    pub fn plant(&mut self, name: &str, value: &str) {
        self.cookies.retain(|(known, _)| known != name);
        self.cookies.push((name.to_owned(), value.to_owned()));
    }
}

/// A form's body: the given fields and every hidden field of the page, escaped.
#[must_use]
pub fn form(fields: &[(&str, &str)], page: &str) -> String {
    let hidden = hidden_fields(page);
    let hidden = hidden.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let pairs = fields.iter().copied().chain(hidden);
    pairs.map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect::<Vec<_>>().join("&")
}

/// The hidden fields of a page's forms, by name.
#[must_use]
pub fn hidden_fields(page: &str) -> Vec<(String, String)> {
    let inputs = page.split("<input").skip(1).filter_map(|rest| rest.split('>').next());
    inputs
        .filter(|input| attribute(input, "type") == Some("hidden"))
        .filter_map(|input| {
            Some((attribute(input, "name")?.to_owned(), attribute(input, "value")?.to_owned()))
        })
        .collect()
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    tag.split(&format!("{name}=\"")).nth(1)?.split('"').next()
}

fn escape(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
