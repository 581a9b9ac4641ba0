//! What one decision costs with the shipped policies: percentiles over all routes for a role of every size.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::authz::AuthzRequest;
use engine::bundle::{Bundle, BundleSources};
use engine::identity::{Identity, LOCAL_ISSUER, Principal, PrincipalKind, Scheme, principal_id};
use engine::route::Route;
use engine::time::UnixMillis;

/// Passes over all routes before anything is counted, so that caches are warm as they are in service.
const WARMING: usize = 2;
/// Passes that are counted.
const PASSES: usize = 10;

/// Prints the percentiles.
pub(crate) fn decide() -> ExitCode {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    let bundle = match Bundle::load(&sources(&folder)) {
        Ok(bundle) => bundle,
        Err(faults) => {
            for fault in faults {
                eprintln!("{fault}");
            }
            return ExitCode::FAILURE;
        }
    };
    let routes = bundle.routes().routes();
    println!(
        "{} policies, {} routes, bundle {}",
        bundle.policies().count(),
        routes.len(),
        bundle.id().as_str()
    );
    for role in ["guest_user", "standard_user", "global_admin"] {
        let identity = person(role);
        let mut costs = Vec::with_capacity(routes.len() * PASSES);
        for pass in 0..WARMING + PASSES {
            for route in routes {
                let cost = cost_of(&bundle, &identity, route);
                if pass >= WARMING {
                    costs.push(cost);
                }
            }
        }
        costs.sort_unstable();
        let [p50, p99] =
            [50, 99].map(|percent| costs.get(costs.len() * percent / 100).copied().unwrap_or_default());
        println!("{role:<14} p50 {:>8.1} us   p99 {:>8.1} us", micros(p50), micros(p99));
    }
    ExitCode::SUCCESS
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time itself")]
fn cost_of(bundle: &Bundle, identity: &Identity, route: &Route) -> Duration {
    let request = AuthzRequest {
        identity,
        action: &route.action,
        module: &route.module,
        parameters: &[],
        class: &route.class,
        method: route.method.as_str(),
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        tls: true,
        now: UnixMillis(1_764_000_000_000),
    };
    let begun = Instant::now();
    std::hint::black_box(bundle.decide(std::hint::black_box(&request)));
    begun.elapsed()
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn person(role: &str) -> Identity {
    Identity::Known(Arc::new(Principal {
        kind: PrincipalKind::User,
        id: principal_id(PrincipalKind::User, LOCAL_ISSUER, role),
        name: role.to_owned(),
        roles: BTreeSet::from([role.to_owned()]),
        groups: BTreeSet::new(),
        scopes: BTreeSet::new(),
        scheme: Scheme::Session,
        assurance: 1,
        suspended: false,
        authenticated_at: UnixMillis(1_763_999_000_000),
        credential_id: None,
        expires_at: None,
    }))
}

/// The texts of a policy folder that belong to its bundle.
fn sources(folder: &Path) -> BundleSources {
    let mut sources = BundleSources::default();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&next) else { continue };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let inside = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if BundleSources::belongs(&inside)
                && let Ok(text) = std::fs::read_to_string(&path)
            {
                sources.files.insert(inside, text);
            }
        }
    }
    sources
}
