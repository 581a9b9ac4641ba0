//! The example applications of Cedar's paper (OOPSLA 2024): a cloud drive, a code host, a task list, and the document
//! sharing of Cedar's example use cases.
//!
//! Few policies, none of which names a principal or resource in its scope: the permissions are in attributes and in the
//! hierarchy. Policies and entities are written anew after their description; the worlds are drawn by seed, with fifty
//! of each kind of entity as the paper's largest have. `drive_links` is the drive with a template's link for each share.

mod code;
mod documents;
mod drive;
pub(super) mod store;
mod tasks;

use cedar_policy::{Authorizer, PolicySet};
use engine::authz::PolicyIndex;

use super::cedar::{self, Asked};
use super::measure::Turns;
use super::{rows, telling};
use crate::Failure;
use crate::figures::Figure;

/// Requests of each workload.
const REQUESTS: usize = 512;
/// Entities of each kind.
const EACH: usize = 50;
/// The seed of every one of these worlds.
const SEED: u64 = 20_241_020;

/// Policies, and what is asked of them.
struct Workload {
    name: &'static str,
    policies: PolicySet,
    asked: Vec<Asked>,
}

/// The rows of all of them.
///
/// # Errors
/// A fault of a generator, or the index and Cedar's `Authorizer` disagree.
pub(super) fn rows() -> Result<Vec<Figure>, Failure> {
    let mut figures = Vec::new();
    let made = [drive::workload, drive::linked, code::workload, tasks::workload, documents::workload];
    for make in made {
        let Workload { name, policies, asked } = make()?;
        telling(name);
        let index = PolicyIndex::new(&policies);
        cedar::agree(&index, &policies, &asked, asked.len())?;
        let permits = asked.iter().filter(|one| index.evaluate(&one.request, &one.entities).permits).count();
        let turns = Turns::default();
        let evaluated = rows::ready(&turns, &index, &asked)?;
        let unready = rows::over(&turns, &asked, |one| one.unready(&index));
        let authorizer = Authorizer::new();
        let authorized = rows::over(&turns, &asked, |one| {
            authorizer.is_authorized(&one.request, &policies, &one.entities)
        });
        let row = |what: &str, value, unit| Figure::once(format!("decide.{name}.{what}"), value, unit);
        figures.extend([
            row("index_p50_ns", evaluated.p50_ns, "ns"),
            row("index_p99_ns", evaluated.p99_ns, "ns"),
            row("index_unready_p50_ns", unready.p50_ns, "ns"),
            row("authorizer_p50_ns", authorized.p50_ns, "ns"),
            row("authorizer_p99_ns", authorized.p99_ns, "ns"),
            row("index_allocations", evaluated.allocations, "allocations/request"),
            row("permits", permits as f64 / asked.len().max(1) as f64, "permits/request"),
        ]);
    }
    Ok(figures)
}
