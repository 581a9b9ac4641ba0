//! A folder in the form of Cedar's published corpus: tests as JSON, each of which names its policies, entities and schema.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cedar_policy::{Context, Entities, EntityUid, PolicySet, Request, Schema, ValidationMode, Validator};
use engine::authz::{PolicyIds, PolicyIndex, Verdict};
use serde::Deserialize;
use serde_json::Value;

use super::compare::by_cedar;
use super::progress::Progress;

/// Differences that are told in full.
const DETAILS_MAX: usize = 20;

/// Folders in folders that are looked into.
const DEPTH_MAX: usize = 8;

/// What a folder has shown.
#[derive(Debug, Default)]
pub struct Report {
    /// Tests that were read.
    pub tests: usize,
    /// Requests whose answer is the index's, Cedar's and the file's.
    pub passed: usize,
    /// Requests whose answer differs.
    pub failed: usize,
    /// Requests in whose answer a policy errs.
    pub erring: usize,
    /// Tests whose policies are valid although their file says otherwise: a newer Cedar knows more to be sound, and what is
    /// asked of them has the same answers.
    pub valid_after_all: usize,
    /// Tests that could not be asked at all, or whose policies should be valid and are not.
    pub faults: usize,
    /// What is wrong, the first of it.
    pub details: Vec<String>,
}

impl Report {
    /// Whether something was asked and all answers are right.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.passed > 0 && self.failed == 0 && self.faults == 0
    }

    fn tell(&mut self, detail: String) {
        if self.details.len() < DETAILS_MAX {
            self.details.push(detail);
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for detail in &self.details {
            writeln!(out, "{detail}\n")?;
        }
        let untold = (self.failed + self.faults).saturating_sub(self.details.len());
        if untold > 0 {
            writeln!(out, "… and {untold} more\n")?;
        }
        writeln!(out, "{} tests, {} with a fault", self.tests, self.faults)?;
        writeln!(out, "{} have policies that are valid after all", self.valid_after_all)?;
        writeln!(out, "{} requests have an erring policy", self.erring)?;
        write!(out, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Test {
    policies: String,
    entities: String,
    schema: String,
    should_validate: bool,
    requests: Vec<Question>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Question {
    #[serde(default)]
    description: String,
    principal: Value,
    action: Value,
    resource: Value,
    context: Value,
    #[serde(default = "yes")]
    validate_request: bool,
    decision: Expected,
    reason: Vec<String>,
    errors: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Allow,
    Deny,
}

fn yes() -> bool {
    true
}

/// Asks everything that stands in a folder and below.
///
/// # Errors
/// Where no test can be found, with what to do about it.
pub fn run(folder: &Path, progress: &mut Progress) -> Result<Report, String> {
    let mut files = Vec::new();
    json_files(folder, 0, &mut files)?;
    files.sort();
    let mut report = Report::default();
    for (done, file) in files.iter().enumerate() {
        progress.at(done as u64, files.len() as u64, "files");
        match read_test(file) {
            Ok(None) => continue,
            Ok(Some(test)) => {
                report.tests += 1;
                if let Err(fault) = ask(folder, file, test, &mut report) {
                    report.faults += 1;
                    report.tell(fault);
                }
            }
            Err(fault) => {
                report.tests += 1;
                report.faults += 1;
                report.tell(fault);
            }
        }
    }
    progress.end();
    if report.tests == 0 {
        return Err(format!(
            "{}: no test among {} JSON files; name a folder in the form of Cedar's corpus, where a test is an object \
             with `policies`, `entities`, `schema`, `shouldValidate` and `requests`",
            folder.display(),
            files.len()
        ));
    }
    Ok(report)
}

fn json_files(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let fault = |error: std::io::Error| {
        format!("{}: {error}; name a folder that can be read and holds an unpacked corpus", folder.display())
    };
    for entry in fs::read_dir(folder).map_err(fault)? {
        let entry = entry.map_err(fault)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(fault)?);
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if kind.is_dir() && depth < DEPTH_MAX {
            json_files(&path, depth + 1, found)?;
        } else if kind.is_file() && name.ends_with(".json") && !name.ends_with(".entities.json") {
            found.push(path);
        }
    }
    Ok(())
}

/// A test, or nothing where the file is JSON of another kind: entities and schemas stand beside the tests.
fn read_test(file: &Path) -> Result<Option<Test>, String> {
    let text = read(file)?;
    let remedy = "mend the file, or take it out of the folder";
    let fault = |error: serde_json::Error| format!("{}: {error}; {remedy}", file.display());
    let value: Value = serde_json::from_str(&text).map_err(fault)?;
    if value.get("requests").is_none() {
        return Ok(None);
    }
    serde_json::from_str(&text).map(Some).map_err(fault)
}

fn read(file: &Path) -> Result<String, String> {
    let remedy = "unpack the corpus again, or correct the name in the test";
    fs::read_to_string(file).map_err(|error| format!("{}: {error}; {remedy}", file.display()))
}

/// Where a file stands that a test names: names are relative to the corpus' root, which may be the folder or one above
/// it, and where the tests were moved the file stands beside its test.
fn named(folder: &Path, test: &Path, name: &str) -> PathBuf {
    let beside = test.parent().unwrap_or(folder);
    let roots = [Some(folder), folder.parent(), Some(beside)].into_iter().flatten();
    let places =
        roots.map(|root| root.join(name)).chain(Path::new(name).file_name().map(|name| beside.join(name)));
    places.into_iter().find(|place| place.is_file()).unwrap_or_else(|| beside.join(name))
}

fn ask(folder: &Path, file: &Path, test: Test, report: &mut Report) -> Result<(), String> {
    let place = |name: &str| named(folder, file, name);
    let (of_schema, of_policies, of_entities) =
        (place(&test.schema), place(&test.policies), place(&test.entities));
    let schema = schema(&of_schema)?;
    let policies = cedar_fault(&of_policies, read(&of_policies)?.parse::<PolicySet>())?;
    let entities = Entities::from_json_str(&read(&of_entities)?, Some(&schema));
    let entities = cedar_fault(&of_entities, entities)?;
    let validation = Validator::new(schema.clone()).validate(&policies, ValidationMode::Strict);
    let error = validation.validation_errors().next();
    match (test.should_validate, error) {
        (true, Some(error)) => {
            report.faults += 1;
            let remedy = "correct `shouldValidate`, or use the corpus of this Cedar's version";
            report.tell(format!(
                "{}: its policies should be valid, and are not: {error}; {remedy}",
                file.display()
            ));
        }
        (false, None) => report.valid_after_all += 1,
        (true, None) | (false, Some(_)) => {}
    }
    let index = PolicyIndex::new(&policies);
    for question in &test.requests {
        let right = expected(question);
        let mut wrong = Vec::new();
        match request(question, &schema) {
            Err(fault) => wrong.push(format!("  cannot be asked: {fault}")),
            Ok(request) => {
                let (found, cedars) =
                    (index.evaluate(&request, &entities), by_cedar(&policies, &request, &entities));
                report.erring += usize::from(!cedars.erring.is_empty());
                for (whose, verdict) in [("the index", &found), ("Cedar", &cedars)] {
                    if *verdict != right {
                        wrong.push(format!("  {whose}: {}", told(verdict)));
                    }
                }
            }
        }
        if wrong.is_empty() {
            report.passed += 1;
        } else {
            report.failed += 1;
            let expected = told(&right);
            let (file, wrong) = (file.display(), wrong.join("\n"));
            report.tell(format!("{file}: `{}`\n  expected: {expected}\n{wrong}", question.description));
        }
    }
    Ok(())
}

fn schema(file: &Path) -> Result<Schema, String> {
    let text = read(file)?;
    if file.extension().is_some_and(|extension| extension == "json") {
        return cedar_fault(file, Schema::from_json_str(&text));
    }
    cedar_fault(file, Schema::from_cedarschema_str(&text).map(|(schema, _)| schema))
}

fn cedar_fault<T, E: std::error::Error>(file: &Path, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| {
        let causes = std::iter::successors(error.source(), |error| error.source());
        let causes: String = causes.map(|cause| format!(": {cause}")).collect();
        format!("{}: {error}{causes}; mend the file, or take its test out of the folder", file.display())
    })
}

/// Contexts are always read by the schema, which knows what is an entity and what an extension's value; whether the
/// request as a whole must fit it is the test's to say.
fn request(question: &Question, schema: &Schema) -> Result<Request, String> {
    let uid = |part: &Value| EntityUid::from_json(part.clone()).map_err(|error| error.to_string());
    let (principal, action, resource) =
        (uid(&question.principal)?, uid(&question.action)?, uid(&question.resource)?);
    let context = Context::from_json_value(question.context.clone(), Some((schema, &action)));
    let context = context.map_err(|error| error.to_string())?;
    let schema = question.validate_request.then_some(schema);
    Request::new(principal, action, resource, context, schema).map_err(|error| error.to_string())
}

fn expected(question: &Question) -> Verdict<'static> {
    let ids = |ids: &[String]| {
        let ids: BTreeSet<&str> = ids.iter().map(String::as_str).collect();
        ids.into_iter().map(std::sync::Arc::from).collect()
    };
    let permits = matches!(question.decision, Expected::Allow);
    Verdict { permits, determining: ids(&question.reason), erring: ids(&question.errors) }
}

fn told(verdict: &Verdict<'_>) -> String {
    let decision = if verdict.permits { "allow" } else { "deny" };
    let all = |ids: &PolicyIds<'_>| ids.iter().collect::<Vec<_>>().join(", ");
    let (reasons, errors) = (all(&verdict.determining), all(&verdict.erring));
    format!("{decision}, reasons [{reasons}], errors [{errors}]")
}
