//! The mix for those who use the index as a library: a vocabulary of its own, users with ten attributes, documents in
//! modules, all in one store of entities.

use std::str::FromStr as _;

use cedar_policy::{Authorizer, EntityUid, PolicyId, PolicySet, RestrictedExpression};
use engine::authz::PolicyIndex;

use super::cedar;
use super::measure::Turns;
use super::mix::Dimensions;
use super::papers::store::{Store, numbered, several};
use super::random::Random;
use super::{rows, telling};
use crate::Failure;
use crate::figures::Figure;

/// Requests.
const REQUESTS: usize = 512;
/// Documents.
const DOCUMENTS: usize = 2_000;
/// The seed.
const SEED: u64 = 20_261_126;
const ACTIONS: [&str; 6] = ["list", "read", "export", "create", "update", "delete"];
const DEPARTMENTS: usize = 20;

/// The rows of as many policies.
///
/// # Errors
/// A fault of the generator, or the index and Cedar's `Authorizer` disagree.
pub(super) fn rows(policies: usize) -> Result<Vec<Figure>, Failure> {
    telling(&format!("{policies} policies of a library's user"));
    let (sizes, mut random) = (Dimensions::of(policies, 0), Random::seeded(SEED));
    let mut granted = Vec::new();
    let mut set = PolicySet::new();
    for number in 0..policies {
        let text = policy(&mut random, &sizes, &mut granted);
        let parsed = PolicySet::from_str(&text)?;
        for policy in parsed.policies() {
            set.add(policy.new_id(PolicyId::new(format!("p{number}"))))?;
        }
    }
    let asked = world(&mut random, &sizes, &granted)?.asked()?;
    let index = PolicyIndex::new(&set);
    cedar::agree(&index, &set, &asked, rows::sample(policies, asked.len()))?;
    let permits = asked.iter().filter(|one| index.evaluate(&one.request, &one.entities).permits).count();
    let turns = Turns::default();
    let evaluated = rows::ready(&turns, &index, &asked)?;
    let unready = rows::over(&turns, &asked, |one| one.unready(&index));
    let authorizer = Authorizer::new();
    let authorized =
        rows::over(&turns, &asked, |one| authorizer.is_authorized(&one.request, &set, &one.entities));
    let row =
        |what: &str, value, unit| Figure::once(format!("decide.embedded_{what}.{policies}"), value, unit);
    Ok(vec![
        row("index_p50_ns", evaluated.p50_ns, "ns"),
        row("index_p99_ns", evaluated.p99_ns, "ns"),
        row("index_unready_p50_ns", unready.p50_ns, "ns"),
        row("authorizer_p50_ns", authorized.p50_ns, "ns"),
        row("index_allocations", evaluated.allocations, "allocations/request"),
        row("permits", permits as f64 / asked.len().max(1) as f64, "permits/request"),
    ])
}

/// Role, action and module that a grant is for.
type Granted = (usize, &'static str, usize);

fn policy(random: &mut Random, sizes: &Dimensions, granted: &mut Vec<Granted>) -> String {
    let (role, module) = (random.below(sizes.roles), random.below(sizes.modules));
    let first = random.below(ACTIONS.len());
    let named = |place: usize| ACTIONS.get(place % ACTIONS.len()).copied().unwrap_or_default();
    let list: Vec<String> =
        (0..=random.below(3)).map(|offset| format!("Action::\"{}\"", named(first + offset))).collect();
    let scope = format!("action in [{}], resource in Module::\"{module}\"", list.join(", "));
    let family = random.weighted(&[75, 15, 5, 5]);
    if family < 2 {
        granted.push((role, named(first), module));
    }
    match family {
        0 => format!("permit (principal in Role::\"{role}\", {scope});"),
        1 => format!("permit (principal in Role::\"{role}\", {scope}) when {{ {} }};", condition(random)),
        2 => format!("forbid (principal in Role::\"{role}\", {scope}) when {{ context.risk > 80 }};"),
        _ => format!(
            "forbid (principal, {scope}) when {{ context.risk > 90 && principal.department != resource.department }};"
        ),
    }
}

fn condition(random: &mut Random) -> String {
    match random.below(5) {
        0 => "context.mfa && principal.clearance >= resource.level".to_owned(),
        1 => format!("principal.department == \"department-{}\"", random.below(DEPARTMENTS)),
        2 => {
            "principal.department == resource.department && context.hour >= 8 && context.hour < 18".to_owned()
        }
        3 => format!("context.ip.isInRange(ip(\"10.{}.0.0/12\"))", random.below(2) * 16),
        _ => "context.time < datetime(\"2026-09-01\") && principal.employed".to_owned(),
    }
}

fn world(random: &mut Random, sizes: &Dimensions, granted: &[Granted]) -> Result<Store, Failure> {
    let mut store = Store::default();
    for (place, name) in ACTIONS.into_iter().enumerate() {
        let group = if place < 3 { "reading" } else { "writing" };
        store.add(cedar::uid("Action", name)?, &[], [cedar::uid("Action", group)?])?;
    }
    for role in 0..sizes.roles {
        // The last tenth of the roles are above others.
        let above =
            if role * 10 < sizes.roles { Some(numbered("Role", sizes.roles - 1 - role)?) } else { None };
        store.add(numbered("Role", role)?, &[], above)?;
    }
    for group in 0..sizes.groups {
        let roles = several(random, "Role", sizes.roles, 1)?;
        store.add(numbered("Group", group)?, &[], roles)?;
    }
    for module in 0..sizes.modules {
        store.add(numbered("Module", module)?, &[], [])?;
    }
    let mut roles: Vec<Vec<EntityUid>> = Vec::new();
    for user in 0..sizes.people {
        let held = several(random, "Role", sizes.roles, 2)?;
        let groups = several(random, "Group", sizes.groups, 1)?;
        let attributes = user_attributes(random, user);
        store.add(numbered("User", user)?, &attributes, held.iter().cloned().chain(groups))?;
        roles.push(held);
    }
    for document in 0..DOCUMENTS {
        let attributes = [
            ("department", department(random)),
            ("level", RestrictedExpression::new_long(i64::try_from(random.below(4))?)),
        ];
        // In turn, so that every module has some.
        let module = numbered("Module", document % sizes.modules)?;
        store.add(numbered("Document", document)?, &attributes, [module])?;
    }
    for _ in 0..REQUESTS {
        let wanted = if random.percent(65) { random.of(granted) } else { Granted::default() };
        let (role, action, module) = match wanted {
            (_, "", _) => (random.below(sizes.roles), random.of(&ACTIONS), random.below(sizes.modules)),
            wanted => wanted,
        };
        let role = numbered("Role", role)?;
        let holders: Vec<usize> =
            roles.iter().enumerate().filter(|(_, held)| held.contains(&role)).map(|(user, _)| user).collect();
        let user = if holders.is_empty() { random.below(sizes.people) } else { random.of(&holders) };
        let document = module + sizes.modules * random.below(DOCUMENTS / sizes.modules);
        store.ask(numbered("User", user)?, action, numbered("Document", document)?, context(random)?)?;
    }
    Ok(store)
}

fn user_attributes(random: &mut Random, user: usize) -> [(&'static str, RestrictedExpression); 10] {
    let text = |name: &str, number: usize| RestrictedExpression::new_string(format!("{name}-{number}"));
    let number = |number: usize| RestrictedExpression::new_long(i64::try_from(number).unwrap_or_default());
    [
        ("name", text("person", user)),
        ("mail", text("mail", user)),
        ("department", department(random)),
        ("site", text("site", random.below(8))),
        ("clearance", number(random.below(4))),
        ("level", number(random.below(10))),
        ("employed", RestrictedExpression::new_bool(random.percent(90))),
        ("contractor", RestrictedExpression::new_bool(random.percent(20))),
        ("since", number(2_000 + random.below(26))),
        (
            "tags",
            RestrictedExpression::new_set((0..3).map(|_| text("tag", random.below(30))).collect::<Vec<_>>()),
        ),
    ]
}

fn department(random: &mut Random) -> RestrictedExpression {
    RestrictedExpression::new_string(format!("department-{}", random.below(DEPARTMENTS)))
}

fn context(random: &mut Random) -> Result<Vec<(String, RestrictedExpression)>, Failure> {
    let number = |number: usize| i64::try_from(number).map(RestrictedExpression::new_long);
    let method = random.of(&["GET", "POST", "PUT", "DELETE"]);
    let address = format!("10.{}.0.{}", random.below(32), 1 + random.below(250));
    let pairs = [
        ("ip", RestrictedExpression::new_ip(address)),
        ("method", RestrictedExpression::new_string(method.to_owned())),
        ("mfa", RestrictedExpression::new_bool(random.percent(60))),
        ("hour", number(random.below(24))?),
        ("time", RestrictedExpression::new_datetime("2026-06-15T12:00:00.000Z")),
        ("risk", number(random.below(100))?),
    ];
    Ok(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}
