//! The engine by itself: what a program gets that depends on it and on nothing else of ours.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use tempfile::TempDir;
use tests::repository;

/// Crates that open sockets, run tasks, or are there for those that do.
const NETWORK: [&str; 23] = [
    "async-io",
    "async-std",
    "aws-lc-rs",
    "axum",
    "h2",
    "hickory-resolver",
    "hyper",
    "hyper-util",
    "mio",
    "native-tls",
    "openssl",
    "pingora-core",
    "quinn",
    "redis",
    "reqwest",
    "ring",
    "rustls",
    "smol",
    "socket2",
    "tokio",
    "tonic",
    "tower",
    "ureq",
];

/// Names of the crates that the engine brings into a program that has the lock file of this workspace and nothing else of it.
fn brought() -> BTreeSet<String> {
    let folder = TempDir::new().expect("a folder");
    let engine = repository::root().join("engine");
    let manifest = format!(
        "[package]\nname = \"alone\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\nengine = {{ path = {engine:?} }}\n\n[workspace]\n"
    );
    fs::write(folder.path().join("Cargo.toml"), manifest).expect("a manifest");
    fs::create_dir(folder.path().join("src")).expect("a folder");
    fs::write(folder.path().join("src/lib.rs"), "").expect("a source");
    fs::copy(repository::root().join("Cargo.lock"), folder.path().join("Cargo.lock")).expect("a lock file");
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--edges=normal,build", "--prefix=none", "--format={p}"])
        .current_dir(folder.path())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("text");
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn the_engine_alone_brings_no_crate_of_ours_and_none_that_opens_a_socket() {
    let brought = brought();
    for expected in ["alone", "engine", "cedar-policy", "http"] {
        assert!(brought.contains(expected), "{expected} is not in the tree: {brought:?}");
    }
    let network: Vec<&String> = brought.iter().filter(|name| NETWORK.contains(&name.as_str())).collect();
    assert!(network.is_empty(), "the engine brings {network:?}");
    for ours in ["storage", "gateway", "tests", "benchmarks", "engine-in-axum"] {
        assert!(!brought.contains(ours), "the engine brings {ours}");
    }
}

#[test]
fn the_engine_is_compiled_from_its_own_folder() {
    let mut faults = Vec::new();
    for text in repository::texts("engine/src", &[".rs"]) {
        // Only the README is taken in, for its examples, and it stands in the engine's folder.
        let included = text.content.split("include_").skip(1).filter(|rest| rest.contains("!("));
        for rest in included {
            let path = rest.split('"').nth(1).unwrap_or_default();
            if path != "../README.md" {
                faults.push(format!("{}: includes `{path}`", text.path));
            }
        }
    }
    let manifest = repository::text("engine/Cargo.toml").expect("its manifest").content;
    let manifest: toml::Table = toml::from_str(&manifest).expect("a manifest");
    let dependencies = manifest["dependencies"].as_table().expect("its dependencies");
    faults.extend(dependencies.iter().filter_map(|(name, how)| {
        let local = how.as_table().is_some_and(|how| how.contains_key("path"));
        local.then(|| format!("engine/Cargo.toml: `{name}` is a folder beside it"))
    }));
    assert!(faults.is_empty(), "{faults:#?}");
}
