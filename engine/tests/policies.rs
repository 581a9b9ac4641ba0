//! The committed policies load, their cases hold, and no route is without one.

use std::path::Path;
use std::{fs, io};

use engine::bundle::{Bundle, BundleSources};
use engine::verify::{Factors, run_tests, uncovered};

#[test]
fn the_committed_policies_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    let bundle = Bundle::load(&sources(&root).expect("they can be read")).unwrap_or_else(|faults| {
        let spelt: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
        panic!("{} faults\n{spelt}", faults.len());
    });
    let mut reports = Vec::new();
    let mut failures = Vec::new();
    for (name, text) in files(&root.join("tests")).expect("they can be read") {
        let report =
            run_tests(&bundle, &text, &Factors::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        failures.extend(report.failures.iter().map(|failure| format!("{name}: {failure}")));
        reports.push(report);
    }
    assert!(failures.is_empty(), "{} cases fail:\n{}", failures.len(), failures.join("\n"));
    let uncovered = uncovered(&bundle, &reports);
    assert!(uncovered.is_empty(), "{} routes have no case: {uncovered:#?}", uncovered.len());
}

fn sources(root: &Path) -> io::Result<BundleSources> {
    let mut sources = BundleSources::default();
    for folder in ["", "guardrails", "grants", "entities", "routes"] {
        for (name, text) in files(&root.join(folder))? {
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            if BundleSources::belongs(&path) {
                sources.files.insert(path, text);
            }
        }
    }
    Ok(sources)
}

/// Names and texts of the files of one folder.
fn files(folder: &Path) -> io::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push((name, fs::read_to_string(&path)?));
        }
    }
    Ok(files)
}
