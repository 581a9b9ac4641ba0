//! What one decision costs with the shipped policies: over all routes, for a role of every size.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::authz::AuthzRequest;
use engine::bundle::{Bundle, BundleSources};
use engine::identity::{Identity, LOCAL_ISSUER, Principal, PrincipalKind, Scheme, principal_id};
use engine::time::UnixMillis;

use super::measure::{Turns, cost};
use crate::Failure;
use crate::builds::repository;
use crate::figures::Figure;

/// How long one role is measured for.
const BUDGET: Duration = Duration::from_secs(1);

/// The rows of the shipped bundle.
///
/// # Errors
/// It does not load.
pub(super) fn rows() -> Result<Vec<Figure>, Failure> {
    let bundle = Bundle::load(&sources(&repository().join("policies"))).map_err(|faults| {
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        told.join("\n")
    })?;
    let routes = bundle.routes().routes();
    let mut figures = Vec::new();
    for role in ["guest_user", "standard_user", "global_admin"] {
        let identity = person(role);
        let cost = cost(&Turns::default(), routes.len(), BUDGET, |number| {
            routes.get(number).map(|route| {
                bundle.decide(&AuthzRequest {
                    identity: &identity,
                    action: &route.action,
                    module: &route.module,
                    hint: route.hint,
                    parameters: &[],
                    class: &route.class,
                    method: route.method.as_str(),
                    client: IpAddr::V4(Ipv4Addr::LOCALHOST),
                    tls: true,
                    now: UnixMillis(1_764_000_000_000),
                })
            })
        });
        figures.push(Figure::once(format!("decide.shipped_p50_ns.{role}"), cost.p50_ns, "ns"));
        figures.push(Figure::once(format!("decide.shipped_p99_ns.{role}"), cost.p99_ns, "ns"));
    }
    Ok(figures)
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
