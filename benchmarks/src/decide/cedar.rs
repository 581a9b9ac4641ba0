//! The same policies and requests in Cedar's own terms: for the index alone, for Cedar's `Authorizer`, and to hold the
//! two against each other.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hint::black_box;
use std::str::FromStr;
use std::sync::Arc;

use cedar_policy::{
    Authorizer, Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicyId, PolicySet, Request,
    RestrictedExpression,
};
use engine::authz::{AuthzRequest, PolicyIndex, Ready, ReadyRequest, Verdict};
use engine::identity::Identity;
use gateway::clock;

use super::world::World;
use crate::Failure;

/// A request with the entities that policies may look at.
pub(super) struct Asked {
    /// The request.
    pub request: Request,
    /// The entities; in a generated world principal, resource and action, each with all its ancestors.
    pub entities: Arc<Entities>,
}

impl Asked {
    /// Its principal, action and resource.
    pub(super) fn names(&self) -> Option<[&EntityUid; 3]> {
        let Self { request, .. } = self;
        Some([request.principal()?, request.action()?, request.resource()?])
    }

    /// The same as an index knows them.
    ///
    /// # Errors
    /// Something of it is left open: a fault of the generator.
    pub(super) fn ready<'i>(&self, index: &'i PolicyIndex) -> Result<[Ready<'i>; 3], Failure> {
        index.parts(&self.request, &self.entities).ok_or_else(|| "a request that is left open".into())
    }

    /// What the index says of it.
    pub(super) fn by<'i>(
        &self,
        index: &'i PolicyIndex,
        [principal, action, resource]: [&Ready<'_>; 3],
    ) -> Option<Verdict<'i>> {
        let (context, entities) = (self.request.context()?, &*self.entities);
        Some(named(index.evaluate_ready(ReadyRequest { principal, action, resource, context, entities })))
    }

    /// The same, with everything of it found out anew.
    pub(super) fn unready<'i>(&self, index: &'i PolicyIndex) -> Verdict<'i> {
        named(index.evaluate(&self.request, &self.entities))
    }
}

/// Reads which policies it names, as whoever writes that down does: an index tells of ids where they are, and reads none.
fn named(verdict: Verdict<'_>) -> Verdict<'_> {
    for id in verdict.determining.iter().chain(verdict.erring.iter()) {
        black_box(id.bytes().fold(0, |all, byte| all ^ byte));
    }
    verdict
}

/// The policies of a world under their ids.
///
/// # Errors
/// One does not parse.
pub(super) fn policies(world: &World) -> Result<PolicySet, Failure> {
    let mut all = PolicySet::new();
    for text in world.sources.files.iter().filter(|(path, _)| path.ends_with(".cedar")).map(|(_, text)| text)
    {
        for policy in PolicySet::from_str(text)?.policies() {
            let id = policy.annotation("id").ok_or("a policy without an id")?;
            all.add(policy.new_id(PolicyId::new(id)))?;
        }
    }
    Ok(all)
}

/// A request of the gateway as Cedar takes it.
///
/// # Errors
/// A fault of the generator.
pub(super) fn asked(asked: &AuthzRequest<'_>, world: &World) -> Result<Asked, Failure> {
    let Identity::Known(person) = asked.identity else { return Err("nobody asks".into()) };
    let mut above: BTreeSet<EntityUid> = BTreeSet::new();
    for role in &person.roles {
        above.insert(uid("Role", role)?);
    }
    for group in &person.groups {
        above.insert(uid("Group", group)?);
        for role in world.groups.get(group).into_iter().flatten() {
            above.insert(uid("Role", role)?);
        }
    }
    let own = uid("User", &person.id.to_string())?;
    let attributes = [
        ("suspended", RestrictedExpression::new_bool(person.suspended)),
        ("name", RestrictedExpression::new_string(person.name.clone())),
        ("authenticated_at", RestrictedExpression::new_datetime(clock::rfc3339(person.authenticated_at))),
    ];
    let attributes: HashMap<String, RestrictedExpression> =
        attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let action = uid("Action", asked.action)?;
    let module: usize = asked.module.trim_start_matches('m').parse()?;
    let module_uid = uid("Module", asked.module)?;
    let group = if asked.method == "GET" { "read" } else { "write" };
    let above_module = HashSet::from([uid("Module", &format!("area{}", module / 10))?]);
    let entities = [
        Entity::new(own.clone(), attributes, above.into_iter().collect())?,
        Entity::new_no_attrs(module_uid.clone(), above_module),
        Entity::new_no_attrs(action.clone(), HashSet::from([uid("Action", group)?])),
    ];
    let request = Request::new(own, action, module_uid, context(asked, person.assurance)?, None)?;
    Ok(Asked { request, entities: Arc::new(Entities::from_entities(entities, None)?) })
}

fn context(asked: &AuthzRequest<'_>, assurance: u8) -> Result<Context, Failure> {
    let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
    let mut parameters = Vec::new();
    for (name, value) in asked.parameters {
        let value =
            if &**name == "amount" { RestrictedExpression::new_long(value.parse()?) } else { text(value) };
        parameters.push((name.to_string(), value));
    }
    let pairs = [
        ("method", text(asked.method)),
        ("client", RestrictedExpression::new_ip(asked.client.to_string())),
        ("time", RestrictedExpression::new_datetime(clock::rfc3339(asked.now))),
        ("assurance", RestrictedExpression::new_long(i64::from(assurance))),
        ("tls", RestrictedExpression::new_bool(asked.tls)),
        ("class", text(asked.class)),
        ("parameters", RestrictedExpression::new_record(parameters)?),
        ("scopes", RestrictedExpression::new_set([])),
    ];
    Ok(Context::from_pairs(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)))?)
}

/// An entity's name.
///
/// # Errors
/// The type is no name.
pub(super) fn uid(kind: &str, id: &str) -> Result<EntityUid, Failure> {
    Ok(EntityUid::from_type_name_and_id(EntityTypeName::from_str(kind)?, EntityId::new(id)))
}

/// What Cedar's `Authorizer` says, in the index's terms.
pub(super) fn authorized(policies: &PolicySet, asked: &Asked) -> Verdict<'static> {
    Verdict::from(&Authorizer::new().is_authorized(&asked.request, policies, &asked.entities))
}

/// Holds the index against the `Authorizer` for the first `sample` requests.
///
/// # Errors
/// They differ in decision, reasons or errors: then nothing that is measured means anything.
pub(super) fn agree(
    index: &PolicyIndex,
    policies: &PolicySet,
    asked: &[Asked],
    sample: usize,
) -> Result<(), Failure> {
    for (number, one) in asked.iter().take(sample).enumerate() {
        let (found, right) = (index.evaluate(&one.request, &one.entities), authorized(policies, one));
        let ready = one.by(index, one.ready(index)?.each_ref());
        if found != right || ready.as_ref() != Some(&right) {
            return Err(
                format!("request {number}: the index says {found:?} and {ready:?}, Cedar {right:?}").into()
            );
        }
    }
    Ok(())
}
