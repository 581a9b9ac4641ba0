//! Variables that are set and would do nothing: a silent security setting is a hole.

use super::fault::Place;
use super::providers::Provider;
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
    /// Whether a second factor is required. Where nobody could prove one, it would lock everybody out; where a provider's entry
    /// has a fault, that is told, and not what follows from it.
    pub(super) fn second_factor_required(&mut self, providers: &[Provider], are_whole: bool) -> bool {
        let required = self.variable("BOTSERVER_REQUIRE_MFA");
        let required = self.boolean(required) == Some(true);
        if required && are_whole && !providers.iter().any(Provider::proves_two_factors) {
            self.fault(
                Place::Variable("BOTSERVER_REQUIRE_MFA".into()),
                "nobody could prove a second factor: no provider is configured whose word says so",
                "configure one (`[[oidc.providers]]` with `mfa_acr` or `mfa_amr`, see docs/oidc.md), or unset it",
            );
        }
        required
    }

    /// Warns of names that nobody reads.
    pub(super) fn variables(&mut self) {
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
