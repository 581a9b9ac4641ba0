//! The policy index answers as Cedar does: on a small corpus of ours, and on what a generator thinks of.

use std::path::Path;
use std::process::{Command, Output};

use tests::cedar::compare::Seen;
use tests::cedar::long_run::{self, Plan};
use tests::cedar::progress::Progress;
use tests::repository;

/// Runs the corpus runner on a folder: its exit code and all that it said.
fn corpus(folder: &Path) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_cedar_corpus")).arg(folder).output().expect("the runner runs");
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

/// Our corpus with one file of it changed.
fn changed(file: &str, change: impl Fn(String) -> String) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    repository::copy(&repository::root().join("tests/cedar"), folder.path());
    let file = folder.path().join(file);
    let text = std::fs::read_to_string(&file).expect("a file of the corpus");
    let new = change(text.clone());
    assert_ne!(new, text, "something changes");
    std::fs::write(&file, new).expect("a file is written");
    folder
}

fn check(folder: &Path, code: i32, parts: &[&str]) {
    let (found, told) = corpus(folder);
    assert_eq!(found, Some(code), "{told}");
    for part in parts {
        assert!(told.contains(part), "`{part}` is not in:\n{told}");
    }
}

#[test]
fn our_corpus_is_answered_as_it_says() {
    check(
        &repository::root().join("tests/cedar"),
        0,
        &["2 tests, 0 with a fault", "5 requests have an erring", "10 passed, 0 failed"],
    );
}

#[test]
fn a_wrong_expectation_is_told() {
    let decision = changed("doors.json", |text| text.replacen("\"allow\"", "\"deny\"", 1));
    let told = [
        "doors.json",
        "of the staff",
        "expected: deny",
        "the index: allow",
        "Cedar: allow",
        "9 passed, 1 failed",
    ];
    check(decision.path(), 1, &told);
    let reason = changed("doors.json", |text| text.replacen("\"policy2\"", "\"policy1\"", 1));
    check(reason.path(), 1, &["closed at night", "9 passed, 1 failed"]);
    let errors = changed("loose.json", |text| text.replacen(", \"policy2\"]", "]", 1));
    check(errors.path(), 1, &["loose.json", "errors [policy0, policy1, policy2]", "9 passed, 1 failed"]);
}

#[test]
fn what_is_no_corpus_is_told_with_a_remedy() {
    let empty = tempfile::tempdir().expect("a folder");
    check(empty.path(), 1, &["no test among 0 JSON files", "name a folder"]);
    check(&empty.path().join("nowhere"), 1, &["nowhere", "name a folder"]);
    check(&repository::root().join("policies"), 1, &["no test among", "name a folder"]);
    let missing = changed("doors.json", |text| text.replace("doors.cedar\"", "windows.cedar\""));
    check(missing.path(), 1, &["windows.cedar", "correct the name", "4 passed"]);
    let malformed = changed("doors.cedar", |text| text.replace("permit", "perhaps"));
    check(malformed.path(), 1, &["doors.cedar", "mend the file"]);
    let unknown = changed("doors.json", |text| text.replacen("\"reason\"", "\"because\"", 1));
    check(unknown.path(), 1, &["doors.json", "`because`", "mend the file"]);
    let refused =
        changed("loose.json", |text| text.replace("\"validateRequest\": false", "\"validateRequest\": true"));
    check(refused.path(), 1, &["loose.json", "cannot be asked", "9 passed, 1 failed"]);
    let invalid =
        changed("loose.json", |text| text.replace("\"shouldValidate\": false", "\"shouldValidate\": true"));
    check(invalid.path(), 1, &["loose.json", "should be valid", "10 passed, 0 failed"]);
}

/// A few of the comparisons of which `cedar_compare` makes millions. What never occurs among them proves nothing.
#[test]
fn the_index_answers_generated_policies_as_cedar_does() {
    let plan = Plan { comparisons: 30_000, seed: 5, jobs: 1 };
    let outcome = long_run::run(plan, &mut Progress::begin());
    if let Some((set, difference)) = outcome.difference {
        panic!("set {set} of seed {}:\n{difference}", plan.seed);
    }
    assert!(outcome.seen.comparisons() >= plan.comparisons);
    let rare = rarer_than(&outcome.seen, 10);
    assert!(rare.is_empty(), "{rare:?} hardly occur");
}

fn rarer_than(seen: &Seen, times: u64) -> Vec<(&'static str, u64)> {
    // Of whole sets there are few.
    seen.counts().filter(|(name, count)| *count < if name.starts_with("sets") { 3 } else { times }).collect()
}
