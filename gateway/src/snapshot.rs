//! The policy world: built aside, swapped whole, the last good one kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use engine::bundle::{Bundle, BundleFault, BundleId};
use engine::route::Target;
use engine::time::UnixMillis;
use tokio::sync::watch;

use crate::aside::{Freed, Freer};
use crate::bundle_dir;
use crate::clock;
use crate::config::settings::Limits;
use crate::in_force::{InForce, loosenings, misfits};

/// The thread on which a bundle is read, checked and put in place.
pub const THREAD: &str = "bundle-load";

/// One policy world. A request is decided by one of them from beginning to end.
#[derive(Debug)]
pub struct Snapshot {
    /// The bundle. A large one takes long to free, and the last to hold it may be a request.
    pub bundle: Freed<Bundle>,
    /// The limits, those that it names and those that it leaves to the configuration.
    pub limits: InForce,
    /// When it was put in place, in milliseconds since 1970.
    since: AtomicU64,
}

impl Snapshot {
    /// When it was put in place: what was counted before was counted by other limits.
    #[must_use]
    pub fn since(&self) -> UnixMillis {
        UnixMillis(self.since.load(Ordering::Relaxed))
    }
}

/// Holds the current snapshot, and the one before it for a roll-back.
#[derive(Debug)]
pub struct SnapshotCell {
    current: ArcSwap<Snapshot>,
    previous: ArcSwap<Option<Arc<Snapshot>>>,
    swaps: watch::Sender<u64>,
    freer: Freer<Bundle>,
    /// The limits of the configuration.
    settings: Limits,
}

impl SnapshotCell {
    /// Begins with a bundle, and these limits where a bundle names none.
    #[must_use]
    pub fn new(bundle: Bundle, settings: Limits) -> Self {
        let freer = Freer::begin("bundles-freed");
        let limits = InForce::of(&settings, bundle.limits());
        let bundle = freer.will_free(bundle);
        let first = Snapshot { bundle, limits, since: AtomicU64::new(clock::now().0) };
        Self {
            current: ArcSwap::from_pointee(first),
            previous: ArcSwap::from_pointee(None),
            swaps: watch::Sender::new(0),
            freer,
            settings,
        }
    }

    /// The snapshot that decides now.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Puts a bundle in place; requests under way end with the one that they began with.
    pub fn swap(&self, bundle: Bundle) {
        let limits = InForce::of(&self.settings, bundle.limits());
        let bundle = self.freer.will_free(bundle);
        self.put(Arc::new(Snapshot { bundle, limits, since: AtomicU64::default() }));
    }

    /// Changes whenever another snapshot is put in place: what goes on past its request asks again then.
    #[must_use]
    pub fn swaps(&self) -> watch::Receiver<u64> {
        self.swaps.subscribe()
    }

    fn put(&self, snapshot: Arc<Snapshot>) {
        // Later than the one before, whatever the clock says: what was counted is told apart by it.
        let earliest = self.current.load().since().plus(1);
        snapshot.since.store(clock::now().max(earliest).0, Ordering::Relaxed);
        let replaced = self.current.swap(snapshot);
        self.previous.store(Arc::new(Some(replaced)));
        self.swaps.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Puts the previous snapshot back in place; `None` when there is none.
    pub fn roll_back(&self) -> Option<Arc<Snapshot>> {
        let previous = self.previous.load_full().as_ref().clone()?;
        self.put(previous.clone());
        Some(previous)
    }
}

/// Why a bundle is read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its files changed, or a signal said so. Never loosens what holds.
    Change,
    /// An operator asked for it; `accept` names the bundle whose loosenings are accepted.
    Operator {
        /// The digest that the operator has seen.
        accept: Option<String>,
    },
}

/// What a reload came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// The files hold what already decides.
    Unchanged(BundleId),
    /// A new bundle decides.
    Swapped {
        /// What decided before.
        from: BundleId,
        /// What decides now.
        to: BundleId,
    },
}

/// A bundle was not taken; the last good one serves on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReloadError {
    /// The files cannot be read safely, or what they say does not hold together.
    #[error("the bundle in the policies directory is not well")]
    Faults(Vec<BundleFault>),
    /// It would loosen what holds now.
    #[error("bundle {id} loosens what holds now: it needs `cedargate bundle reload --accept {id}`")]
    Loosens {
        /// Its digest.
        id: BundleId,
        /// What it loosens, in sentences.
        loosens: Vec<String>,
    },
    /// There is no earlier bundle to go back to.
    #[error("there is no earlier bundle in this process to go back to")]
    NoPrevious,
}

/// Reads the bundle again and swaps it, or keeps the last good one and says why.
#[derive(Debug)]
pub struct Reloader {
    cell: Arc<SnapshotCell>,
    directory: PathBuf,
    /// Upstreams that are configured; routes to others would be answered by nobody.
    upstreams: BTreeSet<Arc<str>>,
    /// Whether anybody could prove a second factor; routes that ask for one would be open to nobody.
    second_factor: bool,
    /// One reload at a time: two that cross could put the older one in place.
    turn: Mutex<()>,
}

impl Reloader {
    /// Reloads `cell` from `directory`, with routes to these upstreams alone, and with those that ask for a second factor where
    /// anybody could prove one.
    #[must_use]
    pub fn new(
        cell: Arc<SnapshotCell>,
        directory: PathBuf,
        upstreams: impl IntoIterator<Item = Arc<str>>,
        second_factor: bool,
    ) -> Self {
        let upstreams = upstreams.into_iter().collect();
        Self { cell, directory, upstreams, second_factor, turn: Mutex::new(()) }
    }

    /// The cell that it swaps.
    #[must_use]
    pub fn cell(&self) -> &Arc<SnapshotCell> {
        &self.cell
    }

    /// Reads, checks and swaps. Blocks for as long as parsing takes: to be called [`aside`](crate::aside) alone.
    ///
    /// # Errors
    /// When the files are not well, or loosen what holds and nobody accepted exactly that.
    pub fn reload(&self, cause: &Cause) -> Result<Reloaded, ReloadError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.cell.current();
        let sources = bundle_dir::read(&self.directory).map_err(ReloadError::Faults)?;
        let (from, to) = (current.bundle.id().clone(), sources.digest());
        if from == to {
            return Ok(Reloaded::Unchanged(to));
        }
        let bundle = Bundle::load_after(&sources, &current.bundle).map_err(ReloadError::Faults)?;
        let strays = self.strays(&bundle);
        if !strays.is_empty() {
            return Err(ReloadError::Faults(strays));
        }
        let loosens = loosenings(&self.cell.settings, &current.bundle, &bundle);
        let accepted = matches!(cause, Cause::Operator { accept: Some(id) } if *id == to.to_string());
        if !loosens.is_empty() && !accepted {
            return Err(ReloadError::Loosens { id: to, loosens });
        }
        self.cell.swap(bundle);
        Ok(Reloaded::Swapped { from, to })
    }

    /// One fault for each upstream that routes name and the configuration does not, one for a second factor that nobody
    /// could prove, and for limits of the configuration that nothing would be counted by: at the next start all would be faults.
    fn strays(&self, bundle: &Bundle) -> Vec<BundleFault> {
        let mut strays: BTreeMap<&str, BundleFault> = BTreeMap::new();
        for route in bundle.routes().routes() {
            if !self.second_factor && route.step_up.is_some_and(|asks| asks.assurance > 1) {
                strays.entry("").or_insert_with(|| BundleFault {
                    file: "routes/".to_owned(),
                    line: None,
                    message: format!("route `{}` asks for a second factor, which nobody could prove", route.name),
                    remedy: "configure a provider with `mfa_acr` or `mfa_amr` (docs/oidc.md) and restart, or drop `assurance` from its `step_up`".to_owned(),
                });
            }
            if let Target::Upstream(name) = &route.target
                && !self.upstreams.contains(name)
            {
                strays.entry(name).or_insert_with(|| BundleFault {
                    file: "routes/".to_owned(),
                    line: None,
                    message: format!(
                        "route `{}` goes to upstream `{name}`, which is not configured",
                        route.name
                    ),
                    remedy: format!("add [upstreams.{name}] to the configuration and restart"),
                });
            }
        }
        let misfits =
            misfits(&self.cell.settings, bundle).into_values().map(|(message, remedy)| BundleFault {
                file: "limits.toml".to_owned(),
                line: None,
                message: format!("{message}, and that is in the configuration"),
                remedy,
            });
        strays.into_values().chain(misfits).collect()
    }

    /// Puts the previous bundle back in place, whatever the files say.
    ///
    /// # Errors
    /// When there is none in this process.
    pub fn roll_back(&self) -> Result<Reloaded, ReloadError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let from = self.cell.current().bundle.id().clone();
        let restored = self.cell.roll_back().ok_or(ReloadError::NoPrevious)?;
        Ok(Reloaded::Swapped { from, to: restored.bundle.id().clone() })
    }
}

/// Reads a directory safely and checks what it says.
///
/// # Errors
/// Every fault, with file, line and remedy.
pub fn load(directory: &Path) -> Result<Bundle, Vec<BundleFault>> {
    let sources = bundle_dir::read(directory)?;
    Bundle::load(&sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_put_in_place_later_than_the_one_before_however_soon() {
        let mut sources = bundle_dir::read(Path::new("../policies")).unwrap();
        // Every policy and route costs time at load.
        sources.files.retain(|path, _| {
            let kept = ["cedargate.toml", "cedargate.cedar", "principals.cedar", ".json", ".cedarschema"];
            kept.iter().any(|end| path.ends_with(end))
        });
        let bundle = || Bundle::load(&sources).unwrap();
        let cell = SnapshotCell::new(bundle(), Limits::default());
        let mut before = cell.current().since();
        cell.swap(bundle());
        for _ in 0..100 {
            let since = cell.current().since();
            assert!(since > before, "{since:?}");
            before = since;
            cell.roll_back().unwrap();
        }
    }
}
