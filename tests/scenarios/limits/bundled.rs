//! Limits that the bundle brings along: swapped live with it, tried out, and given by policies.

use std::fs;

use super::*;

const GRANT: &str = r#"
@id("premium.docs")
@reason("Power users have a limit of their own.")
@owner("tests")
@limit_class("premium")
permit (principal in Role::"power_user", action == Action::"docs.read", resource);
"#;

/// A gateway with policies of its own and these limits in them.
fn with_limits(upstream: &Upstream, limits: &str) -> Production {
    let lines = "[limits]\nper_user = \"100/1h\"\nper_user_away = \"open\"\n".to_owned();
    let production = Production::before(upstream.address()).with_lines(lines);
    let policies = production.folder().join("policies");
    tests::repository::copy(&tests::repository::root().join("policies"), &policies);
    fs::write(policies.join("limits.toml"), limits).expect("limits");
    fs::write(policies.join("grants/premium.cedar"), GRANT).expect("a grant");
    production
}

/// Writes other limits and has them taken up, as an operator does who has read what they loosen.
fn change(production: &Production, limits: &str, loosens: &str) {
    fs::write(production.folder().join("policies/limits.toml"), limits).expect("limits");
    let (content, said) = production.cli(&["bundle", "reload"], "");
    assert_eq!(content, loosens.is_empty(), "{said}");
    if content {
        return;
    }
    assert!(said.contains(loosens), "{said}");
    let id = said.split(|letter: char| !letter.is_ascii_hexdigit()).find(|word| word.len() == 64);
    let id = id.unwrap_or_else(|| panic!("no bundle id in {said}")).to_owned();
    let (content, said) = production.cli(&["bundle", "reload", "--accept", &id], "");
    assert!(content, "{said}");
}

const PREMIUM: &str = "[class.premium]\nrate = \"2/1h\"\n";

#[test]
fn limits_of_the_bundle_hold_are_tried_out_and_become_others_without_a_second_quota() {
    let upstream = Upstream::start();
    let tried =
        format!("[per_user]\nrate = \"5/1h\"\n{PREMIUM}[class.standard]\nrate = \"3/1h\"\nshadow = true\n");
    let mut production = with_limits(&upstream, &tried);
    let (content, said) = production.cli(&["check-config"], "");
    assert!(content && said.contains("`limits.per_user` (100/1h) does nothing"), "{said}");
    let _process = production.start();
    let notices = told_by_admin(&production, "/readyz").json()["notices"].to_string();
    assert!(notices.contains("limits.toml says 5/1h"), "{notices}");

    // The bundle's limit holds. What is only tried out refuses nobody, and is told to operators alone.
    let key = key(&mut production, "caller");
    let answers: Vec<Response> = (0..6).map(|_| ask(&production, READ, Some(&key))).collect();
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429]);
    assert_eq!(answers[5].header("ratelimit-policy"), Some("\"per-user\";q=5;w=3600"));
    let notes =
        |answer: &Response| production.audit().of(answer.header("x-request-id").unwrap())["notes"].clone();
    assert_eq!(notes(&answers[2]), Value::Null);
    for answer in &answers[3..5] {
        assert!(!answer.headers.iter().any(|(name, _)| name.to_ascii_lowercase().starts_with("ratelimit")));
        let note = "limit `standard` (3/1h) is shadowed and would have refused this";
        assert_eq!(notes(answer)[0], note, "{}", notes(answer));
    }
    assert_eq!(metric(&production, "cedargate_limits_shadowed_total{limit=\"standard\"}"), 2);
    let (content, said) = production.cli(&["limits", "show", "service", "caller"], "");
    assert!(content && said.contains("standard (here): 0 of 3 left"), "{said}");
    assert!(
        said.split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .contains("refuses nobody, for it is only tried out"),
        "{said}"
    );

    // A policy gives a class of its own, and the record names it.
    let (content, said) =
        production.cli(&["key", "add", "premium", "--scope", "docs.*", "--role", "power_user"], "");
    assert!(content, "{said}");
    let premium = said.trim().split_once('\n').expect("the key and what it is").0.to_owned();
    production.secrets.push(premium.clone());
    let answers: Vec<Response> = (0..3).map(|_| ask(&production, READ, Some(&premium))).collect();
    assert_eq!([200, 200, 429], [0, 1, 2].map(|nth: usize| answers[nth].status));
    assert_eq!(answers[2].header("ratelimit-policy"), Some("\"premium\";q=2;w=3600"));
    let record = production.audit().of(answers[2].header("x-request-id").unwrap());
    assert_eq!(record["decision"]["classes"], serde_json::json!(["premium"]), "{record:#}");

    // What does not hold is told with its place, and the last good limits go on.
    fs::write(production.folder().join("policies/limits.toml"), "\n[per_user]\nrate = \"5 an hour\"\n")
        .unwrap();
    let (content, said) = production.cli(&["bundle", "reload"], "");
    assert!(!content && said.contains("limits.toml:3") && said.contains("is not a rate"), "{said}");
    assert_eq!(ask(&production, READ, Some(&key)).status, 429);

    // More is loosening, and waits for a person. Whoever has spent all has spent all of the new limit, whatever it is.
    change(
        &production,
        &format!("[per_user]\nrate = \"50/1h\"\n{PREMIUM}"),
        "limit `per-user` is 50/1h instead of 5/1h",
    );
    assert_eq!(ask(&production, READ, Some(&key)).status, 429);
    change(&production, &format!("[per_user]\nrate = \"50/24h\"\n{PREMIUM}"), "");
    assert_eq!(ask(&production, READ, Some(&key)).status, 429, "a longer period is no second quota");
    let other = self::key(&mut production, "other");
    assert_eq!(admitted(&production, &other, 51), 50, "whoever has spent nothing has all of it");
    // Where the bundle says nothing, the configuration does, and that is a loosening too.
    change(&production, PREMIUM, "limit `per-user` is 100/1h instead of 50/1d");
    assert_eq!(ask(&production, READ, Some(&other)).status, 429, "and still no second quota");
    let (content, said) = production.cli(&["limits", "reset", "service", "other"], "");
    assert!(content, "{said}");
    assert_eq!(ask(&production, READ, Some(&other)).header("ratelimit-policy"), None);
}

#[test]
fn threat_17_a_grant_into_a_class_with_a_wider_limit_waits_for_a_person() {
    let upstream = Upstream::start();
    let standard = "[class.standard]\nrate = \"3/1h\"\n";
    let production = with_limits(&upstream, &format!("{standard}{PREMIUM}"));
    let _process = production.start();
    let grant = |file: &str, text: &str| {
        fs::write(production.folder().join("policies/grants").join(file), text).expect("a grant");
    };
    // Another class that is narrower is taken up by itself, and one that is wider is not, be it given by a grant that is
    // new or by one that says something else.
    let narrow = format!("{standard}{PREMIUM}[class.narrow]\nrate = \"1/1h\"\n");
    grant("wide.cedar", &GRANT.replace("premium.docs", "wide.docs").replace("\"premium\"", "\"narrow\""));
    change(&production, &narrow, "");
    let wide = format!("{standard}{PREMIUM}[class.wide]\nrate = \"50/1h\"\n");
    grant("wide.cedar", &GRANT.replace("premium.docs", "wide.other").replace("\"premium\"", "\"wide\""));
    let says = "grant `wide.other` may have counted in `wide` (50/1h) what was counted in `standard` (3/1h)";
    change(&production, &wide, says);
    grant("premium.cedar", &GRANT.replace("\"premium\"", "\"wide\""));
    let says = "grant `premium.docs` may have counted in `wide` (50/1h) what was counted in `premium` (2/1h)";
    change(&production, &wide.replace(PREMIUM, ""), says);
    // And so does going back to the route's class, where that is wider.
    let standard = standard.replace("3/1h", "60/1h");
    let wider = wide.replace(PREMIUM, "").replace("3/1h", "60/1h");
    change(&production, &wider, "limit `standard` is 60/1h instead of 3/1h");
    grant("premium.cedar", &GRANT.replace("@limit_class(\"premium\")", ""));
    fs::remove_file(production.folder().join("policies/grants/wide.cedar")).expect("it is there");
    let says = "grant `wide.other` may have counted in `standard` (60/1h) what was counted in `wide` (50/1h)";
    change(&production, &standard, says);
}
