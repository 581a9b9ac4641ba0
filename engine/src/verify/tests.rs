//! The verbs agree with `decide`, and read as written.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;

use super::subject::accepts;
use super::{Answer, answer, explain, matrix, run_tests, subjects, uncovered};
use crate::authz::Decision;
use crate::bundle::Bundle;
use crate::bundle::example::{example, example_parameters, example_principal};
use crate::bundle::tests::fixture::{load, sources};
use crate::identity::{Identity, PrincipalKind};

#[test]
fn the_matrix_reads_as_written() {
    let matrix = matrix(&load(&sources()));
    let (legend, body) = matrix.split_once("\n\n").expect("the legend ends in an empty line");
    assert!(legend.contains("#    1-4  anonymous editor reader service\n"), "{legend}");
    let expected = "\
## docs

docs.import (write)
  -xx-  POST   /api/docs/import
    forbid switch.import: all

docs.read (read)
  -++.  GET    /api/docs
  -++.  GET    /api/docs/:id  [concealed]
    permit docs.editors: editor
    permit docs.readers: reader
    no grant: service

docs.write (write)
  -+..  PUT    /api/docs/:id  [audited]
    permit docs.editors: editor
    no grant: reader service

## site

site.read (read)
  ++++  GET    /  [public]
  ++++  GET    /static/*path  [public, sandbox]
    permit site.everyone: all
";
    assert_eq!(body.trim_start(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// The matrix asks once for many routes; whatever route and role one looks at, `decide` says the same.
    #[test]
    fn the_matrix_agrees_with_decide(route in 0_usize..6, subject in 0_usize..4) {
        static BUNDLE: LazyLock<Bundle> = LazyLock::new(|| load(&sources()));
        let bundle = &*BUNDLE;
        let route = &bundle.routes().routes()[route];
        let subjects = subjects(bundle);
        let matrix = matrix(bundle);
        let ending = format!("  {:<6} {}", route.method.as_str(), route.pattern);
        let line = matrix.lines().find(|line| line.split("  [").next().is_some_and(|line| line.ends_with(&ending)));
        let marks = line.expect("each route has a line").trim_start().split("  ").next().unwrap_or_default();
        let mark = marks.chars().filter(|mark| *mark != ' ').nth(subject);
        let identity = &subjects[subject].identity;
        let accepted = accepts(route.accept, identity);
        let (looked_at, identity) = match (accepted, route.accept.anonymous) {
            (true, _) => (true, identity),
            (false, anonymous) => (anonymous, &Identity::Anonymous),
        };
        let parameters = example_parameters(route);
        let expected = match bundle.decide(&example(route, identity, &parameters)) {
            _ if !looked_at => '-',
            Decision::Permit(_) => '+',
            Decision::Deny(denial) if denial.forbidding.is_empty() => '.',
            Decision::Deny(_) => 'x',
            Decision::Undecidable { .. } => '!',
        };
        prop_assert_eq!(mark, Some(expected), "{} for {}", &route.name, &subjects[subject].name);
    }
}

#[test]
fn a_route_answers_each_kind_of_caller() {
    let bundle = load(&sources());
    let check = |name: &str, identity: &Identity, expected: Answer| {
        let route = bundle.routes().named(name).expect("the fixture has it");
        assert_eq!(answer(&bundle, route, identity), expected, "{name}");
    };
    let held = |kind, role: &str| {
        Identity::Known(Arc::new(example_principal(kind, [role.to_owned()].into(), [].into())))
    };
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let (user, service) = (PrincipalKind::User, PrincipalKind::Service);
    check("GET /api/docs", &held(user, "reader"), Answer::Permit(ids(&["docs.readers"])));
    check("GET /api/docs", &held(service, "reader"), Answer::Permit(ids(&["docs.readers"])));
    check("GET /api/docs", &Identity::Anonymous, Answer::NotAccepted);
    check("POST /api/docs/import", &held(user, "editor"), Answer::Forbid(ids(&["switch.import"])));
    check("POST /api/docs/import", &held(service, "editor"), Answer::NotAccepted);
    check("PUT /api/docs/:id", &held(user, "reader"), Answer::NoGrant);
    // An open route takes a key that it does not look at for nobody.
    check("GET /", &held(service, "reader"), Answer::Permit(ids(&["site.everyone"])));
}

/// Runs one case; the number that passed, and the failures joined.
fn run(case: &str) -> (usize, String) {
    let report = run_tests(&load(&sources()), &format!("[{case}]")).expect("it is a list");
    (report.passed, report.failures.join("; "))
}

#[test]
fn cases_pass_and_fail() {
    let check = |case: &str, passed: usize, says: &str| {
        let case = format!("{{ \"name\": \"n\", {case} }}");
        let (count, failures) = run(&case);
        assert_eq!(count, passed, "{case}: {failures}");
        assert!(failures.contains(says) && says.is_empty() == failures.is_empty(), "{case}: {failures}");
    };
    let uuid = "4f9c1b52-6a1e-4b7d-9a60-2f2f0d6c1a11";
    check(
        "\"role\": \"reader\", \"on\": \"GET /api/docs\", \"decision\": \"permit\", \"reason\": [\"docs.readers\"]",
        1,
        "",
    );
    check(
        "\"role\": [\"reader\", \"editor\"], \"on\": [\"GET /api/docs\", \"GET /api/docs/:id\"], \"decision\": \"permit\"",
        4,
        "",
    );
    check(
        "\"roles\": [\"reader\", \"editor\"], \"on\": \"GET /api/docs\", \"decision\": \"permit\", \"reason\": [\"docs.readers\"]",
        0,
        "n: editor + reader on GET /api/docs: permit by docs.editors, docs.readers, expected by docs.readers",
    );
    check("\"groups\": [\"press\"], \"on\": \"PUT /api/docs/:id\", \"decision\": \"permit\"", 1, "");
    check(
        "\"role\": \"reader\", \"on\": \"PUT /api/docs/:id\", \"decision\": \"permit\"",
        0,
        "deny by no policy, expected permit",
    );
    check(
        "\"role\": \"reader\", \"suspended\": true, \"on\": \"GET /api/docs\", \"decision\": \"deny\", \"reason\": [\"account.suspended\"]",
        1,
        "",
    );
    check(
        &format!("\"role\": \"reader\", \"path\": \"GET /api/docs/{uuid}\", \"decision\": \"permit\""),
        1,
        "",
    );
    check("\"role\": \"reader\", \"path\": \"GET /api/docs/7\", \"decision\": \"unrouted\"", 1, "");
    check("\"role\": \"reader\", \"path\": \"GET /api/docs/7\", \"decision\": \"permit\"", 0, "unrouted");
    check(
        "\"role\": \"reader\", \"path\": \"GET /api/%zz\", \"decision\": \"unrouted\"",
        0,
        "is not a method and a path",
    );
    check("\"principal\": \"anonymous\", \"on\": \"GET /\", \"decision\": \"permit\"", 1, "");
    check("\"principal\": \"anonymous\", \"on\": \"GET /api/docs\", \"decision\": \"not_accepted\"", 1, "");
    check(
        "\"principal\": \"service\", \"role\": \"reader\", \"scopes\": [\"site.*\"], \"action\": \"docs.read\", \"decision\": \"deny\", \"reason\": [\"cedargate.scope\"]",
        1,
        "",
    );
    check(
        "\"role\": \"editor\", \"action\": \"docs.read\", \"module\": \"site\", \"decision\": \"deny\", \"reason\": []",
        1,
        "",
    );
    check(
        "\"role\": \"editor\", \"on\": \"GET /api/dosc\", \"decision\": \"deny\"",
        0,
        "there is no route `GET /api/dosc`",
    );
    check("\"role\": \"editor\", \"decision\": \"deny\"", 0, "it asks for nothing");
    check("\"role\": \"editor\", \"on\": \"GET /\", \"decison\": \"permit\"", 0, "unknown field `decison`");
    check("\"role\": \"editor\", \"on\": \"GET /\", \"decision\": \"maybe\"", 0, "unknown variant `maybe`");
}

#[test]
fn cedars_own_cases_are_read() {
    let context = "{ \"method\": \"GET\", \"client\": \"192.0.2.1\", \"time\": \"2026-01-07\", \"assurance\": 1, \"tls\": true, \
                   \"class\": \"standard\", \"parameters\": {}, \"scopes\": [] }";
    let person = "[{ \"uid\": { \"type\": \"User\", \"id\": \"a\" }, \"attrs\": { \"suspended\": false }, \
                  \"parents\": [{ \"type\": \"Group\", \"id\": \"press\" }] }]";
    let case = |context: &str, decision: &str, reason: &str| {
        format!(
            "{{ \"name\": \"n\", \"request\": {{ \"principal\": \"User::\\\"a\\\"\", \"action\": \"Action::\\\"docs.write\\\"\", \
             \"resource\": \"Module::\\\"docs\\\"\", \"context\": {context} }}, \"entities\": {person}, \
             \"decision\": \"{decision}\", \"reason\": [\"{reason}\"], \"num_errors\": 0 }}"
        )
    };
    assert_eq!(run(&case(context, "allow", "docs.editors")), (1, String::new()));
    let (passed, failures) = run(&case(context, "deny", "docs.editors"));
    assert!(passed == 0 && failures.contains("permit by docs.editors"), "{failures}");
    let (passed, failures) = run(&case("{}", "allow", "docs.editors"));
    assert!(passed == 0 && failures.contains("n: "), "{failures}");
}

#[test]
fn a_route_without_a_case_is_named() {
    let bundle = load(&sources());
    let case = "[{ \"name\": \"n\", \"role\": \"editor\", \"action\": [\"docs.read\", \"docs.write\", \"docs.import\"], \"decision\": \"deny\" }]";
    let report = run_tests(&bundle, case).expect("it is a list");
    assert_eq!(uncovered(&bundle, &[report]), ["GET /", "GET /static/*path"]);
    assert!(run_tests(&bundle, "{}").is_err());
}

#[test]
fn an_explanation_names_what_matched_and_what_nearly_did() {
    let bundle = load(&sources());
    let route = bundle.routes().named("PUT /api/docs/:id").expect("the fixture has it");
    let parameters = example_parameters(route);
    let check = |role: &str, expected: &str| {
        let person = example_principal(PrincipalKind::User, [role.to_owned()].into(), [].into());
        let identity = Identity::Known(Arc::new(person));
        assert_eq!(explain(&bundle, &example(route, &identity, &parameters)), expected);
    };
    let suspended =
        "nearly refused by account.suspended (guardrails/account.cedar:2): its conditions do not hold\n";
    check(
        "editor",
        &format!(
            "permitted by docs.editors (grants/docs.cedar:7): Editors do all with documents\n{suspended}"
        ),
    );
    check(
        "reader",
        &format!(
            "refused, because no grant permits it\nnearly permitted by docs.editors (grants/docs.cedar:7): it is for \
             other principals\n{suspended}"
        ),
    );
}
