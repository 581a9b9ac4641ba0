//! Every way to say no, as reviewers read it.

#[test]
fn every_refusal_says_what_the_golden_table_says() {
    tests::golden::check("tests/golden/refusals.txt", &engine::refusal::table());
}

/// Codes that no request can be refused with through the whole product, each with its reason. The list may only shrink.
const UNREACHED: [(&str, &str); 7] = [
    ("headers.control", "the HTTP parser refuses these bytes first"),
    ("host.repeated", "the HTTP parser refuses it first"),
    ("path.not_ascii", "the HTTP parser refuses these bytes first"),
    ("path.question_mark", "what follows the first question mark is the query"),
    ("path.space", "a space ends the target in the request line"),
    ("query.not_ascii", "the HTTP parser refuses these bytes first"),
    ("query.space", "a space ends the target in the request line"),
];

#[test]
fn every_refusal_has_a_scenario() {
    let tried: String = tests::repository::texts("tests", &[".toml", ".rs"])
        .into_iter()
        .filter(|text| !text.path.ends_with("scenarios/refusals.rs"))
        .map(|text| text.content)
        .collect();
    let table = engine::refusal::table();
    let answers = table.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit()));
    let codes = answers.filter_map(|line| line.split(' ').nth(1));
    let missing: std::collections::BTreeSet<&str> = codes
        .filter(|code| {
            !tried.contains(&format!("\"{code}\"")) && !UNREACHED.iter().any(|(known, _)| known == code)
        })
        .collect();
    assert!(missing.is_empty(), "no scenario is refused with {missing:?}");
}
