//! The index and Cedar's `Authorizer` asked the same.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cedar_policy::{AuthorizationError, Authorizer, Entities, EvaluationError, PolicySet, Request, Response};
use engine::authz::{PolicyIndex, ReadyRequest, Verdict};

use super::generate::{self, Case, Written};

/// What is counted, so that a reader knows that the edges were reached: answers, sets, policies.
const NAMES: [&str; 38] = [
    "comparisons",
    "permitted",
    "forbidden",
    "neither",
    "with an erring policy",
    "permitted although one errs",
    "three or more determine",
    "error: no such entity",
    "error: no such attribute",
    "error: wrong type",
    "error: overflow",
    "error: extension",
    "sets",
    "sets with templates",
    "sets valid by the schema",
    "sets of more than 20",
    "sets with more than 16 unscoped",
    "policies",
    "links of templates",
    "policies with `==`",
    "policies with `||`",
    "policies with `in`",
    "policies with `is`",
    "policies with `is` … `in`",
    "policies with `has`",
    "policies with `has` on a path",
    "policies with `contains`",
    "policies with `containsAll`",
    "policies with `containsAny`",
    "policies with tags",
    "policies with `like`",
    "policies with `if`",
    "policies with `unless`",
    "policies with several clauses",
    "policies with arithmetic",
    "policies with extensions",
    "policies with `!`",
    "policies without a condition",
];

/// How often each of the things that matter has occurred.
#[derive(Clone, Debug)]
pub struct Seen([u64; NAMES.len()]);

impl Seen {
    /// Nothing yet.
    #[must_use]
    pub fn nothing() -> Self {
        Self([0; NAMES.len()])
    }

    /// All names with their counts.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        NAMES.iter().copied().zip(self.0)
    }

    /// How many comparisons were made.
    #[must_use]
    pub fn comparisons(&self) -> u64 {
        self.counts().find(|(name, _)| *name == "comparisons").map_or(0, |(_, count)| count)
    }

    /// Adds what another run has seen.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }

    fn count(&mut self, name: &str, times: u64) {
        let place = NAMES.iter().position(|known| *known == name);
        self.0[place.unwrap_or_else(|| panic!("`{name}` is not counted"))] += times;
    }

    fn answer(&mut self, response: &Response, verdict: &Verdict<'_>) {
        let is_erring = !verdict.erring.is_empty();
        self.count("comparisons", 1);
        self.count(
            match (verdict.permits, verdict.determining.is_empty()) {
                (true, _) => "permitted",
                (false, false) => "forbidden",
                (false, true) => "neither",
            },
            1,
        );
        self.count("with an erring policy", u64::from(is_erring));
        self.count("permitted although one errs", u64::from(is_erring && verdict.permits));
        self.count("three or more determine", u64::from(verdict.determining.len() >= 3));
        for error in response.diagnostics().errors() {
            let AuthorizationError::PolicyEvaluationError(error) = error;
            let name = match error.inner() {
                EvaluationError::EntityDoesNotExist(_) => "error: no such entity",
                EvaluationError::EntityAttrDoesNotExist(_) | EvaluationError::RecordAttrDoesNotExist(_) => {
                    "error: no such attribute"
                }
                EvaluationError::TypeError(_) => "error: wrong type",
                EvaluationError::IntegerOverflow(_) => "error: overflow",
                EvaluationError::FailedExtensionFunctionExecution(_) => "error: extension",
                _ => continue,
            };
            self.count(name, 1);
        }
    }

    fn case(&mut self, case: &Case) {
        let links = case.written.iter().map(|written| match written {
            Written::Static(_) => 0,
            Written::Linked(_, links) => links.len() as u64,
        });
        let links: u64 = links.sum();
        self.count("sets", 1);
        self.count("sets with templates", u64::from(links > 0));
        self.count("sets valid by the schema", u64::from(case.is_valid && !case.written.is_empty()));
        self.count("sets of more than 20", u64::from(case.written.len() > 20));
        let unscoped = |written: &&Written| written.to_string().contains("(principal, action, resource)");
        let unscoped = case.written.iter().filter(unscoped).count();
        self.count("sets with more than 16 unscoped", u64::from(unscoped > 16));
        self.count("policies", case.written.len() as u64);
        self.count("links of templates", links);
        for written in &case.written {
            let text = written.to_string();
            let clauses = text.matches("when {").count() + text.matches("unless {").count();
            for (name, is_there) in [
                ("policies with `==`", text.contains(" == ")),
                ("policies with `||`", text.contains(" || ")),
                ("policies with `in`", text.contains(" in ")),
                ("policies with `is`", text.contains(" is ")),
                ("policies with `is` … `in`", text.contains(" is User in ")),
                ("policies with `has`", text.contains(" has ")),
                ("policies with `has` on a path", text.contains(" has address.geo.on")),
                ("policies with `contains`", text.contains(".contains(")),
                ("policies with `containsAll`", text.contains(".containsAll(")),
                ("policies with `containsAny`", text.contains(".containsAny(")),
                ("policies with tags", text.contains("Tag(")),
                ("policies with `like`", text.contains(" like ")),
                ("policies with `if`", text.contains("(if ")),
                ("policies with `unless`", text.contains("unless {")),
                ("policies with several clauses", clauses > 1),
                (
                    "policies with arithmetic",
                    [" + ", " - ", " * ", "(-principal"].iter().any(|op| text.contains(op)),
                ),
                (
                    "policies with extensions",
                    ["decimal(", "ip(", "datetime(", "duration("].iter().any(|f| text.contains(f)),
                ),
                ("policies with `!`", text.contains("!(")),
                ("policies without a condition", clauses == 0),
            ] {
                self.count(name, u64::from(is_there));
            }
        }
    }
}

/// An answer of the index that is not Cedar's, with as little as shows it.
#[derive(Debug)]
pub struct Difference {
    written: Vec<Written>,
    request: Request,
    entities: Entities,
}

/// What the `Authorizer` says, in the index's form.
#[must_use]
pub fn by_cedar(policies: &PolicySet, request: &Request, entities: &Entities) -> Verdict<'static> {
    Verdict::from(&Authorizer::new().is_authorized(request, policies, entities))
}

/// What the index says, or nothing where it panics: that is no answer of Cedar's either. No more is it one where the same
/// request with entities that were made ready before is answered otherwise.
fn by_index<'i>(index: &'i PolicyIndex, request: &Request, entities: &Entities) -> Option<Verdict<'i>> {
    let both = || (index.evaluate(request, entities), when_ready(index, request, entities));
    let (found, ready) = catch_unwind(AssertUnwindSafe(both)).ok()?;
    ready.filter(|ready| *ready == found)
}

fn when_ready<'i>(index: &'i PolicyIndex, request: &Request, entities: &Entities) -> Option<Verdict<'i>> {
    let [principal, action, resource] = &index.parts(request, entities)?;
    let context = request.context()?;
    Some(index.evaluate_ready(ReadyRequest { principal, action, resource, context, entities }))
}

fn built(policies: &PolicySet) -> Option<PolicyIndex> {
    catch_unwind(AssertUnwindSafe(|| PolicyIndex::new(policies))).ok()
}

/// Asks everything of a case, and counts it.
///
/// # Errors
/// The first difference, made small.
pub fn compare(case: &Case, seen: &mut Seen) -> Result<(), Box<Difference>> {
    seen.case(case);
    let (index, authorizer) = (built(&case.policies), Authorizer::new());
    for (request, entities) in case.questions() {
        let response = authorizer.is_authorized(request, &case.policies, entities);
        let right = Verdict::from(&response);
        seen.answer(&response, &right);
        let found = index.as_ref().and_then(|index| by_index(index, request, entities));
        if found.as_ref() != Some(&right) {
            let (written, request) = (case.written.clone(), request.clone());
            return Err(Box::new(Difference { written, request, entities: entities.clone() }.shrunk()));
        }
    }
    Ok(())
}

impl Difference {
    fn answers(&self) -> (Option<Verdict<'static>>, Verdict<'static>) {
        let policies = generate::set(&self.written);
        let index = built(&policies);
        let found = index.as_ref().and_then(|index| by_index(index, &self.request, &self.entities));
        (found.map(Verdict::into_owned), by_cedar(&policies, &self.request, &self.entities))
    }

    fn stands(&self) -> bool {
        let (found, right) = self.answers();
        found.as_ref() != Some(&right)
    }

    /// Leaves out one policy after another, then one entity after another, as long as the answers differ.
    fn shrunk(mut self) -> Self {
        let mut place = 0;
        while place < self.written.len() {
            let left_out = self.written.remove(place);
            if !self.stands() {
                self.written.insert(place, left_out);
                place += 1;
            }
        }
        let uids: Vec<_> = self.entities.iter().map(cedar_policy::Entity::uid).collect();
        for uid in uids {
            let fewer = self.entities.clone().remove_entities([uid]);
            let Ok(fewer) = fewer else { continue };
            let whole = std::mem::replace(&mut self.entities, fewer);
            if !self.stands() {
                self.entities = whole;
            }
        }
        self
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (found, right) = self.answers();
        for written in &self.written {
            writeln!(out, "{written}")?;
        }
        let unknown = || "unknown".to_owned();
        let part = |part: Option<&cedar_policy::EntityUid>| part.map_or_else(unknown, ToString::to_string);
        writeln!(out, "principal: {}", part(self.request.principal()))?;
        writeln!(out, "action:    {}", part(self.request.action()))?;
        writeln!(out, "resource:  {}", part(self.request.resource()))?;
        let context = self.request.context().and_then(|context| context.to_json_value().ok());
        writeln!(out, "context:   {}", context.map_or_else(unknown, |context| context.to_string()))?;
        let entities = self.entities.to_json_value().ok();
        writeln!(out, "entities:  {}", entities.map_or_else(unknown, |entities| entities.to_string()))?;
        match found {
            Some(found) => writeln!(out, "index: {found:?}")?,
            None => writeln!(out, "index: panics")?,
        }
        write!(out, "Cedar: {right:?}")
    }
}
