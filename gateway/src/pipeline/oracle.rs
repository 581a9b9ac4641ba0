//! Decisions, some or all of which are asked of Cedar's own `Authorizer` as well. A difference refuses and is made known:
//! it is a fault of ours, and nobody can say which of the two is more lenient.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::audit::Read;
use engine::authz::{AuthzRequest, Decision, ORACLE};
use engine::bundle::Bundle;
use storage::audit_log::AuditLog;

use crate::admin::metrics::Metrics;
use crate::config::settings::Oracle as Share;
use crate::pipeline::record;

/// Decides, and asks Cedar as often as it is told to.
pub struct Oracle {
    share: Share,
    decided: AtomicU64,
    audit: AuditLog,
    metrics: Arc<Metrics>,
}

impl Oracle {
    /// Asks Cedar of this share of all decisions.
    #[must_use]
    pub fn new(share: Share, audit: AuditLog, metrics: Arc<Metrics>) -> Self {
        Self { share, decided: AtomicU64::new(0), audit, metrics }
    }

    /// What the bundle decides, and what it has looked at.
    pub fn decide(&self, bundle: &Bundle, asked: &AuthzRequest<'_>) -> (Decision, Read) {
        let (decision, read) = bundle.decide_telling(asked);
        if self.asks() { (self.held(bundle, asked, decision), read) } else { (decision, read) }
    }

    fn asks(&self) -> bool {
        match self.share {
            Share::Off => false,
            Share::Always => true,
            Share::Sample(every) => self.decided.fetch_add(1, Ordering::Relaxed).is_multiple_of(every.get()),
        }
    }

    /// The decision, where Cedar decides the same.
    pub(super) fn held(&self, bundle: &Bundle, asked: &AuthzRequest<'_>, decision: Decision) -> Decision {
        let held = bundle.hold_against_cedar(asked, &decision);
        self.metrics.oracle_asked(held.is_ok());
        let Err(difference) = held else { return decision };
        tracing::error!(
            action = asked.action,
            module = asked.module,
            bundle = bundle.id().as_str(),
            "{difference}: please report this with the bundle"
        );
        let note = format!("{} on {}: {difference}", asked.action, asked.module);
        record::oracle_differs(&self.audit, asked.now, bundle.id(), &[note]);
        Decision::Undecidable { erring: vec![ORACLE.to_owned()] }
    }
}
