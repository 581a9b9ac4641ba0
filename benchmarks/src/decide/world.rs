//! A whole organisation: a bundle of any size in the gateway's own vocabulary, people, and what they ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use engine::authz::AuthzRequest;
use engine::bundle::{Bundle, BundleSources};
use engine::identity::{Identity, LOCAL_ISSUER, Principal, PrincipalKind, Scheme, principal_id};
use engine::path::CanonicalPath;
use engine::query::CanonicalQuery;
use engine::route::{Parameter, Parameters, RouteMatch};
use engine::time::UnixMillis;
use http::Method;
use serde_json::json;

use super::conditions::{KINDS, SITES};
use super::mix::{ACTIONS, Dimensions, Granted, Policies};
use super::random::Random;
use crate::Failure;

/// The seed of every world; together with the sizes it says all.
const SEED: u64 = 20_261_125;
/// Requests of a world.
const REQUESTS: usize = 512;
/// 15 June 2026, noon: the requests come around it.
const NOON: u64 = 1_781_524_800_000;
const HOUR: u64 = 3_600_000;
/// Of a hundred requests so many are for something that a grant names, by somebody who has its role.
const GRANTED: usize = 65;

/// A bundle's texts and what is asked of it.
pub(super) struct World {
    /// The bundle.
    pub sources: BundleSources,
    /// The requests.
    pub asks: Vec<Ask>,
    /// The roles above each group.
    pub groups: BTreeMap<String, BTreeSet<String>>,
}

/// One request as the gateway has it when it looks for the route.
#[derive(Clone)]
pub(super) struct Ask {
    /// Who asks.
    pub identity: Identity,
    method: Method,
    path: CanonicalPath,
    query: CanonicalQuery,
    site: u8,
    tls: bool,
    now: UnixMillis,
}

impl World {
    /// The one of these sizes.
    ///
    /// # Errors
    /// A path or query is none: a fault of the generator.
    pub(super) fn generate(sizes: &Dimensions) -> Result<Self, Failure> {
        let mut random = Random::seeded(SEED);
        let groups: BTreeMap<String, BTreeSet<String>> = (0..sizes.groups)
            .map(|number| (format!("g{number}"), some(&mut random, "r", sizes.roles, 1, 2)))
            .collect();
        let people: Vec<Identity> = (0..sizes.people)
            .map(|number| {
                let roles = some(&mut random, "r", sizes.roles, 1, 2);
                person(number, roles, some(&mut random, "g", sizes.groups, 0, 2), 1 + random.below(2))
            })
            .collect();
        let Policies { mut files, granted, .. } = Policies::generate(sizes, &mut random);
        files.insert("schema.cedarschema".to_owned(), SCHEMA.to_owned());
        files.insert("entities/all.json".to_owned(), entities(sizes, &groups));
        for module in 0..sizes.modules {
            files.insert(format!("routes/m{module}.toml"), routes(module));
        }
        let asks = (0..REQUESTS).map(|_| ask(&mut random, sizes, &people, &granted));
        let asks = asks.collect::<Result<_, _>>()?;
        Ok(Self { sources: BundleSources { files }, asks, groups })
    }
}

impl Ask {
    /// The route that this bundle has for it.
    ///
    /// # Errors
    /// It has none: a fault of the generator.
    pub(super) fn matched(&self, bundle: &Bundle) -> Result<RouteMatch, Failure> {
        let found = bundle.routes().find(&self.method, &self.path);
        found.ok_or_else(|| format!("no route for {} {}", self.method, self.path.as_str()).into())
    }

    /// Its parameters, those of the path first.
    #[must_use]
    pub(super) fn parameters(&self, matched: &RouteMatch) -> Parameters {
        matched.asked(&self.query)
    }

    /// What policy is asked. `from` tells clients of one site apart and changes no condition.
    pub(super) fn request<'a>(
        &'a self,
        matched: &'a RouteMatch,
        parameters: &'a [Parameter],
        from: u16,
    ) -> AuthzRequest<'a> {
        let [high, low] = from.to_be_bytes();
        AuthzRequest {
            identity: &self.identity,
            action: &matched.route.action,
            module: &matched.route.module,
            hint: matched.route.hint,
            parameters,
            class: &matched.route.class,
            method: self.method.as_str(),
            client: IpAddr::V4(Ipv4Addr::new(10, self.site, high, low)),
            tls: self.tls,
            now: self.now,
        }
    }
}

fn ask(
    random: &mut Random,
    sizes: &Dimensions,
    people: &[Identity],
    granted: &[Granted],
) -> Result<Ask, Failure> {
    let any = Granted {
        role: random.below(sizes.roles),
        action: random.of(&ACTIONS),
        module: random.below(sizes.modules),
    };
    let wanted = if random.percent(GRANTED) { random.of(granted) } else { any };
    let role = format!("r{}", wanted.role);
    let holds = |identity: &&Identity| match identity {
        Identity::Known(principal) => principal.roles.contains(&role),
        Identity::Anonymous => false,
    };
    let holders: Vec<&Identity> = people.iter().filter(holds).collect();
    let asking = holders.get(random.below(holders.len())).copied();
    let asking = asking.or_else(|| people.get(random.below(people.len()))).ok_or("nobody asks")?;
    let items = format!("/api/m{}/items", wanted.module);
    let one = format!("{items}/i{}", random.below(100_000));
    let (method, path) = match wanted.action {
        "items.list" => (Method::GET, items),
        "items.read" => (Method::GET, one),
        "items.export" => (Method::GET, format!("{one}/export")),
        "items.create" => (Method::POST, items),
        "items.update" => (Method::PUT, one),
        _ => (Method::DELETE, one),
    };
    let malformed = |fault: engine::refusal::Malformed| format!("{fault:?}");
    Ok(Ask {
        identity: asking.clone(),
        method,
        path: CanonicalPath::parse(path.as_bytes()).map_err(malformed)?,
        query: CanonicalQuery::parse(Some(query(random, sizes).as_bytes())).map_err(malformed)?,
        site: u8::try_from(random.below(SITES)).unwrap_or_default(),
        tls: random.percent(90),
        now: UnixMillis(NOON + u64::try_from(random.below(12)).unwrap_or_default() * HOUR),
    })
}

fn query(random: &mut Random, sizes: &Dimensions) -> String {
    let mut parts = Vec::new();
    for (name, values, percent) in
        [("team", sizes.teams, 80), ("project", sizes.projects, 50), ("label", sizes.teams, 30)]
    {
        let value = random.below(values);
        if random.percent(percent) {
            parts.push(format!("{name}={name}-{value}"));
        }
    }
    let (kind, amount) = (random.of(&KINDS), random.below(10_000));
    if random.percent(50) {
        parts.push(format!("kind={kind}"));
    }
    if random.percent(40) {
        parts.push(format!("amount={amount}"));
    }
    parts.join("&")
}

fn some(random: &mut Random, prefix: &str, of: usize, least: usize, most: usize) -> BTreeSet<String> {
    let count = least + random.below(most - least + 1);
    (0..count).map(|_| format!("{prefix}{}", random.below(of))).collect()
}

fn person(number: usize, roles: BTreeSet<String>, groups: BTreeSet<String>, assurance: usize) -> Identity {
    let name = format!("person-{number}");
    Identity::Known(Arc::new(Principal {
        kind: PrincipalKind::User,
        id: principal_id(PrincipalKind::User, LOCAL_ISSUER, &name),
        name,
        roles,
        groups,
        scopes: BTreeSet::new(),
        scheme: Scheme::Session,
        assurance: u8::try_from(assurance).unwrap_or(1),
        suspended: false,
        authenticated_at: UnixMillis(NOON - HOUR),
        credential_id: None,
        expires_at: None,
    }))
}

fn entities(sizes: &Dimensions, groups: &BTreeMap<String, BTreeSet<String>>) -> String {
    let entity = |kind: &str, id: String, parents: Vec<serde_json::Value>| json!({ "uid": { "type": kind, "id": id }, "attrs": {}, "parents": parents });
    let parent = |kind: &str, id: &str| json!({ "type": kind, "id": id });
    let mut all: Vec<serde_json::Value> =
        (0..sizes.roles).map(|number| entity("Role", format!("r{number}"), Vec::new())).collect();
    for (name, roles) in groups {
        let parents = roles.iter().map(|role| parent("Role", role)).collect();
        all.push(entity("Group", name.clone(), parents));
    }
    for area in 0..sizes.modules.div_ceil(10) {
        all.push(entity("Module", format!("area{area}"), Vec::new()));
    }
    for module in 0..sizes.modules {
        let area = parent("Module", &format!("area{}", module / 10));
        all.push(entity("Module", format!("m{module}"), vec![area]));
    }
    serde_json::Value::Array(all).to_string()
}

fn routes(module: usize) -> String {
    let query = "query = { team = \"slug\", project = \"slug\", label = \"slug\", kind = \"slug\", amount = \"int\" }";
    let mut text = format!(
        "module = \"m{module}\"\nupstream = \"botserver\"\naccept = [\"session\", \"api_key\"]\n\
         class = \"standard\"\nroutes = [\n"
    );
    for (on, action, more) in [
        ("GET", "items.list", ""),
        ("GET", "items.read", "/:id"),
        ("GET", "items.export", "/:id/export"),
        ("POST", "items.create", ""),
        ("PUT", "items.update", "/:id"),
        ("DELETE", "items.delete", "/:id"),
    ] {
        let class = if action == "items.export" { "class = \"files\", " } else { "" };
        // Writing to a text cannot fail.
        writeln!(
            text,
            "  {{ on = \"{on} /api/m{module}/items{more}\", action = \"{action}\", {class}{query} }},"
        )
        .ok();
    }
    text + "]\n\n[parameters]\nid = \"slug\"\n"
}

/// The gateway's vocabulary with every attribute that it supplies.
pub(super) const SCHEMA: &str = r#"
entity Role;
entity Group in [Role];
entity User in [Group, Role] { suspended: Bool, name: String, authenticated_at: datetime };
entity Service in [Role] { suspended: Bool, name: String, authenticated_at: datetime };
entity Operator;
entity Anonymous;
entity Module in [Module];
type Parameters =
  { id?: String, team?: String, project?: String, label?: String, kind?: String, amount?: Long };
type Request = {
  method: String, client: ipaddr, time: datetime, assurance: Long, tls: Bool, class: String,
  scopes: Set<String>, parameters: Parameters,
};
action "read";
action "write";
action "items.list", "items.read", "items.export"
  in ["read"] appliesTo { principal: [User, Service], resource: [Module], context: Request };
action "items.create", "items.update", "items.delete"
  in ["write"] appliesTo { principal: [User, Service], resource: [Module], context: Request };
"#;
