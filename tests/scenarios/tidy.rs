//! The house's rules, held by grep: what a reviewer would otherwise have to remember.

use tests::repository::{self, Text};

/// The stages of a request, in their order.
const STAGES: [&str; 10] =
    ["receive", "route", "admit", "identify", "authorize", "spend", "shape", "forward", "respond", "record"];

/// The files of `gateway` that may name pingora, from `gateway/src/`.
const PINGORA: [&str; 4] = ["proxy/", "edge/", "app.rs", "tls.rs"];

/// The rows of THREAT_MODEL.md whose defence is built.
const THREATS: [u8; 21] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 17, 18, 19, 20, 21, 22, 23];

/// Bytes of a source file past which it is no longer one idea.
const FILE_BYTES_MAX: usize = 20_000;

/// Lines of a function past which it is no longer one thought.
const FUNCTION_LINES_MAX: usize = 70;

/// Fails with every fault at once.
fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Every line of code (comments left out) under `folder` that holds one of `words`, unless `allowed`.
fn naming(folder: &str, words: &[&str], allowed: impl Fn(&str) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    for text in product(folder).iter().filter(|text| !allowed(&text.path)) {
        for (number, line) in code_lines(text) {
            if let Some(word) = words.iter().find(|word| holds_word(line, word)) {
                faults.push(format!("{}:{number}: names `{word}`: {}", text.path, line.trim()));
            }
        }
    }
    faults
}

/// The sources under `folder` without their tests, which may speak of what the product must not use, and whose
/// tables are as long as they are.
fn product(folder: &str) -> Vec<Text> {
    let mut texts = repository::texts(folder, &[".rs"]);
    texts.retain(|text| !text.path.contains("/tests/") && !text.path.ends_with("/tests.rs"));
    for text in &mut texts {
        if let Some(at) = text.content.find("#[cfg(test)]\nmod tests {") {
            text.content.truncate(at);
        }
    }
    texts
}

fn code_lines(text: &Text) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.content.lines().enumerate();
    numbered.filter(|(_, line)| !line.trim_start().starts_with("//")).map(|(index, line)| (index + 1, line))
}

/// Whether `word` stands in `line` with no letter before it.
fn holds_word(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
}

#[test]
fn the_engine_touches_nothing() {
    let forbidden = [
        "tokio",
        "pingora",
        "redis",
        "redb",
        "rand::",
        "SystemTime",
        "Instant",
        "std::env",
        "std::fs",
        "std::process",
        "std::thread",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "Uuid::now",
        "Uuid::new_v4",
        "async fn",
        "static mut",
        "OnceLock",
        "LazyLock",
        "thread_local!",
    ];
    none(naming("engine/src", &forbidden, |_| false));
}

#[test]
fn one_file_of_the_engine_names_the_inner_crate_of_cedar() {
    none(naming("engine/src", &["cedar_policy_core"], |path| path.ends_with("authz/cedar_core.rs")));
}

#[test]
fn storage_knows_neither_proxy_nor_policy_language() {
    none(naming("storage/src", &["pingora", "cedar_policy"], |_| false));
}

#[test]
fn only_the_edge_of_the_gateway_names_pingora() {
    let allowed = |path: &str| {
        let inside = path.strip_prefix("gateway/src/").unwrap_or(path);
        PINGORA.iter().any(|place| inside.starts_with(place))
    };
    // As a crate; the name of its log target is a word like others.
    none(naming("gateway/src", &["use pingora", "pingora_core::", "pingora_http::"], allowed));
    none(naming("gateway/src", &["cedar_policy"], |_| false));
}

#[test]
fn the_crates_depend_in_one_direction() {
    let allowed: [(&str, &[&str]); 6] = [
        ("engine", &[]),
        ("engine/examples/axum", &["engine"]),
        ("storage", &["engine"]),
        ("gateway", &["engine", "storage"]),
        ("tests", &["engine", "storage", "gateway"]),
        ("benchmarks", &["engine", "storage", "gateway"]),
    ];
    let mut faults = Vec::new();
    for (package, may_use) in allowed {
        let manifest = manifest(package);
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(dependencies) = manifest.get(table).and_then(toml::Value::as_table) else { continue };
            for ours in ["engine", "storage", "gateway", "tests", "benchmarks"] {
                if dependencies.contains_key(ours) && !may_use.contains(&ours) {
                    faults.push(format!("{package}/Cargo.toml: {table}: {package} may not use {ours}"));
                }
            }
        }
    }
    none(faults);
}

#[test]
fn every_crate_forbids_unsafe_code() {
    let workspace = repository::text("Cargo.toml").expect("the workspace's manifest").content;
    assert!(workspace.contains("unsafe_code = \"forbid\""), "Cargo.toml: unsafe_code is not forbidden");
    for package in ["engine", "engine/examples/axum", "storage", "gateway", "tests", "benchmarks"] {
        let lints = &manifest(package)["lints"];
        let inherited = lints.get("workspace").and_then(toml::Value::as_bool) == Some(true);
        let own = lints.get("rust").and_then(|rust| rust.get("unsafe_code")).and_then(toml::Value::as_str);
        assert!(inherited || own == Some("forbid"), "{package}/Cargo.toml: unsafe code is not forbidden");
    }
}

fn manifest(package: &str) -> toml::Table {
    let text = repository::text(&format!("{package}/Cargo.toml")).expect("a manifest");
    toml::from_str(&text.content).unwrap_or_else(|error| panic!("{}: {error}", text.path))
}

#[test]
fn files_are_one_idea_and_functions_one_thought() {
    let mut faults = Vec::new();
    for text in sources() {
        if text.content.len() > FILE_BYTES_MAX {
            faults.push(format!("{}: {} bytes, more than {FILE_BYTES_MAX}", text.path, text.content.len()));
        }
    }
    for folder in
        ["engine/src", "engine/examples", "storage/src", "gateway/src", "tests/src", "benchmarks/src"]
    {
        faults.extend(product(folder).iter().flat_map(long_functions));
    }
    none(faults);
}

/// Functions longer than [`FUNCTION_LINES_MAX`], found by the indentation that rustfmt gives them.
fn long_functions(text: &Text) -> Vec<String> {
    let mut faults = Vec::new();
    let mut open: Option<(usize, usize, &str)> = None;
    for (index, line) in text.content.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        if open.is_none() && is_function(line) && !line.trim_end().ends_with([';', '}']) {
            open = Some((index, indent, line.trim()));
        }
        if let Some((begun, depth, name)) = open
            && line.trim() == "}"
            && indent == depth
        {
            if index - begun >= FUNCTION_LINES_MAX {
                faults.push(format!("{}:{}: {} lines: {name}", text.path, begun + 1, index - begun + 1));
            }
            open = None;
        }
    }
    faults
}

fn is_function(line: &str) -> bool {
    let line = line.trim_start();
    [
        "fn ",
        "pub fn ",
        "pub(crate) fn ",
        "pub(super) fn ",
        "async fn ",
        "pub async fn ",
        "pub(crate) async fn ",
        "const fn ",
        "pub const fn ",
    ]
    .iter()
    .any(|start| line.starts_with(start))
}

fn sources() -> Vec<Text> {
    ["engine/src", "engine/examples", "storage/src", "gateway/src", "tests", "benchmarks"]
        .iter()
        .flat_map(|folder| repository::texts(folder, &[".rs"]))
        .collect()
}

#[test]
fn nothing_unfinished_or_silenced_stands_in_the_code() {
    // Spelt in two halves, so that this list does not find itself.
    let forbidden: [(&str, &str); 12] = [
        ("TO", "DO"),
        ("FIX", "ME"),
        ("XX", "X:"),
        ("#[ig", "nore"),
        ("#[al", "low("),
        ("#![al", "low("),
        ("dbg", "!("),
        ("unimple", "mented!"),
        ("for n", "ow,"),
        ("pub fn g", "et_"),
        ("should_p", "anic"),
        ("println!(\"DE", "BUG"),
    ];
    let mut faults = Vec::new();
    for text in sources() {
        for (number, line) in text.content.lines().enumerate() {
            if let Some((one, two)) =
                forbidden.iter().find(|(one, two)| line.contains(&format!("{one}{two}")))
            {
                faults.push(format!("{}:{}: `{one}{two}`", text.path, number + 1));
            }
        }
    }
    none(faults);
}

#[test]
fn the_tree_speaks_of_no_single_machine() {
    let forbidden =
        [("/wo", "rk/"), ("/ro", "ot/"), ("bash_", "jobs"), (".lib", "rary"), ("crates", ".io/api")];
    let mut faults = Vec::new();
    let endings = [
        ".rs",
        ".md",
        ".toml",
        ".cedar",
        ".cedarschema",
        ".json",
        ".html",
        ".txt",
        "run",
        ".yml",
        ".service",
    ];
    for text in repository::texts("", &endings) {
        for (number, line) in text.content.lines().enumerate() {
            if let Some((one, two)) =
                forbidden.iter().find(|(one, two)| line.contains(&format!("{one}{two}")))
            {
                faults.push(format!("{}:{}: `{one}{two}`", text.path, number + 1));
            }
        }
    }
    none(faults);
}

#[test]
fn every_policy_says_its_id_its_reason_and_its_owner() {
    let mut faults = Vec::new();
    let policies = repository::texts("policies", &[".cedar"]);
    for text in &policies {
        let beginning = |word: &str| text.content.lines().filter(|line| line.starts_with(word)).count();
        let (permits, forbids) = (beginning("permit"), beginning("forbid"));
        for annotation in ["@id(\"", "@reason(\"", "@owner(\""] {
            if beginning(annotation) != permits + forbids {
                let count = beginning(annotation);
                faults.push(format!(
                    "{}: {count} {annotation}…\") for {} policies",
                    text.path,
                    permits + forbids
                ));
            }
        }
        let other = if text.path.contains("/guardrails/") { permits } else { forbids };
        if other > 0 {
            faults.push(format!("{}: {other} policies of the other folder's effect", text.path));
        }
    }
    none(faults);
    assert!(!policies.is_empty(), "no policy found");
}

#[test]
fn every_stage_has_one_name_in_its_five_places() {
    let architecture = repository::text("ARCHITECTURE.md").map(|text| text.content).unwrap_or_default();
    let order = repository::texts("gateway/src/pipeline", &[".rs"]);
    let everything: String =
        repository::texts("gateway/src", &[".rs"]).into_iter().map(|text| text.content).collect();
    let mut faults = Vec::new();
    for stage in STAGES {
        let places = [
            (
                "its file",
                order.iter().any(|text| {
                    text.path.ends_with(&format!("pipeline/{stage}.rs"))
                        || text.path.ends_with(&format!("pipeline/{stage}/mod.rs"))
                }),
            ),
            (
                "its function",
                everything.contains(&format!("fn {stage}(")) || everything.contains(&format!("fn {stage}<")),
            ),
            ("its span and metric label", everything.contains(&format!("\"{stage}\""))),
            ("its heading in ARCHITECTURE.md", has_heading(&architecture, stage)),
        ];
        faults.extend(
            places
                .iter()
                .filter(|(_, stands)| !stands)
                .map(|(place, _)| format!("{stage}: {place} is missing")),
        );
    }
    none(faults);
}

fn has_heading(markdown: &str, stage: &str) -> bool {
    let mut headings = markdown.lines().filter(|line| line.starts_with('#'));
    headings.any(|heading| {
        heading.to_lowercase().split(|letter: char| !letter.is_alphanumeric()).any(|word| word == stage)
    })
}

#[test]
fn every_threat_that_is_answered_has_its_test() {
    let tests: String = sources().into_iter().map(|text| text.content).collect();
    let named = |number: u8| tests.contains(&format!("fn threat_{number:02}_"));
    none(
        THREATS
            .iter()
            .filter(|number| !named(**number))
            .map(|number| format!("threat {number}: no test `threat_{number:02}_…`"))
            .collect(),
    );
}
