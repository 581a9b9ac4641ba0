//! From the gateway's terms to Cedar's: principal, action, resource, typed context, and the slice of entities.
//!
//! This is the long way, by Cedar's public interface, which holds everything against the schema. Decisions go the short
//! one (`prepared`), which has to come to the same.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use cedar_policy::{Context, Entities, Entity, EntityTypeName, EntityUid, Request, RestrictedExpression};

use super::AuthzRequest;
use crate::bundle::{Action, Bundle, Vocabulary, uid};
use crate::identity::{Identity, Principal, PrincipalKind};
use crate::time::UnixMillis;

/// Roles and groups that a principal may have, with all that are above them: each is a key that decisions look up.
const MEMBERSHIPS_MAX: usize = 1_000;

/// A request with the entities that policies may look at.
pub(super) struct InCedar {
    pub(super) request: Request,
    pub(super) entities: Entities,
}

impl Bundle {
    /// Translates a request and holds it against the schema.
    pub(super) fn in_cedar(&self, asked: &AuthzRequest<'_>) -> Result<InCedar, String> {
        let vocabulary = self.vocabulary();
        let action = vocabulary
            .actions
            .get(asked.action)
            .ok_or_else(|| format!("action `{}` is not in the schema", asked.action))?;
        let resource = uid(&vocabulary.types.module, asked.module);
        let context = self.context(asked)?;
        let principal = self.principal(asked.identity)?;
        let schema = Some(&vocabulary.schema);
        let request = Request::new(principal.uid(), action.uid.clone(), resource.clone(), context, schema)
            .map_err(|error| error.to_string())?;
        let resource = match self.hierarchy().entity(&resource) {
            Some(declared) => declared.clone(),
            None => Entity::with_uid(resource),
        };
        // Three entities, each with all its ancestors: policies follow attributes no further (the validator's
        // level), so nothing else can be looked at.
        let slice = [principal, resource, action.entity.clone()];
        let entities = Entities::from_entities(slice, None).map_err(|error| error.to_string())?;
        Ok(InCedar { request, entities })
    }

    /// The principal with its roles, its groups and the roles of its groups, by the bundle's own hierarchy: a
    /// group that loses a role in a new bundle loses it at the next request (threat 15).
    pub(super) fn principal(&self, identity: &Identity) -> Result<Entity, String> {
        let types = &self.vocabulary().types;
        let Identity::Known(principal) = identity else {
            return Ok(Entity::with_uid(uid(&types.anonymous, "anonymous")));
        };
        let type_name = self.vocabulary().type_of(identity);
        let own = uid(type_name, &self.principal_id(principal));
        let mut attributes = HashMap::new();
        for name in self.vocabulary().attributes(type_name) {
            if let Some(value) = attribute(principal, name) {
                attributes.insert(name.to_owned(), value);
            }
        }
        let memberships = self.memberships(principal);
        if memberships.len() > MEMBERSHIPS_MAX {
            return Err(format!(
                "{own} has {} roles and groups, at most {MEMBERSHIPS_MAX}",
                memberships.len()
            ));
        }
        Entity::new(own, attributes, memberships).map_err(|error| error.to_string())
    }

    fn principal_id(&self, principal: &Principal) -> String {
        match principal.kind {
            PrincipalKind::User | PrincipalKind::Service => principal.id.to_string(),
            // Policies name operators by the user id that the kernel tells.
            PrincipalKind::Operator => principal.name.clone(),
        }
    }

    pub(super) fn memberships(&self, principal: &Principal) -> HashSet<EntityUid> {
        let types = &self.vocabulary().types;
        let roles = principal.roles.iter().map(|name| uid(&types.role, name));
        let groups = principal.groups.iter().map(|name| uid(&types.group, name));
        let direct: Vec<EntityUid> = match principal.kind {
            PrincipalKind::User => roles.chain(groups).collect(),
            PrincipalKind::Service => roles.collect(),
            PrincipalKind::Operator => Vec::new(),
        };
        let mut memberships = HashSet::new();
        for membership in direct {
            // A role that the bundle does not declare is no role: nothing is inherited from a name alone.
            let Some(ancestors) = self.hierarchy().ancestors(&membership) else { continue };
            memberships.extend(ancestors.cloned());
            memberships.insert(membership);
        }
        memberships
    }

    fn context(&self, asked: &AuthzRequest<'_>) -> Result<Context, String> {
        let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
        let mut parameters = Vec::with_capacity(asked.parameters.len());
        for (name, value) in asked.parameters {
            let value = if self.is_number(asked.action, name) {
                let number = value.parse().map_err(|_| format!("parameter `{name}` is not a number"))?;
                RestrictedExpression::new_long(number)
            } else {
                text(value)
            };
            parameters.push((name.to_string(), value));
        }
        let (assurance, scopes) = match asked.identity {
            Identity::Anonymous => (0, Vec::new()),
            Identity::Known(principal) => {
                (i64::from(principal.assurance), principal.scopes.iter().map(|scope| text(scope)).collect())
            }
        };
        let parameters = RestrictedExpression::new_record(parameters).map_err(|error| error.to_string())?;
        let pairs = [
            ("method", text(asked.method)),
            ("client", address(asked.client)),
            ("time", moment(asked.now)),
            ("assurance", RestrictedExpression::new_long(assurance)),
            ("tls", RestrictedExpression::new_bool(asked.tls)),
            ("class", text(asked.class)),
            ("parameters", parameters),
            ("scopes", RestrictedExpression::new_set(scopes)),
        ];
        let pairs = pairs.into_iter().map(|(name, value)| (name.to_owned(), value));
        Context::from_pairs(pairs).map_err(|error| error.to_string())
    }
}

/// Whether Cedar finds that a request with these parameters (a name, and whether it is a number) fits the schema.
pub(super) fn fixed_part_fits(
    vocabulary: &Vocabulary,
    action: &Action,
    principal: &EntityTypeName,
    parameters: &[(String, bool)],
) -> bool {
    let text = || RestrictedExpression::new_string(String::new());
    let parameters = parameters.iter().map(|(name, number)| {
        let value = if *number { RestrictedExpression::new_long(0) } else { text() };
        (name.clone(), value)
    });
    let Ok(parameters) = RestrictedExpression::new_record(parameters) else { return false };
    let pairs = [
        ("method", text()),
        ("client", address(IpAddr::V4(Ipv4Addr::LOCALHOST))),
        ("time", moment(UnixMillis(0))),
        ("assurance", RestrictedExpression::new_long(0)),
        ("tls", RestrictedExpression::new_bool(true)),
        ("class", text()),
        ("parameters", parameters),
        ("scopes", RestrictedExpression::new_set([text()])),
    ];
    let Ok(context) = Context::from_pairs(pairs.map(|(name, value)| (name.to_owned(), value))) else {
        return false;
    };
    let (principal, module) = (uid(principal, "anonymous"), uid(&vocabulary.types.module, ""));
    Request::new(principal, action.uid.clone(), module, context, Some(&vocabulary.schema)).is_ok()
}

/// The address as policies see it. A listener for both families sees IPv4 in IPv6 clothes: one spelling, so that ranges
/// hold for it.
pub(super) fn address(client: IpAddr) -> RestrictedExpression {
    RestrictedExpression::new_ip(client.to_canonical().to_string())
}

/// The second in which something is asked: what is begun counts from its beginning, and all requests of a second share it.
pub(super) fn moment(now: UnixMillis) -> RestrictedExpression {
    datetime(UnixMillis(now.0 - now.0 % 1_000))
}

fn attribute(principal: &Principal, name: &str) -> Option<RestrictedExpression> {
    match name {
        "suspended" => Some(RestrictedExpression::new_bool(principal.suspended)),
        "name" => Some(RestrictedExpression::new_string(principal.name.clone())),
        "authenticated_at" => Some(datetime(principal.authenticated_at)),
        _ => None,
    }
}

fn datetime(moment: UnixMillis) -> RestrictedExpression {
    let mut text = String::with_capacity(24);
    moment.write_rfc3339(&mut text);
    RestrictedExpression::new_datetime(text)
}
