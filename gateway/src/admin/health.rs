//! What the gateway depends on, and how it is. Whoever uses a part says how it is; the admin listener tells.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// Something that the gateway needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The store of sessions and credentials.
    Store,
    /// The audit log.
    AuditLog,
    /// The bundle that decides.
    Bundle,
    /// An upstream, by its configured name.
    Upstream(Arc<str>),
}

/// How a part is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "detail", rename_all = "snake_case")]
pub enum Status {
    /// Nobody has said yet. Not ready.
    Starting,
    /// As it should be; with what is worth knowing, for example the bundle's digest.
    Up(String),
    /// Working with less: still ready, and worth an alarm.
    Degraded(String),
    /// Requests would fail or not be safe: not ready.
    Down(String),
}

impl Status {
    const fn is_ready(&self) -> bool {
        matches!(self, Self::Up(_) | Self::Degraded(_))
    }
}

/// The state of every part, shared by those who tell and those who ask.
#[derive(Debug)]
pub struct Health {
    parts: Mutex<BTreeMap<Part, Status>>,
    draining: AtomicBool,
    notices: Vec<String>,
}

/// What `/readyz` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether requests should be sent here.
    pub ready: bool,
    /// Whether it is shutting down.
    pub draining: bool,
    /// Every part by name; upstreams as `upstream:<name>`.
    pub parts: BTreeMap<String, Status>,
    /// What whoever operates it should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

impl Health {
    /// All of these parts are starting. A part that is not listed here never makes the gateway ready by silence.
    #[must_use]
    pub fn new(parts: impl IntoIterator<Item = Part>, notices: Vec<String>) -> Self {
        let parts = parts.into_iter().map(|part| (part, Status::Starting)).collect();
        Self { parts: Mutex::new(parts), draining: AtomicBool::new(false), notices }
    }

    /// Says how a part is.
    pub fn set(&self, part: Part, status: Status) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(part, status);
    }

    /// From now on no new requests should be sent here.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Whether it is shutting down.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// How everything is.
    #[must_use]
    pub fn report(&self) -> Report {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let draining = self.is_draining();
        Report {
            ready: !draining && parts.values().all(Status::is_ready),
            draining,
            parts: parts.into_iter().map(|(part, status)| (name(&part), status)).collect(),
            notices: self.notices.clone(),
        }
    }
}

fn name(part: &Part) -> String {
    match part {
        Part::Store => "store".to_owned(),
        Part::AuditLog => "audit_log".to_owned(),
        Part::Bundle => "bundle".to_owned(),
        Part::Upstream(name) => format!("upstream:{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness() {
        let up = || Status::Up(String::new());
        let check = |store: Status, upstream: Status, drain: bool, ready: bool| {
            let botserver = Part::Upstream("botserver".into());
            let health = Health::new([Part::Store, botserver.clone()], Vec::new());
            assert!(!health.report().ready, "ready before anybody said so");
            health.set(Part::Store, store.clone());
            health.set(botserver, upstream.clone());
            if drain {
                health.drain();
            }
            assert_eq!(health.report().ready, ready, "{store:?} {upstream:?} {drain}");
        };
        check(up(), up(), false, true);
        check(up(), Status::Degraded("slow".to_owned()), false, true);
        check(up(), Status::Down("gone".to_owned()), false, false);
        check(Status::Down("locked".to_owned()), up(), false, false);
        check(up(), Status::Starting, false, false);
        check(up(), up(), true, false);
    }

    #[test]
    fn as_json() {
        let health = Health::new([Part::Bundle, Part::AuditLog], vec!["demo".to_owned()]);
        health.set(Part::Bundle, Status::Up("ab12".to_owned()));
        assert_eq!(
            serde_json::to_value(health.report()).unwrap(),
            serde_json::json!({
                "ready": false, "draining": false, "notices": ["demo"],
                "parts": {"bundle": {"state": "up", "detail": "ab12"}, "audit_log": {"state": "starting"}},
            })
        );
    }
}
