//! A line that says how far a long run has come.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// What is over sooner needs no such line.
const SILENT: Duration = Duration::from_secs(2);
const BETWEEN: Duration = Duration::from_millis(200);

/// Writes over one line of standard error, where that is a terminal.
#[derive(Debug)]
pub struct Progress {
    next: Option<Instant>,
    is_shown: bool,
}

impl Progress {
    /// Begins now.
    #[must_use]
    pub fn begin() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { next: is_terminal.then(|| Instant::now() + SILENT), is_shown: false }
    }

    /// Says how far it has come, if it is time to.
    pub fn at(&mut self, done: u64, all: u64, what: &str) {
        let now = Instant::now();
        if self.next.is_some_and(|next| next <= now) {
            self.is_shown = true;
            self.next = Some(now + BETWEEN);
            self.write(&format!("\r\x1b[K{done} of {all} {what}"));
        }
    }

    /// Takes the line away.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            self.write("\r\x1b[K");
        }
    }

    /// A terminal that has gone is no reason to stop.
    fn write(&mut self, text: &str) {
        let mut terminal = std::io::stderr();
        if terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush()).is_err() {
            self.next = None;
        }
    }
}
