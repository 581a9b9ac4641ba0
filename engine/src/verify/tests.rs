//! The verbs agree with `decide`, and read as written.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;

use super::subject::accepts;
use super::{Answer, Factors, answer, explain, explain_on, matrix, run_tests, subjects, uncovered};
use crate::authz::Decision;
use crate::bundle::Bundle;
use crate::bundle::example::{EXAMPLE_TIME, example, example_parameters, example_principal};
use crate::bundle::tests::fixture::{load, sources, with};
use crate::identity::{Identity, PrincipalKind};
use crate::time::UnixMillis;

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
    let report =
        run_tests(&load(&sources()), &format!("[{case}]"), &Factors::default()).expect("it is a list");
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
    let report = run_tests(&bundle, case, &Factors::default()).expect("it is a list");
    assert_eq!(uncovered(&bundle, &[report]), ["GET /", "GET /static/*path"]);
    assert!(run_tests(&bundle, "{}", &Factors::default()).is_err());
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

/// The bundle with a step-up on a row that people and keys may ask for.
fn asking(step_up: &str) -> Bundle {
    let row = "{ on = \"GET /api/docs\", action = \"docs.read\"";
    load(&with("routes/docs.toml", row, &format!("{row}, step_up = {{ {step_up} }}")))
}

#[test]
fn a_case_says_what_was_proved_and_expects_a_step_up() {
    let check = |asks: &str, case: &str, expected: Result<(), &str>| {
        let case = format!("[{{ \"name\": \"n\", \"role\": \"reader\", {case} }}]");
        let factors = Factors { acr: ["gold".to_owned()].into(), amr: ["otp".to_owned()].into() };
        let report = run_tests(&asking(asks), &case, &factors).expect("it is a list");
        let found = if report.failures.is_empty() { Ok(()) } else { Err(report.failures.join("; ")) };
        match (found, expected) {
            (Ok(()), Ok(())) => assert_eq!(report.passed, 1, "{case}"),
            (Err(found), Err(says)) => assert!(found.contains(says), "{case}: {found}"),
            (found, _) => panic!("{case}: {found:?}"),
        }
    };
    let (two, fresh) = ("assurance = 2", "max_age_s = 300");
    let on =
        |decision: &str, rest: &str| format!("\"on\": \"GET /api/docs\", \"decision\": \"{decision}\"{rest}");
    let proof = |decision: &str, proof: &str| on(decision, &format!(", \"proof\": {{ {proof} }}"));
    check(two, &on("step_up", ""), Ok(()));
    check(two, &on("permit", ""), Err("reader on GET /api/docs: step_up by no policy, expected permit"));
    check(two, &on("permit", ", \"assurance\": 2"), Ok(()));
    check(two, &proof("permit", "\"acr\": \"gold\""), Ok(()));
    check(two, &proof("permit", "\"amr\": [\"pwd\", \"otp\"]"), Ok(()));
    // By whole names and by nothing else.
    check(two, &proof("step_up", "\"acr\": \"gold2\", \"amr\": [\"mfa\", \"Otp\"]"), Ok(()));
    check(two, &proof("permit", "\"acr\": \"gold\", \"age_s\": \"unknown\""), Ok(()));
    check(fresh, &on("permit", ""), Ok(()));
    check(fresh, &proof("permit", "\"age_s\": 360"), Ok(()));
    check(fresh, &proof("step_up", "\"age_s\": 361"), Ok(()));
    check(fresh, &proof("step_up", "\"age_s\": \"unknown\", \"acr\": \"gold\""), Ok(()));
    check(fresh, &proof("step_up", "\"age_s\": 18446744073709551615"), Ok(()));
    let later = ", \"time_ms\": 1900000000000, \"proof\": { \"age_s\": 10 }";
    check(fresh, &on("permit", later), Ok(()));
    // A row that asks for nothing takes any proof, and an action by itself is on no row.
    let other =
        "\"on\": \"GET /api/docs/:id\", \"decision\": \"permit\", \"proof\": { \"age_s\": \"unknown\" }";
    check(two, other, Ok(()));
    check(two, "\"action\": \"docs.read\", \"decision\": \"permit\"", Ok(()));
    // Keys prove nothing besides themselves.
    check(two, &on("step_up", ", \"principal\": \"service\""), Ok(()));
    check("assurance = 2, services = true", &on("permit", ", \"principal\": \"service\""), Ok(()));
    let key = proof("permit", "\"age_s\": 1") + ", \"principal\": \"service\"";
    check(two, &key, Err("`proof` is a person's"));
    let twice = proof("permit", "\"acr\": \"gold\"") + ", \"assurance\": 2";
    check(two, &twice, Err("it says its assurance twice"));
    check(two, &proof("permit", "\"age\": 5"), Err("unknown field `age`"));
    check(two, &proof("permit", "\"age_s\": \"never\""), Err("`age_s` is seconds, or"));
    check(two, &proof("permit", "\"age_s\": -1"), Err("`age_s` is seconds, or"));
}

#[test]
fn the_matrix_asks_for_people_with_the_proof_that_a_row_asks_for() {
    let matrix = matrix(&asking("assurance = 2, max_age_s = 300"));
    assert!(matrix.contains("^ is a key, which has no other.\n"), "{matrix}");
    let row = "\
  -++^  GET    /api/docs  [step-up: two factors within 300 s; API keys are refused]
    permit docs.editors: editor
    permit docs.readers: reader
    step-up: service
";
    assert!(matrix.contains(row), "{matrix}");
    assert!(matrix.contains("  -++.  GET    /api/docs/:id  [concealed]\n"), "{matrix}");
}

#[test]
fn an_explanation_says_which_proof_would_do() {
    let check =
        |asks: &str, kind: PrincipalKind, (assurance, age_s): (u8, Option<u64>), says: &str, and: &str| {
            let bundle = asking(asks);
            let route = bundle.routes().named("GET /api/docs").expect("the fixture has it");
            let mut caller = example_principal(kind, ["reader".to_owned()].into(), [].into());
            caller.assurance = assurance;
            caller.authenticated_at = UnixMillis(age_s.map_or(0, |age_s| EXAMPLE_TIME.0 - age_s * 1_000));
            let identity = Identity::Known(Arc::new(caller));
            let parameters = example_parameters(route);
            let said = explain_on(&bundle, route, &example(route, &identity, &parameters));
            let (proof, policy) = said.split_at_checked(says.len()).unwrap_or((&said, ""));
            assert_eq!(proof, says);
            assert!(policy.starts_with(and) && and.is_empty() == policy.is_empty(), "{said}");
        };
    let (user, both) = (PrincipalKind::User, "assurance = 2, max_age_s = 300");
    let asked = "before policy, the row asks for a proof: two factors within 300 s; API keys are refused\n";
    let permitted = "permitted by docs.readers";
    check(both, user, (2, Some(100)), &format!("{asked}this one does (two factors, 100 s ago)\n"), permitted);
    let refused = |has: &str, does: &str| {
        format!(
            "{asked}refused with 401 `step_up`: this one does not ({has})\none that does: {does}. With it:\n"
        )
    };
    check(both, user, (1, Some(100)), &refused("one factor, 100 s ago", "two factors, 100 s ago"), permitted);
    check(both, user, (2, Some(400)), &refused("two factors, 400 s ago", "two factors, 0 s ago"), permitted);
    check(both, user, (1, None), &refused("one factor, nobody says when", "two factors, 0 s ago"), permitted);
    let key = "refused with 403 `person_needed`: an API key cannot prove more than it is; a person can, or the row says `services = true`\n";
    check(both, PrincipalKind::Service, (1, Some(0)), &format!("{asked}{key}"), "");
    // A row that asks for nothing says nothing of it.
    let bundle = load(&sources());
    let route = bundle.routes().named("GET /api/docs").expect("the fixture has it");
    let request = example(route, &Identity::Anonymous, &[]);
    assert_eq!(explain_on(&bundle, route, &request), explain(&bundle, &request));
}
