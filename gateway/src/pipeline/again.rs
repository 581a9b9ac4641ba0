//! Asking again for what goes on after its request was decided: by the credential's state and the bundle of now.

use std::sync::Arc;
use std::time::Duration;

use engine::identity::Identity;
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
    pub fn new(pipeline: &Pipeline, passage: Passage, received: Received, lease: Lease) -> Self {
        let next = next(pipeline, &passage, clock::now());
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
        let decided = storage::redis::as_one_request(async {
            if let (true, Some(session)) = (used, self.passage.session()) {
                pipeline.authn.touch(session, now).await;
            }
            pipeline.decide_again(now, &self.passage, &self.received).await
        });
        self.passage = decided.await?;
        self.next = next(pipeline, &self.passage, now);
        Ok(())
    }
}

/// When to ask at the latest.
fn next(pipeline: &Pipeline, passage: &Passage, now: UnixMillis) -> Instant {
    let identity = passage.permit().identity();
    let ends = match identity {
        Identity::Anonymous => None,
        Identity::Known(principal) => principal.expires_at,
    };
    let idle = passage.session().map(|session| session.idle_end);
    let ends = ends.into_iter().chain(pipeline.authn.told_until(identity)).min();
    Instant::from_std(clock::instant()) + wait(now, idle, ends)
}

/// How long to wait with it: half the way to the idle end, so that a use in between can be noted before it comes, and not past
/// the end of what is believed without asking.
fn wait(now: UnixMillis, idle: Option<UnixMillis>, ends: Option<UnixMillis>) -> Duration {
    let until = |end: UnixMillis| Duration::from_millis(end.since(now));
    let halfway = idle.map(until).map_or(EVERY, |idle| (idle / 2).max(SELDOM.min(idle)));
    halfway.min(ends.map_or(EVERY, until)).min(EVERY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_asked_again_before_anything_that_it_rests_on_is_over() {
        let now = UnixMillis(1_000_000);
        let check = |idle: Option<u64>, ends: Option<u64>, expected: u64| {
            let found = wait(now, idle.map(|ms| now.plus(ms)), ends.map(|ms| now.plus(ms)));
            assert_eq!(found, Duration::from_millis(expected), "{idle:?} {ends:?}");
        };
        check(None, None, 60_000);
        check(None, Some(90_000), 60_000);
        // A provider's word about an opaque token counts for 30 seconds.
        check(None, Some(30_000), 30_000);
        check(None, Some(0), 0);
        check(Some(3_600_000), None, 60_000);
        check(Some(60_000), None, 30_000);
        check(Some(60_000), Some(7_000), 7_000);
        check(Some(300), None, 200);
        check(Some(100), None, 100);
        check(Some(0), None, 0);
        // What is over already is asked about now.
        assert_eq!(wait(now, Some(UnixMillis(0)), Some(UnixMillis(0))), Duration::ZERO);
    }
}
