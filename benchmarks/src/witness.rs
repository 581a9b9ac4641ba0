//! Whether a core was there at all: a thread that goes before all others on it says when it was not let on.
//!
//! On a machine of others a core is now and then somebody else's for some milliseconds, and no timer that rings meanwhile
//! is heard. Whoever measures waits of milliseconds has to tell those from what a program has waited by itself. The witness
//! wakes every quarter of a millisecond at a priority that nothing else has (`SCHED_FIFO`), does nothing but look at the
//! clock, and says each time that it woke late: then no program of this machine was on that core.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::process::{found, pause};
use crate::{Failure, cores};

/// Between two looks at the clock.
const LOOK: Duration = Duration::from_micros(250);
/// What is late: a core that idles takes some tens of microseconds to wake. A host that gives a core away in slices shorter than
/// a millisecond makes all that runs there ten times as slow, so that those count, too.
const LATE: Duration = Duration::from_micros(150);

/// A stretch in which a core was away, in microseconds of the system's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    /// When it was last there.
    pub(crate) from: u64,
    /// When it was there again.
    pub(crate) to: u64,
}

/// One who watches a core; it ends with this.
pub(crate) struct Witness {
    child: Child,
    holes: Arc<Mutex<Vec<Hole>>>,
}

impl Witness {
    /// Of this core; nothing where this machine lets nobody go before others.
    ///
    /// # Errors
    /// The kernel refuses to have it on that core.
    pub(crate) fn of(core: usize) -> Result<Option<Self>, Failure> {
        let Some(chrt) = found("chrt") else { return Ok(None) };
        let mut command = Command::new(chrt);
        command.args(["--fifo", "50"]).arg(std::env::current_exe()?).arg("witness");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = cores::spawn_on(core, &mut command)?;
        let mut said = BufReader::new(child.stdout.take().ok_or("it says nothing")?).lines();
        let mut witness = Self { child, holes: Arc::default() };
        // Its first line says that it watches.
        if said.next().and_then(Result::ok).is_none() {
            witness.child.wait()?;
            return Ok(None);
        }
        let holes = witness.holes.clone();
        std::thread::spawn(move || {
            for hole in said.map_while(Result::ok).filter_map(|line| parsed(&line)) {
                holes.lock().unwrap_or_else(PoisonError::into_inner).push(hole);
            }
        });
        Ok(Some(witness))
    }

    /// When it was away so far.
    pub(crate) fn holes(&self) -> Vec<Hole> {
        self.holes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Hole {
    /// How much of a stretch it takes, in microseconds.
    pub(crate) fn within(self, from: u64, to: u64) -> u64 {
        self.to.min(to).saturating_sub(self.from.max(from))
    }
}

/// Watches the core that it was started on, and says of each hole when it began and ended, until nobody listens any more.
///
/// # Errors
/// Nobody listens.
pub(crate) fn watch() -> Result<(), Failure> {
    let mut told = std::io::stdout();
    writeln!(told, "watching")?;
    let mut last = now();
    loop {
        pause(LOOK);
        let now = now();
        // It slept for a while of it.
        let due = last.saturating_add(micros(LOOK));
        if now.saturating_sub(due) > micros(LATE) {
            writeln!(told, "{due} {now}")?;
        }
        last = now;
    }
}

fn parsed(line: &str) -> Option<Hole> {
    let (from, to) = line.split_once(' ')?;
    Some(Hole { from: from.parse().ok()?, to: to.parse().ok()? })
}

/// Microseconds of the system's clock, by which a gateway's records tell when a request came.
#[expect(clippy::disallowed_methods, reason = "the gateway's clock knows no microseconds of the day")]
fn now() -> u64 {
    micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_takes_of_a_stretch_what_both_share() {
        let hole = Hole { from: 100, to: 200 };
        for (from, to, shared) in
            [(0, 100, 0), (0, 150, 50), (120, 180, 60), (150, 300, 50), (200, 300, 0), (0, 300, 100)]
        {
            assert_eq!(hole.within(from, to), shared, "{from} to {to}");
        }
        assert_eq!(parsed("100 200"), Some(hole));
        assert_eq!(parsed("watching"), None);
    }
}
