//! Verbs about what somebody has taken of their limits.

use std::net::IpAddr;

use engine::identity::{LOCAL_ISSUER, PrincipalKind, principal_id};
use engine::limit::{Left, Limit};
use engine::time::UnixMillis;
use serde_json::{Value, json};
use storage::counters::{Counters, LimitKey, Stands, Take, WhenAway};
use storage::credentials::Login;
use storage::redis::Fault;
use uuid::Uuid;

use super::{Worked, accounts, done, invalid, not_found, store};
use crate::admin::control::execute::{Backend, Counted};
use crate::admin::control::reply::{Code, Problem};
use crate::admin::control::verb::LimitsOf;
use crate::in_force::{Held, InForce};
use crate::pipeline::admit::PER_ADDRESS;
use crate::pipeline::authorize::{OF_REFUSALS, OF_STEP_UPS, REFUSALS, STEP_UPS};
use crate::pipeline::spend::PER_USER;

/// Whose counters are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Address(IpAddr),
    Principal(Uuid),
}

impl Whose {
    fn key<'a>(self, counter: &Counter<'a>) -> LimitKey<'a> {
        let key = match self {
            Self::Address(address) => LimitKey::address(counter.limit, address),
            Self::Principal(id) => LimitKey::principal(counter.limit, id),
        };
        key.sliding(counter.held.limit.sliding)
    }

    fn told(self) -> String {
        match self {
            Self::Address(address) => address.to_string(),
            Self::Principal(id) => id.to_string(),
        }
    }
}

/// One limit of somebody, and where it is counted.
struct Counter<'a> {
    limit: &'a str,
    held: Held,
    /// By this gateway alone.
    here: bool,
    /// By the gateways that share a store.
    there: bool,
}

pub(super) async fn show(
    backend: &Backend,
    of: LimitsOf,
    subject: &str,
    limit: Option<&str>,
    now: UnixMillis,
) -> Worked {
    let counted = counted(backend)?;
    let whose = whose(backend, of, subject).await?;
    let snapshot = backend.reloader.cell().current();
    let counters = named(counters(counted, &snapshot.limits, whose), limit)?;
    let mut told = Vec::new();
    let here: Vec<&Counter<'_>> = counters.iter().filter(|counter| counter.here).collect();
    let since = snapshot.since();
    look(&counted.here, whose, &here, (now, since), "here", &mut told).await;
    let there: Vec<&Counter<'_>> = counters.iter().filter(|counter| counter.there).collect();
    let redis = match &counted.shared {
        Some(shared) if !there.is_empty() => {
            Some(look(shared, whose, &there, (now, since), "redis", &mut told).await)
        }
        Some(_) | None => None,
    };
    Ok(done(json!({
        "of": of,
        "subject": whose.told(),
        "redis": redis.map(|away| away.map_or("up".to_owned(), |fault| format!("away: {fault}"))),
        "limits": told,
    })))
}

/// Resets what is counted here even where the shared store cannot be reached, and then says that it is half done.
pub(super) async fn reset(backend: &Backend, of: LimitsOf, subject: &str, limit: Option<&str>) -> Worked {
    let counted = counted(backend)?;
    let whose = whose(backend, of, subject).await?;
    let mut away = None;
    let (mut here, mut there) = (Vec::new(), Vec::new());
    let snapshot = backend.reloader.cell().current();
    let counters = named(counters(counted, &snapshot.limits, whose), limit)?;
    let limits: Vec<&str> = counters.iter().map(|counter| counter.limit).collect();
    for counter in counters {
        let key = whose.key(&counter);
        let Counter { limit, here: is_here, there: is_there, .. } = counter;
        if is_here && counted.here.reset(&key).await.is_ok() {
            here.push(limit);
        }
        if let (true, Some(shared)) = (is_there, &counted.shared) {
            match shared.reset(&key).await {
                Ok(()) => there.push(limit),
                Err(fault) => away = Some(fault),
            }
        }
    }
    if let Some(fault) = away {
        let message = format!(
            "redis is away ({fault}): what this gateway has counted is forgotten, and what is counted there stands; \
             reset it again when it is back"
        );
        return Err(Problem::new(Code::Unavailable, message));
    }
    Ok(done(json!({ "of": of, "subject": whose.told(), "limits": limits, "here": here, "redis": there })))
}

fn counted(backend: &Backend) -> Result<&Counted, Problem> {
    backend.counted.as_ref().ok_or_else(|| {
        let message = "no gateway runs: what it counts by itself ends with it, and a shared redis is asked by a \
                       gateway that runs";
        Problem::new(Code::NotRunning, message)
    })
}

async fn whose(backend: &Backend, of: LimitsOf, subject: &str) -> Result<Whose, Problem> {
    // Whoever was counted need not have an account any more, or ever have had one.
    let id = Uuid::parse_str(subject).ok();
    match (of, id) {
        (LimitsOf::Address, _) => subject.parse().map(Whose::Address).map_err(|_| {
            invalid(format!("`{subject}` is no address; write one such as 192.0.2.1 or 2001:db8::1"))
        }),
        (LimitsOf::User | LimitsOf::Service, Some(id)) => Ok(Whose::Principal(id)),
        (LimitsOf::User, None) => Ok(Whose::Principal(accounts::find(backend, subject).await?.id)),
        (LimitsOf::Service, None) => {
            let name = Login::parse(subject).map_err(|error| invalid(error.to_string()))?;
            let keys = backend.keys.list().await.map_err(store)?;
            let id = principal_id(PrincipalKind::Service, LOCAL_ISSUER, name.as_str());
            if keys.iter().any(|key| key.service_id == id) {
                Ok(Whose::Principal(id))
            } else {
                Err(not_found("service with a key", subject))
            }
        }
    }
}

/// All limits that somebody may have. What comes before a permit is counted by each gateway, whether or not they share
/// a store.
fn counters<'a>(counted: &Counted, limits: &'a InForce, whose: Whose) -> Vec<Counter<'a>> {
    let there = counted.shared.is_some();
    let is_address = matches!(whose, Whose::Address(_));
    let classes = limits.classes.iter();
    let classes = classes.map(|(class, held)| (class.as_ref(), *held, is_address || !there, there));
    let own = match whose {
        Whose::Address(_) => vec![(PER_ADDRESS, limits.per_address, true, there)],
        Whose::Principal(_) => {
            let here = |limit, rate| {
                let held = Limit { rate, sliding: false, shadow: false };
                (limit, Held { limit: held, away: WhenAway::Local, bundled: false }, true, false)
            };
            let user = (PER_USER, limits.per_user, !there, there);
            vec![user, here(OF_REFUSALS, REFUSALS), here(OF_STEP_UPS, STEP_UPS)]
        }
    };
    let all = own.into_iter().chain(classes).filter(|(_, held, ..)| held.limit.rate.limits());
    all.map(|(limit, held, here, there)| Counter { limit, held, here, there }).collect()
}

fn named<'a>(counters: Vec<Counter<'a>>, limit: Option<&str>) -> Result<Vec<Counter<'a>>, Problem> {
    let Some(limit) = limit else { return Ok(counters) };
    let there_are: Vec<&str> = counters.iter().map(|counter| counter.limit).collect();
    let message = format!("there is no limit `{limit}` of theirs; there are {}", there_are.join(", "));
    let found: Vec<Counter<'_>> = counters.into_iter().filter(|counter| counter.limit == limit).collect();
    if found.is_empty() { Err(invalid(message)) } else { Ok(found) }
}

/// Tells how these stand there; and why a shared store does not count.
async fn look(
    store: &Counters,
    whose: Whose,
    counters: &[&Counter<'_>],
    (now, since): (UnixMillis, UnixMillis),
    place: &str,
    told: &mut Vec<Value>,
) -> Option<Fault> {
    let takes: Vec<Take<'_>> =
        counters.iter().map(|counter| counter.held.take(whose.key(counter), since)).collect();
    let looked = store.look(&takes, now).await;
    for (counter, stands) in counters.iter().zip(looked.limits) {
        let counted = if looked.away.is_some() { "here_without_redis" } else { place };
        told.push(row(counter, stands, counted));
    }
    looked.away
}

/// Times are in milliseconds; a time that never comes is null.
fn row(counter: &Counter<'_>, stands: Stands, counted: &str) -> Value {
    let Held { limit: Limit { rate, sliding, shadow }, bundled, .. } = counter.held;
    let (limit, period_ms) = (counter.limit, rate.period_ms);
    let from = if bundled { "bundle" } else { "configuration" };
    match stands {
        Stands::Counted(Left { count, of, next_ms, full_ms }) => json!({
            "limit": limit, "counted": counted, "state": "counted", "left": count, "of": of, "period_ms": period_ms,
            "algorithm": if sliding { "sliding" } else { "rate" }, "shadow": shadow, "from": from,
            "next_ms": (next_ms != u64::MAX).then_some(next_ms), "full_ms": full_ms,
        }),
        Stands::Open => json!({ "limit": limit, "counted": counted, "state": "open", "shadow": shadow }),
        Stands::Closed => json!({ "limit": limit, "counted": counted, "state": "closed", "shadow": shadow }),
    }
}
