//! Asking again for what goes on after its request was decided: by the credential's state and the bundle of now.

use std::sync::Arc;
use std::time::Duration;

use engine::refusal::Refusal;
use engine::route::Route;
use engine::time::UnixMillis;
use http::HeaderMap;
use tokio::time::Instant;
use uuid::Uuid;

use crate::clock;
use crate::live::Lease;
use crate::pipeline::receive::Received;
use crate::pipeline::{Passage, Pipeline, authorize, spend};

/// Whatever goes on is asked again at least this often: a policy may look at the time, and no news may be lost for
/// ever.
const EVERY: Duration = Duration::from_secs(60);
/// And at most this often by its own clock.
const SELDOM: Duration = Duration::from_millis(200);

impl Pipeline {
    /// Decides again for who was let through: the route stands as it was, the credential still holds, and the bundle
    /// of this moment permits. Spends no quota.
    ///
    /// # Errors
    /// The refusal; then what goes on has to end.
    pub async fn decide_again(
        &self,
        now: UnixMillis,
        passage: &Passage,
        received: &Received,
    ) -> Result<Passage, Refusal> {
        let snapshot = self.snapshot.current();
        let found = snapshot.bundle.routes().find(&received.method, &received.path);
        let matched = found.filter(|found| stands(&passage.matched().route, &found.route));
        let matched = Arc::new(matched.ok_or(Refusal::Unrouted)?);
        let identified = self.authn.again(now, passage.permit().identity(), matched.route.accept).await?;
        authorize::proved(self.second_factor, now, &matched, &identified.identity)?;
        let none = HeaderMap::new();
        let facts = received.facts(&none, now, Uuid::nil());
        // Nothing is recorded of it, so what it has looked at is dropped.
        let (decision, _read) =
            authorize::decide(&self.oracle, &snapshot, now, &matched, &identified.identity, &facts);
        let permit = authorize::permitted(decision, &identified.identity, &matched, now)?;
        Ok(spend::again(permit, matched, identified.session, snapshot))
    }
}

/// Whether what was opened under one row is what the other would open.
fn stands(before: &Route, now: &Route) -> bool {
    before.name == now.name
        && before.target == now.target
        && before.websocket == now.websocket
        && before.sets == now.sets
        && before.named == now.named
}

/// What goes on, with the ground that it stands on.
#[derive(Debug)]
pub struct Standing {
    passage: Passage,
    received: Box<Received>,
    lease: Lease,
    next: Instant,
}

impl Standing {
    /// Stands on a decision of this moment.
    #[must_use]
    pub fn new(passage: Passage, received: Received, lease: Lease) -> Self {
        let next = next(&passage, clock::now());
        Self { passage, received: Box::new(received), lease, next }
    }

    /// Resolves when it has to be asked again: something has changed, or its time has come.
    pub async fn due(&self) {
        tokio::select! {
            () = self.lease.woken() => {}
            () = tokio::time::sleep_until(self.next) => {}
        }
    }

    /// Asks again. `used` says whether the client has used it since: then its session counts as used.
    ///
    /// # Errors
    /// The refusal for which it has to end.
    pub async fn ask(&mut self, pipeline: &Pipeline, used: bool) -> Result<(), Refusal> {
        let now = clock::now();
        if let (true, Some(session)) = (used, self.passage.session()) {
            pipeline.authn.touch(session, now).await;
        }
        self.passage = pipeline.decide_again(now, &self.passage, &self.received).await?;
        self.next = next(&self.passage, now);
        Ok(())
    }
}

/// When to ask at the latest. Half the way to the idle end, so that a use in between can be noted before it comes.
fn next(passage: &Passage, now: UnixMillis) -> Instant {
    let until = |end: UnixMillis| Duration::from_millis(end.since(now));
    let idle = passage.session().map(|session| until(session.idle_end));
    let ends = match passage.permit().identity() {
        engine::identity::Identity::Anonymous => None,
        engine::identity::Identity::Known(principal) => principal.expires_at.map(until),
    };
    let halfway = idle.map_or(EVERY, |idle| (idle / 2).max(SELDOM.min(idle)));
    let wait = halfway.min(ends.unwrap_or(EVERY)).min(EVERY);
    Instant::from_std(clock::instant()) + wait
}
