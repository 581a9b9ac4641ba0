//! Stage 6, spend: the quota of whoever was permitted.

use std::sync::Arc;

use engine::authz::Permit;
use engine::route::RouteMatch;
use storage::sessions::SessionView;

/// Witness that a request passed every stage. Nothing is forwarded without one, and only `spend` makes one.
#[derive(Clone, Debug)]
pub struct Passage {
    permit: Permit,
    matched: Arc<RouteMatch>,
    session: Option<SessionView>,
}

impl Passage {
    /// What policy permitted, and to whom.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// The route and its parameters.
    #[must_use]
    pub fn matched(&self) -> &RouteMatch {
        &self.matched
    }

    /// The session that the identity came with.
    #[must_use]
    pub fn session(&self) -> Option<&SessionView> {
        self.session.as_ref()
    }
}
