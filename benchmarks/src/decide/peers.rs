//! OPA and Cerbos on the same policies and requests, asked by a Python script: a C library cannot be called from here
//! without unsafe code.

use std::path::PathBuf;
use std::process::Command;

use engine::identity::Identity;
use gateway::clock;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::mix::Dimensions;
use super::world::{Ask, World};
use super::{rows, telling};
use crate::Failure;
use crate::figures::Figure;
use crate::process::found;

/// The script; beside this file, where Python's own tools find it.
const SCRIPT: &str = include_str!("peers.py");
/// Numbers of policies: with more, OPA takes minutes to compile its rules.
const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];

/// Where the peers are.
#[derive(Debug, clap::Args)]
#[group(id = "where_peers_are")]
pub(super) struct Options {
    /// Ask OPA and Cerbos for the same decisions too
    #[arg(long)]
    peers: bool,
    /// OPA's C library: libopabridge.so of PyPI's opa-golib-python-bindings
    #[arg(long, value_name = "PATH")]
    opa: Option<PathBuf>,
    /// Cerbos, if not in the search path: cerbos-linux-x64 of npm's @cerbos/cerbos-linux-x64
    #[arg(long, value_name = "PATH")]
    cerbos: Option<PathBuf>,
}

/// A line that the script prints.
#[derive(Deserialize)]
struct Line {
    name: String,
    value: f64,
}

/// The rows of those that are here, up to so many policies.
///
/// # Errors
/// A peer fails, or decides otherwise.
pub(super) fn rows(options: &Options, policies_max: usize) -> Result<Vec<Figure>, Failure> {
    if !options.peers {
        return Ok(Vec::new());
    }
    let cerbos = options.cerbos.clone().or_else(|| found("cerbos"));
    let mut words = Vec::new();
    for (name, path) in [("--opa", options.opa.clone()), ("--cerbos", cerbos)] {
        match path {
            Some(path) => words.extend([name.into(), path.into_os_string()]),
            None => eprintln!("no peer for {name}: its rows are left out"),
        }
    }
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let mut figures = Vec::new();
    for policies in SIZES.into_iter().filter(|policies| *policies <= policies_max) {
        telling(&format!("asking the peers with {policies} policies"));
        let folder = written(policies)?;
        let mut command = Command::new("python3");
        let output = command.args(["-c", SCRIPT]).arg(folder.path()).args(&words).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        for line in String::from_utf8(output.stdout)?.lines() {
            let Line { name, value } = serde_json::from_str(line)?;
            figures.push(Figure::once(name, value, "ns"));
        }
    }
    Ok(figures)
}

/// Policies and requests as files.
fn written(policies: usize) -> Result<TempDir, Failure> {
    let world = World::generate(&Dimensions::of(policies, 0))?;
    let bundle = rows::loaded(&world)?;
    let (folder, mut text) = (TempDir::new()?, String::new());
    for (_, file) in world.sources.files.iter().filter(|(path, _)| path.ends_with(".cedar")) {
        text.push_str(file);
    }
    std::fs::write(folder.path().join("policies.cedar"), text)?;
    let requests: Vec<Value> =
        world.asks.iter().map(|ask| told(&bundle, &world, ask)).collect::<Result<_, _>>()?;
    std::fs::write(folder.path().join("requests.json"), serde_json::to_string(&requests)?)?;
    Ok(folder)
}

/// A request in terms of its attributes, with what the bundle decides.
fn told(bundle: &engine::bundle::Bundle, world: &World, ask: &Ask) -> Result<Value, Failure> {
    let Identity::Known(person) = &ask.identity else { return Err("nobody asks".into()) };
    let matched = ask.matched(bundle)?;
    let parameters = ask.parameters(&matched);
    let request = ask.request(&matched, &parameters, 0);
    let mut named = Map::new();
    for (name, value) in request.parameters {
        let value =
            if &**name == "amount" { json!(value.parse::<u64>()?) } else { Value::from(value.as_str()) };
        named.insert(name.to_string(), value);
    }
    let above = person.groups.iter().filter_map(|group| world.groups.get(group)).flatten();
    let roles: std::collections::BTreeSet<&String> = person.roles.iter().chain(above).collect();
    let module: usize = request.module.trim_start_matches('m').parse()?;
    Ok(json!({
        "name": person.name,
        "suspended": person.suspended,
        "roles": roles,
        "action": request.action,
        "group": if request.method == "GET" { "read" } else { "write" },
        "module": request.module,
        "area": format!("area{}", module / 10),
        "method": request.method,
        "client": request.client,
        "time": clock::rfc3339(request.now),
        "assurance": person.assurance,
        "tls": request.tls,
        "class": request.class,
        "parameters": named,
        "permitted": rows::decided(bundle, ask, 0)?,
    }))
}
