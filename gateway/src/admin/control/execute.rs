//! One verb, from the decision to the record: the same over the socket and in direct work on the store.
//!
//! Threat 18: direct work is done only by a process that holds the store's lock, and it takes the same decision
//! and leaves the same record. A roll-back is permitted by a rule that stands here and not in a bundle, because
//! the bundle that has to go may be one that forbids everything.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use engine::audit::{
    AskedFacts, AuditEvent, DecisionFacts, EventKind, Outcome, Read, RouteFacts, RouteNames,
};
use engine::authz::{AuthzRequest, Decision};
use engine::bundle::Bundle;
use engine::identity::{Identity, LOCAL_ISSUER, Principal, PrincipalKind};
use engine::refusal::Deciding;
use engine::route::{COST_DEFAULT, Hint};
use engine::time::UnixMillis;
use engine::trace::Trace;
use storage::audit_log::AuditLog;
use storage::counters::Counters;
use storage::credentials::{Accounts, ApiKeys, Attempts};
use storage::sessions::Sessions;

use super::reply::{Code, Problem, Reply};
use super::verb::{Sense, Verb};
use super::work;
use crate::admin::health::Health;
use crate::clock;
use crate::pipeline::Pipeline;
use crate::random;
use crate::snapshot::Reloader;

/// The action of a roll-back; no bundle is asked for it.
pub(super) const ROLLBACK: &str = "cedargate.bundle.rollback";

const MODULE: &str = "cedargate";

/// What verbs work on.
pub struct Backend {
    /// The bundle that decides, and how to change it.
    pub reloader: Arc<Reloader>,
    /// The sessions.
    pub sessions: Arc<Sessions>,
    /// The accounts.
    pub accounts: Accounts,
    /// The API keys.
    pub keys: ApiKeys,
    /// The counters of wrong passwords.
    pub attempts: Attempts,
    /// Where every verb is recorded.
    pub audit: AuditLog,
    /// How the running gateway is; `None` in direct work, where none runs.
    pub health: Option<Arc<Health>>,
    /// What the running gateway has counted; `None` in direct work: counters end with the process that has them.
    pub counted: Option<Counted>,
}

/// What a gateway has counted.
pub struct Counted {
    /// What it counts by itself.
    pub here: Arc<Counters>,
    /// What gateways count together.
    pub shared: Option<Arc<Counters>>,
}

impl Counted {
    /// What requests are counted by.
    #[must_use]
    pub fn of(pipeline: &Pipeline) -> Self {
        Self { here: pipeline.counters.clone(), shared: pipeline.shared.clone() }
    }
}

/// Whoever asks: a user of this machine, as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operator {
    /// The user id.
    pub uid: u32,
}

/// What a verb came to.
pub(super) struct Done {
    /// What it gives.
    pub(super) value: serde_json::Value,
    /// What the record should say beside it.
    pub(super) notes: Vec<String>,
}

/// Decides, does and records one verb.
pub async fn execute(verb: Verb, backend: &Backend, operator: Operator, now: UnixMillis) -> Reply {
    let began = clock::instant();
    let snapshot = backend.reloader.cell().current();
    let sense = verb.sense();
    let (decided, read) = decide(&snapshot.bundle, &sense, operator, now);
    let record = Record { now, operator, sense: &sense, decided: &decided, read, bundle: &snapshot.bundle };
    let result = match (&decided, sense.gives) {
        (Decided::Permitted(_), true) => match backend.audit.append_durable(record.opening()).await {
            Ok(()) => work::perform(verb, backend, now).await,
            Err(error) => Err(Problem::new(
                Code::Unavailable,
                format!(
                    "{error}: what gives access is not done without its record; free the disk and try again"
                ),
            )),
        },
        (Decided::Permitted(_), false) => work::perform(verb, backend, now).await,
        (Decided::Refused { .. }, _) => {
            Err(Problem::new(Code::Forbidden, decided.said(operator, sense.action)))
        }
    };
    if let Err(error) = backend.audit.append_durable(record.event(&result, began)).await {
        tracing::error!(%error, verb = sense.name, uid = operator.uid, "a control verb could not be recorded");
    }
    match result {
        Ok(done) => Reply::Done(done.value),
        Err(problem) => Reply::Refused(problem),
    }
}

enum Decided {
    Permitted(Vec<Deciding>),
    Refused { outcome: Outcome, deciding: Vec<Deciding>, erring: Vec<String> },
}

impl Decided {
    fn said(&self, operator: Operator, action: &str) -> String {
        let who = format!("Operator::\"{}\"", operator.uid);
        match self {
            Self::Permitted(_) => String::new(),
            Self::Refused { outcome: Outcome::Error, erring, .. } => {
                format!("policy could not be evaluated for {who} and {action}: {}", erring.join(", "))
            }
            Self::Refused { deciding, .. } if deciding.is_empty() => {
                format!("no policy permits {action} to {who}")
            }
            Self::Refused { deciding, .. } => {
                let reasons: Vec<_> =
                    deciding.iter().map(|by| format!("{} ({})", by.id, by.reason)).collect();
                format!("{action} is forbidden to {who} by {}", reasons.join(", "))
            }
        }
    }
}

/// What is decided, and what policy has looked at.
fn decide(bundle: &Bundle, sense: &Sense, operator: Operator, now: UnixMillis) -> (Decided, Read) {
    if sense.action == ROLLBACK {
        let reason = "no bundle may keep itself in place".into();
        let rule = Deciding { id: "cedargate.built_in.rollback".into(), reason };
        return (Decided::Permitted(vec![rule]), Read::default());
    }
    let identity = Identity::Known(Arc::new(principal(operator, now)));
    let (decision, read) = bundle.decide_telling(&AuthzRequest {
        identity: &identity,
        action: sense.action,
        module: MODULE,
        hint: Hint::default(),
        parameters: &[],
        class: "admin",
        method: sense.name,
        // The socket is on this machine.
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        tls: true,
        now,
    });
    let decided = match decision {
        Decision::Permit(permit) => Decided::Permitted(permit.deciding().to_vec()),
        Decision::Deny(denial) => {
            Decided::Refused { outcome: Outcome::Deny, deciding: denial.forbidding, erring: Vec::new() }
        }
        Decision::Undecidable { erring } => {
            Decided::Refused { outcome: Outcome::Error, deciding: Vec::new(), erring }
        }
    };
    (decided, read)
}

fn principal(operator: Operator, now: UnixMillis) -> Principal {
    Principal::named(PrincipalKind::Operator, LOCAL_ISSUER, &operator.uid.to_string(), now)
}

/// What the record of a verb is made from.
struct Record<'a> {
    now: UnixMillis,
    operator: Operator,
    sense: &'a Sense,
    decided: &'a Decided,
    read: Read,
    bundle: &'a Bundle,
}

impl Record<'_> {
    /// The record that is on disk before a verb that gives something is done.
    fn opening(&self) -> AuditEvent {
        self.whole(EventKind::Opening, 0, 0, None, Vec::new())
    }

    fn event(&self, result: &Result<Done, Problem>, began: Instant) -> AuditEvent {
        let total_us = u64::try_from((clock::instant() - began).as_micros()).unwrap_or(u64::MAX);
        match result {
            Ok(done) => self.whole(EventKind::Control, 200, total_us, None, done.notes.clone()),
            Err(problem) => {
                self.whole(EventKind::Control, problem.code.status(), total_us, Some(problem), Vec::new())
            }
        }
    }

    fn whole(
        &self,
        kind: EventKind,
        status: u16,
        total_us: u64,
        problem: Option<&Problem>,
        notes: Vec<String>,
    ) -> AuditEvent {
        let mut event = AuditEvent::empty(kind, clock::rfc3339(self.now), random::request_id(self.now));
        event.trace = Trace::begin(random::bytes());
        event.principal = Some(Arc::new(principal(self.operator, self.now)));
        event.request = Some(AskedFacts {
            method: "CONTROL".to_owned(),
            host: "control.sock".to_owned(),
            path: self.sense.name.to_owned(),
            query_names: Vec::new(),
        });
        let about = self.sense.about.iter();
        event.route = Some(RouteFacts {
            names: RouteNames::new(
                self.sense.name.into(),
                self.sense.action.into(),
                format!("Module::\"{MODULE}\"").into(),
            )
            .into(),
            parameters: about.map(|(name, value)| ((*name).into(), Some(value.clone()))).collect(),
            class: "admin".into(),
            cost: COST_DEFAULT,
        });
        event.decision = self.decision(problem);
        event.answer.status = status;
        event.answer.total_us = total_us;
        event.notes = notes;
        event
    }

    fn decision(&self, problem: Option<&Problem>) -> DecisionFacts {
        let (outcome, deciding, erring) = match self.decided {
            Decided::Permitted(deciding) => (Outcome::Permit, deciding.clone(), Vec::new()),
            Decided::Refused { outcome, deciding, erring } => (*outcome, deciding.clone(), erring.clone()),
        };
        DecisionFacts {
            outcome,
            deciding,
            erring,
            classes: Vec::new(),
            bundle: self.bundle.id().shared(),
            read: self.read.clone(),
            refusal: problem.map(|problem| problem.code.name()),
            detail: problem.map(|problem| problem.message.clone()),
        }
    }
}
