//! Reads the audit log as an analyst would: from its files, while the gateway writes them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::wait;

/// How long after the end of an answer its record may take to stand in the file. The product promises
/// 200 ms; the rest is what a loaded machine with two cores may add before a test calls it lost.
const LATENCY: Duration = Duration::from_secs(30);

/// The audit log of one gateway.
#[derive(Clone, Debug)]
pub struct AuditLog {
    directory: PathBuf,
}

impl AuditLog {
    /// The log that this file is a part of: rotated files stand beside it.
    #[must_use]
    pub fn beside(file: &Path) -> Self {
        Self { directory: file.parent().expect("a file has a folder").to_owned() }
    }

    /// The folder of its files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Every record so far, in order. A last line that is still being written is left out; any other
    /// line that is no JSON fails the test.
    #[must_use]
    pub fn records(&self) -> Vec<Value> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(&self.directory)
            .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
            .unwrap_or_default();
        files.retain(|file| file.is_file() && file.extension().is_some_and(|kind| kind == "jsonl"));
        files.sort();
        let mut records = Vec::new();
        for file in files {
            let content = std::fs::read(&file).unwrap_or_default();
            for line in content.split_inclusive(|&byte| byte == b'\n') {
                if let Some(line) = line.strip_suffix(b"\n") {
                    let record = serde_json::from_slice(line);
                    records.push(record.unwrap_or_else(|error| {
                        panic!("{error} in {}: {}", file.display(), String::from_utf8_lossy(line))
                    }));
                }
            }
        }
        records
    }

    /// The one record of a request; waits for it, and fails when there are two.
    pub fn of(&self, request_id: &str) -> Value {
        let what = format!("the record of request {request_id}");
        let found = wait::until(&what, LATENCY, || {
            let found = self.all_of(request_id);
            (!found.is_empty()).then_some(found)
        });
        assert_eq!(found.len(), 1, "more than one record of a request: {found:#?}");
        found.into_iter().next().expect("one record")
    }

    /// Waits for a record that `wanted` recognises among those after the first `seen`.
    pub fn wait_after(&self, seen: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait::until(what, LATENCY, || self.records().into_iter().skip(seen).find(&wanted))
    }

    fn all_of(&self, request_id: &str) -> Vec<Value> {
        let of_it = |record: &Value| record["request_id"] == request_id && record["kind"] == "request";
        self.records().into_iter().filter(of_it).collect()
    }
}
