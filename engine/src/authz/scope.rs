//! What an API key or an access token is restricted to. Comes before policy: a scope never grants anything.

use std::sync::Arc;

use super::AuthzRequest;
use crate::identity::{Identity, Scheme};
use crate::refusal::{Deciding, Denial};

/// Recorded as deciding when a credential's scopes do not cover the action.
pub const SCOPE: &str = "cedargate.scope";

/// The denial, where the scopes of an API key or an access token do not cover the action. Without scopes it covers nothing.
pub(super) fn denial(request: &AuthzRequest<'_>) -> Option<Denial> {
    let Identity::Known(principal) = request.identity else { return None };
    let restricted = match principal.scheme {
        Scheme::ApiKey | Scheme::AccessToken => true,
        Scheme::Session | Scheme::ControlSocket => false,
    };
    if !restricted || principal.scopes.iter().any(|scope| covers(scope, request.action)) {
        return None;
    }
    let reason = Arc::from("The credential's scopes do not cover this action");
    Some(Denial { forbidding: vec![Deciding { id: Arc::from(SCOPE), reason }] })
}

/// `*` covers everything, `docs.*` every action that begins with `docs.`, other text itself.
fn covers(scope: &str, action: &str) -> bool {
    match scope.strip_suffix('*') {
        Some("") => true,
        // `do*` is no scope: only whole parts can be left open.
        Some(prefix) => prefix.ends_with('.') && action.starts_with(prefix),
        None => scope == action,
    }
}
