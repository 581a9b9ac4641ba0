//! The audit log: one line of JSON a record, in order, in a file that only grows.
//!
//! The live file is `audit.jsonl`. At the first record of a new UTC day it becomes
//! `audit-YYYY-MM-DD.jsonl`, named by the day of its records, and a new live file begins; files older than
//! [`AuditSettings::keep_days`] days are removed then. Files are 0600 in a directory of their own (0700).
//!
//! Callers never wait for the disk: a record goes into a bounded queue, and one thread of its own turns it
//! into JSON, writes it at once and puts it on disk (`fdatasync`) every [`AuditSettings::sync_every`].
//!
//! What happens when the disk is full or the queue is:
//! - what is in the queue is kept, in order, and retried until it is written; [`AuditLog::health`] says
//!   `Failing` and why, and the program's log shouts once.
//! - a route whose class says `refuse` asks [`AuditLog::accepts`] before anything is forwarded. It answers no
//!   while writing fails or the queue is more than half full, so the other half stays free for the records
//!   of what is under way.
//! - a route whose class says `continue` goes on. A record that finds the queue full is lost, counted, and
//!   the count is written as a record of its own as soon as writing works again.

mod early;
mod events;
mod file;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use engine::audit::AuditEvent;
use engine::time::UnixMillis;
use tokio::sync::oneshot;

use crate::PrivateError;
use early::Early;
pub use events::rfc3339;
use file::LogFile;
use writer::{Sink, Writer};

/// How long [`AuditLog::append_durable`] waits for the disk. A disk that takes longer is treated as failing.
pub const DURABLE_WAIT: Duration = Duration::from_secs(2);

/// The audit log. Cheap to clone; all clones share one writer.
#[derive(Clone)]
pub struct AuditLog {
    sender: SyncSender<Item>,
    shared: Arc<Shared>,
}

/// Is handed each event once its line stands in the log's order, for those who tell others of it. It is called on the
/// writer's own thread, so that no request pays for it, and must not wait: the disk would wait with it.
pub type Mirror = Box<dyn FnMut(Box<AuditEvent>) + Send>;

/// How the log works.
#[derive(Clone, Copy, Debug)]
pub struct AuditSettings {
    /// Records that may wait for the writer. A record takes about 1.5 KB, so the default of 8,192 is 12 MB.
    pub queue_max: usize,
    /// How long a written record may wait for `fdatasync`. The default of 50 ms leaves a slow disk 150 ms to
    /// keep the promise of 200 ms.
    pub sync_every: Duration,
    /// Days that rotated files are kept. The default is 30.
    pub keep_days: u32,
    /// Records of refusals before anybody was identified, a second, past which they are only counted. The
    /// default of 100 bounds a flood to about 5 GB a day.
    pub early_per_second: u32,
    /// How many of those may come at once. The default is 1,000.
    pub early_burst: u32,
}

/// The state of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditHealth {
    /// Whether writing works.
    pub state: AuditState,
    /// Records that wait for the writer.
    pub queued: usize,
    /// Records lost since the start, because the queue was full or the log was closed.
    pub lost: u64,
    /// Early refusals that were counted instead of recorded, since the start.
    pub summarised: u64,
}

/// Whether writing works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditState {
    /// The last write worked.
    Writing,
    /// The last write failed; it is retried four times a second.
    Failing {
        /// What the system said.
        error: String,
    },
    /// The log was closed, or its writer is gone.
    Closed,
}

/// Why a record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too many records wait for the writer.
    #[error("the audit log's queue is full")]
    Full,
    /// Writing fails, or did not happen in time. For durable records only.
    #[error("the audit log cannot be written")]
    Failing,
    /// The log was closed.
    #[error("the audit log is closed")]
    Closed,
}

/// What became of an early refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlyOutcome {
    /// It has a record of its own.
    Recorded,
    /// It is counted in the next summary.
    Counted,
}

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditOpenError {
    /// The directory or the live file is not private, or cannot be used.
    #[error("the audit log's directory or file cannot be used")]
    Private(#[source] PrivateError),
    /// The file could not be read, completed or rotated, or the writer's thread did not start.
    #[error("the audit log cannot be opened")]
    Io(#[source] io::Error),
}

/// Closing gave up, because the disk did not take the last records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{lost} audit records could not be written before closing")]
pub struct CloseError {
    /// How many records are lost.
    pub lost: u64,
}

enum Item {
    Record(Box<AuditEvent>),
    Durable(Box<AuditEvent>, oneshot::Sender<Result<(), AppendError>>),
    /// Only wakes the writer, so that it sees that the log is closing.
    Wake,
}

/// What callers and the writer both see.
struct Shared {
    queue_max: usize,
    /// Raised before a record is queued, lowered when the writer has it: closing waits for zero.
    queued: AtomicUsize,
    closing: AtomicBool,
    lost: AtomicU64,
    failure: Mutex<Option<String>>,
    early: Mutex<Early>,
    thread: Mutex<Option<JoinHandle<Result<(), CloseError>>>>,
    /// The writer, to be woken where a record cannot wait for its next look into the queue.
    writer: OnceLock<Thread>,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self {
            queue_max: 8192,
            sync_every: Duration::from_millis(50),
            keep_days: 30,
            early_per_second: 100,
            early_burst: 1000,
        }
    }
}

impl AuditLog {
    /// Opens the log in `dir`, which is made when it is missing and belongs to the log alone, and starts its
    /// writer. A line that a crash left incomplete is ended, and a record says so: it is never glued to the
    /// next. A live file of an earlier day is rotated.
    ///
    /// # Errors
    /// When the directory or file is not private or not writable.
    pub fn open(dir: &Path, settings: AuditSettings, now: UnixMillis) -> Result<Self, AuditOpenError> {
        Self::open_mirrored(dir, settings, now, None)
    }

    /// The same, with somebody who is handed every event after it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_mirrored(
        dir: &Path,
        settings: AuditSettings,
        now: UnixMillis,
        mirror: Option<Mirror>,
    ) -> Result<Self, AuditOpenError> {
        let opened = LogFile::open(dir, settings.keep_days, now)?;
        let notice = opened.mended.then(|| events::mended(now));
        let log =
            Self::start(Box::new(opened.file), opened.day, settings, mirror).map_err(AuditOpenError::Io)?;
        if let Some(notice) = notice {
            log.append(notice).map_err(|error| AuditOpenError::Io(io::Error::other(error)))?;
        }
        Ok(log)
    }

    fn start(
        sink: Box<dyn Sink>,
        day: String,
        settings: AuditSettings,
        mirror: Option<Mirror>,
    ) -> io::Result<Self> {
        let (sender, receiver): (_, Receiver<Item>) = sync_channel(settings.queue_max);
        let shared = Arc::new(Shared {
            queue_max: settings.queue_max,
            queued: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            failure: Mutex::default(),
            early: Mutex::new(Early::new(settings.early_per_second, settings.early_burst)),
            thread: Mutex::default(),
            writer: OnceLock::new(),
        });
        let writer = Writer::new(sink, day, settings.sync_every, receiver, Arc::clone(&shared), mirror);
        let thread = std::thread::Builder::new().name("audit-log".into()).spawn(move || writer.run())?;
        shared.writer.set(thread.thread().clone()).ok();
        *lock(&shared.thread) = Some(thread);
        Ok(Self { sender, shared })
    }

    /// Hands a record over. Never waits, so it can be called where nothing may wait (in `drop`).
    ///
    /// # Errors
    /// When the queue is full or the log closed; the record is lost and counted.
    pub fn append(&self, event: impl Into<Box<AuditEvent>>) -> Result<(), AppendError> {
        let taken = self.send(Item::Record(event.into()));
        if let Err(error) = taken
            && self.shared.lost.fetch_add(1, Ordering::Relaxed) == 0
        {
            tracing::error!(%error, "an audit record was lost; the count is in the health and the next record");
        }
        taken
    }

    /// Hands the record of a refusal over that came before anybody was identified. Such refusals are free
    /// for whoever causes them, so their records have a bounded share (threat 20): past it they are counted
    /// by refusal, and one summary a second has the counts.
    pub fn append_early(&self, event: impl Into<Box<AuditEvent>>, now: UnixMillis) -> EarlyOutcome {
        let event = event.into();
        let code = event.decision.refusal.unwrap_or("unnamed");
        // The last quarter of the queue is not for them.
        let room = self.queued() < self.shared.queue_max - self.shared.queue_max / 4;
        if lock(&self.shared.early).admit(code, room, now) && self.append(event).is_ok() {
            EarlyOutcome::Recorded
        } else {
            EarlyOutcome::Counted
        }
    }

    /// Hands a record over and waits until it is on disk.
    ///
    /// # Errors
    /// When writing fails, takes longer than [`DURABLE_WAIT`], or the queue is full. What the record
    /// announces must not happen then. The record itself may still be written later.
    pub async fn append_durable(&self, event: impl Into<Box<AuditEvent>>) -> Result<(), AppendError> {
        if self.shared.is_failing() {
            return Err(AppendError::Failing);
        }
        let (confirm, confirmed) = oneshot::channel();
        self.send(Item::Durable(event.into(), confirm))?;
        match tokio::time::timeout(DURABLE_WAIT, confirmed).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(AppendError::Failing),
        }
    }

    /// Whether a request that must not run without its record may begin.
    #[must_use]
    pub fn accepts(&self) -> bool {
        !self.is_closed() && !self.shared.is_failing() && self.queued() <= self.shared.queue_max / 2
    }

    /// The state of the log.
    #[must_use]
    pub fn health(&self) -> AuditHealth {
        let state = match &*lock(&self.shared.failure) {
            _ if self.is_closed() => AuditState::Closed,
            Some(error) => AuditState::Failing { error: error.clone() },
            None => AuditState::Writing,
        };
        AuditHealth {
            state,
            queued: self.queued(),
            lost: self.shared.lost.load(Ordering::Relaxed),
            summarised: lock(&self.shared.early).total(),
        }
    }

    /// Writes everything that was handed over, puts it on disk and ends the writer. Records that come later
    /// are refused. Closing again does nothing.
    ///
    /// # Errors
    /// When the disk does not take the last records within a few seconds.
    pub async fn close(&self) -> Result<(), CloseError> {
        self.shared.closing.store(true, Ordering::SeqCst);
        // A full queue needs no waking: the writer is awake or retrying.
        drop(self.sender.try_send(Item::Wake));
        self.shared.wake();
        let Some(thread) = lock(&self.shared.thread).take() else { return Ok(()) };
        let ended = tokio::task::spawn_blocking(move || thread.join()).await;
        let lost = CloseError { lost: self.queued() as u64 };
        ended.map_or(Err(lost), |joined| joined.unwrap_or(Err(lost)))
    }

    fn send(&self, item: Item) -> Result<(), AppendError> {
        let is_urgent = matches!(item, Item::Durable(..));
        // Raised before the check: the writer that sees `closing` waits until nobody is past this point.
        let before = self.shared.queued.fetch_add(1, Ordering::SeqCst);
        let sent = if self.is_closed() {
            Err(AppendError::Closed)
        } else {
            self.sender.try_send(item).map_err(|error| match error {
                TrySendError::Full(_) => AppendError::Full,
                TrySendError::Disconnected(_) => AppendError::Closed,
            })
        };
        if sent.is_err() {
            self.shared.queued.fetch_sub(1, Ordering::SeqCst);
        } else if is_urgent || before == self.shared.queue_max / 4 {
            self.shared.wake();
        }
        sent
    }

    fn queued(&self) -> usize {
        self.shared.queued.load(Ordering::SeqCst)
    }

    fn is_closed(&self) -> bool {
        self.shared.closing.load(Ordering::SeqCst)
    }
}

impl Shared {
    /// Ends the writer's pause between two looks into the queue.
    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    fn is_failing(&self) -> bool {
        lock(&self.failure).is_some()
    }
}

/// Nothing that is kept under these locks can be left half-changed by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
