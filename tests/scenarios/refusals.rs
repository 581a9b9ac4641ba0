//! Every way to say no, as reviewers read it.

#[test]
fn every_refusal_says_what_the_golden_table_says() {
    tests::golden::check("tests/golden/refusals.txt", &engine::refusal::table());
}
