//! The shipped bundle, loaded without a gateway.

use engine::bundle::{Bundle, BundleSources};

use crate::repository;

/// The 17 roles that BotServer seeds.
pub const ROLES: [&str; 17] = [
    "global_admin",
    "billing_admin",
    "compliance_admin",
    "security_admin",
    "user_admin",
    "groups_admin",
    "helpdesk_admin",
    "password_admin",
    "exchange_admin",
    "sharepoint_admin",
    "teams_admin",
    "knowledge_admin",
    "reports_reader",
    "power_user",
    "standard_user",
    "guest_user",
    "viewer",
];

/// The bundle of `policies/`; fails with every fault of it.
#[must_use]
pub fn shipped() -> Bundle {
    load(&sources()).unwrap_or_else(|faults| panic!("the shipped bundle has faults:\n{faults}"))
}

/// Its texts by path inside `policies/`.
#[must_use]
pub fn sources() -> BundleSources {
    let texts = repository::texts("policies", &[".cedar", ".cedarschema", ".json", ".toml"]).into_iter();
    let inside = |path: String| path.strip_prefix("policies/").map(str::to_owned).unwrap_or(path);
    let files = texts.map(|text| (inside(text.path), text.content));
    BundleSources { files: files.filter(|(path, _)| BundleSources::belongs(path)).collect() }
}

/// Loads texts as a bundle; every fault as one text.
pub fn load(sources: &BundleSources) -> Result<Bundle, String> {
    Bundle::load(sources)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}
