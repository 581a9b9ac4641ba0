//! Demands that are checked one after the other, where looking them up would cost more.
//!
//! Of few policies in one scope the keys of a demand (see `atoms`) stand beside each policy's position, with a hash in the
//! place of a literal. A request that meets none of them leaves the policy out without touching its condition, which
//! among many policies is seldom in the processor's cache. Literals of one hash are taken for equal: then the policy is
//! evaluated, which is always right.

use std::hash::BuildHasher as _;

use rustc_hash::{FxBuildHasher, FxHashMap};
use smallvec::SmallVec;

use super::super::cedar_core::{Literal, Value, ValueKind};
use super::super::scene::Scene;
use super::Placed;
use super::atoms::{self, Ask, Demand, Key, Kind, Path};

/// Paths of one index that are checked, at most: what stands at each is found out once a request, in a row of as many places.
const PATHS_MAX: usize = 64;

/// Paths that are checked, each once.
#[derive(Debug, Default)]
pub(super) struct Paths {
    all: Vec<Path>,
    places: FxHashMap<Path, u16>,
}

/// A policy that is not looked up, or one of its checks, which stand behind it: what is asked of a policy is read together,
/// because a place that is in none of the processor's caches takes longer to be read than what it says takes to be done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plain {
    /// With so many checks; it is a candidate always where it has none.
    Policy(Placed, u16),
    /// Met where nothing stands at the path of this place.
    Absent(u16),
    Present(u16),
    Not(u16, Kind),
    /// By a literal of this hash.
    Equal(u16, u32),
}

/// What stands at a path of one request.
#[derive(Clone, Copy, Debug)]
enum Stands {
    Nothing,
    /// A value of these kinds, one bit each, with its hash where it is a literal.
    Value {
        kinds: u8,
        hash: Option<u32>,
    },
    /// What is left open: any key may be met.
    Open,
}

/// What stands at the paths of one request, found out when it is asked for.
pub(super) struct Looks<'l> {
    paths: &'l Paths,
    scene: &'l Scene<'l>,
    found: SmallVec<[Option<Stands>; PATHS_MAX]>,
}

impl Paths {
    fn place(&mut self, path: &Path) -> Option<u16> {
        if let Some(place) = self.places.get(path) {
            return Some(*place);
        }
        let place = u16::try_from(self.all.len()).ok().filter(|_| self.all.len() < PATHS_MAX)?;
        self.all.push(path.clone());
        self.places.insert(path.clone(), place);
        Some(place)
    }

    /// The checks of the demand that tells most, if one can be checked.
    pub(super) fn checks(&mut self, demands: &[Demand]) -> Option<Vec<Plain>> {
        let best =
            demands.iter().filter(|demand| demand.iter().all(checkable)).min_by_key(|demand| telling(demand));
        best?.iter().map(|key| self.check(key)).collect()
    }

    fn check(&mut self, Key { path, ask }: &Key) -> Option<Plain> {
        let place = self.place(path)?;
        match ask {
            Ask::Absent => Some(Plain::Absent(place)),
            Ask::Present => Some(Plain::Present(place)),
            Ask::Not(kind) => Some(Plain::Not(place, *kind)),
            Ask::Equal(literal) => Some(Plain::Equal(place, hash(literal))),
            Ask::Contains(_) | Ask::Within(_) | Ask::Is(_) => None,
        }
    }
}

fn checkable(key: &Key) -> bool {
    matches!(key.ask, Ask::Absent | Ask::Present | Ask::Not(_) | Ask::Equal(_))
}

/// How many requests meet a demand, in the order of a guess: fewest those that name a text, a number or an entity.
fn telling(demand: &Demand) -> (usize, usize) {
    let rank = |key: &Key| match &key.ask {
        Ask::Equal(Literal::Bool(_)) => 1,
        Ask::Equal(_) => 0,
        Ask::Present => 2,
        Ask::Absent | Ask::Not(_) | Ask::Contains(_) | Ask::Within(_) | Ask::Is(_) => 0,
    };
    (demand.iter().map(rank).max().unwrap_or_default(), demand.len())
}

impl<'l> Looks<'l> {
    pub(super) fn new(paths: &'l Paths, scene: &'l Scene<'l>) -> Self {
        Self { paths, scene, found: SmallVec::new() }
    }

    /// Whether a request meets one of these checks. A policy is none: it is evaluated then, which is always right.
    pub(super) fn meet(&mut self, checks: &[Plain]) -> bool {
        checks.iter().any(|check| match *check {
            Plain::Policy(..) => true,
            Plain::Absent(place) => matches!(self.at(place), Stands::Nothing | Stands::Open),
            Plain::Present(place) => matches!(self.at(place), Stands::Value { .. } | Stands::Open),
            Plain::Not(place, kind) => match self.at(place) {
                Stands::Nothing => false,
                Stands::Value { kinds, .. } => kinds & bit(kind) == 0,
                Stands::Open => true,
            },
            Plain::Equal(place, wanted) => match self.at(place) {
                Stands::Nothing => false,
                Stands::Value { hash, .. } => hash == Some(wanted),
                Stands::Open => true,
            },
        })
    }

    fn at(&mut self, place: u16) -> Stands {
        let at = usize::from(place);
        if let Some(Some(known)) = self.found.get(at) {
            return *known;
        }
        let stands = self.paths.all.get(at).map_or(Stands::Open, |path| stands(path, self.scene));
        if self.found.len() <= at {
            self.found.resize(self.paths.all.len(), None);
        }
        if let Some(found) = self.found.get_mut(at) {
            *found = Some(stands);
        }
        stands
    }
}

fn stands(path: &Path, scene: &Scene<'_>) -> Stands {
    let stands = |value: Option<&Value>| {
        let Some(value) = value else { return Stands::Nothing };
        let kinds = Kind::ALL.into_iter().filter(|kind| atoms::is(value, *kind)).map(bit);
        let literal =
            if let ValueKind::Lit(literal) = value.value_kind() { Some(hash(literal)) } else { None };
        Stands::Value { kinds: kinds.fold(0, |all, bit| all | bit), hash: literal }
    };
    path.look(scene, stands).unwrap_or(Stands::Open)
}

const fn bit(kind: Kind) -> u8 {
    1 << kind as u8
}

/// Without a secret: whoever finds two literals of one hash makes one more policy be evaluated.
fn hash(literal: &Literal) -> u32 {
    let [_, _, _, _, high @ ..] = FxBuildHasher.hash_one(literal).to_le_bytes();
    u32::from_le_bytes(high)
}
