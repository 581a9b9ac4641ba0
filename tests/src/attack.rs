//! Attacks as data: what goes over the wire, and what must come of it.

use serde::Deserialize;

use crate::repository;

/// A file of `tests/attacks`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttackFile {
    /// The cases, tried in order.
    pub case: Vec<Case>,
}

/// One attack. Either `send` spells every byte, or `target` (with `method`, `headers` and `body`) is
/// put into an otherwise well-formed request.
///
/// In every text `{host}` stands for the gateway's address, `{key}` for the service's API key and
/// `{cookie}` for the session of `cookie_of`, `{port}` for the gateway's port, `{long_path}`,
/// `{many_headers}` and `{large_value}` each past what is accepted; a character up to U+00FF stands for the one byte of that
/// value, so that TOML can spell bytes that are no UTF-8.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What is tried, with the public record that it comes from.
    pub name: String,
    /// Every byte.
    pub send: Option<String>,
    /// The method; `GET` where absent.
    pub method: Option<String>,
    /// The target.
    pub target: Option<String>,
    /// Header lines besides `Host`, each `Name: value`.
    #[serde(default)]
    pub headers: Vec<String>,
    /// `{host}` where absent.
    pub host: Option<String>,
    /// A body, sent with its length.
    pub body: Option<String>,
    /// The role whose session cookie goes with it.
    pub cookie_of: Option<String>,
    /// The role whose session cookie goes with it, without the headers by which a browser proves its page.
    pub bare_cookie_of: Option<String>,
    /// Whether the service's API key goes with it.
    #[serde(default)]
    pub with_key: bool,
    /// How many records it leaves, where that is not one.
    pub records: Option<usize>,
    /// What must come of it.
    pub expect: Expectation,
}

/// What must come of an attack.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// The statuses of the answers, in order; 0 for a connection that is closed without one.
    pub status: Vec<u16>,
    /// The refusal's code in the record.
    pub code: Option<String>,
    /// Whether the connection serves another request afterwards (`kept`) or is closed (`closed`).
    pub connection: Option<Connection>,
    /// The target that the upstream saw; nothing where absent.
    pub upstream: Option<String>,
    /// The target of a request of which the upstream may see the beginning, never the whole: its body turns
    /// out to be broken while it is streamed.
    pub upstream_begins: Option<String>,
    /// Header names that must not reach the upstream, in lower case.
    #[serde(default)]
    pub upstream_lacks: Vec<String>,
    /// Header names that must reach the upstream, in lower case.
    #[serde(default)]
    pub upstream_has: Vec<String>,
    /// What must not stand in any header value at the upstream.
    #[serde(default)]
    pub upstream_values_lack: Vec<String>,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Connection {
    /// It serves another request.
    Kept,
    /// It is closed.
    Closed,
}

impl Case {
    /// The bytes to send.
    #[must_use]
    pub fn bytes(&self, filling: &Filling<'_>) -> Vec<u8> {
        let fill = |text: &str| filling.fill(text);
        if let Some(send) = &self.send {
            return latin(&fill(send));
        }
        let target =
            self.target.as_deref().unwrap_or_else(|| panic!("{}: neither send nor target", self.name));
        let method = self.method.as_deref().unwrap_or("GET");
        let mut text =
            format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.host.as_deref().unwrap_or("{host}"));
        if self.cookie_of.is_some() {
            text.push_str("Cookie: {cookie}\r\nSec-Fetch-Site: same-origin\r\n");
        }
        if self.bare_cookie_of.is_some() {
            text.push_str("Cookie: {cookie}\r\n");
        }
        if self.with_key {
            text.push_str("X-API-Key: {key}\r\n");
        }
        for header in &self.headers {
            text.push_str(header);
            text.push_str("\r\n");
        }
        if let Some(body) = &self.body {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        text.push_str(self.body.as_deref().unwrap_or_default());
        latin(&fill(&text))
    }
}

/// What stands for the names in braces.
#[derive(Clone, Copy, Debug)]
pub struct Filling<'a> {
    /// Address and port of the gateway.
    pub host: &'a str,
    /// The service's API key.
    pub key: &'a str,
    /// A `Cookie` header's value.
    pub cookie: &'a str,
}

impl Filling<'_> {
    fn fill(&self, text: &str) -> String {
        let port = self.host.rsplit(':').next().unwrap_or_default();
        let many: String = (0..110).map(|number| format!("X-{number}: y\r\n")).collect();
        let many = many.trim_end();
        text.replace("{host}", self.host)
            .replace("{port}", port)
            .replace("{key}", self.key)
            .replace("{cookie}", self.cookie)
            .replace("{long_path}", &"a".repeat(8 * 1024))
            .replace("{many_headers}", many)
            .replace("{many_segments}", &"/a".repeat(65))
            .replace("{value_15k}", &"v".repeat(15 * 1024))
            .replace("{value_17k}", &"v".repeat(17 * 1024))
    }
}

/// The attacks of `tests/attacks/<name>.toml`.
#[must_use]
pub fn file(name: &str) -> Vec<Case> {
    let path = format!("tests/attacks/{name}.toml");
    let text = repository::text(&path).unwrap_or_else(|| panic!("no {path}"));
    let file: AttackFile = toml::from_str(&text.content).unwrap_or_else(|error| panic!("{path}: {error}"));
    file.case
}

fn latin(text: &str) -> Vec<u8> {
    let byte = |character| u8::try_from(u32::from(character)).expect("characters up to U+00FF");
    text.chars().map(byte).collect()
}
