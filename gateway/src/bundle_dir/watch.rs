//! Tells when a policies directory has changed and come to rest.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;

use crate::clock;

/// Nothing must change for this long before a change is told: editors and checkouts write in bursts.
const QUIET: Duration = Duration::from_millis(150);
/// A directory that never comes to rest is told of all the same; the reading itself refuses what is in motion.
const UNREST_MAX: Duration = Duration::from_secs(3);
/// A signal that waits says everything that another could: more need not be kept.
const SIGNALS_MAX: usize = 1;

/// Watches until dropped.
#[derive(Debug)]
pub struct Watch {
    stop: SyncSender<Signal>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Why a directory cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The path has no parent or no name of its own.
    #[error("`{}` cannot be watched: it has no name of its own", .0.display())]
    Nameless(PathBuf),
    /// The operating system refuses.
    #[error("`{}` cannot be watched", path.display())]
    Refused {
        /// The directory.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: notify::Error,
    },
    /// No thread can be started.
    #[error("no thread can be started to watch with")]
    Thread(#[source] std::io::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Changed,
    Stop,
}

impl Watch {
    /// Begins. The receiver sees a new number after each change that has come to rest.
    ///
    /// # Errors
    /// When the directory or its parent cannot be watched.
    pub fn begin(directory: &Path) -> Result<(Self, watch::Receiver<u64>), WatchError> {
        let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
            return Err(WatchError::Nameless(absolute));
        };
        let (stop, signals) = sync_channel(SIGNALS_MAX);
        let mut armed = Armed::new(absolute.clone(), parent, name.to_owned(), stop.clone())?;
        let (told, receiver) = watch::channel(0_u64);
        let thread = std::thread::Builder::new()
            .name("policies-watch".into())
            .spawn(move || {
                while comes_to_rest(&signals) {
                    armed.follow();
                    told.send_modify(|count| *count = count.wrapping_add(1));
                }
            })
            .map_err(WatchError::Thread)?;
        Ok((Self { stop, thread: Some(thread) }, receiver))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The thread empties the queue, so this waits for at most one round of it.
        self.stop.send(Signal::Stop).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Waits for a change and then for rest; false when the watch ends.
fn comes_to_rest(signals: &Receiver<Signal>) -> bool {
    match signals.recv() {
        Ok(Signal::Changed) => {}
        Ok(Signal::Stop) | Err(_) => return false,
    }
    let began = clock::instant();
    while began.elapsed() < UNREST_MAX {
        match signals.recv_timeout(QUIET) {
            Ok(Signal::Changed) => {}
            Err(RecvTimeoutError::Timeout) => return true,
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
    true
}

/// The watcher on the directory as it is now, and on its parent, which sees the directory itself being swapped.
struct Armed {
    directory: PathBuf,
    target: Option<PathBuf>,
    watcher: RecommendedWatcher,
}

impl Armed {
    fn new(
        directory: PathBuf,
        parent: &Path,
        name: OsString,
        signals: SyncSender<Signal>,
    ) -> Result<Self, WatchError> {
        let beside = parent.to_owned();
        let heard = move |event: notify::Result<Event>| {
            // An error may mean a lost event: look.
            if event.map_or(true, |event| concerns(&event, &beside, &name)) {
                signals.try_send(Signal::Changed).ok();
            }
        };
        let refused = |source| WatchError::Refused { path: directory.clone(), source };
        let mut watcher = notify::recommended_watcher(heard).map_err(refused)?;
        watcher.watch(parent, RecursiveMode::NonRecursive).map_err(refused)?;
        let target = std::fs::canonicalize(&directory).ok();
        if let Some(target) = &target {
            watcher.watch(target, RecursiveMode::Recursive).map_err(refused)?;
        }
        Ok(Self { directory, target, watcher })
    }

    /// Watches what the path leads to now. The same path may lead to a new directory, so it is armed anew each time.
    fn follow(&mut self) {
        if let Some(old) = self.target.take() {
            // It fails when the directory is gone, and then there is nothing to end.
            self.watcher.unwatch(&old).ok();
        }
        let found = std::fs::canonicalize(&self.directory).ok();
        self.target = found.filter(|target| self.watcher.watch(target, RecursiveMode::Recursive).is_ok());
    }
}

/// Whether an event says that the bundle may read differently now. Our own reading opens files, and must not count.
fn concerns(event: &Event, parent: &Path, name: &OsString) -> bool {
    let changes = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    };
    // Of the parent, only the directory's own name is ours.
    let ours = |path: &PathBuf| path.parent() != Some(parent) || path.file_name() == Some(name);
    changes && (event.need_rescan() || event.paths.iter().any(ours))
}
