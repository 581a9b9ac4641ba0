//! What decisions need of a bundle and of those who ask often, made once: entities with all that is above them, their keys
//! in the index, and values of the context that many requests share.
//!
//! All of it belongs to one bundle and goes with it: a role that loses something in a new bundle loses it at the next
//! request (threat 15).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use cedar_policy::{Entity, EntityUid, PolicySet};
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};
use smallvec::SmallVec;
use uuid::Uuid;

use super::cedar_core::{self, EntityUID, Text, Value};
use super::index::{Held, PolicyIndex};
use super::scene::{Part, Subject};
use super::{AuthzRequest, request};
use crate::bundle::{Action, Bundle, Hierarchy, Vocabulary, uid};
use crate::identity::{Identity, Principal, PrincipalKind};
use crate::kept::Kept;
use crate::refusal::Deciding;
use crate::route::Route;
use crate::shared::Shared;
use crate::time::UnixMillis;

/// An entity with its keys in the index.
#[derive(Debug)]
pub(super) struct Known {
    uid: Arc<EntityUID>,
    /// `None` where nobody has declared it.
    entity: Option<Entity>,
    pub(super) keys: Held,
}

/// A principal, with what the context tells of it.
#[derive(Debug)]
pub(super) struct KnownPrincipal {
    pub(super) known: Known,
    pub(super) assurance: Value,
    pub(super) scopes: Value,
}

/// An action, with what requests for it have to bring.
#[derive(Debug)]
pub(super) struct KnownAction {
    pub(super) known: Known,
    /// Whether the schema gives it to principals of this kind at all.
    reach: [bool; KINDS],
    /// Whether the part of the context that the gateway supplies fits the schema.
    fits: [bool; KINDS],
    /// In the order of the schema. They are few, and looking through them costs less than a table.
    parameters: SmallVec<[(Text, Parameter); 4]>,
    /// Parameters without which no request fits.
    required: usize,
}

#[derive(Clone, Copy, Debug)]
struct Parameter {
    number: bool,
    required: bool,
}

/// Kinds of principals: nobody, people, services, operators.
const KINDS: usize = 4;

fn kind_of(identity: &Identity) -> usize {
    match identity {
        Identity::Anonymous => 0,
        Identity::Known(principal) => match principal.kind {
            PrincipalKind::User => 1,
            PrincipalKind::Service => 2,
            PrincipalKind::Operator => 3,
        },
    }
}

/// What a bundle has under names. Routes know where: a search would read the name once more, and the table on the way.
#[derive(Debug)]
struct Named<T> {
    all: Vec<(Arc<str>, T)>,
    /// Hashed without a secret: it grows with the bundle alone.
    places: FxHashMap<Arc<str>, usize>,
}

impl<T> FromIterator<(Arc<str>, T)> for Named<T> {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, T)>>(named: I) -> Self {
        let all: Vec<(Arc<str>, T)> = named.into_iter().collect();
        let places = all.iter().zip(0..).map(|((name, _), place)| (Arc::clone(name), place)).collect();
        Self { all, places }
    }
}

impl<T> Named<T> {
    /// What has this name. The same text at the same address is the same name, as long as both are borrowed.
    fn get(&self, name: &str, hint: usize) -> Option<&T> {
        let hinted = self.all.get(hint).filter(|(known, _)| std::ptr::eq(&**known, name));
        let found = hinted.or_else(|| self.all.get(*self.places.get(name)?))?;
        Some(&found.1)
    }

    /// Where this name stands, and the one text of it.
    fn place(&self, name: &str) -> Option<(usize, &Arc<str>)> {
        let place = *self.places.get(name)?;
        Some((place, &self.all.get(place)?.0))
    }
}

/// Somebody who asked, beside who that is to policies.
type Met = (Arc<Principal>, Arc<KnownPrincipal>);

/// What is made once for a bundle.
#[derive(Debug)]
pub(crate) struct Prepared {
    index: PolicyIndex,
    /// What is recorded of each policy, by its position in the index.
    deciding: Vec<Deciding>,
    actions: Named<KnownAction>,
    modules: Named<Known>,
    /// These are hashed without a secret: they grow with the bundle alone, never with what is asked for.
    roles: FxHashSet<String>,
    groups: FxHashSet<String>,
    anonymous: Arc<KnownPrincipal>,
    /// Those who asked, beside what they are known by: a changed principal is another one. By their credentials as well,
    /// or two sessions of one person would take each other's place at every request.
    ///
    /// Hashed without a secret: the ids of principals are made of SHA-1, those of credentials of random bits, so that nobody
    /// finds many of one hash; and there are never more than `kept::ENTRIES_MAX`.
    principals: Kept<(Uuid, Option<Uuid>), Met, FxBuildHasher>,
    addresses: Kept<IpAddr, Value>,
    seconds: Kept<u64, Value>,
    /// Names that the schema declares `@sensitive`. Hashed without a secret: only the schema's author has a say in it.
    sensitive: FxHashSet<String>,
}

impl Prepared {
    /// Prepares the policies, the actions and the modules of a bundle. `reason` tells why a policy decides as it does.
    pub(crate) fn of(
        policies: &PolicySet,
        vocabulary: &Vocabulary,
        hierarchy: &Hierarchy,
        numbers: &BTreeMap<String, BTreeSet<String>>,
        reason: impl Fn(&str) -> Arc<str>,
    ) -> Self {
        let index = PolicyIndex::new(policies);
        let mut reasons = Shared::default();
        let deciding = index.ids().map(|id| Deciding { id: Arc::clone(id), reason: reasons.one(reason(id)) });
        let deciding = deciding.collect();
        let actions = vocabulary.actions.iter().map(|(name, action)| {
            (Arc::from(name.as_str()), KnownAction::new(&index, vocabulary, action, numbers.get(name)))
        });
        let actions = actions.collect();
        let modules = hierarchy.all().filter(|entity| *entity.uid().type_name() == vocabulary.types.module);
        let modules = modules.map(|entity| {
            let uid = entity.uid();
            (Arc::from(uid.id().unescaped()), Known::new(&index, Part::Resource, &uid, Some(entity)))
        });
        // By name, so that the same bundle has the same places.
        let modules: BTreeMap<Arc<str>, Known> = modules.collect();
        let nobody = uid(&vocabulary.types.anonymous, "anonymous");
        let anonymous = KnownPrincipal {
            known: Known::new(&index, Part::Principal, &nobody, Some(Entity::with_uid(nobody.clone()))),
            assurance: Value::new(0, None),
            scopes: Value::empty_set(None),
        };
        Self {
            index,
            deciding,
            actions,
            modules: modules.into_iter().collect(),
            roles: hierarchy.ids(&vocabulary.types.role).into_iter().collect(),
            groups: hierarchy.ids(&vocabulary.types.group).into_iter().collect(),
            anonymous: Arc::new(anonymous),
            principals: Kept::default(),
            addresses: Kept::default(),
            seconds: Kept::default(),
            sensitive: vocabulary.sensitive.iter().cloned().collect(),
        }
    }

    /// Whether the schema declares an attribute of the context, or a parameter, of this name `@sensitive`.
    pub(crate) fn is_sensitive(&self, name: &str) -> bool {
        !self.sensitive.is_empty() && self.sensitive.contains(name)
    }

    pub(crate) fn index(&self) -> &PolicyIndex {
        &self.index
    }

    /// Tells a route where its action and its module stand, and gives it the texts by which they are known again.
    pub(crate) fn place(&self, route: &mut Route) {
        if let Some((place, name)) = self.actions.place(&route.action) {
            (route.hint.action, route.action) = (place, Arc::clone(name));
        }
        if let Some((place, name)) = self.modules.place(&route.module) {
            (route.hint.module, route.module) = (place, Arc::clone(name));
        }
    }

    pub(super) fn action(&self, asked: &AuthzRequest<'_>) -> Option<&KnownAction> {
        self.actions.get(asked.action, asked.hint.action)
    }

    pub(super) fn module(&self, asked: &AuthzRequest<'_>) -> Option<&Known> {
        self.modules.get(asked.module, asked.hint.module)
    }

    /// Whether the bundle knows a role of this name.
    pub(super) fn knows_role(&self, name: &str) -> bool {
        self.roles.contains(name)
    }

    /// Whether the bundle knows a group of this name.
    pub(super) fn knows_group(&self, name: &str) -> bool {
        self.groups.contains(name)
    }

    /// What is recorded of these policies.
    pub(super) fn deciding(&self, positions: &[super::index::Position]) -> Vec<Deciding> {
        let deciding = |position: &u32| self.deciding.get(usize::try_from(*position).ok()?).cloned();
        positions.iter().filter_map(deciding).collect()
    }

    /// The address as policies see it.
    pub(super) fn address(&self, client: IpAddr) -> Option<Value> {
        if let Some(value) = self.addresses.get(&client, |value| Some(value.clone())) {
            return Some(value);
        }
        let value = cedar_core::value(request::address(client))?;
        self.addresses.put(client, value.clone());
        Some(value)
    }

    /// The second in which the request is asked.
    pub(super) fn moment(&self, now: UnixMillis) -> Option<Value> {
        let second = now.0 / 1_000;
        if let Some(value) = self.seconds.get(&second, |value| Some(value.clone())) {
            return Some(value);
        }
        let value = cedar_core::value(request::moment(now))?;
        self.seconds.put(second, value.clone());
        Some(value)
    }
}

impl Known {
    pub(super) fn new(index: &PolicyIndex, part: Part, uid: &EntityUid, entity: Option<Entity>) -> Self {
        let uid = Arc::new(AsRef::<EntityUID>::as_ref(uid).clone());
        let keys = index.keys(part, Subject { uid: &uid, entity: entity.as_ref().map(AsRef::as_ref) });
        Self { uid, entity, keys }
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        Subject { uid: &self.uid, entity: self.entity.as_ref().map(AsRef::as_ref) }
    }
}

impl KnownAction {
    /// An action, of whose parameters the routes say which are numbers.
    fn new(
        index: &PolicyIndex,
        vocabulary: &Vocabulary,
        action: &Action,
        numbers: Option<&BTreeSet<String>>,
    ) -> Self {
        let declared = cedar_core::parameters(&vocabulary.schema, action.uid.as_ref());
        let required = declared.iter().filter(|(_, _, required)| *required).count();
        let parameters = declared.into_iter().filter_map(|(name, number, required)| {
            // Cedar wants one type for one attribute: where routes and schema differ, no value fits.
            let as_routes = numbers.is_some_and(|numbers| numbers.contains(name.as_str()));
            let number = number.filter(|number| *number == as_routes)?;
            Some((name, Parameter { number, required }))
        });
        let parameters: SmallVec<[(Text, Parameter); 4]> = parameters.collect();
        let mandatory = parameters.iter().filter(|(_, parameter)| parameter.required);
        let mandatory: Vec<(String, bool)> =
            mandatory.map(|(name, parameter)| (name.to_string(), parameter.number)).collect();
        let types = &vocabulary.types;
        let kinds = [&types.anonymous, &types.user, &types.service, &types.operator];
        let all_can_be_brought = mandatory.len() == required;
        Self {
            known: Known::new(index, Part::Action, &action.uid, Some(action.entity.clone())),
            reach: kinds.map(|kind| action.principals.contains(kind)),
            fits: kinds.map(|kind| {
                all_can_be_brought && request::fixed_part_fits(vocabulary, action, kind, &mandatory)
            }),
            parameters,
            required,
        }
    }

    pub(super) fn reaches(&self, identity: &Identity) -> bool {
        self.reach.get(kind_of(identity)) == Some(&true)
    }

    /// Whether a request for it fits the schema, as Cedar would say.
    pub(super) fn fits(&self, asked: &AuthzRequest<'_>) -> bool {
        let (mut required, mut next, mut seen) = (0, 0, 0_u64);
        for (number, (name, value)) in asked.parameters.iter().enumerate() {
            let Some((place, parameter)) = self.declared_from(next, name) else { return false };
            let twice = match u32::try_from(place).ok().and_then(|place| 1_u64.checked_shl(place)) {
                Some(bit) => {
                    let before = seen;
                    seen |= bit;
                    before == seen
                }
                None => asked.parameters.iter().take(number).any(|(before, _)| before == name),
            };
            if twice || parameter.number && value.parse::<i64>().is_err() {
                return false;
            }
            required += usize::from(parameter.required);
            next = place + 1;
        }
        required == self.required && self.fits.get(kind_of(asked.identity)) == Some(&true)
    }

    fn declared(&self, name: &str) -> Option<Parameter> {
        self.declared_from(0, name).map(|(_, parameter)| parameter)
    }

    /// What is declared of a parameter, and at which place. Those of a request mostly come in the order of the schema, so that
    /// whoever begins behind the last finds the next.
    fn declared_from(&self, begin: usize, name: &str) -> Option<(usize, Parameter)> {
        let begin = begin.min(self.parameters.len());
        let (before, behind) = self.parameters.split_at_checked(begin)?;
        let places = (begin..).zip(behind).chain((0..).zip(before));
        let mut found = places.filter(|(_, (known, _))| known == name);
        found.next().map(|(place, (_, parameter))| (place, *parameter))
    }

    pub(super) fn parameter(&self, name: &str, value: &str) -> Option<Value> {
        match self.declared(name)?.number {
            true => Some(Value::new(value.parse::<i64>().ok()?, None)),
            false => Some(Value::new(value, None)),
        }
    }
}

impl Bundle {
    /// The principal as policies see it.
    ///
    /// # Errors
    /// What does not fit, for people.
    pub(super) fn known(&self, identity: &Identity) -> Result<Arc<KnownPrincipal>, String> {
        let prepared = self.prepared();
        let Identity::Known(principal) = identity else { return Ok(Arc::clone(&prepared.anonymous)) };
        let same = |(kept, known): &Met| {
            (Arc::ptr_eq(kept, principal) || kept == principal).then(|| Arc::clone(known))
        };
        let key = (principal.id, principal.credential_id);
        if let Some(known) = prepared.principals.get(&key, same) {
            return Ok(known);
        }
        let entity = self.principal(identity)?;
        let scopes = principal.scopes.iter().map(|scope| Value::new(scope.as_str(), None));
        let known = Arc::new(KnownPrincipal {
            known: Known::new(prepared.index(), Part::Principal, &entity.uid(), Some(entity)),
            assurance: Value::new(i64::from(principal.assurance), None),
            scopes: Value::set(scopes, None),
        });
        prepared.principals.put(key, (Arc::clone(principal), Arc::clone(&known)));
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{request, spell, user};
    use super::*;
    use crate::bundle::tests::fixture::{load, sources, with};
    use crate::route::Hint;

    #[test]
    fn a_hint_is_right_or_changes_nothing() {
        // Two bundles in which the same actions stand at other places.
        let second = "action \"a.first\" in [\"read\"] appliesTo { principal: User, resource: Module, context: Facts };\naction read;";
        let bundles = [load(&sources()), load(&with("schema.cedarschema", "action read;", second))];
        let person = user(&["role:reader"]);
        let mut hinted = 0;
        for (bundle, other) in [(&bundles[0], &bundles[1]), (&bundles[1], &bundles[0])] {
            for (route, theirs) in bundle.routes().routes().iter().zip(other.routes().routes()) {
                let asked = AuthzRequest {
                    hint: route.hint,
                    action: &route.action,
                    module: &route.module,
                    ..request(&person, "", "")
                };
                // The same text at another address.
                let (prepared, copied) = (bundle.prepared(), route.action.to_string());
                assert!(std::ptr::eq(
                    prepared.action(&asked).unwrap(),
                    prepared.action(&AuthzRequest { action: &copied, ..asked.clone() }).unwrap()
                ));
                hinted += usize::from(route.hint != theirs.hint);
                let expected = spell(&bundle.decide(&asked));
                for hint in [theirs.hint, Hint::default(), Hint { action: usize::MAX, module: usize::MAX }] {
                    let decision = bundle.decide(&AuthzRequest { hint, ..asked.clone() });
                    assert_eq!(spell(&decision), expected, "{} {hint:?}", route.name);
                    // Nor does a text that is theirs.
                    let asked = AuthzRequest {
                        hint,
                        action: &theirs.action,
                        module: &theirs.module,
                        ..asked.clone()
                    };
                    assert_eq!(spell(&bundle.decide(&asked)), expected, "{} {hint:?}", route.name);
                }
            }
        }
        assert!(hinted > 0, "the places are the same in both");
    }
}
