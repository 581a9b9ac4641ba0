//! What must not be undone by the loss of one server: all who wait for that at one time wait together.
//!
//! Everything is done over the connection that hears. Then something more is written over a second connection, and `WAIT`
//! says how many replicas have that, and so whatever was written before it: they get it in order. A server answers nothing
//! else on a connection that waits, so who comes meanwhile waits here, and then all of them do once. A wait that was in vain
//! is not begun again for [`SPARED`]: a replica that is missing holds up nobody for longer than one wait.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::line::BEAT;
use super::script::Question;
use crate::redis::{Fault, IN_FLIGHT_MAX, LATE_MAX, Together, patience, will_not};

/// How long nobody waits after a wait that was in vain; it is told at once then that too few have it.
const SPARED: Duration = Duration::from_millis(250);

/// One who waits, told what came of it.
type Waiting = oneshot::Sender<Result<(), Fault>>;

/// Where one waits.
pub(super) struct Lasting {
    next: mpsc::Sender<Waiting>,
    /// When the last wait was in vain.
    in_vain: Mutex<Option<Instant>>,
}

/// What is waited by.
pub(super) struct Rounds {
    connection: Arc<Together>,
    /// The name of the script there.
    script: String,
    mark: Question,
    beat: Question,
    replicas: u8,
    /// How long the replicas have.
    at_most: Duration,
    /// How long the server has for an answer beside that.
    budget: Duration,
    next: mpsc::Receiver<Waiting>,
}

/// The second connection, and what is asked over it.
pub(super) struct Second {
    pub(super) connection: Arc<Together>,
    pub(super) script: String,
    /// What is written there.
    pub(super) mark: Question,
    pub(super) beat: Question,
}

/// For so many replicas, which have half of the budget: the rest is for the question itself.
pub(super) fn rounds(second: Second, replicas: u8, budget: Duration) -> (Lasting, Rounds) {
    let Second { connection, script, mark, beat } = second;
    let (sender, next) = mpsc::channel(IN_FLIGHT_MAX);
    let at_most = (budget / 2).max(Duration::from_millis(1));
    let lasting = Lasting { next: sender, in_vain: Mutex::default() };
    (lasting, Rounds { connection, script, mark, beat, replicas, at_most, budget, next })
}

impl Lasting {
    /// Waits until the replicas have what was done until now, for so long at most. What is not known to be there is not.
    pub(super) async fn kept(&self, within: Duration) -> Result<(), Fault> {
        if self.is_spared() {
            return Err(Fault::Unkept);
        }
        let (told, tell) = oneshot::channel();
        // As many as may ask at once wait already, or the connection is gone.
        self.next.try_send(told).map_err(|_| Fault::Unkept)?;
        match patience::within(within, tell).await {
            Some(Ok(kept)) => kept,
            Some(Err(_)) | None => Err(Fault::Unkept),
        }
    }

    /// Whether a wait was in vain a moment ago.
    pub(super) fn is_spared(&self) -> bool {
        let in_vain = self.in_vain.lock().unwrap_or_else(PoisonError::into_inner);
        in_vain.is_some_and(|when| when.elapsed() < SPARED)
    }

    fn was_in_vain(&self) {
        *self.in_vain.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

impl Rounds {
    /// Lets them wait, round by round, until the connection is of no use any more; answers why. Where nobody waits it is
    /// asked all the same, or one that is dead would be found out by whoever comes next.
    pub(super) async fn run(&mut self, lasting: &Lasting) -> Fault {
        let mut late = 0_u32;
        loop {
            let mut together = Vec::new();
            let asks = tokio::select! {
                count = self.next.recv_many(&mut together, IN_FLIGHT_MAX) => count > 0,
                () = tokio::time::sleep(BEAT) => false,
            };
            let within = self.at_most.saturating_add(self.budget);
            let round = async { if asks { self.kept().await } else { self.beat().await } };
            let answer = tokio::time::timeout(within, round).await.unwrap_or(Err(Fault::Late));
            if let Err(fault) = answer {
                lasting.was_in_vain();
                // Who has come meanwhile would wait once more, and in vain.
                while let Ok(waiting) = self.next.try_recv() {
                    together.push(waiting);
                }
                if asks && fault != Fault::Unkept {
                    tracing::warn!(%fault, "replicas could not be waited for");
                }
            }
            for waiting in together {
                // Whatever stood in the way of waiting, what they wait for was done. Whoever does not wait any more was told that
                // nothing is known.
                waiting.send(answer.map_err(|_| Fault::Unkept)).ok();
            }
            late = if answer == Err(Fault::Late) { late.saturating_add(1) } else { 0 };
            match answer {
                Ok(()) | Err(Fault::Unkept) => {}
                Err(Fault::Late) if late < LATE_MAX => {}
                Err(fault) if will_not(fault) => {}
                Err(fault) => return fault,
            }
        }
    }

    async fn beat(&self) -> Result<(), Fault> {
        self.beat.ask_over(&self.connection, &self.script).await.map(drop)
    }

    async fn kept(&self) -> Result<(), Fault> {
        self.mark.ask_over(&self.connection, &self.script).await?;
        let have = replicas(&self.connection, self.replicas, self.at_most).await?;
        if have >= u64::from(self.replicas) { Ok(()) } else { Err(Fault::Unkept) }
    }
}

/// How many replicas have what was written over this connection, once so many have it, and after so long at the latest. For
/// none nothing is waited, and yet it is found out whether it may be asked.
pub(super) async fn replicas(connection: &Together, wanted: u8, at_most: Duration) -> Result<u64, Fault> {
    let mut wait = redis::cmd("WAIT");
    // Nothing would be for ever.
    wait.arg(wanted).arg(u64::try_from(at_most.as_millis()).unwrap_or(u64::MAX).max(1));
    redis::from_redis_value(connection.ask(wait).await?).map_err(|_| Fault::Nonsense)
}
