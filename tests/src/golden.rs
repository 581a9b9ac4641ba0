//! Tables that reviewers read, compared with what the product says now.

use crate::repository;

/// Fails when `found` differs from the golden file at `path` (from the root), with the first line that does.
///
/// With `UPDATE_GOLDEN=1` in the environment the file is written instead, to be read and committed.
pub fn check(path: &str, found: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(repository::root().join(path), found)
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        return;
    }
    let golden = repository::text(path).map(|text| text.content).unwrap_or_default();
    if golden == found {
        return;
    }
    let mut theirs = golden.lines();
    for (index, ours) in found.lines().enumerate() {
        let theirs = theirs.next().unwrap_or_default();
        assert_eq!(ours, theirs, "{path}:{}: differs from what the product says (left)", index + 1);
    }
    panic!("{path}: the golden file goes on after what the product says: {:?}", theirs.next());
}
