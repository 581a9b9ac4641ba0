//! Where the gateway's pages lead back to: its very file, and the addresses that it names.

#[path = "../../../gateway/src/pages/return_to.rs"]
pub mod return_to;

pub const SIGN_IN_PATH: &str = "/.cedargate/login";
pub const OIDC_START_PATH: &str = "/.cedargate/oidc/start";
pub const OIDC_CALLBACK_PATH: &str = "/.cedargate/oidc/callback";
pub const WHO_AM_I_PATH: &str = "/.cedargate/whoami";
