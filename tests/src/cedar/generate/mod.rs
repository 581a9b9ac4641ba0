//! Policy sets, entities and requests at the edges of what Cedar accepts.
//!
//! Everything is made of a few names and a few paths, so that policies share conditions, requests meet them, and each
//! kind of answer occurs. Most cases are loose: attributes have wrong types or are absent, guards are left out or stand
//! in the wrong place. Others are valid by a schema, or ask such policies of loose entities.

mod conditions;
mod policies;
mod source;
mod terms;
mod words;
mod world;

pub use policies::{Links, Written};
pub use source::Source;
pub use words::Words;

use std::collections::HashSet;

use cedar_policy::{Context, Entities, PolicyId, PolicySet, Request, ValidationMode};
use terms::Terms;
use world::World;

/// Policies of a set, at most: enough that many share a path, few enough that Cedar's own answer stays cheap.
const POLICIES_MAX: usize = 60;

/// One set of policies, and what is asked of it.
#[derive(Debug)]
pub struct Case {
    /// The policies one by one.
    pub written: Vec<Written>,
    /// The same as a set.
    pub policies: PolicySet,
    /// What the requests are asked with, in turn: an answer must not come from an earlier store.
    pub stores: Vec<Entities>,
    /// What is asked.
    pub requests: Vec<Request>,
    /// Whether policies, entities and requests are all valid by the schema.
    pub is_valid: bool,
}

impl Case {
    /// Makes a case with this many requests.
    #[must_use]
    pub fn generate(source: &mut Source<'_>, words: &Words, requests: usize) -> Self {
        // Sound policies, of which the schema keeps what is valid; sound facts. Each without the other, too.
        let (sound_policies, sound_facts) =
            source.one_of(&[(false, false), (false, false), (false, false), (true, true), (true, false)]);
        let mut written = write(source, words, sound_policies);
        let mut policies = set(&written);
        if sound_policies && sound_facts {
            let bad: HashSet<PolicyId> = words
                .validator
                .validate(&policies, ValidationMode::Strict)
                .validation_errors()
                .map(|error| error.policy_id().clone())
                .collect();
            if !bad.is_empty() {
                written.retain(|written| !bad.iter().any(|id| written.has_id(id)));
                policies = set(&written);
            }
        }
        let mut world = World { source, words, is_sound: sound_facts };
        let stores = vec![world.entities(), world.entities()];
        let contexts: Vec<Context> = (0..6).map(|_| world.context()).collect();
        let requests = (0..requests).map(|_| world.request(&contexts)).collect();
        Self { written, policies, stores, requests, is_valid: sound_policies && sound_facts }
    }

    /// A request, and the entities that it is asked with.
    pub fn questions(&self) -> impl Iterator<Item = (&Request, &Entities)> {
        self.requests.iter().zip(self.stores.iter().cycle())
    }
}

/// The set of these policies.
#[must_use]
pub fn set(written: &[Written]) -> PolicySet {
    let mut set = PolicySet::new();
    for written in written {
        written.add_to(&mut set);
    }
    set
}

fn write(source: &mut Source<'_>, words: &Words, is_sound: bool) -> Vec<Written> {
    // Few often enough that an answer is not always somebody's.
    let most = source.one_of(&[5, 20, 40, POLICIES_MAX]);
    let count = 1 + source.below(most);
    // Of policies that share a scope the index tells more than sixteen apart in another way than fewer.
    let is_crowded = source.once_in(3);
    let mut terms = Terms { source, is_sound, is_crowded, guards: Vec::new(), liked: Vec::new() };
    terms.choose_liked();
    let mut known = Vec::new();
    (0..count).map(|number| terms.policy(number, words, &mut known)).collect()
}
