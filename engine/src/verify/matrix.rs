//! The matrix: every role and every route, as text that people review and diff.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use super::subject::{Answer, Subject, answer, subjects};
use crate::bundle::Bundle;
use crate::route::{Accept, COST_DEFAULT, Route, StepUp};

/// Marks stand in groups of this many, so that a column can be counted.
const GROUP: usize = 5;

/// Renders the matrix of a bundle.
///
/// A block a module; in it, routes that have one action and one row of answers stand together, and under them
/// the policies that decide and for whom. A change of one grant changes the lines that name the roles which
/// gained or lost something.
#[must_use]
pub fn matrix(bundle: &Bundle) -> String {
    let subjects = subjects(bundle);
    let mut asked =
        Asked { bundle, subjects: &subjects, known: HashMap::new(), by_parameters: by_parameters(bundle) };
    let mut modules: BTreeMap<&str, Vec<&Arc<Route>>> = BTreeMap::new();
    for route in bundle.routes().routes() {
        modules.entry(&route.module).or_default().push(route);
    }
    let mut text = String::new();
    // Writing to a string cannot fail.
    legend(&mut text, bundle, &subjects).ok();
    limits(&mut text, bundle).ok();
    for (module, mut routes) in modules {
        routes.sort_by(|a, b| {
            (&a.action, &a.pattern, a.method.as_str()).cmp(&(&b.action, &b.pattern, b.method.as_str()))
        });
        writeln!(text, "\n## {module}").ok();
        let mut rest = routes.as_slice();
        while let Some(first) = rest.first() {
            let answers = asked.row(first);
            let mut same = |route: &Route| route.action == first.action && asked.row(route) == answers;
            let end = rest.iter().position(|route| !same(route)).unwrap_or(rest.len());
            let (block, others) = rest.split_at(end);
            group(&mut text, block, &subjects, &answers).ok();
            rest = others;
        }
    }
    text
}

/// Answers, asked once for all routes that policy cannot tell apart.
struct Asked<'a> {
    bundle: &'a Bundle,
    subjects: &'a [Subject],
    known: HashMap<Key, Arc<Vec<Answer>>>,
    /// Whether some policy looks at parameters.
    by_parameters: bool,
}

/// What policy can tell routes apart by.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    action: Arc<str>,
    module: Arc<str>,
    class: Arc<str>,
    method: String,
    accept: Accept,
    step_up: Option<StepUp>,
    parameters: Vec<String>,
}

impl Asked<'_> {
    fn row(&mut self, route: &Route) -> Arc<Vec<Answer>> {
        let parameters = if self.by_parameters {
            let path = route.parameters.iter().map(|(name, kind)| format!("{name} {kind}"));
            path.chain(route.query.iter().map(|(name, kind)| format!("{name} {kind}"))).collect()
        } else {
            Vec::new()
        };
        let key = Key {
            action: Arc::clone(&route.action),
            module: Arc::clone(&route.module),
            class: Arc::clone(&route.class),
            method: route.method.to_string(),
            accept: route.accept,
            step_up: route.step_up,
            parameters,
        };
        let ask = || {
            let answers = self.subjects.iter().map(|subject| answer(self.bundle, route, &subject.identity));
            Arc::new(answers.collect())
        };
        Arc::clone(self.known.entry(key).or_insert_with(ask))
    }
}

fn by_parameters(bundle: &Bundle) -> bool {
    bundle.policies().any(|policy| policy.text.contains("parameters"))
}

fn legend(text: &mut String, bundle: &Bundle, subjects: &[Subject]) -> std::fmt::Result {
    text.push_str(
        "# Who may do what: every role and every route\n\
         #\n\
         # Generated; do not edit. One mark a role, in this order:\n",
    );
    for (nth, group) in subjects.chunks(GROUP).enumerate() {
        let names: Vec<&str> = group.iter().map(|subject| subject.name.as_str()).collect();
        writeln!(text, "#   {:>2}-{:<2} {}", nth * GROUP + 1, nth * GROUP + names.len(), names.join(" "))?;
    }
    text.push_str(
        "#\n\
         # + permit   . no grant   x forbidden by a guardrail   - credential not looked at   ! undecidable\n\
         #\n\
         # Asked with one role, one factor, over TLS, from a public address, on a weekday at noon UTC; `service` is\n\
         # an API key with every scope and the role of ordinary staff. Below the routes: which policies decide for\n\
         # whom; `all` means everyone whose credential is looked at.\n",
    );
    if bundle.routes().routes().iter().any(|route| route.step_up.is_some()) {
        text.push_str(
            "#\n\
             # On rows with a step-up people are asked for with the proof that it takes; ^ is a key, which has no other.\n",
        );
    }
    Ok(())
}

/// The limits that the bundle brings along, and which policies count in another class than the route's.
fn limits(text: &mut String, bundle: &Bundle) -> std::fmt::Result {
    let mut given: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for policy in bundle.policies() {
        if let Some(class) = &policy.limit_class {
            given.entry(class).or_default().push(&policy.id);
        }
    }
    let mut named = bundle.limits().named().peekable();
    if named.peek().is_some() {
        text.push_str("\n## limits\n\n");
    }
    for (name, limit) in named {
        let by = given.get(name).map(|ids| format!("  [given by {}]", ids.join(", "))).unwrap_or_default();
        writeln!(text, "{name} {limit}{by}")?;
    }
    Ok(())
}

fn group(
    text: &mut String,
    routes: &[&Arc<Route>],
    subjects: &[Subject],
    answers: &[Answer],
) -> std::fmt::Result {
    let Some(first) = routes.first() else { return Ok(()) };
    let kind = if first.read_only { "read" } else { "write" };
    writeln!(text, "\n{} ({kind})", first.action)?;
    let marks = marks(answers);
    for route in routes {
        let method = route.method.as_str();
        writeln!(text, "  {marks}  {method:<6} {}{}", route.pattern, notes(route))?;
    }
    let mut grouped: BTreeMap<&Answer, Vec<&str>> = BTreeMap::new();
    for (subject, answer) in subjects.iter().zip(answers) {
        grouped.entry(answer).or_default().push(&subject.name);
    }
    let looked_at: usize = grouped
        .iter()
        .filter(|(answer, _)| ***answer != Answer::NotAccepted)
        .map(|(_, names)| names.len())
        .sum();
    for (answer, names) in grouped {
        let whom = if names.len() == looked_at { "all".to_owned() } else { names.join(" ") };
        match answer {
            Answer::Permit(ids) => writeln!(text, "    permit {}: {whom}", ids.join(" + "))?,
            Answer::Forbid(ids) => writeln!(text, "    forbid {}: {whom}", ids.join(" + "))?,
            Answer::Undecidable(ids) => writeln!(text, "    error {}: {whom}", ids.join(" + "))?,
            // The longest list as a rule, and the complement of the others: the marks tell who it is.
            Answer::NoGrant if names.len() > GROUP && names.len() < looked_at => {
                writeln!(text, "    no grant: the other {}", names.len())?;
            }
            Answer::NoGrant => writeln!(text, "    no grant: {whom}")?,
            Answer::StepUp(_) => writeln!(text, "    step-up: {whom}")?,
            Answer::NotAccepted => {}
        }
    }
    Ok(())
}

fn marks(answers: &[Answer]) -> String {
    let groups = answers.chunks(GROUP).map(|group| group.iter().map(Answer::mark).collect::<String>());
    groups.collect::<Vec<_>>().join(" ")
}

/// What else the row says that a reviewer of access wants to see.
fn notes(route: &Route) -> String {
    let flags = [
        (route.accept.anonymous, "public"),
        (route.conceal, "concealed"),
        (route.audited, "audited"),
        (route.websocket, "websocket"),
        (route.sandbox, "sandbox"),
        (route.service_worker, "service worker"),
    ];
    let mut set: Vec<String> =
        flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag.to_owned()).collect();
    if route.cost != COST_DEFAULT {
        set.push(format!("costs {}", route.cost));
    }
    set.extend(route.step_up.map(|asks| format!("step-up: {asks}")));
    if set.is_empty() { String::new() } else { format!("  [{}]", set.join(", ")) }
}
