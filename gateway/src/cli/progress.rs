//! A line that says how far a long verb has come.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::clock;

/// What is over sooner needs no such line.
const SILENT: Duration = Duration::from_secs(2);
const BETWEEN: Duration = Duration::from_millis(200);

/// Writes over one line of standard error, where that is a terminal.
pub(super) struct Progress {
    next: Option<Instant>,
    is_shown: bool,
}

impl Progress {
    pub(super) fn begin() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { next: is_terminal.then(|| clock::instant() + SILENT), is_shown: false }
    }

    /// Says how far it has come, if it is time to. `all` is not known of what comes through a pipe.
    pub(super) fn at(&mut self, done: u64, all: Option<u64>, what: &str) {
        let Some(next) = self.next else { return };
        let now = clock::instant();
        if next <= now {
            self.is_shown = true;
            self.next = Some(now + BETWEEN);
            let share = all.filter(|all| *all > 0).map(|all| done.min(all).saturating_mul(100) / all);
            let share = share.map(|share| format!(", {share} %")).unwrap_or_default();
            self.write(&format!("\r\x1b[K{what}{share}"));
        }
    }

    /// Takes the line away, so that others can be written; it comes back when it is time again.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            self.write("\r\x1b[K");
        }
    }

    /// A terminal that has gone is no reason to stop.
    fn write(&mut self, text: &str) {
        let mut terminal = std::io::stderr().lock();
        if terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush()).is_err() {
            self.next = None;
        }
    }
}
