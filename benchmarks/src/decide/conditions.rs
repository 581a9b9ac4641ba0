//! Conditions as authors of attribute-based policies write them, in the gateway's vocabulary.
//!
//! The mixes are fixed here and by the seed, not by what an index can use: selective and non-selective tests stand in
//! any order, and some conditions have nothing that a request could be looked up by.

use super::mix::Dimensions;
use super::random::Random;

/// Values of the parameter `kind`.
pub(super) const KINDS: [&str; 6] = ["invoice", "report", "contract", "minutes", "draft", "ticket"];
/// Sites, each a network of its own: `10.SITE.0.0/16`.
pub(super) const SITES: usize = 32;
/// Shares of the unscoped families in their order in [`unscoped`], in percent.
const UNSCOPED: [usize; 10] = [20, 15, 12, 12, 10, 8, 8, 7, 5, 3];
/// The families that a forbid is made of: those that are true of few requests, or nearly all would be forbidden.
const FORBIDDING: [usize; 4] = [0, 1, 2, 7];

/// `when …` of a policy whose scope already names who and what: the 15 % of the mix.
#[must_use]
pub(super) fn scoped(random: &mut Random, sizes: &Dimensions) -> String {
    match random.below(6) {
        0 => "when { context.tls && context.assurance >= 1 }".to_owned(),
        1 => format!("when {{ {} }}", text(random, "team", sizes.teams)),
        2 => format!(
            "when {{ context.client.isInRange(ip(\"10.{}.0.0/12\")) || context.assurance >= 2 }}",
            random.below(2) * 16
        ),
        3 => "when { context.parameters has kind && [\"invoice\", \"report\", \"contract\"].contains(\
              context.parameters.kind) }"
            .to_owned(),
        4 => format!("when {{ {} }} unless {{ context.method == \"DELETE\" }}", amount(random)),
        _ => format!("when {{ context.time < {} }}", moment(random)),
    }
}

/// `when …` of a forbid on one module.
#[must_use]
pub(super) fn forbidding(random: &mut Random, sizes: &Dimensions) -> String {
    match random.below(4) {
        0 => format!("when {{ {} }}", text(random, "label", sizes.teams)),
        1 => format!("when {{ {} && context.method != \"GET\" }}", text(random, "project", sizes.projects)),
        2 => format!("when {{ {} && !context.tls }}", text(random, "team", sizes.teams)),
        _ => format!("when {{ principal.name == \"person-{}\" }}", random.below(sizes.people)),
    }
}

/// `when …` of a policy without a scope.
#[must_use]
pub(super) fn unscoped(random: &mut Random, sizes: &Dimensions, permits: bool) -> String {
    let family = if permits { random.weighted(&UNSCOPED) } else { random.of(&FORBIDDING) };
    match family {
        // A team's things, for the role that looks after them.
        0 => format!("when {{ {} && {} }}", role(random, sizes), text(random, "team", sizes.teams)),
        // Reading what belongs to a project.
        1 => format!("when {{ context.method == \"GET\" && {} }}", text(random, "project", sizes.projects)),
        // One person's delegation.
        2 => format!(
            "when {{ context.class == \"{}\" && principal.name == \"person-{}\" }}",
            random.of(&["standard", "files"]),
            random.below(sizes.people)
        ),
        // A scope that somebody wrote as a condition.
        3 => format!(
            "when {{ resource == Module::\"m{}\" && {} }}",
            random.below(sizes.modules),
            role(random, sizes)
        ),
        // Files at one site.
        4 => format!("when {{ context.tls && context.class == \"files\" && {} }}", range(random)),
        // Small sums of certain kinds.
        5 => format!(
            "when {{ context.parameters has kind && [\"{}\", \"{}\"].contains(context.parameters.kind) && {} && {} }}",
            random.of(&KINDS),
            random.of(&KINDS),
            amount(random),
            role(random, sizes)
        ),
        // Either of two roles.
        6 => format!(
            "when {{ ({} || {}) && {} }}",
            role(random, sizes),
            role(random, sizes),
            text(random, "team", sizes.teams)
        ),
        // Until a day.
        7 => format!(
            "when {{ context.time < {} && {} && {} }}",
            moment(random),
            role(random, sizes),
            text(random, "label", sizes.teams)
        ),
        // All that a role does, but for some things.
        8 => format!(
            "when {{ {} }} unless {{ context.method == \"DELETE\" || context.parameters has label }}",
            role(random, sizes)
        ),
        // Nothing that a request could be looked up by.
        _ => format!(
            "when {{ context.assurance >= 2 && {} && context.time < {} }}",
            range(random),
            moment(random)
        ),
    }
}

fn role(random: &mut Random, sizes: &Dimensions) -> String {
    format!("principal in Role::\"r{}\"", random.below(sizes.roles))
}

fn text(random: &mut Random, name: &str, values: usize) -> String {
    format!(
        "context.parameters has {name} && context.parameters.{name} == \"{name}-{}\"",
        random.below(values)
    )
}

fn amount(random: &mut Random) -> String {
    format!("context.parameters has amount && context.parameters.amount < {}", 500 + random.below(9_000))
}

fn range(random: &mut Random) -> String {
    format!("context.client.isInRange(ip(\"10.{}.0.0/16\"))", random.below(SITES))
}

/// The first of a month of 2026, so that some are past when the requests come in the middle of the year.
fn moment(random: &mut Random) -> String {
    format!("datetime(\"2026-{:02}-01\")", 1 + random.below(12))
}
