//! The documents say what is there: each test, file, variable, key and metric that they name exists, and none is missing.

use std::collections::BTreeSet;

use tests::repository;

const STATES: [&str; 6] = ["here", "part", "to come", "BotServer", "operator", "otherwise"];

/// The names of all test functions of the workspace.
fn test_names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for folder in ["engine", "storage", "gateway", "tests"] {
        for text in repository::texts(folder, &[".rs"]) {
            for line in text.content.lines() {
                let line = line.trim_start();
                let line = line.strip_prefix("pub ").unwrap_or(line);
                let line = line.strip_prefix("async ").unwrap_or(line);
                if let Some((name, _)) = line.strip_prefix("fn ").and_then(|rest| rest.split_once('(')) {
                    names.insert(name.to_owned());
                }
            }
        }
    }
    names
}

/// What stands between backticks in a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_line_of_the_guide_has_a_state_and_tests_that_exist() {
    let names = test_names();
    let guide = repository::text("docs/guide.md").expect("the guide").content;
    let mut faults = Vec::new();
    let mut rows = 0;
    for (number, line) in guide.lines().enumerate() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let head = cells.first().is_some_and(|cell| *cell == "line" || cell.starts_with("---"));
        if !line.starts_with('|') || head {
            continue;
        }
        rows += 1;
        let [_, state, how, tests] = cells.as_slice() else {
            faults.push(format!("docs/guide.md:{}: {} cells instead of 4", number + 1, cells.len()));
            continue;
        };
        if !STATES.contains(state) {
            faults.push(format!("docs/guide.md:{}: state `{state}`", number + 1));
        }
        if how.is_empty() && !matches!(*state, "BotServer" | "operator" | "to come") {
            faults.push(format!("docs/guide.md:{}: nothing makes it true", number + 1));
        }
        for name in quoted(tests).filter(|name| !names.contains(*name)) {
            faults.push(format!("docs/guide.md:{}: no test `{name}`", number + 1));
        }
    }
    assert!(rows > 90, "the guide's table is there: {rows} rows");
    none(&faults);
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let names = test_names();
    let model = repository::text("THREAT_MODEL.md").expect("the threat model").content;
    let mut faults = Vec::new();
    let rows = model.lines().filter(|line| line.starts_with("| ") && line.ends_with(" |"));
    let rows = rows.filter(|line| line.trim_start_matches("| ").starts_with(|c: char| c.is_ascii_digit()));
    let mut answered = 0;
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        let exists = |name: &str| match name.strip_suffix('…') {
            Some(beginning) => names.iter().any(|known| known.starts_with(beginning)),
            None => names.contains(name),
        };
        answered += usize::from(quoted(tests).count() > 0);
        faults.extend(
            quoted(tests)
                .filter(|name| !exists(name))
                .map(|name| format!("THREAT_MODEL.md: no test `{name}`")),
        );
        if quoted(tests).count() == 0 && !tests.contains("to come") {
            faults.push(format!("THREAT_MODEL.md: neither tests nor to come: {row}"));
        }
    }
    assert!(answered > 15, "the threat model names its tests: {answered}");
    none(&faults);
}

#[test]
fn every_row_of_conformance_has_a_verdict_and_tests_that_exist() {
    let names = test_names();
    let tables = repository::text("tests/conformance/openid.md").expect("the tables").content;
    let mut faults = Vec::new();
    let mut rows = 0;
    for row in tables.lines().filter(|line| line.starts_with("| ") && line.ends_with(" |")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [_, verdict, shown] = cells.as_slice() else {
            faults.push(format!("{} cells instead of 3: {row}", cells.len()));
            continue;
        };
        if *verdict == "verdict" {
            continue;
        }
        rows += 1;
        let known = ["taken", "refused"].contains(verdict);
        if !known && !["not ours", "later"].contains(verdict) {
            faults.push(format!("verdict `{verdict}`: {row}"));
        }
        if known && quoted(shown).count() == 0 {
            faults.push(format!("nothing shows it: {row}"));
        }
        faults.extend(
            quoted(shown)
                .filter(|name| !names.contains(*name))
                .map(|name| format!("no test `{name}`: {row}")),
        );
    }
    assert!(rows > 50, "the tables are there: {rows} rows");
    none(&faults);
}

#[test]
fn every_place_that_a_document_names_is_there() {
    let mut faults = Vec::new();
    let mut documents = repository::texts("docs", &[".md"]);
    documents.extend(
        ["README.md", "SECURITY.md", "THREAT_MODEL.md"]
            .map(|path| repository::text(path).unwrap_or_else(|| panic!("{path} is not there"))),
    );
    let ours = ["engine/", "storage/", "gateway/", "policies/", "tests/", "docs/", "deploy/"];
    let mut found = 0;
    for text in &documents {
        let named = text.content.lines().flat_map(quoted);
        for place in
            named.filter(|name| !name.contains(' ') && ours.iter().any(|ours| name.starts_with(ours)))
        {
            for path in spelt_out(place) {
                found += 1;
                if !repository::root().join(&path).exists() {
                    faults.push(format!("{}: `{path}` is not there", text.path));
                }
            }
        }
    }
    assert!(found > 20, "the documents name places: {found}");
    none(&faults);
}

/// `a/{b,c}.rs` is `a/b.rs` and `a/c.rs`.
fn spelt_out(place: &str) -> Vec<String> {
    let Some((before, rest)) = place.split_once('{') else { return vec![place.to_owned()] };
    let Some((names, after)) = rest.split_once('}') else { return vec![place.to_owned()] };
    names.split(',').map(|name| format!("{before}{name}{after}")).collect()
}

#[test]
fn every_link_in_a_document_leads_somewhere() {
    let mut faults = Vec::new();
    for text in repository::texts("", &[".md"]) {
        let folder = repository::root().join(&text.path);
        for target in text.content.split("](").skip(1).filter_map(|rest| rest.split_once(')')) {
            let (path, _) = target.0.split_once('#').unwrap_or((target.0, ""));
            let outside = path.contains("://") || path.is_empty();
            if !outside && !folder.with_file_name(path).exists() {
                faults.push(format!("{}: `{path}` is not there", text.path));
            }
        }
    }
    none(&faults);
}

#[test]
fn everything_that_can_be_configured_is_in_the_reference() {
    let reference = repository::text("docs/operate.md").expect("the reference").content;
    let mut faults = Vec::new();
    let mut found = 0;
    for text in repository::texts("gateway/src/config", &[".rs"]) {
        if text.path.contains("tests") {
            continue;
        }
        // `self.pick(&mut section, "key", Some("VARIABLE"))`: both, wherever a line break falls.
        for call in text.content.split(".pick(").skip(1) {
            let call = call.split(';').next().unwrap_or_default();
            let names = call.split('"').skip(1).step_by(2);
            for name in names.filter(|name| !name.contains(' ')) {
                found += 1;
                // `BOTSERVER_TLS_KEY` is written as the rest of `BOTSERVER_TLS_CERT`, `_KEY`.
                let short = name.rfind('_').map_or(name, |at| name.get(at..).unwrap_or(name));
                if !reference.contains(name) && !reference.contains(&format!("`{short}`")) {
                    faults.push(format!("{}: `{name}` is not in docs/operate.md", text.path));
                }
            }
        }
    }
    assert!(found > 30, "the configuration's readers are found: {found}");
    none(&faults);
}

#[test]
fn every_metric_is_in_the_reference_and_every_one_there_is_counted() {
    let reference = repository::text("docs/operate.md").expect("the reference").content;
    let all = repository::text("gateway/src/admin/metrics.rs").expect("the metrics").content;
    let (all, _) = all.split_once("#[cfg(test)]").expect("tests stand last");
    let source =
        format!("{all}{}", repository::text("gateway/src/admin/metrics/make.rs").expect("how").content);
    let mut counted = BTreeSet::new();
    // A metric is made by its name first; the prefix comes from one place.
    for making in [".counter(", ".counters(", ".gauge(", ".gauges(", "opts("] {
        for made in source.split(making).skip(1) {
            let name = made.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
            counted.extend(name.map(|(name, _)| name.trim_start_matches("cedargate_")));
        }
    }
    let told: BTreeSet<&str> =
        reference.lines().flat_map(quoted).filter_map(|name| name.strip_prefix("cedargate_")).collect();
    assert!(counted.len() > 10, "{counted:?}");
    assert_eq!(counted, told);
}
