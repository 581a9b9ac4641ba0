//! Variables that are set and would do nothing: a silent security setting is a hole.

use super::fault::Place;
use super::reader::{Reader, nearest, printable};

/// Every variable that is read, for telling a misspelt one.
const KNOWN: [&str; 22] = [
    "BOTSERVER_ALLOWED_ORIGINS",
    "BOTSERVER_ENABLE_AUDIT",
    "BOTSERVER_ENCRYPTION_KEY",
    "BOTSERVER_ENV",
    "BOTSERVER_JWT_SECRET",
    "BOTSERVER_LOCKOUT_DURATION",
    "BOTSERVER_MAX_LOGIN_ATTEMPTS",
    "BOTSERVER_MAX_UPLOAD_SIZE",
    "BOTSERVER_PREVIOUS_ENCRYPTION_KEYS",
    "BOTSERVER_RATE_LIMIT_PER_IP",
    "BOTSERVER_RATE_LIMIT_PER_USER",
    "BOTSERVER_REQUIRE_MFA",
    "BOTSERVER_SESSION_TIMEOUT",
    "BOTSERVER_TLS_CERT",
    "BOTSERVER_TLS_KEY",
    "BOTSERVER_TLS_MIN_VERSION",
    "DATABASE_ENCRYPTION_KEY",
    "ZITADEL_CLIENT_ID",
    "ZITADEL_CLIENT_SECRET",
    "ZITADEL_DOMAIN",
    "ZITADEL_GROUPS",
    "ZITADEL_ROLES",
];

impl Reader<'_> {
    /// Stops the start for features that do not exist yet, and warns of names that nobody reads.
    pub(super) fn variables(&mut self) {
        let required = self.variable("BOTSERVER_REQUIRE_MFA");
        if self.boolean(required) == Some(true) {
            self.fault(
                Place::Variable("BOTSERVER_REQUIRE_MFA".into()),
                "a second factor cannot be required yet, and a start without it would only look safe",
                "set it to false or unset it, and require the second factor in front of the gateway",
            );
        }
        let names: Vec<&str> = self.variable_names().collect();
        for name in names {
            let ours = name.starts_with("BOTSERVER_") || name.starts_with("ZITADEL_");
            if ours && !KNOWN.contains(&name) {
                let near = nearest(name, KNOWN.into_iter()).map(|near| format!("; did you mean {near}?"));
                let near = near.unwrap_or_default();
                self.notices.push(format!("{} is set, and nothing here reads it{near}", printable(name)));
            }
        }
    }
}
