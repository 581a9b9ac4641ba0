//! A line that says how far a long verb has come.

use std::io::{IsTerminal, Stderr, Write};
use std::time::{Duration, Instant};

use crate::clock;

/// What is over sooner needs no such line.
const SILENT: Duration = Duration::from_secs(2);
const BETWEEN: Duration = Duration::from_millis(200);

/// Writes over one line of standard error, where that is a terminal.
pub(super) struct Progress<W = Stderr> {
    terminal: W,
    /// `None` where there is no terminal.
    next: Option<Instant>,
    is_shown: bool,
}

impl Progress {
    pub(super) fn begin() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self::on(std::io::stderr(), is_terminal, clock::instant())
    }

    /// Says how far it has come, if it is time to. `all` is not known of what comes through a pipe.
    pub(super) fn at(&mut self, done: u64, all: Option<u64>, what: &str) {
        // Who has no terminal asks no clock.
        if self.next.is_some() {
            self.at_moment(clock::instant(), done, all, what);
        }
    }
}

impl<W: Write> Progress<W> {
    fn on(terminal: W, is_terminal: bool, now: Instant) -> Self {
        Self { terminal, next: is_terminal.then(|| now + SILENT), is_shown: false }
    }

    fn at_moment(&mut self, now: Instant, done: u64, all: Option<u64>, what: &str) {
        if self.next.is_some_and(|next| next <= now) {
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
        if self.terminal.write_all(text.as_bytes()).and_then(|()| self.terminal.flush()).is_err() {
            self.next = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_waits_at_a_terminal_is_told() {
        let begun = clock::instant();
        let mut told: Progress<Vec<u8>> = Progress::on(Vec::new(), true, begun);
        let mut untold: Progress<Vec<u8>> = Progress::on(Vec::new(), false, begun);
        let mut check = |after_ms: u64, done: u64, all: Option<u64>, text: &str| {
            let now = begun + Duration::from_millis(after_ms);
            told.terminal.clear();
            told.at_moment(now, done, all, "checking");
            assert_eq!(String::from_utf8_lossy(&told.terminal), text, "after {after_ms} ms");
            untold.at_moment(now, done, all, "checking");
        };
        check(1_999, 1, Some(4), "");
        check(2_000, 1, Some(4), "\r\x1b[Kchecking, 25 %");
        check(2_199, 2, Some(4), "");
        check(2_200, 2, Some(4), "\r\x1b[Kchecking, 50 %");
        check(2_400, 5, Some(4), "\r\x1b[Kchecking, 100 %");
        check(2_600, 5, Some(0), "\r\x1b[Kchecking");
        check(2_800, 5, None, "\r\x1b[Kchecking");
        assert!(untold.terminal.is_empty());
        told.terminal.clear();
        told.clear();
        told.clear();
        assert_eq!(told.terminal, b"\r\x1b[K", "taken away once");
    }

    #[test]
    fn a_terminal_that_has_gone_is_told_nothing_more() {
        struct Gone(usize);
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                self.0 += 1;
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let begun = clock::instant();
        let mut progress = Progress::on(Gone(0), true, begun);
        for seconds in 2..5 {
            progress.at_moment(begun + Duration::from_secs(seconds), 1, None, "checking");
        }
        assert_eq!(progress.terminal.0, 1);
    }
}
