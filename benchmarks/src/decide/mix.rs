//! The mix of policies: three quarters by role, an eighth and more with conditions, a tenth forbids.
//!
//! Of the scoped ones 75 % are grants by role, action and module, 15 % the same with a condition, and 10 % forbids on
//! one module, half of them for whoever it is and so with a condition. A share of all may be unscoped. Roles are a tenth
//! of the policies (8 to 400), modules a twentieth (8 to 300), as organisations have them: they do not grow for ever, so
//! beyond some thousand policies more and more of them concern the same role and module.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::conditions;
use super::random::Random;

/// Policies in one file, far below what a bundle takes of one.
const POLICIES_PER_FILE: usize = 1_000;
/// The six actions, in two groups.
pub(super) const ACTIONS: [&str; 6] =
    ["items.list", "items.read", "items.export", "items.create", "items.update", "items.delete"];

/// How many of everything there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dimensions {
    /// Policies.
    pub policies: usize,
    /// Of a hundred policies so many have no scope.
    pub unscoped_percent: usize,
    /// Roles.
    pub roles: usize,
    /// Modules.
    pub modules: usize,
    /// Groups, with one or two roles each.
    pub groups: usize,
    /// People.
    pub people: usize,
    /// Teams, by which parameters name things; labels are as many.
    pub teams: usize,
    /// Projects, the same.
    pub projects: usize,
}

impl Dimensions {
    /// For so many policies, of which a share is unscoped.
    #[must_use]
    pub(super) fn of(policies: usize, unscoped_percent: usize) -> Self {
        Self {
            policies,
            unscoped_percent,
            roles: (policies / 10).clamp(8, 400),
            modules: (policies / 20).clamp(8, 300),
            groups: 50,
            people: 1_000,
            teams: (policies / 10).clamp(8, 1_000),
            projects: (policies / 5).clamp(8, 2_000),
        }
    }
}

/// What a grant is for, so that requests can be made that it permits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Granted {
    /// The role's number.
    pub role: usize,
    /// The action.
    pub action: &'static str,
    /// The module's number.
    pub module: usize,
}

/// Policy files by their place in a bundle, and what the grants among them are for.
#[derive(Debug, Default)]
pub(super) struct Policies {
    /// Texts by relative path.
    pub files: BTreeMap<String, String>,
    /// What grants are for.
    pub granted: Vec<Granted>,
    grants: usize,
    guardrails: usize,
}

impl Policies {
    /// Makes them.
    #[must_use]
    pub(super) fn generate(sizes: &Dimensions, random: &mut Random) -> Self {
        let mut made = Self::default();
        // Every bundle has this one: it counts.
        let suspended = "forbid (principal, action, resource) unless { !principal.suspended };\n";
        made.add(false, suspended);
        let unscoped = sizes.policies * sizes.unscoped_percent / 100;
        for _ in 0..unscoped {
            let permits = random.percent(80);
            let condition = conditions::unscoped(random, sizes, permits);
            let effect = if permits { "permit" } else { "forbid" };
            made.add(permits, &format!("{effect} (principal, action, resource) {condition};\n"));
        }
        for _ in 1..sizes.policies.saturating_sub(unscoped) {
            match random.weighted(&[75, 15, 10]) {
                0 => made.grant(sizes, random, ""),
                1 => {
                    let condition = conditions::scoped(random, sizes);
                    made.grant(sizes, random, &condition);
                }
                _ => made.forbid(sizes, random),
            }
        }
        if made.grants == 0 {
            made.grant(sizes, random, "");
        }
        made
    }

    fn grant(&mut self, sizes: &Dimensions, random: &mut Random, condition: &str) {
        let (role, module) = (random.below(sizes.roles), random.below(sizes.modules));
        let (actions, action) = actions(random);
        let resource = match random.below(10) {
            // An area holds ten modules.
            0 => format!("resource in Module::\"area{}\"", module / 10),
            1..=4 => format!("resource in Module::\"m{module}\""),
            _ => format!("resource == Module::\"m{module}\""),
        };
        self.granted.push(Granted { role, action, module });
        self.add(
            true,
            &format!("permit (principal in Role::\"r{role}\", {actions}, {resource}) {condition};\n"),
        );
    }

    fn forbid(&mut self, sizes: &Dimensions, random: &mut Random) {
        let (actions, _) = actions(random);
        let module = random.below(sizes.modules);
        let (principal, condition) = if random.percent(50) {
            ("principal".to_owned(), conditions::forbidding(random, sizes))
        } else {
            let condition =
                if random.percent(50) { conditions::forbidding(random, sizes) } else { String::new() };
            (format!("principal in Role::\"r{}\"", random.below(sizes.roles)), condition)
        };
        let text =
            format!("forbid ({principal}, {actions}, resource == Module::\"m{module}\") {condition};\n");
        self.add(false, &text);
    }

    fn add(&mut self, permits: bool, text: &str) {
        let (folder, kind, count) = if permits {
            ("grants", "grant", &mut self.grants)
        } else {
            ("guardrails", "guard", &mut self.guardrails)
        };
        let number = *count;
        *count += 1;
        let file = self.files.entry(format!("{folder}/{:04}.cedar", number / POLICIES_PER_FILE)).or_default();
        // Writing to a text cannot fail.
        write!(file, "@id(\"{kind}.{number}\")\n@reason(\"Generated.\")\n@owner(\"benchmarks\")\n{text}")
            .ok();
    }
}

/// The action part of a scope, with one action that it covers: a group in a fifth, otherwise one to three actions.
fn actions(random: &mut Random) -> (String, &'static str) {
    let first = random.below(ACTIONS.len());
    let named = |place: usize| ACTIONS.get(place % ACTIONS.len()).copied().unwrap_or_default();
    let action = named(first);
    if random.percent(20) {
        let group = if first < 3 { "read" } else { "write" };
        return (format!("action in Action::\"{group}\""), action);
    }
    let list: Vec<String> =
        (0..=random.below(3)).map(|offset| format!("Action::\"{}\"", named(first + offset))).collect();
    (format!("action in [{}]", list.join(", ")), action)
}
