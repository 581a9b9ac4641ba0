//! Policies by the keys of their scopes.
//!
//! A pair of a resource's key and a principal's has its actions side by side, and each of those its policies, few of which
//! need more room than a number. What a request does not have in the processor's caches costs more than what is done
//! with it, so each level is read in a line or two of them, and all of a level before the next: what is read of one level
//! is on its way together.

use std::collections::BTreeMap;
use std::ops::Range;

use smallvec::SmallVec;

use super::super::condition::Node;
use super::super::scene::Scene;
use super::bucket::{Bucket, Heap};
use super::checks::{Looks, Paths};
use super::keys::Key;
use super::pairs::{Actions, Pairs, Slot};
use super::{Found, HeldKeys, Placed};

/// Policies by resource and principal, each with an action.
pub(super) type Places = BTreeMap<(Key, Key), Vec<(Key, Placed)>>;

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
    /// The table of these. `condition` is a policy's.
    pub(super) fn of<'c>(
        places: Places,
        condition: impl Fn(Placed) -> Option<&'c Node>,
        paths: &mut Paths,
    ) -> Self {
        let (mut table, mut pairs) = (Self::default(), Vec::with_capacity(places.len()));
        for ((resource, principal), mut places) in places {
            places.sort_unstable();
            places.dedup();
            let from = narrowed(table.cells.len());
            for of_one_action in places.chunk_by(|(one, _), (other, _)| one == other) {
                let Some((action, _)) = of_one_action.first() else { continue };
                let policies: Vec<_> =
                    of_one_action.iter().map(|(_, placed)| (*placed, condition(*placed))).collect();
                let bucket = Bucket::of(&policies, paths, &mut table.heap);
                table.cells.push(Cell { action: *action, bucket });
            }
            let actions = Actions::of(places.iter().map(|(action, _)| *action));
            pairs.push(Slot { resource, principal, cells: from..narrowed(table.cells.len()), actions });
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
        for cells in self.cells([principals, actions, resources]) {
            let mut cells = self.cells.get(widened(cells.start)..widened(cells.end)).unwrap_or_default();
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

    /// The cells of all pairs, but for most of those that have other actions alone.
    fn cells(&self, [principals, actions, resources]: HeldKeys<'_>) -> SmallVec<[Range<u32>; TOGETHER]> {
        let (mut cells, actions) = (SmallVec::new(), Actions::of(actions.0.iter().copied()));
        for resource in &resources.0 {
            for principal in &principals.0 {
                if let Some(found) = self.pairs.get(*resource, *principal, actions) {
                    cells.push(found.clone());
                }
            }
        }
        cells
    }
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
