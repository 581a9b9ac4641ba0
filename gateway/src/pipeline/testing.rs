//! What the stages' tests begin with.

use engine::audit::RouteNames;
use engine::identity::{Identity, Principal, PrincipalKind, Scheme};
use engine::path::Leniencies;
use engine::route::{Accept, Hint, Route, Target};
use engine::time::UnixMillis;
use http::Method;
use uuid::Uuid;

/// A plain route to an upstream, for whoever has a session.
pub(crate) fn route() -> Route {
    Route {
        name: "GET /api/docs".into(),
        method: Method::GET,
        pattern: "/api/docs".to_owned(),
        parameters: [].into(),
        module: "docs".into(),
        recorded: RouteNames::new("GET /api/docs".into(), "docs.read".into(), "Module::\"docs\"".into())
            .into(),
        hint: Hint::default(),
        target: Target::Upstream("botserver".into()),
        action: "docs.read".into(),
        accept: Accept { anonymous: false, session: true, api_key: true, access_token: false },
        step_up: None,
        class: "standard".into(),
        cost: 1,
        conceal: false,
        audited: false,
        websocket: false,
        body_bytes_max: None,
        deadline_s: None,
        leniencies: Leniencies::default(),
        legacy_bearer_drop: false,
        sandbox: false,
        service_worker: false,
        client_sets: Vec::new(),
        sets: Vec::new(),
        named: Vec::new(),
        names: Vec::new(),
        query: [].into(),
        cookies_up: Vec::new(),
        cookies_down: Vec::new(),
        headers_allowed: Vec::new(),
        destinations: Vec::new(),
        read_only: true,
    }
}

/// A person with a session.
pub(crate) fn known(principal: u128, session: u128) -> Identity {
    Identity::Known(std::sync::Arc::new(Principal {
        kind: PrincipalKind::User,
        id: Uuid::from_u128(principal),
        name: "ada".to_owned(),
        roles: Default::default(),
        groups: Default::default(),
        scopes: Default::default(),
        scheme: Scheme::Session,
        assurance: 1,
        authenticated_at: UnixMillis(0),
        credential_id: Some(Uuid::from_u128(session)),
        expires_at: None,
        suspended: false,
    }))
}
