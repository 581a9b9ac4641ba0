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
    /// That an upstream reads the identity that we sign, by the upstream's name (threat 7).
    Identity(Arc<str>),
    /// An identity provider, by its configured name. It is never a reason to send no requests here.
    Provider(Arc<str>),
    /// The store that gateways share limits in. It is never a reason to send no requests here.
    Limits,
    /// The store that gateways share sessions in. Whoever has no session is served without it.
    Sessions,
    /// That a kind of telemetry arrives. It is never a reason to send no requests here.
    Telemetry(&'static str),
}

/// What the identity probe of an upstream has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityState {
    /// It reads the subject that we signed, and no subject that was signed with BotServer's published secret.
    Verified,
    /// It answers, and does not say whom we signed: it does not read our identities.
    NotRead,
    /// It also believes identities signed with the secret that BotServer's source publishes.
    PublishedSecretAccepted,
    /// It does not answer the question.
    NoAnswer,
}

impl IdentityState {
    /// Its name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::NotRead => "not_read",
            Self::PublishedSecretAccepted => "published_secret_accepted",
            Self::NoAnswer => "no_answer",
        }
    }
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
    /// Every part by name; upstreams as `upstream:<name>` and `identity:<name>`, providers as
    /// `oidc:<name>`, the shared stores of counters and of sessions as `limits` and `sessions`, telemetry as `telemetry:<signal>`.
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

    /// Says how many of an upstream's addresses are well. An upstream that is away does not make the gateway
    /// unready: it answers for it, and other routes work. That it was never reached does, through its identity.
    pub fn upstream(&self, name: &str, well: usize, of: usize) {
        let status = match well {
            0 => Status::Degraded(format!("none of {of} addresses answers")),
            some if some < of => Status::Degraded(format!("{some} of {of} addresses answer")),
            all => Status::Up(format!("{all} of {of} addresses answer")),
        };
        self.set(Part::Upstream(name.into()), status);
    }

    /// Says what the identity probe of an upstream has shown, and answers whether that is new. Until it was
    /// verified once the gateway is not ready: an upstream that does not read what we sign may believe anybody.
    pub fn identity(&self, name: &str, state: IdentityState) -> bool {
        let part = Part::Identity(name.into());
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let before = parts.get(&part);
        let word = state.name().to_owned();
        let after = match state {
            IdentityState::Verified => Status::Up(word),
            // Silence of an upstream that has read them before is an outage, not a reason to distrust it.
            IdentityState::NoAnswer if before.is_some_and(Status::is_ready) => Status::Degraded(word),
            IdentityState::NoAnswer | IdentityState::NotRead | IdentityState::PublishedSecretAccepted => {
                Status::Down(word)
            }
        };
        let is_new = before != Some(&after);
        parts.insert(part, after);
        is_new
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
        Part::Identity(name) => format!("identity:{name}"),
        Part::Provider(name) => format!("oidc:{name}"),
        Part::Limits => "limits".to_owned(),
        Part::Sessions => "sessions".to_owned(),
        Part::Telemetry(signal) => format!("telemetry:{signal}"),
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
    fn threat_07_an_identity_that_is_not_read_is_not_ready() {
        use IdentityState::{NoAnswer, NotRead, PublishedSecretAccepted, Verified};
        let check = |states: &[IdentityState], ready: bool, last_is_new: bool| {
            let health = Health::new([Part::Identity("botserver".into())], Vec::new());
            let is_new = states.iter().map(|state| health.identity("botserver", *state)).last();
            assert_eq!((health.report().ready, is_new), (ready, Some(last_is_new)), "{states:?}");
        };
        check(&[Verified], true, true);
        check(&[Verified, Verified], true, false);
        check(&[NotRead], false, true);
        check(&[PublishedSecretAccepted], false, true);
        check(&[NoAnswer], false, true);
        check(&[Verified, NoAnswer], true, true);
        check(&[Verified, NoAnswer, NoAnswer], true, false);
        check(&[Verified, NotRead], false, true);
        check(&[Verified, NotRead, NoAnswer], false, true);
        check(&[NotRead, Verified], true, true);
    }

    #[test]
    fn upstreams_that_are_away() {
        let check = |well, of, expected: Status| {
            let health = Health::new([], Vec::new());
            health.upstream("botserver", well, of);
            assert_eq!(health.report().parts["upstream:botserver"], expected);
            assert!(health.report().ready);
        };
        check(2, 2, Status::Up("2 of 2 addresses answer".to_owned()));
        check(1, 2, Status::Degraded("1 of 2 addresses answer".to_owned()));
        check(0, 2, Status::Degraded("none of 2 addresses answers".to_owned()));
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
