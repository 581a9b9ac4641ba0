//! The rows of one generated bundle.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cedar_policy::{Authorizer, EntityUid};
use engine::authz::{Decision, PolicyIndex, Ready};
use engine::bundle::Bundle;

use super::cedar::{self, Asked};
use super::measure::{Cost, Turns, cost, cost_of_arriving};
use super::memory::Memory;
use super::mix::Dimensions;
use super::telling;
use super::world::{Ask, World};
use crate::Failure;
use crate::figures::Figure;

/// How long one row is measured for.
const BUDGET: Duration = Duration::from_millis(1_500);
/// Policies that the `Authorizer` evaluates while the index is held against it: the more there are, the fewer requests.
const AGREED: usize = 400_000;

/// A bundle's requests stand on the stack of the thread that measures it.
const STACK: usize = 16 * 1024 * 1024;

/// The rows of bundles of all these sizes, measured side by side while this memory is quiet.
///
/// # Errors
/// One does not load, or the index and Cedar's `Authorizer` disagree.
pub(super) fn side_by_side(all: &[Dimensions], memory: &Arc<Memory>) -> Result<Vec<Figure>, Failure> {
    let turns = Turns::while_quiet(Arc::clone(memory));
    let rows = std::thread::scope(|scope| {
        let turns = &turns;
        let start = |sizes| {
            let thread = std::thread::Builder::new().stack_size(STACK);
            Ok(thread.spawn_scoped(scope, move || of(sizes, turns))?)
        };
        let started: Vec<_> = all.iter().map(start).collect::<Result<_, Failure>>()?;
        let ended = started.into_iter().map(|row| row.join().map_err(|_panic| "a row panicked")?);
        ended.collect::<Result<Vec<_>, Failure>>()
    });
    Ok(rows?.into_iter().flatten().collect())
}

fn of(sizes: &Dimensions, turns: &Turns) -> Result<Vec<Figure>, Failure> {
    let turn = turns.take();
    let Dimensions { policies: count, unscoped_percent, .. } = *sizes;
    telling(&format!("{count} policies, {unscoped_percent} % of them unscoped"));
    let world = World::generate(sizes)?;
    let bundle = loaded(&world)?;
    drop(turn);
    let whole = decisions(turns, &bundle, &world)?;
    let turn = turns.take();
    let asked = in_cedar(&bundle, &world)?;
    let sample = sample(count, asked.len());
    // What the gateway says is what Cedar says of the same policies.
    let said: Vec<bool> =
        world.asks.iter().map(|ask| decided(&bundle, ask, 0)).collect::<Result<_, Failure>>()?;
    drop(bundle);
    let policies = cedar::policies(&world)?;
    let index = PolicyIndex::new(&policies);
    cedar::agree(&index, &policies, &asked, sample)?;
    for (number, (one, permitted)) in asked.iter().zip(&said).enumerate() {
        if index.evaluate(&one.request, &one.entities).permits != *permitted {
            return Err(format!("request {number}: the bundle and its policies disagree").into());
        }
    }
    drop(turn);
    let evaluated = ready(turns, &index, &asked)?;
    let unready = over(turns, &asked, |one| one.unready(&index));
    let authorizer = Authorizer::new();
    let authorized =
        over(turns, &asked, |one| authorizer.is_authorized(&one.request, &policies, &one.entities));
    let permits = said.iter().filter(|permitted| **permitted).count() as f64 / said.len().max(1) as f64;
    let row = |what: &str, value, unit| Figure::once(name(sizes, what), value, unit);
    Ok(vec![
        row("p50_ns", whole.p50_ns, "ns"),
        row("p99_ns", whole.p99_ns, "ns"),
        row("index_p50_ns", evaluated.p50_ns, "ns"),
        row("index_p99_ns", evaluated.p99_ns, "ns"),
        row("index_unready_p50_ns", unready.p50_ns, "ns"),
        row("authorizer_p50_ns", authorized.p50_ns, "ns"),
        row("authorizer_requests", authorized.requests as f64, "requests"),
        row("allocations", whole.allocations, "allocations/request"),
        row("index_allocations", evaluated.allocations, "allocations/request"),
        row("permits", permits, "permits/request"),
    ])
}

/// For how many requests the index is held against the `Authorizer`.
#[must_use]
pub(super) fn sample(policies: usize, requests: usize) -> usize {
    (AGREED / policies.max(1)).clamp(4, requests.max(4))
}

/// `decide.p50_ns.1000`, `decide.unscoped5_p50_ns.1000`.
fn name(sizes: &Dimensions, what: &str) -> String {
    match sizes.unscoped_percent {
        0 => format!("decide.{what}.{}", sizes.policies),
        percent => format!("decide.unscoped{percent}_{what}.{}", sizes.policies),
    }
}

/// The bundle of a world.
///
/// # Errors
/// Its first faults.
pub(super) fn loaded(world: &World) -> Result<Bundle, Failure> {
    Bundle::load(&world.sources).map_err(|faults| {
        let told: Vec<String> = faults.iter().take(3).map(ToString::to_string).collect();
        told.join("\n").into()
    })
}

/// From route match to decision. Each request comes from an address of its own, and keeps it as clients do. Its HTTP fields
/// were parsed a moment before, as in the gateway: who waits for memory is the decision, for what it looks up.
fn decisions(turns: &Turns, bundle: &Bundle, world: &World) -> Result<Cost, Failure> {
    for (ask, from) in world.asks.iter().zip(0..) {
        decided(bundle, ask, from)?;
    }
    let numbered: Vec<(&Ask, u16)> = world.asks.iter().zip(0..).collect();
    let arrive = |number: usize| numbered.get(number).map(|(ask, from)| ((*ask).clone(), *from));
    let decided =
        |arrived: &Option<(Ask, u16)>| arrived.as_ref().map(|(ask, from)| decided(bundle, ask, *from));
    Ok(cost_of_arriving(turns, numbered.len(), BUDGET, arrive, decided))
}

/// Whether a request is permitted, from its HTTP fields.
///
/// # Errors
/// No route has it, or it cannot be decided: faults of the generator.
pub(super) fn decided(bundle: &Bundle, ask: &Ask, from: u16) -> Result<bool, Failure> {
    let matched = ask.matched(bundle)?;
    let parameters = ask.parameters(&matched);
    match bundle.decide(&ask.request(&matched, &parameters, from)) {
        Decision::Permit(_) => Ok(true),
        Decision::Deny(_) => Ok(false),
        Decision::Undecidable { erring } => Err(format!("undecidable: {}", erring.join(", ")).into()),
    }
}

/// The requests of a world in Cedar's terms.
///
/// # Errors
/// A fault of the generator.
pub(super) fn in_cedar(bundle: &Bundle, world: &World) -> Result<Vec<Asked>, Failure> {
    let translated = world.asks.iter().map(|ask| {
        let matched = ask.matched(bundle)?;
        let parameters = ask.parameters(&matched);
        cedar::asked(&ask.request(&matched, &parameters, 0), world)
    });
    translated.collect()
}

/// The index and the evaluation alone: who asks for what is known to the index, each once for all requests, as a bundle
/// knows it.
///
/// # Errors
/// A fault of the generator.
pub(super) fn ready(turns: &Turns, index: &PolicyIndex, asked: &[Asked]) -> Result<Cost, Failure> {
    let mut known: HashMap<(usize, &EntityUid), Rc<Ready<'_>>> = HashMap::new();
    let mut all: Vec<(&Asked, [Rc<Ready<'_>>; 3])> = Vec::with_capacity(asked.len());
    for one in asked {
        let [principal, action, resource] = one.names().ok_or("a request that is left open")?;
        let [by, what, of] = one.ready(index)?.map(Rc::new);
        let mut once = |part, name, ready| Rc::clone(known.entry((part, name)).or_insert(ready));
        all.push((one, [once(0, principal, by), once(1, action, what), once(2, resource, of)]));
    }
    Ok(cost(turns, all.len(), BUDGET, |number| {
        all.get(number).map(|(one, ready)| one.by(index, ready.each_ref().map(|ready| &**ready)))
    }))
}

/// What asking for each of these costs.
pub(super) fn over<T>(turns: &Turns, asked: &[Asked], call: impl Fn(&Asked) -> T) -> Cost {
    cost(turns, asked.len(), BUDGET, |number| asked.get(number).map(&call))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_bundles_are_taken_and_say_yes_and_no_as_cedar_does() {
        for unscoped in [0, 20] {
            let world = World::generate(&Dimensions::of(100, unscoped)).unwrap();
            let bundle = loaded(&world).unwrap();
            assert_eq!(bundle.policies().count(), 100);
            let said: Vec<bool> = world.asks.iter().map(|ask| decided(&bundle, ask, 0).unwrap()).collect();
            assert!(said.contains(&true) && said.contains(&false));
            let (asked, policies) = (in_cedar(&bundle, &world).unwrap(), cedar::policies(&world).unwrap());
            for (one, permitted) in asked.iter().zip(said) {
                assert_eq!(cedar::authorized(&policies, one).permits, permitted);
            }
        }
    }
}
