//! What the gateway reads of tokens and flows: its very files.

#[path = "../../../gateway/src/oidc/access_token.rs"]
pub mod access_token;
#[path = "../../../gateway/src/oidc/claims.rs"]
mod claims;
#[path = "../../../gateway/src/oidc/flow.rs"]
pub mod flow;
#[path = "../../../gateway/src/oidc/id_token.rs"]
pub mod id_token;
#[path = "../../../gateway/src/oidc/jose.rs"]
pub mod jose;
#[path = "../../../gateway/src/oidc/keys.rs"]
pub mod keys;
#[path = "../../../gateway/src/oidc/logout_token.rs"]
pub mod logout_token;
#[path = "../../../gateway/src/oidc/times.rs"]
pub mod times;
