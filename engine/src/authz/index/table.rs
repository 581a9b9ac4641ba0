//! Policies by the keys of their scopes.
//!
//! A pair of a resource's key and a principal's has its policies, few of which need more room than a number, or its actions
//! side by side and each of those its policies. What a request does not have in the processor's caches costs more than
//! what is done with it, so each level is read in a line or two of them, and all of a level before the next: what is read
//! of one level is on its way together.
//!
//! Of 64 keys of actions and more (an action that scopes name by `==` and by `in` has two) a pair always has cells: its set of
//! actions says only which may be its own.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::super::condition::Node;
use super::super::scene::Scene;
use super::bucket::{Bucket, Heap};
use super::checks::{Looks, Paths};
use super::keys::Key;
use super::pairs::{Actions, Holds, Pairs, Slot};
use super::{Found, HeldKeys, Placed};

/// Policies by resource and principal, each with an action.
pub(super) type Places = BTreeMap<(Key, Key), Vec<(Key, Placed)>>;

/// An action's key with its policies.
type OfAction = (Key, Vec<Placed>);

/// So many pairs or buckets of one request stand in place. Few have more.
const TOGETHER: usize = 32;

/// All policies of an index, by their scopes.
#[derive(Debug, Default)]
pub(super) struct Table {
    pairs: Pairs,
    /// Of each pair ascending by action.
    cells: Vec<Cell>,
    heap: Heap,
}

/// An action's key under one resource's and one principal's, with its policies.
#[derive(Debug)]
struct Cell {
    action: Key,
    bucket: Bucket,
}

impl Table {
    /// The table of these, with so many keys of actions. `condition` is a policy's.
    pub(super) fn of<'c>(
        places: Places,
        actions: Key,
        condition: impl Fn(Placed) -> Option<&'c Node>,
        paths: &mut Paths,
    ) -> Self {
        let (mut table, mut pairs) = (Self::default(), Vec::with_capacity(places.len()));
        let are_exact = Actions::are_exact(actions);
        for ((resource, principal), mut places) in places {
            places.sort_unstable();
            places.dedup();
            let of_actions = by_action(&places);
            if of_actions.is_empty() {
                continue;
            }
            let mut bucket = |policies: &[Placed]| {
                let policies: Vec<_> = policies.iter().map(|placed| (*placed, condition(*placed))).collect();
                Bucket::of(&policies, paths, &mut table.heap)
            };
            let holds = match same(&of_actions).filter(|_| are_exact) {
                Some(policies) => Holds::Same(bucket(policies)),
                None => {
                    let from = narrowed(table.cells.len());
                    let cell =
                        |(action, policies): &OfAction| Cell { action: *action, bucket: bucket(policies) };
                    table.cells.extend(of_actions.iter().map(cell));
                    Holds::Cells(from..narrowed(table.cells.len()))
                }
            };
            let actions = Actions::of(of_actions.iter().map(|(action, _)| *action));
            pairs.push(Slot { resource, principal, holds, actions });
        }
        table.pairs = Pairs::of(&pairs);
        table
    }

    /// Whether there is more in it than there are places: then what stands past the last cannot be found.
    pub(super) fn is_overfull(&self) -> bool {
        !has_places(self.cells.len().max(self.heap.longest()))
    }

    /// All policies that can apply to the request, some more than once.
    pub(super) fn candidates(
        &self,
        [principals, actions, resources]: HeldKeys<'_>,
        scene: &Scene<'_>,
        looks: &mut Looks<'_>,
        found: &mut Found,
    ) {
        let mut buckets: SmallVec<[&Bucket; TOGETHER]> = SmallVec::new();
        for holds in self.pairs([principals, actions, resources]) {
            let mut cells = match holds {
                Holds::Same(bucket) => {
                    buckets.push(bucket);
                    continue;
                }
                Holds::Cells(cells) => {
                    self.cells.get(widened(cells.start)..widened(cells.end)).unwrap_or_default()
                }
            };
            for action in &actions.0 {
                if let Some(cell) = seek(&mut cells, *action, |cell| cell.action) {
                    buckets.push(&cell.bucket);
                }
            }
        }
        for bucket in buckets {
            bucket.candidates(&self.heap, scene, looks, found);
        }
    }

    /// The policies of all pairs, but for most of those that have other actions alone.
    fn pairs(&self, [principals, actions, resources]: HeldKeys<'_>) -> SmallVec<[&Holds; TOGETHER]> {
        let (mut all, actions) = (SmallVec::new(), Actions::of(actions.0.iter().copied()));
        for resource in &resources.0 {
            for principal in &principals.0 {
                if let Some(holds) = self.pairs.get(*resource, *principal, actions) {
                    all.push(holds);
                }
            }
        }
        all
    }
}

/// These policies, which are sorted, by their actions.
fn by_action(places: &[(Key, Placed)]) -> Vec<OfAction> {
    let of_one = |places: &[(Key, Placed)]| {
        let (action, _) = places.first()?;
        Some((*action, places.iter().map(|(_, placed)| *placed).collect()))
    };
    places.chunk_by(|(one, _), (other, _)| one == other).filter_map(of_one).collect()
}

/// The policies of each of these actions, if all have the same.
fn same(of_actions: &[OfAction]) -> Option<&[Placed]> {
    let ((_, policies), others) = of_actions.split_first()?;
    others.iter().all(|(_, other)| other == policies).then_some(policies)
}

/// The item of a key; what stands before it is left behind, because keys are asked for ascending.
fn seek<'t, T>(rest: &mut &'t [T], key: Key, of: impl Fn(&T) -> Key) -> Option<&'t T> {
    *rest = rest.get(rest.partition_point(|item| of(item) < key)..).unwrap_or_default();
    rest.first().filter(|item| of(item) == key)
}

/// Whether so many have places of their own.
pub(super) fn has_places(count: usize) -> bool {
    u32::try_from(count).is_ok()
}

/// Places are numbered in half the memory. There are never as many as that: a policy has few, and a bundle's are bounded. If
/// there were, nothing would be said ([`Table::is_overfull`]).
pub(super) fn narrowed(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

pub(super) fn widened(place: u32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}
