//! `demo.json`: how to get into the demo, for people and for programs.

use serde::{Deserialize, Serialize};

use super::directory::{Directory, DirectoryError};

/// The file's name in the demo's directory.
pub const FILE: &str = "demo.json";

/// The accounts of the demo, the telling ones first: one for each role, named like it.
pub const ACCOUNTS: [(&str, &str); 17] = [
    ("global_admin", "everything but what a kill switch closes"),
    ("standard_user", "what staff may"),
    ("guest_user", "from outside: a calendar and little else"),
    ("viewer", "reads documents, changes none"),
    ("power_user", "staff, with sources, automation and sharing"),
    ("security_admin", "looks at accounts, roles and monitoring"),
    ("helpdesk_admin", "accounts, and customers' questions"),
    ("reports_reader", "looks at figures"),
    ("billing_admin", ""),
    ("compliance_admin", ""),
    ("user_admin", ""),
    ("groups_admin", ""),
    ("password_admin", ""),
    ("exchange_admin", ""),
    ("sharepoint_admin", ""),
    ("teams_admin", ""),
    ("knowledge_admin", ""),
];

/// The service of the demo.
pub const SERVICE: &str = "integration";

/// The role of the service.
pub const SERVICE_ROLE: &str = "standard_user";

/// What the file holds. Every secret in it opens this demo and nothing else.
#[derive(Serialize, Deserialize)]
pub struct Credentials {
    /// Where people and programs go.
    pub gateway: String,
    /// Where health and metrics answer.
    pub admin: String,
    /// The file that gets a line for every request.
    pub audit_log: String,
    /// One for each role.
    pub accounts: Vec<Account>,
    /// Programs with an API key.
    pub services: Vec<Service>,
}

/// A person.
#[derive(Clone, Serialize, Deserialize)]
pub struct Account {
    /// What goes into the form's field `login`.
    pub login: String,
    /// What goes into the form's field `password`.
    pub password: String,
    /// The one role that the account was made for.
    pub roles: Vec<String>,
}

/// A program.
#[derive(Clone, Serialize, Deserialize)]
pub struct Service {
    /// Its name in records.
    pub name: String,
    /// What goes into the header `X-API-Key`.
    pub api_key: String,
}

impl Credentials {
    /// What an earlier start wrote, if it is whole; passwords and keys are nowhere else in clear.
    #[must_use]
    pub fn earlier(directory: &Directory) -> Option<Self> {
        let text = directory.read_private(&directory.join(FILE)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Writes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, directory: &Directory) -> Result<(), DirectoryError> {
        // Strings alone cannot fail to serialise.
        let text = zeroize::Zeroizing::new(serde_json::to_string_pretty(self).unwrap_or_default());
        directory.write_private(FILE, &text).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_file_has_exactly_the_promised_form() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::open(parent.path()).unwrap();
        assert!(Credentials::earlier(&directory).is_none());
        let written = Credentials {
            gateway: "http://127.0.0.1:8080".into(),
            admin: "http://127.0.0.1:8081".into(),
            audit_log: "/d/audit".into(),
            accounts: vec![Account { login: "l".into(), password: "p".into(), roles: vec!["r".into()] }],
            services: vec![Service { name: "n".into(), api_key: "k".into() }],
        };
        written.write(&directory).unwrap();
        let text = std::fs::read_to_string(directory.join(FILE)).unwrap();
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            serde_json::json!({
                "gateway": "http://127.0.0.1:8080", "admin": "http://127.0.0.1:8081", "audit_log": "/d/audit",
                "accounts": [{"login": "l", "password": "p", "roles": ["r"]}],
                "services": [{"name": "n", "api_key": "k"}],
            })
        );
        assert_eq!(Credentials::earlier(&directory).unwrap().accounts.len(), 1);
    }

    #[test]
    fn every_account_is_another() {
        let logins: BTreeSet<_> = ACCOUNTS.iter().map(|(login, _)| login).collect();
        assert_eq!(logins.len(), ACCOUNTS.len());
    }
}
