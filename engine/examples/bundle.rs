//! A bundle from its folder: request lines in, decisions out, each with the policies that decided.
//!
//! ```sh
//! cargo run -p engine --example bundle -- engine/examples/bundle
//! ```

use std::collections::BTreeSet;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, fs};

use engine::asked::Caller;
use engine::bundle::{Bundle, BundleSources};
use engine::identity::{Identity, LOCAL_ISSUER, Principal, PrincipalKind};
use engine::refusal::Refusal;
use engine::time::UnixMillis;

/// A moment of the test's choice. A program that serves asks its clock, because the engine has none.
const NOON: UnixMillis = UnixMillis(1_767_787_200_000);

/// A documentation address (RFC 5737).
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// The texts of a bundle. Reading is not the engine's: a program that others can write to the files of should read them
/// as carefully as the gateway does.
fn sources(root: &Path) -> Result<BundleSources, Box<dyn Error>> {
    let mut sources = BundleSources::default();
    for folder in ["", "guardrails", "grants", "entities", "routes"] {
        for entry in fs::read_dir(root.join(folder))? {
            let file = entry?.path();
            let name = file.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
            if file.is_file() && BundleSources::belongs(&name) {
                sources.files.insert(name, fs::read_to_string(&file)?);
            }
        }
    }
    Ok(sources)
}

fn person(name: &str, roles: &[&str]) -> Identity {
    let roles: BTreeSet<String> = roles.iter().map(|role| (*role).to_owned()).collect();
    let nobody_yet = Principal::named(PrincipalKind::User, LOCAL_ISSUER, name, NOON);
    Identity::Known(Arc::new(Principal { roles, ..nobody_yet }))
}

/// Asks for one request line.
fn ask(bundle: &Bundle, line: &str, identity: &Identity) -> Result<String, Box<dyn Error>> {
    let (method, target) = line.split_once(' ').ok_or("a request line is a method and a target")?;
    let caller = Caller { identity, client: CLIENT, tls: true, now: NOON };
    let permit = bundle.asked(&method.parse()?, target).and_then(|asked| asked.permitted(&caller));
    Ok(match permit {
        Ok(permit) => {
            let deciding = permit.deciding().iter().map(|by| format!("{} ({})", by.id, by.reason));
            format!("permitted by {}", deciding.collect::<Vec<_>>().join(", "))
        }
        Err(Refusal::Forbidden(denial)) if !denial.forbidding.is_empty() => {
            let forbidding = denial.forbidding.iter().map(|by| format!("{} ({})", by.id, by.reason));
            format!("forbidden by {}", forbidding.collect::<Vec<_>>().join(", "))
        }
        Err(refusal) => format!("refused with {}: {}", refusal.answer().status, refusal.detail_for_record()),
    })
}

fn told(root: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let bundle = Bundle::load(&sources(root)?).map_err(|faults| {
        // All faults at once, each with its file, its line and what to do.
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    })?;
    let people = [("ada", person("ada", &["writer"])), ("bob", person("bob", &["reader"]))];
    let nobody = ("nobody", Identity::Anonymous);
    let mut told = vec![format!("bundle {}", bundle.id())];
    for line in ["GET /notes?page=2", "PUT /notes/plan", "GET /notes/plan", "GET /", "GET /notes/../secret"] {
        for (who, identity) in people.iter().chain([&nobody]) {
            told.push(format!("{line} by {who}: {}", ask(&bundle, line, identity)?));
        }
    }
    Ok(told)
}

fn main() -> Result<(), Box<dyn Error>> {
    let root = env::args_os().nth(1).map_or_else(|| "engine/examples/bundle".into(), PathBuf::from);
    for line in told(&root)? {
        println!("{line}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_bundle_says_who_decided() {
        let told = super::told(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/bundle")).unwrap();
        for expected in [
            "GET /notes?page=2 by ada: permitted by notes.writers (Writers read and write notes.)",
            "GET /notes?page=2 by bob: permitted by notes.readers (Readers read notes.)",
            "PUT /notes/plan by ada: permitted by notes.writers (Writers read and write notes.)",
            "PUT /notes/plan by bob: refused with 403: no policy permits it",
            "GET /notes/plan by nobody: refused with 404: no route names this method and path",
            "GET /notes?page=2 by nobody: refused with 401: no credential that the route accepts was presented",
            "GET / by nobody: permitted by front.everybody (The front page is for everybody.)",
        ] {
            assert!(told.iter().any(|line| line == expected), "{expected} is not told: {told:#?}");
        }
        assert!(told.iter().any(|line| line.starts_with("GET /notes/../secret by ada: refused with 400")));
    }
}
