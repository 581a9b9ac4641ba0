//! Policies of one scope, told apart by what their conditions demand.
//!
//! Policies without a scope would be candidates of every request. Where many share one scope, each stands under the keys of
//! one of its demands (see `atoms`), and is a candidate of requests that have one of them; where few do, `checks` holds
//! the keys beside each. Any demand will do; the one is
//! taken whose keys the fewest policies of the bucket share, but for the keys of failing.

use std::ops::Range;

use rustc_hash::FxHashMap;

use super::super::cedar_core::{EntityType, EntityUID, Literal, Open, Set, Value, ValueKind};
use super::super::condition::Node;
use super::super::scene::Scene;
use super::atoms::{self, Ask, Demand, KINDS, Key, Kind, Path};
use super::checks::{Looks, Paths, Plain};
use super::table::{narrowed, widened};
use super::{Found, Placed};

/// Policies up to which their demands are checked one by one: a check costs some nanoseconds, looking up a path in a bucket of
/// its own 20 to 50 (`decide.unscoped5_p50_ns`).
const CHECKED_MAX: usize = 16;

/// Policies of one scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bucket {
    /// One alone, which is a candidate always: most scopes have no other.
    One(Placed),
    /// In the heap.
    Few(Range<u32>),
    /// In the heap, where most are looked up.
    Many(u32),
}

/// What stands in many buckets, one after the other.
#[derive(Debug, Default)]
pub(super) struct Heap {
    /// Policies that are not looked up.
    plain: Vec<Plain>,
    grouped: Vec<Grouped>,
}

/// Policies that are looked up.
#[derive(Debug)]
struct Grouped {
    /// The others.
    plain: Range<u32>,
    groups: Vec<Group>,
    /// All that stand in groups.
    all: Vec<Placed>,
}

/// Policies by what they demand of the value at one path.
#[derive(Debug)]
struct Group {
    path: Path,
    absent: Vec<Placed>,
    present: Vec<Placed>,
    not: [Vec<Placed>; KINDS],
    equal: FxHashMap<Literal, Vec<Placed>>,
    contains: FxHashMap<Literal, Vec<Placed>>,
    within: FxHashMap<EntityUID, Vec<Placed>>,
    is: FxHashMap<EntityType, Vec<Placed>>,
}

impl Bucket {
    /// A bucket of these policies, each with its condition.
    pub(super) fn of(policies: &[(Placed, Option<&Node>)], paths: &mut Paths, heap: &mut Heap) -> Self {
        if policies.len() > CHECKED_MAX {
            let grouped = Grouped::of(policies, &mut heap.plain);
            heap.grouped.push(grouped);
            return Self::Many(narrowed(heap.grouped.len().saturating_sub(1)));
        }
        let begin = narrowed(heap.plain.len());
        for (placed, condition) in policies {
            let checks = paths.checks(&demands(*condition)).unwrap_or_default();
            if policies.len() == 1 && checks.is_empty() {
                return Self::One(*placed);
            }
            heap.put(*placed, &checks);
        }
        Self::Few(begin..narrowed(heap.plain.len()))
    }

    /// Adds the candidates of a request. Some may come more than once.
    pub(super) fn candidates(
        &self,
        heap: &Heap,
        scene: &Scene<'_>,
        looks: &mut Looks<'_>,
        found: &mut Found,
    ) {
        let (plain, grouped) = match self {
            Self::One(placed) => return one(found, *placed),
            Self::Few(plain) => (plain, None),
            Self::Many(place) => match heap.grouped.get(widened(*place)) {
                Some(grouped) => (&grouped.plain, Some(grouped)),
                None => return,
            },
        };
        let mut rest = heap.plain.get(widened(plain.start)..widened(plain.end)).unwrap_or_default();
        while let [Plain::Policy(placed, count), behind @ ..] = rest {
            let (checks, others) = behind.split_at_checked(usize::from(*count)).unwrap_or_default();
            if checks.is_empty() || looks.meet(checks) {
                one(found, *placed);
            }
            rest = others;
        }
        if let Some(grouped) = grouped {
            grouped.candidates(scene, found);
        }
    }
}

impl Heap {
    /// How many the longest of its lists holds.
    pub(super) fn longest(&self) -> usize {
        self.plain.len().max(self.grouped.len())
    }

    /// Adds a policy. One with more checks than can be counted is a candidate always.
    fn put(&mut self, placed: Placed, checks: &[Plain]) {
        let (count, checks) = u16::try_from(checks.len()).map_or((0, [].as_slice()), |count| (count, checks));
        self.plain.push(Plain::Policy(placed, count));
        self.plain.extend_from_slice(checks);
    }
}

/// What a condition demands: nothing where there is none, or where Cedar evaluates it.
fn demands(condition: Option<&Node>) -> Vec<Demand> {
    condition.map(atoms::demands).unwrap_or_default()
}

impl Grouped {
    /// Those of these policies that can be looked up; the others go to `plain`.
    fn of(policies: &[(Placed, Option<&Node>)], plain: &mut Vec<Plain>) -> Self {
        let demands: Vec<(Placed, Vec<Demand>)> =
            policies.iter().map(|(placed, condition)| (*placed, demands(*condition))).collect();
        let mut shared: FxHashMap<&Key, usize> = FxHashMap::default();
        for key in demands.iter().flat_map(|(_, demands)| demands.iter().flatten()) {
            *shared.entry(key).or_default() += 1;
        }
        // What an atom fails by is shared by all that look at the path, and hardly ever met.
        let met = |key: &&Key| !matches!(key.ask, Ask::Absent | Ask::Not(_));
        let weight = |demand: &&Demand| -> usize {
            demand.iter().filter(met).map(|key| shared.get(key).copied().unwrap_or_default()).sum()
        };
        let mut groups: FxHashMap<Path, Group> = FxHashMap::default();
        let (mut all, begin) = (Vec::new(), narrowed(plain.len()));
        for (placed, demands) in &demands {
            let Some(demand) = demands.iter().min_by_key(weight) else {
                plain.push(Plain::Policy(*placed, 0));
                continue;
            };
            all.push(*placed);
            for Key { path, ask } in demand {
                groups
                    .entry(path.clone())
                    .or_insert_with(|| Group::at(path.clone()))
                    .add(ask.clone(), *placed);
            }
        }
        let mut groups: Vec<Group> = groups.into_values().collect();
        // In the order of paths, so that the same policies make the same bucket.
        groups.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        Self { plain: begin..narrowed(plain.len()), groups, all }
    }

    fn candidates(&self, scene: &Scene<'_>, found: &mut Found) {
        let before = found.len();
        for group in &self.groups {
            if group.candidates(scene, found).is_err() {
                // Nothing can be said of what is left open: each is evaluated.
                found.truncate(before);
                add(found, &self.all);
                return;
            }
        }
    }
}

impl Group {
    fn at(path: Path) -> Self {
        Self {
            path,
            absent: Vec::new(),
            present: Vec::new(),
            not: Default::default(),
            equal: FxHashMap::default(),
            contains: FxHashMap::default(),
            within: FxHashMap::default(),
            is: FxHashMap::default(),
        }
    }

    fn add(&mut self, ask: Ask, placed: Placed) {
        let heap = match ask {
            Ask::Absent => &mut self.absent,
            Ask::Present => &mut self.present,
            Ask::Not(kind) => match self.not.get_mut(kind as usize) {
                Some(heap) => heap,
                // A kind without a place: then whatever is there.
                None => &mut self.present,
            },
            Ask::Equal(literal) => self.equal.entry(literal).or_default(),
            Ask::Contains(literal) => self.contains.entry(literal).or_default(),
            Ask::Within(uid) => self.within.entry((*uid).clone()).or_default(),
            Ask::Is(kind) => self.is.entry(kind).or_default(),
        };
        // `[1, 1].contains(x)` names it twice.
        if heap.last() != Some(&placed) {
            heap.push(placed);
        }
    }

    fn candidates(&self, scene: &Scene<'_>, found: &mut Found) -> Result<(), Open> {
        self.path.look(scene, |value| self.meeting(value, scene, found))?
    }

    fn meeting(&self, value: Option<&Value>, scene: &Scene<'_>, found: &mut Found) -> Result<(), Open> {
        let Some(value) = value else {
            add(found, &self.absent);
            return Ok(());
        };
        add(found, &self.present);
        for kind in Kind::ALL {
            let here = self.not.get(kind as usize).filter(|heap| !heap.is_empty());
            if here.is_some() && !atoms::is(value, kind) {
                extend(found, here);
            }
        }
        match value.value_kind() {
            ValueKind::Lit(literal) => {
                extend(found, self.equal.get(literal));
                if let Literal::EntityUID(uid) = literal {
                    let entity = if self.within.is_empty() { None } else { scene.entity(uid)? };
                    self.entity(uid, entity.into_iter().flat_map(|entity| entity.ancestors()), found);
                }
            }
            ValueKind::Set(set) => self.members(set, found),
            ValueKind::Record(_) | ValueKind::ExtensionValue(_) => {}
        }
        Ok(())
    }

    fn entity<'a>(&self, uid: &EntityUID, ancestors: impl Iterator<Item = &'a EntityUID>, found: &mut Found) {
        if !self.is.is_empty() {
            extend(found, self.is.get(uid.entity_type()));
        }
        if !self.within.is_empty() {
            extend(found, self.within.get(uid));
            for above in ancestors {
                extend(found, self.within.get(above));
            }
        }
    }

    /// Whichever is smaller is walked, so that a huge set in a request costs no more than the policies are.
    fn members(&self, set: &Set, found: &mut Found) {
        if self.contains.len() < set.len() {
            for (literal, heap) in &self.contains {
                if set.contains(&Value::new(literal.clone(), None)) {
                    add(found, heap);
                }
            }
            return;
        }
        for member in set.iter() {
            if let ValueKind::Lit(literal) = member.value_kind() {
                extend(found, self.contains.get(literal));
            }
        }
    }
}

fn extend(found: &mut Found, heap: Option<&Vec<Placed>>) {
    add(found, heap.map_or(&[], Vec::as_slice));
}

fn add(found: &mut Found, more: &[Placed]) {
    make_room(found, more.len());
    found.extend_from_slice(more);
}

fn one(found: &mut Found, placed: Placed) {
    make_room(found, 1);
    found.push(placed);
}

/// What has no room takes eight times as much: a request with thousands of candidates allocates three times for that, and not
/// at each doubling.
fn make_room(found: &mut Found, more: usize) {
    if found.capacity().saturating_sub(found.len()) < more {
        found.reserve(found.len().saturating_mul(7).saturating_add(more));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of a request stands in as few of the processor's lines as it may.
    #[test]
    fn what_is_read_of_many_policies_is_small() {
        assert_eq!((size_of::<Plain>(), size_of::<Bucket>()), (8, 12));
    }
}
