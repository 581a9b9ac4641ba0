//! How the gateway configures a provider: its very files.

#[path = "../../../gateway/src/config/client_key.rs"]
mod client_key;
#[path = "../../../gateway/src/config/providers.rs"]
pub mod providers;
#[path = "../../../gateway/src/config/secret.rs"]
mod secret;
