//! What the demo says of itself when it is ready.

use std::fmt::Write as _;
use std::path::Path;

use super::credentials::{ACCOUNTS, Credentials, FILE, SERVICE};

/// How many accounts are shown; the others are in the file.
const SHOWN: usize = 8;

/// What there is to tell.
pub struct Announcement<'a> {
    /// What `demo.json` says.
    pub credentials: &'a Credentials,
    /// The demo's directory.
    pub directory: &'a Path,
    /// What it stands before.
    pub upstream: &'a str,
    /// How a second terminal calls this program.
    pub program: &'a str,
    /// Whether it can be reached from elsewhere, or reaches elsewhere.
    pub exposed: bool,
    /// Whether a person reads this. A redirected output ends up in files that others may read, so
    /// passwords and keys are not written there.
    pub to_person: bool,
}

impl Announcement<'_> {
    /// The text, all but the line that begins with `ready `.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        if self.exposed {
            text.push_str(EXPOSED);
        }
        let Credentials { gateway, admin, audit_log, .. } = self.credentials;
        let (directory, upstream) = (self.directory.display(), self.upstream);
        write!(
            text,
            "\nCedargate demo\n\
             \x20 sign in    {gateway}/.cedargate/login\n\
             \x20 health     {admin}/readyz, metrics on {admin}/metrics\n\
             \x20 upstream   {upstream}\n\
             \x20 audit log  {audit_log}\n\
             \x20 policies   {directory}/policies, taken up when a file is saved\n\n"
        )
        .ok();
        self.people(&mut text);
        self.things_to_try(&mut text);
        text
    }

    fn people(&self, text: &mut String) {
        let file = self.directory.join(FILE);
        writeln!(text, "Accounts, one for each role and named like it; all are in {}:", file.display()).ok();
        for (login, note) in ACCOUNTS.iter().take(SHOWN) {
            let account = self.credentials.accounts.iter().find(|account| account.login == *login);
            let password = match account {
                Some(account) if self.to_person => account.password.as_str(),
                Some(_) | None => "(in the file)",
            };
            writeln!(text, "  {login:16} {password:24} {note}").ok();
        }
        writeln!(text, "Service `{SERVICE}`, permitted what standard_user is; its API key is there, too.\n")
            .ok();
    }

    fn things_to_try(&self, text: &mut String) {
        let Credentials { gateway, audit_log, .. } = self.credentials;
        let (directory, program) = (self.directory.display(), self.program);
        let service = self.credentials.services.first().filter(|_| self.to_person);
        let key = service.map_or("KEY", |service| &service.api_key);
        write!(
            text,
            "Try, in a second terminal:\n\
             \x20 curl -i {gateway}/api/tickets\n\
             \x20     401: nobody is signed in\n\
             \x20 curl -i -H \"X-API-Key: {key}\" {gateway}/api/tickets\n\
             \x20     200: the upstream tells what it received, which is neither your key nor your word\n\
             \x20 sign in as viewer and open {gateway}/api/docs/list\n\
             \x20     200: permitted; {gateway}/api/tickets is refused\n\
             \x20 tail -n 1 {audit_log}\n\
             \x20     which policy decided, and why\n\n\
             Change a policy: save this as {directory}/policies/grants/viewer_tickets.cedar\n\
             and open the tickets again:\n\
             \x20 @id(\"tickets.viewer\") @reason(\"Viewers read tickets in this demo.\") @owner(\"you\")\n\
             \x20 permit (principal in Role::\"viewer\", action == Action::\"tickets.read\", resource);\n\n\
             End that session from here, and be signed out there:\n\
             \x20 {program} session list --data-dir {directory}\n\
             \x20 {program} session end --data-dir {directory} ID\n\n\
             Ctrl-C ends the demo. What it made stays in {directory} for the next start.\n\n"
        )
        .ok();
    }
}

const EXPOSED: &str = "\n\
    !! THIS DEMO IS EXPOSED: it listens, or has its upstream, off loopback (--expose-demo).       !!\n\
    !! Its accounts include a global administrator whose password lies in a file. Never leave it  !!\n\
    !! running before anything that matters. Use `cedargate run` for that.                        !!\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::credentials::{Account, Service};

    fn text(to_person: bool, exposed: bool) -> String {
        let credentials = Credentials {
            gateway: "http://127.0.0.1:8080".into(),
            admin: "http://127.0.0.1:9090".into(),
            audit_log: "/d/audit/today.jsonl".into(),
            accounts: vec![Account {
                login: "viewer".into(),
                password: "word-of-the-viewer".into(),
                roles: vec!["viewer".into()],
            }],
            services: vec![Service { name: SERVICE.into(), api_key: "key-of-the-service".into() }],
        };
        let directory = Path::new("/d");
        Announcement { credentials: &credentials, directory, upstream: "u", program: "p", exposed, to_person }
            .text()
    }

    #[test]
    fn secrets_are_shown_to_people_and_never_to_files() {
        for secret in ["word-of-the-viewer", "key-of-the-service"] {
            assert!(text(true, false).contains(secret));
            assert!(!text(false, false).contains(secret));
        }
        assert!(text(false, false).contains("/d/demo.json"));
    }

    #[test]
    fn threat_16_an_exposed_demo_shouts() {
        assert!(text(true, true).contains("THIS DEMO IS EXPOSED"));
        assert!(!text(true, false).contains("EXPOSED"));
    }
}
