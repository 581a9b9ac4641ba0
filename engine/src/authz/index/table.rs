//! Policies by the keys of their scopes.
//!
//! Three levels, each one array in which the places under one key stand side by side: resources, under each of them its
//! principals, under each of those its actions. Requests have many keys of principals and few of resources, so that
//! looking up the former in one short row beats a table of all pairs; and what a request does not have in the processor's
//! caches costs more than what is done with it, so that a level is read in a line or two of them.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::condition::Node;
use super::super::scene::Scene;
use super::bucket::{Bucket, Heap};
use super::checks::{Looks, Paths};
use super::keys::Key;
use super::{Found, HeldKeys, Placed};

/// Policies by resource and principal, each with an action.
pub(super) type Places = BTreeMap<(Key, Key), Vec<(Key, Placed)>>;

/// All policies of an index, by their scopes.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Where the principals of each resource's key begin; they end where those of the next begin.
    rows: Vec<usize>,
    /// Of each resource ascending.
    principals: Vec<Entry>,
    /// Of each entry ascending.
    cells: Vec<Cell>,
    heap: Heap,
}

/// A principal's key under one resource's, with its cells.
#[derive(Debug)]
struct Entry {
    principal: Key,
    cells: Range<u32>,
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
        let mut table = Self::default();
        for ((resource, principal), mut places) in places {
            places.sort_unstable();
            places.dedup();
            // Of keys that no policy has, nothing stands here.
            table.rows.resize(widened(resource) + 1, table.principals.len());
            let from = narrowed(table.cells.len());
            for of_one_action in places.chunk_by(|(one, _), (other, _)| one == other) {
                let Some((action, _)) = of_one_action.first() else { continue };
                let policies: Vec<_> =
                    of_one_action.iter().map(|(_, placed)| (*placed, condition(*placed))).collect();
                let bucket = Bucket::of(&policies, paths, &mut table.heap);
                table.cells.push(Cell { action: *action, bucket });
            }
            table.principals.push(Entry { principal, cells: from..narrowed(table.cells.len()) });
        }
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
        for resource in &resources.0 {
            let mut row = self.row(*resource);
            for principal in &principals.0 {
                let Some(entry) = seek(&mut row, *principal, |entry| entry.principal) else { continue };
                let cells = widened(entry.cells.start)..widened(entry.cells.end);
                let mut cells = self.cells.get(cells).unwrap_or_default();
                for action in &actions.0 {
                    if let Some(cell) = seek(&mut cells, *action, |cell| cell.action) {
                        cell.bucket.candidates(&self.heap, scene, looks, found);
                    }
                }
            }
        }
    }

    fn row(&self, resource: Key) -> &[Entry] {
        let at = widened(resource);
        let Some(begin) = self.rows.get(at) else { return &[] };
        let end = self.rows.get(at + 1).copied().unwrap_or(self.principals.len());
        self.principals.get(*begin..end).unwrap_or_default()
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
