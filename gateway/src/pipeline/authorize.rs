//! Stage 5, authorize: policy decides.

use engine::audit::Read;
use engine::authz::{AuthzRequest, Decision, Permit};
use engine::facts::RequestFacts;
use engine::identity::Identity;
use engine::limit::Rate;
use engine::refusal::{Dependency, Refusal};
use engine::route::{RouteMatch, StepUp, Target};
use engine::time::UnixMillis;
use storage::counters::{Counters, LimitKey, Outcome, Take};

use crate::pipeline::admit::whole_seconds;
use crate::pipeline::oracle::Oracle;
use crate::pipeline::record::Trail;
use crate::snapshot::Snapshot;

pub(crate) use engine::limit::{OF_REFUSALS, OF_STEP_UPS};

/// Refusals that one principal is given before it is throttled: a bucket of its own, so that whoever holds a
/// stolen credential can neither probe routes freely nor drain its owner's quota.
pub(crate) const REFUSALS: Rate = Rate { count: 60, period_ms: 60_000 };

/// How often one principal is asked to confirm who it is: a bucket of its own as well, and ten times as large, because a page
/// with many parts asks for all of them before its reader can.
pub(crate) const STEP_UPS: Rate = Rate { count: 600, period_ms: 60_000 };

/// Asks the bundle.
///
/// # Errors
/// `Unauthenticated` when nobody is known and a known caller might be permitted, `Forbidden` when policy says
/// no, `Undecidable` when a policy could not be evaluated.
pub fn authorize(
    oracle: &Oracle,
    snapshot: &Snapshot,
    now: UnixMillis,
    matched: &RouteMatch,
    identity: &Identity,
    facts: &RequestFacts<'_>,
    trail: &mut Trail,
) -> Result<Permit, Refusal> {
    if let Identity::Known(principal) = identity {
        let unknown = snapshot.bundle.unknown_memberships(principal);
        if !unknown.is_empty() {
            trail.note(format!("memberships that the bundle does not know: {}", unknown.join(", ")));
        }
    }
    let (decision, read) = decide(oracle, snapshot, now, matched, identity, facts);
    trail.decided(&decision, read);
    permitted(decision, identity, matched, now)
}

/// What the bundle says, and what it has looked at.
pub fn decide(
    oracle: &Oracle,
    snapshot: &Snapshot,
    now: UnixMillis,
    matched: &RouteMatch,
    identity: &Identity,
    facts: &RequestFacts<'_>,
) -> (Decision, Read) {
    let route = &matched.route;
    let parameters = matched.asked(facts.query);
    let asked = AuthzRequest {
        identity,
        action: &route.action,
        module: &route.module,
        hint: route.hint,
        parameters: &parameters,
        class: &route.class,
        method: facts.method.as_str(),
        client: facts.client,
        tls: facts.tls,
        now,
    };
    // What the oracle is for never happens, so a test makes it happen.
    #[cfg(feature = "fault_injection")]
    if facts.headers.get("x-cedargate-fault").is_some_and(|fault| fault == "oracle") {
        let denied = Decision::Deny(engine::refusal::Denial { forbidding: Vec::new() });
        return (oracle.held(&snapshot.bundle, &asked, denied), Read::default());
    }
    oracle.decide(&snapshot.bundle, &asked)
}

/// The permit, where there is one.
///
/// # Errors
/// As [`authorize`].
pub fn permitted(
    decision: Decision,
    identity: &Identity,
    matched: &RouteMatch,
    now: UnixMillis,
) -> Result<Permit, Refusal> {
    decision.permitted_on(&matched.route, identity, now)
}

/// Holds the caller's proof against what the route asks for, and where a second factor is required against that, for all that
/// goes to an upstream. Our own pages stay open: somebody has to be able to see who they are, and to sign out.
///
/// # Errors
/// `StepUp` with all that is asked for, or for a key `PersonNeeded`.
pub fn proved(
    second_factor: bool,
    now: UnixMillis,
    matched: &RouteMatch,
    identity: &Identity,
) -> Result<(), Refusal> {
    let Identity::Known(principal) = identity else { return Ok(()) };
    let required = second_factor && matches!(matched.route.target, Target::Upstream(_));
    let required = required.then_some(StepUp::SECOND_FACTOR);
    let asks = match (matched.route.step_up, required) {
        (Some(own), Some(required)) => Some(own.and(required)),
        (own, required) => own.or(required),
    };
    match asks.filter(|asks| !asks.is_met_by(principal, now)) {
        Some(asks) => Err(Refusal::unproved(asks, principal)),
        None => Ok(()),
    }
}

/// Lets a refused principal spend from a small bucket of its own, and throttles it when that is empty. Who is only asked to
/// confirm who they are is not refused for good, and spends from a larger one.
///
/// # Errors
/// The refusal as it was, or `Throttled`.
pub async fn answered(
    counters: &Counters,
    now: UnixMillis,
    identity: &Identity,
    decided: Result<Permit, Refusal>,
) -> Result<Permit, Refusal> {
    let (Err(refusal), Identity::Known(principal)) = (&decided, identity) else { return decided };
    let is_step_up = matches!(refusal, Refusal::StepUp(_));
    let (limit, rate) = if is_step_up { (OF_STEP_UPS, STEP_UPS) } else { (OF_REFUSALS, REFUSALS) };
    let refusals = Take::new(LimitKey::principal(limit, principal.id), rate);
    match counters.take(&[refusals], now).await {
        Outcome::Admitted => decided,
        Outcome::Away => Err(Refusal::Unavailable(Dependency::Counters)),
        Outcome::Refused { retry_after_ms, .. } => {
            Err(Refusal::Throttled { retry_after_s: whole_seconds(retry_after_ms), limit: None })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::identity::{LOCAL_ISSUER, Principal, PrincipalKind, Scheme, principal_id};
    use storage::counters::MEMORY_BYTES_DEFAULT;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_795_557_600_000);

    fn known(login: &str) -> Identity {
        Identity::Known(Arc::new(Principal {
            kind: PrincipalKind::User,
            id: principal_id(PrincipalKind::User, LOCAL_ISSUER, login),
            name: login.to_owned(),
            roles: std::collections::BTreeSet::new(),
            groups: std::collections::BTreeSet::new(),
            scopes: std::collections::BTreeSet::new(),
            scheme: Scheme::Session,
            assurance: 1,
            authenticated_at: NOW,
            credential_id: None,
            expires_at: None,
            suspended: false,
        }))
    }

    #[test]
    fn a_proof_is_held_against_the_route_and_what_is_required_of_everybody() {
        use engine::route::Page;

        use crate::pipeline::testing;
        let strong = StepUp { assurance: 2, max_age_s: None, services: false };
        let fresh = StepUp { assurance: 1, max_age_s: Some(300), services: false };
        let both = StepUp { assurance: 2, ..fresh };
        let person = |assurance, age_s: u64| {
            let Identity::Known(ada) = known("ada") else { panic!("she is known") };
            let at = UnixMillis(NOW.0 - age_s * 1000);
            Identity::Known(Arc::new(Principal { assurance, authenticated_at: at, ..(*ada).clone() }))
        };
        let service =
            Identity::Known(Arc::new(Principal::named(PrincipalKind::Service, LOCAL_ISSUER, "bot", NOW)));
        let check = |asks: Option<StepUp>,
                     page: bool,
                     required: bool,
                     identity: &Identity,
                     expected: Option<StepUp>| {
            let target = if page { Target::Page(Page::WhoAmI) } else { testing::route().target };
            let route = Arc::new(engine::route::Route { step_up: asks, target, ..testing::route() });
            let matched = RouteMatch { route, parameters: engine::route::Parameters::new() };
            let Some(refused) = expected else {
                return assert_eq!(proved(required, NOW, &matched, identity), Ok(()), "{asks:?} {page}");
            };
            let is_key = std::ptr::eq(identity, &service);
            let refused = if is_key { Refusal::PersonNeeded(refused) } else { Refusal::StepUp(refused) };
            let expected = Err(refused);
            assert_eq!(proved(required, NOW, &matched, identity), expected, "{asks:?} {page} {required}");
        };
        check(None, false, false, &person(1, 9_999), None);
        check(None, false, true, &person(1, 0), Some(StepUp::SECOND_FACTOR));
        check(None, false, true, &person(2, 9_999), None);
        check(None, false, true, &service, None);
        check(None, false, true, &Identity::Anonymous, None);
        check(None, true, true, &person(1, 0), None);
        check(Some(strong), false, false, &person(1, 0), Some(strong));
        check(Some(strong), false, false, &person(2, 9_999), None);
        check(Some(strong), false, false, &service, Some(strong));
        check(Some(strong), true, false, &person(1, 0), Some(strong));
        check(Some(fresh), false, true, &person(1, 0), Some(both));
        check(Some(fresh), false, true, &person(2, 361), Some(both));
        check(Some(fresh), false, true, &person(2, 360), None);
        // The services that a route asks more of are asked for it whatever is required of people.
        check(Some(strong), false, true, &service, Some(strong));
        check(Some(StepUp { services: true, ..strong }), false, true, &service, None);
    }

    #[tokio::test]
    async fn a_principal_is_refused_so_often_and_then_throttled() {
        let counters = Counters::memory(MEMORY_BYTES_DEFAULT);
        let refused = async |identity: &Identity, at: u64| {
            answered(&counters, NOW.plus(at), identity, Err(Refusal::Undecidable)).await.unwrap_err()
        };
        let (ada, bob) = (known("ada"), known("bob"));
        for number in 0..60 {
            assert_eq!(refused(&ada, 0).await, Refusal::Undecidable, "{number}");
        }
        assert_eq!(refused(&ada, 0).await, Refusal::Throttled { retry_after_s: 1, limit: None });
        // Who is asked to confirm who they are pays less for it, out of another bucket, and a key, which cannot, pays the same.
        let asks = StepUp::SECOND_FACTOR;
        let asked = async |who: &str| {
            answered(&counters, NOW, &known(who), Err(Refusal::StepUp(asks))).await.unwrap_err()
        };
        for _ in 0..600 {
            assert_eq!(asked("eve").await, Refusal::StepUp(asks));
        }
        assert_eq!(asked("eve").await, Refusal::Throttled { retry_after_s: 1, limit: None });
        assert_eq!(refused(&known("eve"), 0).await, Refusal::Undecidable);
        assert_eq!(asked("ada").await, Refusal::StepUp(asks), "whose other bucket is empty");
        for _ in 0..60 {
            let asked = answered(&counters, NOW, &known("key"), Err(Refusal::PersonNeeded(asks))).await;
            assert_eq!(asked.unwrap_err(), Refusal::PersonNeeded(asks));
        }
        let asked = answered(&counters, NOW, &known("key"), Err(Refusal::PersonNeeded(asks))).await;
        assert!(matches!(asked, Err(Refusal::Throttled { .. })), "{asked:?}");
        // Nobody else pays for it, and who is nobody has its address's limit.
        assert_eq!(refused(&bob, 0).await, Refusal::Undecidable);
        for _ in 0..100 {
            assert_eq!(refused(&Identity::Anonymous, 0).await, Refusal::Undecidable);
        }
        // One comes back each second.
        assert_eq!(refused(&ada, 1_000).await, Refusal::Undecidable);
        assert_eq!(refused(&ada, 1_000).await, Refusal::Throttled { retry_after_s: 1, limit: None });
    }
}
