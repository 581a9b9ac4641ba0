//! The repository as files.

use std::path::{Path, PathBuf};

/// The root of the checkout.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ stands in the root").to_owned()
}

/// One text of the repository: its path from the root, with `/`, and its content.
#[derive(Clone, Debug)]
pub struct Text {
    /// Path from the root.
    pub path: String,
    /// Content.
    pub content: String,
}

/// Copies a folder of files and folders.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("a copy");
        }
    }
}

/// Every text under `folder` (from the root) whose name ends in one of `endings`, sorted by path.
///
/// Build output and vendored crates are not ours to judge and are left out.
#[must_use]
pub fn texts(folder: &str, endings: &[&str]) -> Vec<Text> {
    let mut found = Vec::new();
    collect(&root().join(folder), endings, &mut found);
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// One text, by its path from the root; `None` where it does not stand.
#[must_use]
pub fn text(path: &str) -> Option<Text> {
    let content = std::fs::read_to_string(root().join(path)).ok()?;
    Some(Text { path: path.to_owned(), content })
}

/// A file of the data that is handed to the project beside its checkout, where it is there.
#[must_use]
pub fn shared_data(name: &str) -> Option<String> {
    std::fs::read_to_string(root().parent()?.join("shared/data").join(name)).ok()
}

fn collect(folder: &Path, endings: &[&str], found: &mut Vec<Text>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("an entry of a folder").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !matches!(name, "target" | ".git" | "vendor" | "node_modules" | "corpus" | "artifacts") {
                collect(&path, endings, found);
            }
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            let from_root =
                path.strip_prefix(root()).expect("inside the root").to_string_lossy().into_owned();
            let content =
                std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{from_root}: {error}"));
            found.push(Text { path: from_root, content });
        }
    }
}
