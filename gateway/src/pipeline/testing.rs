//! What the stages' tests begin with.

use engine::path::Leniencies;
use engine::route::{Accept, Route, Target};
use http::Method;

/// A plain route to an upstream, for whoever has a session.
pub(crate) fn route() -> Route {
    Route {
        name: "GET /api/docs".to_owned(),
        method: Method::GET,
        pattern: "/api/docs".to_owned(),
        parameters: Vec::new(),
        module: "docs".into(),
        target: Target::Upstream("botserver".into()),
        action: "docs.read".into(),
        accept: Accept { anonymous: false, session: true, api_key: true },
        class: "standard".into(),
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
        query: Vec::new(),
        cookies_up: Vec::new(),
        cookies_down: Vec::new(),
        headers_allowed: Vec::new(),
        destinations: Vec::new(),
        read_only: true,
    }
}
