//! How records name a route.

use std::sync::Arc;

use serde::Serialize;

use super::line;

/// A route's names, and the JSON that a record's line has of them. They are the same at every request: written once, when
/// the route is read, they are copied from then on, and nobody looks for what has to be escaped in them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteNames {
    name: Arc<str>,
    action: Arc<str>,
    resource: Arc<str>,
    #[serde(skip)]
    json: Box<str>,
}

impl RouteNames {
    /// The names of one route.
    #[must_use]
    pub fn new(name: Arc<str>, action: Arc<str>, resource: Arc<str>) -> Self {
        let mut json = String::new();
        line::text(&mut json, "\"name\":\"", &name);
        line::text(&mut json, ",\"action\":\"", &action);
        line::text(&mut json, ",\"resource\":\"", &resource);
        Self { name, action, resource, json: json.into() }
    }

    /// The route as its file spells it: `GET /api/docs/:id`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Cedar action.
    #[must_use]
    pub fn action(&self) -> &str {
        &self.action
    }

    /// The Cedar resource.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The three as members of a JSON object, without its braces.
    pub(super) fn json(&self) -> &str {
        &self.json
    }
}
