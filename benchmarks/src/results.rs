//! Raw results, kept by date: what a later run is held against.

use std::fs;
use std::path::PathBuf;

use gateway::clock;
use serde_json::json;

use crate::Failure;
use crate::builds::repository;
use crate::figures::Figure;
use crate::proxy::Subject;

/// Writes the rounds and the figures to `benchmarks/results/`, with what kind of machine it was.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn keep(subjects: &[Subject], figures: &[Figure]) -> Result<(), Failure> {
    let now = clock::rfc3339(clock::now());
    let text = json!({ "taken_at": now, "machine": machine()?, "figures": figures, "subjects": subjects });
    let folder = repository().join("benchmarks/results");
    fs::create_dir_all(&folder)?;
    let name: String =
        now.chars().take_while(|letter| *letter != '.').filter(|letter| *letter != ':').collect();
    let file: PathBuf = folder.join(format!("{name}.json"));
    fs::write(&file, serde_json::to_string_pretty(&text)? + "\n")?;
    eprintln!("kept in {}", file.display());
    Ok(())
}

/// What kind of machine this is, without its name.
fn machine() -> Result<serde_json::Value, Failure> {
    let told = |file: &str, key: &str| -> Result<String, Failure> {
        let text = fs::read_to_string(file)?;
        let line = text.lines().find(|line| line.starts_with(key));
        Ok(line
            .and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default())
    };
    Ok(json!({
        "processor": told("/proc/cpuinfo", "model name")?,
        "cores": std::thread::available_parallelism()?.get(),
        "memory": told("/proc/meminfo", "MemTotal")?,
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().split('-').next(),
        "rustc": env!("CARGO_PKG_RUST_VERSION"),
    }))
}
