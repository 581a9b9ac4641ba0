//! The log's one writer: order, pace, and what it does when the disk fails.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use engine::audit::AuditEvent;
use tokio::sync::oneshot;

use super::file::day;
use super::{AppendError, CloseError, Item, Mirror, Shared, events, lock};

/// Bytes of lines that are held until they are on disk: past it the disk is waited for.
const PENDING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Records taken from the queue before they are written.
const BATCH_MAX: usize = 512;

/// Between two looks into the queue while records come: one write then has all that came, and nobody who hands a record
/// over has to wake the writer, which costs more than all else that a record costs.
const PACE: Duration = Duration::from_millis(10);

/// How long a failed write waits for the next try.
const RETRY: Duration = Duration::from_millis(250);

/// Tries that closing allows a failing disk: five seconds.
const CLOSING_TRIES: u32 = 20;

/// How often early refusals are summed up.
const SUMMARY_EVERY: Duration = Duration::from_secs(1);

/// Where lines go. A file, and in tests a double that fails when told to.
pub(super) trait Sink: Send {
    /// Appends whole lines.
    fn append(&mut self, lines: &[u8]) -> io::Result<()>;
    /// Begins a new live file where the old one was moved away or removed, and says whether it did. What was
    /// appended and not synced is taken out of the old one: it is to be appended again.
    fn renew(&mut self) -> io::Result<bool>;
    /// Puts on disk what was appended.
    fn sync(&mut self) -> io::Result<()>;
    /// Forgets what was appended since the last `sync` that worked.
    fn rewind(&mut self) -> io::Result<()>;
    /// Sets the records of the day `finished` aside and begins anew. Can be tried again when it failed.
    fn rotate(&mut self, finished: &str, begun: &str) -> io::Result<()>;
}

/// What a look into the queue has found.
enum Found {
    /// Nothing: the next record wakes the writer.
    Nothing,
    /// All that was there. More is looked for after [`PACE`].
    Some,
    /// More than is taken at once.
    More,
}

pub(super) struct Writer {
    sink: Box<dyn Sink>,
    day: String,
    sync_every: Duration,
    receiver: Receiver<Item>,
    shared: Arc<Shared>,
    mirror: Option<Mirror>,
    /// Lines that are not known to be on disk.
    pending: String,
    /// How many bytes of them were handed to the sink.
    written: usize,
    /// How many records they are.
    records: u64,
    waiting: Vec<oneshot::Sender<Result<(), AppendError>>>,
    pending_since: Option<Instant>,
    /// What the last look into the queue has found.
    found: Found,
    summed_up_at: Instant,
    /// Lost records that a record tells of.
    lost_told: u64,
    last_time: String,
}

impl Writer {
    pub(super) fn new(
        sink: Box<dyn Sink>,
        day: String,
        sync_every: Duration,
        receiver: Receiver<Item>,
        shared: Arc<Shared>,
        mirror: Option<Mirror>,
    ) -> Self {
        Self {
            sink,
            last_time: format!("{day}T00:00:00.000Z"),
            day,
            sync_every,
            receiver,
            shared,
            mirror,
            pending: String::new(),
            written: 0,
            records: 0,
            waiting: Vec::new(),
            pending_since: None,
            found: Found::Nothing,
            summed_up_at: monotonic(),
            lost_told: 0,
        }
    }

    /// Writes until the log is closed or all its handles are dropped.
    pub(super) fn run(mut self) -> Result<(), CloseError> {
        loop {
            let open = self.receive()?;
            let done = !open || (self.is_closing() && self.shared.queued.load(Ordering::SeqCst) == 0);
            self.sum_up(done)?;
            self.persist(|writer| writer.write())?;
            if done || self.is_sync_due() {
                self.persist(|writer| writer.sync())?;
            }
            if done {
                return Ok(());
            }
        }
    }

    /// Takes what is queued, after waiting for it. Whether there can be more.
    fn receive(&mut self) -> Result<bool, CloseError> {
        let wait = match self.pending_since {
            Some(since) => self.sync_every.saturating_sub(monotonic().duration_since(since)),
            None => SUMMARY_EVERY.saturating_sub(monotonic().duration_since(self.summed_up_at)),
        };
        let first = match self.found {
            Found::Nothing => match self.receiver.recv_timeout(wait) {
                Ok(item) => Some(item),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
            },
            Found::Some => {
                std::thread::park_timeout(PACE.min(wait));
                None
            }
            Found::More => None,
        };
        let queued = first.into_iter().chain(std::iter::from_fn(|| self.receiver.try_recv().ok()));
        let items: Vec<Item> = queued.take(BATCH_MAX).collect();
        self.found = match items.len() {
            0 => Found::Nothing,
            BATCH_MAX => Found::More,
            _ => Found::Some,
        };
        for item in items {
            self.take(item)?;
        }
        Ok(true)
    }

    fn take(&mut self, item: Item) -> Result<(), CloseError> {
        match item {
            Item::Record(event) => self.put(event)?,
            Item::Durable(event, confirm) => {
                self.put(event)?;
                self.waiting.push(confirm);
            }
            Item::Wake => return Ok(()),
        }
        self.shared.queued.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    /// Adds a line, in the file of its day. A record that is late by a day stays in the current file: the
    /// order of the lines is the order of the ends of requests.
    fn put(&mut self, event: Box<AuditEvent>) -> Result<(), CloseError> {
        let today = day(&event.time);
        if today > self.day.as_str() {
            let today = today.to_owned();
            self.persist(|writer| writer.sync())?;
            self.persist(|writer| writer.sink.rotate(&writer.day, &today))?;
            self.day = today;
        }
        event.write_line(&mut self.pending);
        self.pending.push('\n');
        self.records += 1;
        self.last_time.clone_from(&event.time);
        self.pending_since.get_or_insert_with(monotonic);
        if let Some(mirror) = &mut self.mirror {
            mirror(event);
        }
        Ok(())
    }

    /// Once a second: how many early refusals have no record of their own, and how many records were lost.
    fn sum_up(&mut self, done: bool) -> Result<(), CloseError> {
        if !done && monotonic().duration_since(self.summed_up_at) < SUMMARY_EVERY {
            return Ok(());
        }
        self.summed_up_at = monotonic();
        let counts = lock(&self.shared.early).take();
        if let Some(counts) = counts {
            self.put(Box::new(events::summary(&counts)))?;
        }
        let lost = self.shared.lost.load(Ordering::Relaxed);
        if lost > self.lost_told {
            let event = events::lost(lost - self.lost_told, self.last_time.clone());
            self.lost_told = lost;
            self.put(Box::new(event))?;
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        if self.pending.len() > self.written && self.sink.renew()? {
            tracing::warn!("the audit log's live file was moved away; a new one is begun");
            self.tell_first(&events::moved(&self.last_time));
            self.written = 0;
        }
        if let Some(lines) = self.pending.get(self.written..).filter(|lines| !lines.is_empty()) {
            self.sink.append(lines.as_bytes())?;
            self.written = self.pending.len();
        }
        Ok(())
    }

    /// Puts a line before all that wait.
    fn tell_first(&mut self, event: &AuditEvent) {
        let mut line = String::new();
        event.write_line(&mut line);
        line.push('\n');
        self.pending.insert_str(0, &line);
        self.records += 1;
    }

    fn sync(&mut self) -> io::Result<()> {
        self.write()?;
        if !self.pending.is_empty() {
            self.sink.sync()?;
            self.pending.clear();
            self.written = 0;
            self.records = 0;
        }
        self.pending_since = None;
        for confirm in self.waiting.drain(..) {
            // Nobody listens any more when the caller gave up; the record stands all the same.
            confirm.send(Ok(())).ok();
        }
        Ok(())
    }

    /// Does `step` until it works. While it does not, durable records are refused, the queue fills, and what
    /// is pending stays, in order. Gives up only when the log is closing.
    fn persist(&mut self, mut step: impl FnMut(&mut Self) -> io::Result<()>) -> Result<(), CloseError> {
        let Err(mut error) = step(self) else { return Ok(()) };
        tracing::error!(%error, "the audit log cannot be written; records wait in memory");
        let mut tries_left = CLOSING_TRIES;
        loop {
            *lock(&self.shared.failure) = Some(error.to_string());
            for confirm in self.waiting.drain(..) {
                confirm.send(Err(AppendError::Failing)).ok();
            }
            if self.is_closing() {
                tries_left -= 1;
                if tries_left == 0 {
                    return Err(self.give_up());
                }
            }
            std::thread::park_timeout(RETRY);
            // After a failed `fdatasync` the system may have dropped the pages, so all of it is written anew.
            self.written = 0;
            match self.sink.rewind().and_then(|()| self.sync()).and_then(|()| step(self)) {
                Ok(()) => break,
                Err(again) => error = again,
            }
        }
        *lock(&self.shared.failure) = None;
        tracing::info!("the audit log is written again");
        Ok(())
    }

    fn give_up(&self) -> CloseError {
        CloseError { lost: self.records + self.shared.queued.load(Ordering::SeqCst) as u64 }
    }

    fn is_sync_due(&self) -> bool {
        let due =
            self.pending_since.is_some_and(|since| monotonic().duration_since(since) >= self.sync_every);
        due || !self.waiting.is_empty() || self.pending.len() >= PENDING_BYTES_MAX
    }

    fn is_closing(&self) -> bool {
        self.shared.closing.load(Ordering::SeqCst)
    }
}

impl Drop for Writer {
    /// A writer that ends while the log is open has panicked: that must show.
    fn drop(&mut self) {
        if !self.is_closing() {
            *lock(&self.shared.failure) = Some("the writer has ended".to_owned());
        }
    }
}

/// The writer paces itself by it. No record carries this time.
#[expect(
    clippy::disallowed_methods,
    reason = "a duration on the writer's own thread; records are told the time"
)]
fn monotonic() -> Instant {
    Instant::now()
}
